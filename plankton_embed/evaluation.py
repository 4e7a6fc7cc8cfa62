"""Names for images, how right they are, and new classes: classify, evaluate, enroll."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from plankton_embed import contact_sheets
from plankton_embed.analysis.clusters import load_named
from plankton_embed.analysis.shift import APPEARANCE, LEAST_IMAGES, TOO_FEW, find_shift
from plankton_embed.classifiers.calibration import Reliability, measure_reliability
from plankton_embed.classifiers.centroid import NearestCentroidClassifier
from plankton_embed.classifiers.enrollment import add_examples, measure_learning, summarize_learning
from plankton_embed.classifiers.mlp import MLPClassifier
from plankton_embed.classifiers.naming import (
    Classifier,
    Method,
    fit_classifier,
    fit_refuser,
    name_images,
    select_known,
)
from plankton_embed.classifiers.open_set import OpenSetScores, count_names, score_open_set
from plankton_embed.classifiers.refusal import RefusalMeasure, Refuser, check_measure, least_calibration
from plankton_embed.classifiers.scoring import (
    LEAST_SAMPLES,
    ClassificationScores,
    find_missing,
    score_names,
    score_retrieval,
    self_centroid_accuracy,
)
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.images.catalog import UNKNOWN, ImageCatalog, refuse_unknown
from plankton_embed.images.readers.source import read_source
from plankton_embed.output import refuse_overwrite, write_atomically, write_folder_atomically, write_json
from plankton_embed.plots.centroid_distances import draw_centroid_distances
from plankton_embed.plots.class_counts import draw_class_counts
from plankton_embed.plots.class_scores import draw_class_scores
from plankton_embed.plots.confusion import draw_confusion
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.head_curves import draw_head_curves
from plankton_embed.plots.learning_curve import draw_learning_curve
from plankton_embed.plots.open_set import draw_open_set
from plankton_embed.plots.reliability import draw_reliability
from plankton_embed.plots.sheet import draw_sheet
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.spreadsheet import clean_label
from plankton_embed.table import TABLE_SUFFIXES, EmbeddingTable, holds_vectors

logger = logging.getLogger(__name__)

Reference = EmbeddingTable | str | Path

NO_CALIBRATION = (
    "needs a calibration set: labelled vectors of images that the network was not trained on. Give one "
    "(--calibration VECTORS), or put it as val.parquet beside the reference"
)
MOST_JUDGED, MOST_JUDGED_CALIBRATION = 300, 1000  # images of a sample, and for calibration, of the verdict on shift
UNKNOWN_RATE = 0.05  # where classes are withheld and no rate is asked for


@dataclass(frozen=True)
class Naming:
    """How images get their labels: method, k of kNN, share of reference-class images that may be refused, and measure.

    `settings` are those of the run that is the reference; without a k they give it.
    """

    method: Method = "centroid"
    n_neighbors: int | None = None
    unknown_rate: float | None = None
    refuse_by: RefusalMeasure | None = None
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if self.n_neighbors is not None and self.method != "knn":
            raise SettingError("n_neighbors (-k) is the k of kNN; give it together with method knn (--method knn)")
        if self.n_neighbors is not None and self.n_neighbors < 1:
            raise SettingError(f"n_neighbors (-k): expected at least 1; found {self.n_neighbors}")
        if self.unknown_rate is not None:
            least_calibration(self.unknown_rate)
        elif self.refuse_by is not None:
            raise SettingError("refuse_by says how to refuse; give the unknown rate too (--unknown-rate .05)")
        check_measure(self.measure)

    @property
    def measure(self) -> RefusalMeasure:
        """What makes an image strange: `refuse_by`, by default `neighbor`."""
        return self.refuse_by or "neighbor"

    def fit(self, known: EmbeddingTable, calibration: EmbeddingTable | None, progress: bool = False) -> Classifier:
        """Fit the classifier; where no k is given, with that of the settings, or as many as there are vectors."""
        k = fitting_k(known, self.settings) if self.n_neighbors is None else self.n_neighbors
        if self.method == "knn":
            logger.info("k of kNN: %d", k)
        return fit_classifier(known, self.method, k, calibration, progress=progress)


def fitting_k(known: EmbeddingTable, settings: Settings) -> int:
    """Return k of the settings, or the size of a reference that is smaller."""
    return max(1, min(settings.classification.n_neighbors, int(known.is_labelled.sum())))


def classify(
    reference: Reference,
    query: Reference,
    method: Method = "centroid",
    output: str | Path | None = None,
    *,
    n_neighbors: int | None = None,
    calibration: Reference | None = None,
    probabilities: bool | None = None,
    all_probabilities: bool = False,
    unknown_rate: float | None = None,
    refuse_by: RefusalMeasure | None = None,
    status: str | Sequence[str] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Name the images of `query` by the labelled vectors of `reference`.

    Args:
        reference: a table, its file, or the folder of a run (its training vectors).
        query: a table or its file; with a run as reference also images (a folder, a catalog file), which its model
            embeds.
        method: `centroid`, `knn` or `mlp`.
        output: CSV to write.
        n_neighbors: k of kNN; by default that of the run that the reference is or is saved in (see `find_run`), else
            10.
        calibration: labelled vectors of images that the network was not trained on, for probabilities and refusing (and
            for the MLP to know when to stop); by default `val.parquet` beside the reference, if there is one.
        probabilities: give them; by default where there is a calibration set.
        all_probabilities: give those of every class too, in columns `p(<class>)`.
        unknown_rate: share of known images that may be refused; by default every image gets a name.
        refuse_by: what makes an image strange: `centroid`, `neighbor` (the default) or `density` (see `Refuser`).
        status: of images: which names are labels (see `embed`).
        overwrite: replace the output.
        device: where to embed.
        progress: show bars.

    Returns:
        One row an image, as described at `name_images`.

    Raises:
        MismatchError: made by different models; both hashes are named.
        SettingError: all probabilities are asked for, and none.
        InputError: probabilities or an unknown rate are asked for, and there is no calibration set.
    """
    if output is not None:
        refuse_overwrite(output, overwrite, (".csv",))
    naming = Naming(method, n_neighbors, unknown_rate, refuse_by, load_settings(reference))
    known = load_labelled(reference)
    asked = load_query(reference, query, device, progress, status)
    known.check_same_model(asked)
    if all_probabilities and probabilities is False:
        raise SettingError(
            "all_probabilities (--all-probabilities): probabilities are turned off; leave out one of both"
        )
    reasons = (("probabilities", probabilities or all_probabilities), ("refusing", unknown_rate))
    needed = [what for what, wanted in reasons if wanted]
    idle = probabilities is False and method != "mlp" and not needed
    held = None if idle else find_calibration(reference, calibration, known, asked, needed)
    classifier = naming.fit(known, held, progress)
    refuser = _fit_refuser(naming, known, classifier, held)
    names = name_images(
        classifier,
        asked,
        refuser,
        probabilities=held is not None and probabilities is not False,
        all_probabilities=all_probabilities,
    )
    if held is not None and len(asked):
        measures = Refuser().fit(known.vectors[known.is_labelled], known.label[known.is_labelled])
        judge_shift(measures, classifier, held, [asked])
    if output is not None:
        write_frame(Path(output), names)
    return names


