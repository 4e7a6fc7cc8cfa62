"""The folder that a command writes: completely or not at all, and never over files that a person has filled in."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.analysis.clusters import NAMES_FILE, OLD_NAMES_FILE
from plankton_embed.classifiers.centroid import NearestCentroidClassifier
from plankton_embed.classifiers.enrollment import summarize_learning
from plankton_embed.classifiers.evaluation import Evaluation
from plankton_embed.classifiers.mlp import MLPClassifier
from plankton_embed.errors import OutputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.catalog_summary import CatalogSummary
from plankton_embed.images.containers import image_exists
from plankton_embed.images.corrections import CORRECTIONS_FILE, UNTOUCHED
from plankton_embed.images.features import summarize_features
from plankton_embed.output import refuse_overwrite, write_folder_atomically, write_frame, write_json
from plankton_embed.plots.centroid_distances import draw_centroid_distances
from plankton_embed.plots.class_counts import draw_class_counts
from plankton_embed.plots.class_scores import draw_class_scores
from plankton_embed.plots.class_sizes import draw_class_sizes
from plankton_embed.plots.confusion import draw_confusion
from plankton_embed.plots.feature_correlations import draw_feature_correlations
from plankton_embed.plots.feature_scales import draw_feature_scales
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.head_curves import draw_head_curves
from plankton_embed.plots.image_sizes import draw_image_sizes
from plankton_embed.plots.learning_curve import draw_learning_curve
from plankton_embed.plots.open_set import draw_open_set
from plankton_embed.plots.reliability import draw_reliability
from plankton_embed.plots.sheet import Sheet, draw_sheet
from plankton_embed.settings import PreparationSettings
from plankton_embed.spreadsheet import refuse_filled_in
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows import contact_sheets

logger = logging.getLogger(__name__)

SUMMARY_FILE = "summary.json"
FILLED_IN = (  # file, column, its initial values
    (NAMES_FILE, "name", ""),
    (OLD_NAMES_FILE, "name", ""),
    (CORRECTIONS_FILE, *UNTOUCHED),
)


def check_output(output: str | Path | None, overwrite: bool, analysis: str) -> None:
    """Refuse to replace a folder of something else, or files that a person has filled in."""
    if output is None:
        return
    summary = refuse_overwrite(output, overwrite, made_of=SUMMARY_FILE) / SUMMARY_FILE
    found = json.loads(summary.read_text(encoding="utf-8")).get("analysis") if summary.is_file() else analysis
    if found != analysis:
        raise OutputError(
            f"{output} contains {found or 'something else'}, not {analysis}, so it is not replaced; choose another "
            "folder"
        )
    for name, column, untouched in FILLED_IN:
        refuse_filled_in(Path(output) / name, column, untouched)


def write_analysis(
    output: str | Path | None,
    analysis: str,
    shown: EmbeddingTable | None,
    summary: dict[str, Any],
    write: Callable[[Path], None],
) -> None:
    """Write the folder of an analysis, completely or not at all; warn of images that are missing in its figures."""
    if output is None:
        return
    paths: list[str | None] = [] if shown is None else shown.path.tolist()
    missing = [path for path in paths if path is None or not image_exists(path)]
    if missing:
        logger.warning(
            "%d of %d images cannot be shown and are drawn as grey squares, such as %s",
            *(len(missing), len(paths), missing[0] or "a vector without a path"),
        )
    with write_folder_atomically(output) as folder:
        write(folder)
        write_json(folder / SUMMARY_FILE, {"analysis": analysis, **summary})


def save_sheets(folder: Path, name: str, sheets: Iterable[Sheet]) -> None:
    """Draw contact sheets into NAME.png, NAME_2.png, …"""
    for number, sheet in enumerate(sheets, 1):
        save_figure(draw_sheet(sheet), folder / (f"{name}.png" if number == 1 else f"{name}_{number}.png"))


def list_ids(table: EmbeddingTable, groups: Iterable[NDArray[np.intp]]) -> list[str]:
    """Return the ids of each group of rows, as a JSON list."""
    return [as_json(table.object_id[rows].tolist()) for rows in groups]


def as_json(names: Sequence[str]) -> str:
    """Return names as a JSON list, which can be parsed whatever characters they contain."""
    return json.dumps(list(names), ensure_ascii=False)


def write_tables(folder: Path, evaluation: Evaluation) -> None:
    """Write the predictions, and every table of the scores."""
    write_frame(folder / "predictions.csv", evaluation.names)
    write_frame(folder / "per_class.csv", evaluation.scores.per_class)
    write_frame(folder / "confusion.csv", evaluation.scores.confusion.reset_index())
    if isinstance(evaluation.classifier, NearestCentroidClassifier):
        centroids = evaluation.classifier
        write_frame(folder / "centroids.csv", centroids.class_table())
        write_frame(
            folder / "centroid_distances.csv", centroids.centroid_distances().rename_axis("label").reset_index()
        )
    if evaluation.reliability is not None:
        write_frame(folder / "reliability.csv", evaluation.reliability[1].bins)
    if evaluation.rejector is not None and evaluation.counts is not None:
        write_frame(folder / "thresholds.csv", evaluation.rejector.thresholds_)
        write_frame(folder / "counts.csv", evaluation.counts)
    if evaluation.open_set is not None:
        write_frame(folder / "open_set_curve.csv", evaluation.open_set.curve)
    if isinstance(evaluation.classifier, MLPClassifier):
        evaluation.classifier.save(folder / "classifier", overwrite=True)


def write_curve(folder: Path, draws: pd.DataFrame) -> None:
    """Write the learning curve of enrolled classes: every draw, mean and spread, and the figure."""
    summary = summarize_learning(draws)
    write_frame(folder / "draws.csv", draws)
    write_frame(folder / "learning_curve.csv", summary)
    save_figure(draw_learning_curve(summary), folder / "learning_curve.png")


def draw_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Draw every figure of the scores."""
    predictions = evaluation.names
    if evaluation.rejector is not None:
        in_reference = np.isin(predictions["true_label"].astype(str), evaluation.classifier.classes_)
        predictions = predictions.assign(label=predictions["best_label"])[in_reference]
    save_figure(draw_confusion(evaluation.scores), folder / "confusion.png")
    save_figure(draw_class_scores(evaluation.scores), folder / "class_scores.png")
    save_figure(draw_sheet(contact_sheets.misclassified_sheet(predictions)), folder / "misclassified.png")
    worst = contact_sheets.worst_classes_sheet(predictions, evaluation.scores)
    save_figure(draw_sheet(worst), folder / "worst_classes.png")
    if isinstance(evaluation.classifier, NearestCentroidClassifier):
        distances = evaluation.classifier.centroid_distances()
        save_figure(draw_centroid_distances(distances), folder / "centroid_distances.png")
    if evaluation.reliability is not None:
        save_figure(draw_reliability(*evaluation.reliability), folder / "reliability.png")
    if evaluation.counts is not None:
        save_figure(draw_class_counts(evaluation.counts), folder / "counts.png")
    if evaluation.open_set is not None:
        save_figure(draw_open_set(evaluation.open_set), folder / "open_set.png")
    if isinstance(evaluation.classifier, MLPClassifier):
        save_figure(draw_head_curves(evaluation.classifier.history_), folder / "head_curves.png")


def draw_catalog(
    folder: Path, catalog: ImageCatalog, summary: CatalogSummary, preparation: PreparationSettings, seed: int
) -> None:
    """Draw the contents of a catalog: classes, sizes, examples, and how images are prepared."""
    write_json(folder / "catalog_summary.json", summary.to_dict())
    save_figure(draw_class_sizes(summary), folder / "class_sizes.png")
    save_figure(draw_image_sizes(summary), folder / "image_sizes.png")
    save_figure(draw_sheet(contact_sheets.examples_sheet(catalog, seed=seed)), folder / "examples.png")
    save_figure(draw_sheet(contact_sheets.preview_sheet(catalog, preparation, seed=seed)), folder / "preview.png")
    if summary.marked:
        sheet = contact_sheets.marks_sheet(catalog, summary.marked, preparation)
        save_figure(draw_sheet(sheet), folder / "marks.png")
    if len(catalog.features.columns):
        features = summarize_features(catalog)
        write_frame(folder / "features.csv", features.columns)
        save_figure(draw_feature_scales(features), folder / "feature_scales.png")
        save_figure(draw_feature_correlations(features), folder / "feature_correlations.png")
