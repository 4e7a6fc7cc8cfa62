"""The figure of a result, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plankton_embed.analysis.clusters import Clusters
from plankton_embed.analysis.counts import Abundance
from plankton_embed.analysis.dendrogram import Dendrogram
from plankton_embed.analysis.projection import Film, Projection
from plankton_embed.analysis.relations import Relations
from plankton_embed.analysis.shift import Shift
from plankton_embed.analysis.suspects import Suspects
from plankton_embed.analysis.taxonomy_comparison import TaxonomyComparison, TaxonomyFindings
from plankton_embed.classifiers.evaluation import Evaluation
from plankton_embed.errors import InputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.catalog_summary import CatalogSummary
from plankton_embed.plots.abundance import draw_abundance
from plankton_embed.plots.class_sizes import draw_class_sizes
from plankton_embed.plots.comparison import draw_comparison
from plankton_embed.plots.confusion import draw_confusion
from plankton_embed.plots.dendrogram import draw_dendrogram
from plankton_embed.plots.film import draw_film
from plankton_embed.plots.history import draw_history
from plankton_embed.plots.learning_curve import draw_learning_curve
from plankton_embed.plots.projection import draw_projection
from plankton_embed.plots.sheet import draw_sheet
from plankton_embed.plots.shift import draw_shift
from plankton_embed.plots.taxonomy_comparison import draw_taxonomy_comparison
from plankton_embed.training.history import History
from plankton_embed.workflows import contact_sheets
from plankton_embed.workflows.compare import Comparison
from plankton_embed.workflows.run import RunResult
from plankton_embed.workflows.seen_unseen import SeenUnseen

FIGURES: dict[type, Callable[[Any, Any], Any]] = {
    ImageCatalog: lambda found, ax: draw_sheet(contact_sheets.examples_sheet(found), ax),
    CatalogSummary: draw_class_sizes,
    Evaluation: lambda found, ax: draw_confusion(found.scores, ax),
    RunResult: lambda found, ax: draw_history(History.load(found.folder.history), ax),
    History: draw_history,
    SeenUnseen: lambda found, ax: draw_learning_curve(found.summary, ax),
    Comparison: lambda found, ax: draw_comparison(found.runs, ax),
    Projection: lambda found, ax: draw_projection(found, ax=ax),
    Film: lambda found, ax: draw_film(found, ax=ax),
    Dendrogram: lambda found, ax: draw_dendrogram(found, contact_sheets.leaf_images(found), ax),
    TaxonomyFindings: lambda found, ax: draw_taxonomy_comparison(found.comparison, ax),
    TaxonomyComparison: draw_taxonomy_comparison,
    Abundance: draw_abundance,
    Shift: draw_shift,
    Clusters: lambda found, ax: draw_sheet(next(iter(contact_sheets.clusters_sheets(found))), ax),
    Relations: lambda found, ax: draw_sheet(contact_sheets.relations_sheet(found), ax),
    Suspects: lambda found, ax: draw_sheet(next(iter(contact_sheets.suspects_sheets(found))), ax),
}


def draw(result: Any, ax: Any = None) -> Any:
    """Draw the figure of a result, and return its matplotlib Axes; further figures are in `plankton_embed.plots`.

    Args:
        result: what a function of this package returned.
        ax: Axes to draw into; by default a new figure.

    Raises:
        InputError: there is no figure of this result.
    """
    figure = next((FIGURES[kind] for kind in type(result).__mro__ if kind in FIGURES), None)
    if figure is None:
        names = ", ".join(kind.__name__ for kind in FIGURES)
        raise InputError(f"draw: expected one of {names}; found {type(result).__name__}")
    return figure(result, ax)