def judge_shift(
    measures: Refuser,
    classifier: Classifier,
    calibration: EmbeddingTable,
    samples: Sequence[EmbeddingTable],
    names: Sequence[str] | None = None,
    calibration_samples: NDArray[np.intp] | None = None,
    progress: bool = False,
) -> list[str]:
    """Return for each sample whether it is like the calibration images, and report it in one line.

    It is `find_shift` with fewer images (300 of a sample, 1,000 for calibration) and 1,000 permutations.

    Args:
        measures: fitted on the reference, for the novelty of images.
        classifier: fitted on the reference.
        calibration: labelled images of classes of the reference.
        samples: new images.
        names: of the samples; by default they are one sample, the query.
        calibration_samples: (m,) codes of the samples of the calibration images, which are then drawn as a whole.
        progress: show a bar.

    Returns:
        The verdicts (see `Shift`); `too few images` also where there are too few calibration images.
    """
    if len(calibration) < 2 * LEAST_IMAGES:
        logger.info("shift: not compared, with fewer than %d calibration images", 2 * LEAST_IMAGES)
        return [TOO_FEW] * len(samples)

    def describe(table: EmbeddingTable) -> pd.DataFrame:
        order, logs = classifier.assess(table.vectors)
        best = classifier.classes_[order[:, 0]]
        return pd.DataFrame({
            "best_label": best,
            "probability": np.exp(logs.max(axis=1)),
            "strangeness": measures.strangeness(table.vectors, best),
            "threshold": np.inf,
        })  # fmt: skip

    drawn = [
        sample.select(np.sort(np.random.default_rng(0).permutation(len(sample))[:MOST_JUDGED])) for sample in samples
    ]
    numbers = np.repeat(np.arange(len(drawn)), [len(sample) for sample in drawn]).astype(str)
    images = EmbeddingTable(np.concatenate([sample.vectors for sample in drawn]), sample_id=numbers.astype(object))
    found = find_shift(
        calibration,
        describe(calibration),
        images,
        describe(images),
        calibration_samples=calibration_samples,
        n_permutations=1000,
        most_calibration=MOST_JUDGED_CALIBRATION,
        progress=progress,
    )
    by_number = found.samples.iloc[1:].set_index("sample_id")["verdict"]  # without that of all images together
    verdicts = [str(by_number.get(str(number), TOO_FEW)) for number in range(len(drawn))]
    differs = np.array(verdicts) == APPEARANCE
    advice = "their labels and counts are unreliable; see shift"
    if names is None and differs.any():
        logger.warning("shift: the images look unlike the calibration images (%s); %s", APPEARANCE, advice)
    elif differs.any():
        logger.warning(
            "shift: the images of %d of %d samples look unlike the calibration images, such as %s (%s); %s",
            *(int(differs.sum()), len(verdicts), names[int(differs.argmax())] if names else "", APPEARANCE, advice),
        )
    else:
        counted = pd.Series(verdicts).value_counts()
        logger.info("shift: %s", ", ".join(f"{name} ({n})" for name, n in counted.items()) if names else verdicts[0])
    return verdicts


