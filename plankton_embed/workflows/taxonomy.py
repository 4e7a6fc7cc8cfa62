"""`taxonomy`: compare the tree of classes with a taxonomy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from plankton_embed.analysis.taxonomy import CERTAINTY, Taxonomy, back_off, roll_up
from plankton_embed.analysis.taxonomy_comparison import N_PERMUTATIONS, TaxonomyFindings, compare_taxonomy
from plankton_embed.analysis.taxonomy_files import read_taxonomy
from plankton_embed.classifiers.prediction import Method, PredictionOptions
from plankton_embed.errors import InputError, SettingError
from plankton_embed.output import write_frame
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.taxonomy_comparison import draw_taxonomy_comparison
from plankton_embed.vector_shards import VectorShards
from plankton_embed.workflows.inputs import Reference, as_run, load_settings, load_split, prepare_prediction
from plankton_embed.workflows.result_folder import as_json, check_output, write_analysis


def taxonomy(
    vectors: Reference,
    tree: str | Path | Taxonomy,
    output: str | Path | None = None,
    *,
    split: str | None = None,
    query: Reference | None = None,
    method: Method | None = None,
    calibration: Reference | None = None,
    certainty: float | None = None,
    n_permutations: int = N_PERMUTATIONS,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> TaxonomyFindings:
    """Compare the learned class tree with a taxonomy; report accuracy at each rank.

    With a calibration set, each image is also predicted at the lowest rank that is certain enough.

    Args:
        vectors: a table, its file, or the folder of a run.
        tree: a taxonomy or its file (see `read_taxonomy`).
        output: folder to write: `clades.csv`, `misplaced.csv`, `tanglegram.png`; with a query `by_rank.csv`, and with a
            calibration set `backed_off.csv`.
        split: vectors whose class means are compared with the taxonomy (see `pca`); the reference of the predictions is
            always the training vectors.
        query: labelled vectors to classify; by default the test images, if `vectors` is a run.
        method: classification method: `centroid`, `knn` (the default) or `mlp`.
        calibration: see `classify`.
        certainty: minimum probability of a prediction, by default .9; needs a calibration set.
        n_permutations: random permutations of the class names, for the p-values.
        seed: of the permutations.
        overwrite: replace the output.
        progress: show bars.
    """
    check_output(output, overwrite, "taxonomy")
    given = tree if isinstance(tree, Taxonomy) else read_taxonomy(tree)
    table, split = load_split(vectors, split)
    compared = compare_taxonomy(table, given, n_permutations=n_permutations, seed=seed)
    run = as_run(vectors)
    if query is None and run is not None:
        query = vectors if any(run.vectors(name).exists() for name in ("test", "val")) else None
    found = TaxonomyFindings(compared)
    if query is None:
        if not (method is None and calibration is None and certainty is None):
            raise SettingError(
                "method, calibration and certainty are for classifying images; give labelled ones (--query)"
            )
    else:
        options = PredictionOptions(method or "knn", settings=load_settings(vectors))
        ready = prepare_prediction(vectors, query, options, calibration, progress=progress)
        labelled, classifier = ready.query.select(ready.query.is_labelled), ready.classifier
        labelled = labelled.load() if isinstance(labelled, VectorShards) else labelled
        if len(labelled) == 0:
            raise InputError("the query has no labels, so accuracy at each rank cannot be measured")
        if ready.calibration is None and certainty is not None:
            raise SettingError(
                "certainty needs probabilities, and they need a calibration set; give one (--calibration)"
            )
        truth = labelled.label.astype(str)
        by_rank = roll_up(truth, classifier.predict(labelled.vectors), given)
        backed_off = None
        if ready.calibration is not None:
            classes = classifier.classes_.tolist()
            probabilities = classifier.predict_proba(labelled.vectors)
            backed_off = back_off(probabilities, classes, given, CERTAINTY if certainty is None else certainty)
            true_names, own = np.unique(truth, return_inverse=True)
            members = given.add_classes([*classes, *true_names.tolist()]).members(true_names.tolist())
            is_right = members[backed_off.pop("node"), own]
            backed_off = backed_off.assign(true_label=truth, is_right=is_right)
            backed_off.insert(0, "object_id", labelled.object_id)
        found = TaxonomyFindings(compared, by_rank, backed_off)

    def write(folder: Path) -> None:
        as_text = {column: compared.clades[column].map(as_json) for column in ("classes", "nearest")}
        write_frame(folder / "clades.csv", compared.clades.assign(**as_text))
        write_frame(folder / "misplaced.csv", compared.misplaced)
        save_figure(draw_taxonomy_comparison(compared), folder / "tanglegram.png")
        for name, frame in (("by_rank.csv", found.by_rank), ("backed_off.csv", found.backed_off)):
            if frame is not None:
                write_frame(folder / name, frame)

    write_analysis(output, "taxonomy", None, {"split": split, **found.to_dict()}, write)
    return found
