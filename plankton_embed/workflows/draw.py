"""The figure of a result, whatever it is."""

from __future__ import annotations

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

DRAWN = (
    "ImageCatalog, CatalogSummary, Evaluation, RunResult, History, SeenUnseen, Comparison, Projection, Film, "
    "Dendrogram, TaxonomyFindings, TaxonomyComparison, Abundance, Shift, Clusters, Relations, Suspects"
)


def draw(result: Any, ax: Any = None) -> Any:
    """Draw the figure of a result, and return its matplotlib Axes; further figures are in `plankton_embed.plots`.

    Args:
        result: what a function of this package returned.
        ax: Axes to draw into; by default a new figure.

    Raises:
        InputError: there is no figure of this result.
    """
    match result:
        case ImageCatalog():
            return draw_sheet(contact_sheets.examples_sheet(result), ax)
        case CatalogSummary():
            return draw_class_sizes(result, ax)
        case Evaluation():
            return draw_confusion(result.scores, ax)
        case RunResult():
            return draw_history(History.load(result.folder.history), ax)
        case History():
            return draw_history(result, ax)
        case SeenUnseen():
            return draw_learning_curve(result.summary, ax)
        case Comparison():
            return draw_comparison(result.runs, ax)
        case Projection():
            return draw_projection(result, ax=ax)
        case Film():
            return draw_film(result, ax=ax)
        case Dendrogram():
            return draw_dendrogram(result, contact_sheets.leaf_images(result), ax)
        case TaxonomyFindings():
            return draw_taxonomy_comparison(result.comparison, ax)
        case TaxonomyComparison():
            return draw_taxonomy_comparison(result, ax)
        case Abundance():
            return draw_abundance(result, ax)
        case Shift():
            return draw_shift(result, ax)
        case Clusters():
            return draw_sheet(next(iter(contact_sheets.clusters_sheets(result))), ax)
        case Relations():
            return draw_sheet(contact_sheets.relations_sheet(result), ax)
        case Suspects():
            return draw_sheet(next(iter(contact_sheets.suspects_sheets(result))), ax)
        case _:
            raise InputError(f"draw: expected one of {DRAWN}; found {type(result).__name__}")