@dataclass(frozen=True)
class Evaluation:
    """How well labelled images are predicted that the reference has not seen.

    `scores` of the predictions, over all labelled images (where images may be refused: before any is, and over those
    of the reference's classes alone). `missing`: the labels that the reference lacks, whose images no prediction can
    get right (see `find_missing`); where there are such, `shared`: the scores over the other images, None without any.
    The `names` given; the fitted `classifier`; where there is a calibration set, `reliability` of the probabilities,
    without and with their temperature; where images may be refused, the `refuser` and the `counts` by class; where
    classes are unseen, `open_set`. Of the space itself: `retrieval` (recall@k and MAP@R; `retrieval_of` names queries
    and gallery) and the `self_centroid_accuracy` of the query on itself (flattering; for comparison with the 2019
    recipe only).
    """

    naming: Naming
    scores: ClassificationScores
    names: pd.DataFrame
    classifier: Classifier
    missing: pd.DataFrame
    shared: ClassificationScores | None = None
    reliability: tuple[Reliability, Reliability] | None = None
    refuser: Refuser | None = None
    counts: pd.DataFrame | None = None
    open_set: OpenSetScores | None = None
    retrieval: dict[str, float] = field(default_factory=dict)
    retrieval_of: str = ""
    intervals_by: str | None = None
    self_centroid_accuracy: float = float("nan")

    @property
    def method(self) -> Method:
        """How the images were named."""
        return self.naming.method

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "method": self.method,
            **self.scores_dict(),
            "intervals_by": self.intervals_by or "image",
            "missing_classes": self.missing.to_dict("records"),
            "retrieval": self.retrieval,
            "retrieval_of": self.retrieval_of,
            "self_centroid_accuracy": self.self_centroid_accuracy,
        }

    def scores_dict(self) -> dict[str, Any]:
        """Return what depends on the method, as plain values."""
        values = self.scores.to_dict()
        if len(self.missing):
            shared = None if self.shared is None else self.shared.to_dict()
            values["shared_classes"] = shared and {name: shared[name] for name in shared if name != "per_class"}
        if self.reliability is not None:
            before, after = self.reliability
            values["calibration"] = {
                "temperature": self.classifier.temperature_,
                "ece_before": before.ece,
                "ece": after.ece,
            }
        if self.counts is not None:
            values["refusing"] = {
                "unknown_rate": self.naming.unknown_rate,
                "refuse_by": self.naming.measure,
                "counts": self.counts.to_dict("records"),
            }
        if self.open_set is not None:
            values["open_set"] = self.open_set.to_dict()
        return values


def evaluate(
    reference: Reference,
    query: Reference,
    method: Method = "centroid",
    output: str | Path | None = None,
    *,
    n_neighbors: int | None = None,
    calibration: Reference | None = None,
    unseen: Sequence[str] = (),
    unknown_rate: float | None = None,
    refuse_by: RefusalMeasure | None = None,
    intervals_by: str | None = None,
    status: str | Sequence[str] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Evaluation:
    """Name the labelled images of `query` and score the names; the arguments are those of `classify`, but for these.

    Args:
        unseen: classes to withhold from the reference, to see whether their images are refused (at an unknown rate of
            .05, unless another is given). A network that was trained on them has seen them all the same: `seen_unseen`
            trains one that has not.
        intervals_by: column whose values are drawn as a whole for the intervals, such as `sample_id`: one of the
            vectors, or of the catalog of the images or the run (see `read_samples`). By default every image is drawn
            for itself, as if images of one sample were as different as those of several.
        output: folder for `scores.json`, `predictions.csv`, `per_class.csv`, `confusion.csv` (rows true), and pictures;
            for the MLP also the classifier itself.

    Raises:
        InputError: the query has no labels, a class to withhold is not in the reference, or there is no column of that
            name.
    """
    if output is not None:
        refuse_overwrite(output, overwrite, made_of="scores.json")
        if RunFolder(Path(output)).settings.exists():
            raise OutputError(f"{output} is a run, whose own scores would be lost; choose another folder")
    rate = UNKNOWN_RATE if unseen and unknown_rate is None else unknown_rate
    naming = Naming(method, n_neighbors, rate, refuse_by, load_settings(reference))
    known = load_labelled(reference)
    asked, images = load_described(reference, query, device, progress, status)
    samples = None if intervals_by is None else read_samples(intervals_by, asked, query, images)
    needed = ["refusing"] if naming.unknown_rate is not None else []
    held = find_calibration(reference, calibration, known, asked, needed)
    unseen = [clean_label(name) for name in unseen]
    known = _withhold(known, unseen)
    if unseen and not (set(asked.classes) & set(unseen) and set(asked.classes) & set(known.classes)):
        raise InputError("unseen: expected images of these classes and of others in the query; found one kind only")
    _warn_of_copies(asked)
    evaluation = evaluate_names(known, asked, naming, held, samples=samples, progress=progress)
    missing = evaluation.missing[~evaluation.missing["label"].isin(unseen)].reset_index(drop=True)
    _warn_of_missing(missing, known, evaluation.refuser is not None)
    names = [_describe_source(*source) for source in ((query, ("test", "val")), (reference, ("train",)))]
    space = score_space(known, asked, f"queries: {names[0]}, gallery: {names[1]}")
    evaluation = replace(evaluation, missing=missing, intervals_by=intervals_by, **space)
    if output is not None:
        with write_folder_atomically(output) as folder:
            write_json(folder / "scores.json", evaluation.to_dict())
            write_tables(folder, evaluation)
            draw_evaluation(folder, evaluation)
    return evaluation


def _warn_of_copies(asked: EmbeddingTable) -> None:
    """Report images of the query that have a copy (an equal vector) with another label."""
    rows = np.flatnonzero(asked.is_labelled)
    vectors = pd.Series([asked.vectors[row].tobytes() for row in rows])
    n_labels = pd.Series(asked.label[rows]).groupby(vectors).transform("nunique")
    doubtful = rows[(n_labels > 1).to_numpy()]
    if len(doubtful):
        logger.warning(
            "%d of %d images of the query have a copy (an equal vector) with another label, such as %s (%s); of such "
            "copies only one can be right: correct the labels (suspects lists them first)",
            *(len(doubtful), len(rows), asked.object_id[doubtful[0]], asked.label[doubtful[0]]),
        )


def _warn_of_missing(missing: pd.DataFrame, known: EmbeddingTable, refuses: bool) -> None:
    """Report the labels of the query that the reference lacks."""
    if len(missing):
        first = missing.iloc[0]
        nearest = f"its nearest name is {first['nearest']}" if first["nearest"] else "it has no similar name"
        logger.warning(
            "%d labels of the query (%d images, %.1f %%) are not among the %d classes of the reference, such as %s "
            "(%s); %s, or rename labels (catalog --class-map)",
            *(len(missing), missing["n_images"].sum(), 100 * missing["share"].sum(), len(known.classes)),
            *(first["label"], nearest),
            "the accuracy is that over the other images, and these should be unknown: see the open set"
            if refuses
            else "these count as wrong: see the score over the shared classes",
        )


def _describe_source(vectors: Reference, splits: Sequence[str]) -> str:
    """Return what a note calls vectors: the split of a run, or the name of the file."""
    if isinstance(vectors, EmbeddingTable):
        return "a table"
    run = RunFolder(Path(vectors))
    is_run = run.settings.exists()
    return next((name for name in splits if is_run and run.vectors(name).exists()), Path(vectors).name)


def evaluate_names(
    known: EmbeddingTable,
    asked: EmbeddingTable,
    naming: Naming,
    calibration: EmbeddingTable | None,
    *,
    samples: NDArray[np.str_] | None = None,
    progress: bool = False,
) -> Evaluation:
    """Predict the labelled rows of one table by those of another, and score; intervals draw whole `samples` (n,)."""
    known.check_same_model(asked)
    samples = None if samples is None else samples[asked.is_labelled]
    asked = asked.select(asked.is_labelled)
    if len(asked) == 0:
        raise InputError(
            "the query has no labels, so there is nothing to score against; classify it instead. Of images from "
            "EcoTaxa, labels are validated names alone: --status validated,predicted takes more"
        )
    n_shared = len(_paths(known) & _paths(asked))
    if n_shared:
        logger.warning("%d of the query's images are in the reference too, so these scores are too good", n_shared)
    classifier = naming.fit(known, calibration, progress)
    refuser = _fit_refuser(naming, known, classifier, calibration)
    names = name_images(classifier, asked, refuser, probabilities=calibration is not None)
    forced = names["label" if refuser is None else "best_label"].to_numpy(dtype=str)
    refused = (names["label"] == UNKNOWN).to_numpy()
    truth = asked.label.astype(str)
    is_known = np.isin(truth, known.classes)
    scored = is_known if refuser is not None and is_known.any() else np.ones(len(asked), dtype=bool)

    def score(rows: NDArray[np.bool_]) -> ClassificationScores:
        return score_names(truth[rows], forced[rows], samples=None if samples is None else samples[rows])

    scores, shared = score(scored), None
    if is_known.any() and not is_known.all():
        shared = scores if scored is is_known else score(is_known)
    return Evaluation(
        naming,
        scores,
        names,
        classifier,
        find_missing(truth, known.classes),
        shared=shared,
        reliability=None
        if calibration is None or not is_known.any()
        else _measure_reliability(classifier, asked.select(is_known)),
        refuser=refuser,
        counts=None if refuser is None else count_names(truth, forced, refused),
        open_set=None
        if refuser is None or is_known.all() or not is_known.any()
        else score_open_set(truth, forced, names["strangeness"], ~is_known, refused),
    )


def score_space(known: EmbeddingTable, asked: EmbeddingTable, retrieval_of: str) -> dict[str, Any]:
    """Return the scores of the space itself, whatever the method: those of `Evaluation` and what they are of."""
    asked = asked.select(asked.is_labelled)
    retrieval = score_retrieval(asked, known) if set(asked.classes) & set(known.classes) else {}
    return {
        "retrieval": retrieval,
        "retrieval_of": retrieval_of,
        "self_centroid_accuracy": self_centroid_accuracy(asked),
    }


def _measure_reliability(classifier: Classifier, asked: EmbeddingTable) -> tuple[Reliability, Reliability]:
    """Compare probability and accuracy, without and with the temperature."""
    with_temperature = classifier.predict_log_proba(asked.vectors)
    without = softmax(with_temperature * classifier.temperature_, axis=1)
    is_right = classifier.classes_[with_temperature.argmax(axis=1)] == asked.label.astype(str)
    return (
        measure_reliability(without.max(axis=1), is_right),
        measure_reliability(np.exp(with_temperature).max(axis=1), is_right),
    )


def _fit_refuser(
    naming: Naming, known: EmbeddingTable, classifier: Classifier, calibration: EmbeddingTable | None
) -> Refuser | None:
    if naming.unknown_rate is None:
        return None
    if calibration is None:
        raise InputError(f"refusing {NO_CALIBRATION}")
    return fit_refuser(known, classifier, calibration, naming.unknown_rate, naming.measure)


def _withhold(known: EmbeddingTable, unseen: Sequence[str]) -> EmbeddingTable:
    strangers = sorted(set(unseen) - set(known.classes))
    if strangers:
        raise InputError(f"unseen: expected classes of the reference, {known.classes}; found {strangers}")
    return known.select(~np.isin(known.label.astype(str), list(unseen)))


def _paths(table: EmbeddingTable) -> set[str]:
    return {path for path in table.path if path}


# ---------------------------------------------------------------------------------------------- new classes


def enroll(
    reference: Reference,
    new: Reference,
    output: str | Path | None = None,
    *,
    curve: bool = False,
    query: Reference | None = None,
    n_neighbors: int | None = None,
    n_draws: int | None = None,
    seed: int | None = None,
    status: str | Sequence[str] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> EmbeddingTable:
    """Add labelled images to a reference, new classes or more examples, without training.

    Args:
        reference: a table, its file, or the folder of a run (its training vectors).
        new: labelled vectors; or the folder of `clusters`, its `names.csv` filled in; with a run as reference also
            labelled images, which its model embeds.
        output: vectors file to write.
        curve: also name the images of the new classes again and again from 1, 2, 5, … examples a class, into
            `<output>_curve/`: `draws.csv`, `learning_curve.csv` (mean and spread over the draws) and its picture.
        query: labelled vectors to name for the curve, of new and known classes; by default half of the new images.
        n_neighbors: k of kNN in the curve; by default as in `classify`.
        n_draws: draws of each number of examples; by default 10.
        seed: of the draws; by default 0.
        status: of new images: which names are labels (see `embed`).
        overwrite: replace the output.
        device: where to embed.
        progress: show bars.

    Returns:
        The reference with the new vectors added.

    Raises:
        MismatchError: made by different models; both hashes are named.
        InputError: the new vectors have no labels, or an image is in the reference already.
    """
    if curve and output is None:
        raise SettingError("curve needs an output; its files are written beside it")
    if not curve and not (query is None and n_neighbors is None and n_draws is None and seed is None):
        raise SettingError("query, n_neighbors, n_draws and seed are for the learning curve; ask for it (--curve)")
    if isinstance(new, str | Path) and RunFolder(Path(new)).settings.exists():
        raise InputError(f"{new} is a run; name the vectors or images to enroll, such as {new}/vectors/test.parquet")
    folder = None
    if output is not None:
        refuse_overwrite(output, overwrite, TABLE_SUFFIXES)
        folder = Path(output).with_name(f"{Path(output).stem}_curve") if curve else None
        if folder is not None:
            refuse_overwrite(folder, overwrite, made_of="draws.csv")
    known = load_labelled(reference)
    named = None if isinstance(new, EmbeddingTable) else load_named(new)
    if named is not None and status is not None:
        raise SettingError(f"status: it goes with images; {new} holds the names that clusters got; leave it out")
    added = load_query(reference, new, device, progress, status) if named is None else named
    enrolled = add_examples(known, added)
    if folder is not None:
        draws = measure_learning(
            known,
            added,
            None if query is None else load_query(reference, query, device, progress),
            n_neighbors=load_settings(reference).classification.n_neighbors if n_neighbors is None else n_neighbors,
            n_draws=10 if n_draws is None else n_draws,
            seed=seed or 0,
            progress=progress,
        )
        write_curve(folder, draws)
    if output is not None:
        enrolled.save(output)
    return enrolled


# ---------------------------------------------------------------------------------------------- reading


def load_vectors(vectors: Reference, split: str = "train") -> EmbeddingTable:
    """Return a table as it is, or read it from its file or from the folder of a run."""
    if isinstance(vectors, EmbeddingTable):
        return vectors
    path = Path(vectors)
    return EmbeddingTable.load(RunFolder(path).vectors(split) if path.is_dir() else path)


def find_run(vectors: Reference) -> RunFolder | None:
    """Return the run that vectors belong to: its folder was given, or a file in it or in its `vectors/`; else None."""
    if isinstance(vectors, EmbeddingTable):
        return None
    path = Path(vectors).absolute()
    folder = path if path.is_dir() else path.parent
    run = RunFolder(folder.parent if folder.name == "vectors" else folder)
    return run if run.settings.is_file() else None


def load_settings(vectors: Reference) -> Settings:
    """Return the settings of the run that vectors belong to (see `find_run`), else the defaults.

    Raises:
        InputError: the settings of the run cannot be read.
    """
    run = find_run(vectors)
    try:
        return Settings() if run is None else Settings.load(run.settings)
    except SettingError as error:
        raise InputError(
            f"{run.settings if run else vectors} cannot be used: {error}\nA newer release may have written it: use "
            "that one, or copy the vectors out of the run, where the default settings are used"
        ) from error


def load_labelled(vectors: Reference, split: str = "train", what: str = "the reference") -> EmbeddingTable:
    """Return `load_vectors`; a class called like rejected images is an error (see `refuse_unknown`)."""
    table = load_vectors(vectors, split)
    refuse_unknown(table.classes, what if isinstance(vectors, EmbeddingTable) else vectors)
    return table


def load_query(
    reference: Reference, query: Reference, device: str, progress: bool, status: str | Sequence[str] | None = None
) -> EmbeddingTable:
    """Read the query's vectors; images are embedded by the model of the run that is the reference.

    `status` says which names of images are labels (see `embed`). As of the reference, no class of it may be called like
    rejected images.
    """
    return load_described(reference, query, device, progress, status)[0]


def load_described(
    reference: Reference, query: Reference, device: str, progress: bool, status: str | Sequence[str] | None = None
) -> tuple[EmbeddingTable, ImageCatalog | None]:
    """Return `load_query`, and where the query is images their catalog too."""
    if status is not None and (isinstance(query, EmbeddingTable) or not embeds_images(reference, query)):
        raise SettingError(
            "status: it goes with images; the query is vectors, whose labels were chosen when it was made"
        )
    if isinstance(query, EmbeddingTable):
        return load_labelled(query, what="the query"), None
    path = Path(query)
    run_folder = RunFolder(path)
    if run_folder.settings.exists():
        split = next((name for name in ("test", "val") if run_folder.vectors(name).exists()), None)
        if split is None:
            raise InputError(f"{path} is a run without test or val vectors; name images or a vectors file")
        return load_labelled(path, split), None
    if isinstance(reference, EmbeddingTable) or not Path(reference).is_dir() or holds_vectors(path):
        if path.is_dir():
            raise InputError(
                f"{path} is a folder, not a file of vectors; embed its images first (plankton-embed embed), or "
                "give a run as reference, whose model embeds them"
            )
        return load_labelled(path), None
    images = read_source(path, status=status)
    refuse_unknown(images.classes, path)
    from plankton_embed.embedding import embed  # torch, which vectors alone do not need

    return embed(reference, images, device=device, progress=progress), images


def read_samples(
    column: str, table: EmbeddingTable, source: Reference, images: ImageCatalog | None = None
) -> NDArray[np.str_]:
    """Return the text of a column (n,), by which intervals draw whole samples.

    Args:
        column: of the vectors, such as `sample_id`; else of the catalog, by `object_id`.
        table: the vectors.
        source: what they were read from; where it is a run, or in one (see `find_run`), that run's catalog is looked
            into.
        images: the catalog of the images, where they were embedded.

    Raises:
        InputError: there is no such column, or it is empty.
    """
    run, values = find_run(source), pd.Series(None, range(len(table)), dtype=object)
    if images is None and run is not None and run.catalog.is_file():
        images = ImageCatalog.load(run.catalog)
    if column in table.columns:
        values = pd.Series(table.columns[column])
    elif column == "sample_id" and any(table.sample_id):
        values = pd.Series(table.sample_id)
    elif images is not None and column in images.frame:
        values = images.frame.drop_duplicates("object_id").set_index("object_id")[column].reindex(table.object_id)
    n_empty = int(values.isna().sum())
    if n_empty == len(values):
        known = [
            *(["sample_id"] if any(table.sample_id) else []),
            *table.columns,
            *([] if images is None else images.frame),
        ]
        raise InputError(
            f"intervals_by: expected a column of the vectors or of their catalog with a value for each of {len(table)} "
            f"images; found nothing in {column!r}; there are {', '.join(dict.fromkeys(known)) or 'no such columns'}"
        )
    if n_empty:
        logger.warning("%d of %d images have no %s; they are drawn together", n_empty, len(values), column)
    return values.astype("str").where(values.notna(), "").to_numpy(dtype=str)


def read_held_samples(column: str, held: EmbeddingTable, source: Reference) -> NDArray[np.intp]:
    """Return the code of the sample of each calibration image (m,), by which intervals or draws take whole samples.

    Raises:
        InputError: there is no such column, or it has fewer than 5 values.
    """
    codes, names = pd.factorize(read_samples(column, held, source))
    if len(names) < LEAST_SAMPLES:
        raise InputError(
            f"intervals_by: expected calibration images with at least {LEAST_SAMPLES} values of {column}; found "
            f"{len(names)}; calibrate on images of more samples (--calibration VECTORS), or leave it out"
        )
    return np.asarray(codes, dtype=np.intp)


def embeds_images(reference: Reference, query: str | Path) -> bool:
    """Return whether the query is images, which the model of the run that is the reference embeds."""
    is_run = not isinstance(reference, EmbeddingTable) and Path(reference).is_dir()
    return is_run and not RunFolder(Path(query)).settings.exists() and not holds_vectors(Path(query))


def find_calibration(
    reference: Reference,
    calibration: Reference | None,
    known: EmbeddingTable,
    asked: EmbeddingTable,
    needed_for: Sequence[str] = (),
) -> EmbeddingTable | None:
    """Read the calibration set; by default `val.parquet` beside the reference, where it can serve.

    Of it serve labelled images of known classes that are not in the reference too, and have no copy with another label.

    Args:
        reference: as `classify`.
        calibration: as `classify`.
        known: what was read from the reference.
        asked: what was read from the query.
        needed_for: what needs it.

    Raises:
        MismatchError: made by another model.
        InputError: there is none, and something needs it; or no image of the one that was given can serve.
    """
    if calibration is not None:
        held = load_labelled(calibration, "val")
        known.check_same_model(held, ("reference", "calibration"))
        held = _select_calibration(held, known)
        n_shared = count_shared(held, asked)
        if n_shared:
            logger.warning(
                "%d of the query's images are in the calibration set too, so these scores are too good", n_shared
            )
        return held
    fault = "there is none"
    if not isinstance(reference, EmbeddingTable):
        path = Path(reference)
        beside = RunFolder(path).vectors("val") if path.is_dir() else path.with_name("val.parquet")
        if beside.is_file() and beside.resolve() != path.resolve():
            held = EmbeddingTable.load(beside)
            fault = _why_not(known, held, asked)
            if not fault:
                logger.info("calibration: %s", beside)
                return _select_calibration(held, known)
            fault = f"{beside} {fault}"
    if needed_for:
        raise InputError(f"{' and '.join(needed_for)} {NO_CALIBRATION}; {fault}")
    logger.info("no probabilities: they need a calibration set (--calibration), and %s", fault)
    return None


def _why_not(known: EmbeddingTable, held: EmbeddingTable, asked: EmbeddingTable) -> str:
    """Return why a table that was not asked for cannot serve as calibration set; nothing where it can."""
    if held.model_hash != known.model_hash or held.dimension != known.dimension:
        return "was made by another model"
    if len(select_known(held, known)) == 0:
        return "has no labelled image of a known class"
    if _is_among(select_known(held, known), known).all():
        return "has no image that is not in the reference too"
    if count_shared(held, asked):
        return "holds images of the query"
    return ""


def drop_contradictions(held: EmbeddingTable, known: EmbeddingTable) -> EmbeddingTable:
    """Leave out calibration images that have a copy (an equal vector) with another label, there or in the reference."""
    tables = [held.select(held.is_labelled), known.select(known.is_labelled)]
    keys = pd.Series([row.tobytes() for table in tables for row in table.vectors], dtype=object)
    labels = pd.Series(np.concatenate([table.label for table in tables]), dtype=object)
    doubtful = np.zeros(len(held), dtype=bool)
    n_labels = labels.groupby(keys.to_numpy()).transform("nunique").to_numpy()
    doubtful[held.is_labelled] = n_labels[: len(tables[0])] > 1
    if doubtful.any():
        first = int(doubtful.argmax())
        logger.warning(
            "calibration: %d of %d images have a copy (an equal vector) with another label and are left out, such as "
            "%s (%s); correct the labels (suspects lists them first)",
            *(int(doubtful.sum()), len(held), held.object_id[first], held.label[first]),
        )
    return held.select(~doubtful)


def _select_calibration(found: EmbeddingTable, known: EmbeddingTable) -> EmbeddingTable:
    """Keep the images that can serve: errors on images of the reference would look too rare.

    Raises:
        InputError: none is left.
    """
    held = select_known(found, known)
    if len(held) == 0:
        raise InputError(f"calibration: it has no labelled image of the {len(known.classes)} classes of the reference")
    clear = drop_contradictions(held, known)
    if len(clear) == 0:
        raise InputError(
            "calibration: every image has a copy (an equal vector) with another label; correct the labels, or give "
            "other images (--calibration VECTORS)"
        )
    shared = _is_among(clear, known)
    if shared.all():
        raise InputError(
            "calibration: all images of a known class are in the reference too; give labelled vectors of images that "
            "the network was not trained on (--calibration VECTORS)"
        )
    if shared.any():
        logger.warning("calibration: %d of %d images are in the reference too and left out", shared.sum(), len(clear))
    return clear.select(~shared)


def count_shared(table: EmbeddingTable, other: EmbeddingTable) -> int:
    """Return how many images of a table are in another, their vectors being the same."""
    return int(_is_among(table, other).sum())


def _is_among(table: EmbeddingTable, other: EmbeddingTable) -> NDArray[np.bool_]:
    others = {row.tobytes() for row in other.vectors}
    return np.array([row.tobytes() in others for row in table.vectors], dtype=bool)


# ---------------------------------------------------------------------------------------------- writing


def write_tables(folder: Path, evaluation: Evaluation) -> None:
    """Write the names, and every table of the scores."""
    write_frame(folder / "predictions.csv", evaluation.names)
    write_frame(folder / "per_class.csv", evaluation.scores.per_class)
    write_frame(folder / "confusion.csv", evaluation.scores.confusion.reset_index())
    if isinstance(evaluation.classifier, NearestCentroidClassifier):
        centroids = evaluation.classifier
        write_frame(folder / "classes.csv", centroids.class_table())
        write_frame(
            folder / "centroid_distances.csv", centroids.centroid_distances().rename_axis("label").reset_index()
        )
    if evaluation.reliability is not None:
        write_frame(folder / "reliability.csv", evaluation.reliability[1].bins)
    if evaluation.refuser is not None and evaluation.counts is not None:
        write_frame(folder / "thresholds.csv", evaluation.refuser.thresholds_)
        write_frame(folder / "counts.csv", evaluation.counts)
    if evaluation.open_set is not None:
        write_frame(folder / "open_set_curve.csv", evaluation.open_set.curve)
    if isinstance(evaluation.classifier, MLPClassifier):
        evaluation.classifier.save(folder / "classifier", overwrite=True)


def write_curve(folder: Path, draws: pd.DataFrame) -> None:
    """Write the learning curve of enrolled classes: every draw, their mean and spread, and the picture."""
    summary = summarize_learning(draws)
    write_frame(folder / "draws.csv", draws)
    write_frame(folder / "learning_curve.csv", summary)
    save_figure(draw_learning_curve(summary), folder / "learning_curve.png")


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a CSV, whole or not at all; it starts with a byte-order mark, by which Excel knows UTF-8."""
    with write_atomically(path) as temporary:
        frame.to_csv(temporary, index=False, encoding="utf-8-sig")


def draw_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Draw every picture of the scores."""
    names = evaluation.names
    if evaluation.refuser is not None:
        names = names.assign(label=names["best_label"])[
            np.isin(names["true_label"].astype(str), evaluation.classifier.classes_)
        ]
    save_figure(draw_confusion(evaluation.scores), folder / "confusion.png")
    save_figure(draw_class_scores(evaluation.scores), folder / "class_scores.png")
    save_figure(draw_sheet(contact_sheets.misclassified_sheet(names)), folder / "misclassified.png")
    worst = contact_sheets.worst_classes_sheet(names, evaluation.scores)
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
