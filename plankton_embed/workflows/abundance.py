"""`abundance`: count the classes in every sample, with concentrations if the volume of water is known."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from plankton_embed.analysis.counts import Abundance, SampleCounts, count_sample, gather_counts
from plankton_embed.analysis.fractions import CONTRADICTING, NO_SAMPLE
from plankton_embed.analysis.mixture_fit import FIT_LIMIT, MixtureTest, draw_tested, find_misfits
from plankton_embed.analysis.quantification import LEVEL, N_DRAWS, CorrectionMethod, CountCorrection
from plankton_embed.analysis.samples import COLUMNS, Survey, divide_samples
from plankton_embed.analysis.shift import draw_judged, judge_shift
from plankton_embed.classifiers.prediction import (
    NO_CALIBRATION,
    Classifier,
    Method,
    PredictionOptions,
    UnknownRate,
    describe_predictions,
)
from plankton_embed.classifiers.rejection import NoveltyScore, Rejector, estimate_kept
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import UNKNOWN, ImageCatalog, refuse_unknown
from plankton_embed.images.catalog_files import from_arrow
from plankton_embed.images.catalog_shards import CatalogShards
from plankton_embed.images.readers.source import read_source
from plankton_embed.output import progress_bar, write_frame
from plankton_embed.plots.abundance import draw_abundance
from plankton_embed.plots.composition import draw_composition
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.profile import draw_profile, draw_time_series
from plankton_embed.plots.size_spectra import draw_size_spectra
from plankton_embed.shards import is_shards
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_shards import GroupedVectors, Vectors, VectorShards
from plankton_embed.workflows.inputs import (
    Query,
    Reference,
    as_run,
    is_images,
    load_described,
    load_settings,
    prepare_prediction,
    read_calibration_samples,
    read_samples,
)
from plankton_embed.workflows.result_folder import check_output, write_analysis

logger = logging.getLogger(__name__)

FEW_CALIBRATION = 5  # calibration images of a class, below which its errors are uncertain
FEW_IMAGES = 20  # images of a sample, below which its intervals are too narrow


def abundance(
    reference: Reference,
    query: Query,
    output: str | Path | None = None,
    *,
    by: str = "sample_id",
    catalog: ImageCatalog | str | Path | None = None,
    root: str | Path | None = None,
    method: Method = "centroid",
    n_neighbors: int | None = None,
    calibration: Reference | None = None,
    unknown_rate: UnknownRate | None = None,
    refuse_by: NoveltyScore | None = None,
    correction: CorrectionMethod = "em",
    n_draws: int = N_DRAWS,
    level: float = LEVEL,
    depth_bin: float | None = None,
    intervals_by: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Abundance:
    """Count the classes in every sample, corrected for prediction errors, with intervals.

    An object with several images, as in EcoTaxa, counts once, by its first image.

    Args:
        reference: a table, its file, or the folder of a run (its training vectors).
        query: vectors, labelled or not; or a run (its test or val vectors). With a run as reference also images, which
            its model embeds. Vectors in a folder of Parquet files (shards) need not fit in memory; they are sorted by
            sample into a temporary file beside the output.
        output: folder to write: `abundance.csv` and `samples.csv` (see `Abundance`), `counts.csv` and `corrected.csv`
            (one row for each sample, one column for each class), `abundance.png`, `composition.png`; if the catalog has
            the columns for them also `size_spectra.csv`, `profile.csv`, `time_series.csv`, each with its picture; if a
            sample has several parts, `parts.csv`.
        by: column whose values are the samples. Images without a value are the sample `(none)`, of unknown position and
            volume; without any `sample_id` all images are one sample `all`. Fractions of one `sample_id` add up by
            their factors, and different `sample_id` by their factors and volumes (see `add_parts_up`).
        catalog: the catalog of the images whose vectors are given (samples, positions, times, depths, volumes,
            features), matched by `object_id`: a file, or a folder of Parquet files, of which only these columns are
            read. Images have their own catalog, and a run that of its folder.
        root: where relative paths of the catalog, or of a catalog file as query, start.
        method, n_neighbors, calibration, unknown_rate, refuse_by: for classification and rejection; see `classify`.
        correction: `em` or `confusion` (see `CountCorrection`).
        n_draws: random draws for the intervals, at least 20.
        level: share of the intervals that should contain the true count.
        depth_bin: bin width of a profile, in m, if images of a sample have different depths; by default a round number.
        intervals_by: column whose values are drawn as a whole for the intervals, such as `sample_id`, in the
            calibration set (at least 5 values) and among the images counted together (see `CountCorrection`): a column
            of the vectors, or of the catalog of the images or the run. By default single images are drawn.
        seed: seed of the draws; the result of a sample does not depend on other samples.
        overwrite: replace the output.
        device: where to embed.
        progress: show bars.

    Raises:
        MismatchError: made by different models; the message contains both hashes.
        InputError: there is no calibration set, or it has fewer than 5 values of `intervals_by`; images or the column
            `by` are missing in the catalog.
    """
    check_output(output, overwrite, "abundance")
    options = PredictionOptions(method, n_neighbors, unknown_rate, refuse_by, load_settings(reference))
    columns = [by, *([intervals_by] if intervals_by else []), *COLUMNS, "ecotaxa_id"]
    counted, metadata = _load_images(reference, query, catalog, root, columns, device, progress)
    images = _describe_images(counted, metadata, by)
    first = _first_images(images)
    if not first.all():
        logger.warning(
            "%d images are further images of an object; an object counts once, by its first image", (~first).sum()
        )
        images, counted = images[first].reset_index(drop=True), counted.select(first)
    survey = divide_samples(images, by, depth_bin)
    ready = prepare_prediction(reference, counted, options, calibration, ["abundance"], progress=progress)
    labelled, calibration_set = ready.reference.labelled, ready.calibration
    classifier, rejector = ready.classifier, ready.rejector
    if calibration_set is None:
        raise InputError(f"abundance {NO_CALIBRATION}")
    calibration_samples, drawn_by = None, None
    if intervals_by is not None:
        source = reference if calibration is None else calibration
        calibration_samples = read_calibration_samples(intervals_by, calibration_set, source)
        drawn_by = _code_samples(intervals_by, counted, query, images)
    measures = Rejector().fit(labelled.vectors, labelled.label)
    corrector, fit_test, kept, summary = _learn_errors(
        labelled, calibration_set, classifier, rejector, measures, method, correction, n_draws, level, seed,
        calibration_samples,
    )  # fmt: skip
    _warn(survey, images[by], calibration_set, classifier)
    _warn_of_amounts(survey, images, metadata, by)
    del images, metadata  # of many millions of images
    labels = [str(name) for name in classifier.classes_]
    labels.append(UNKNOWN)

    vectors_of = GroupedVectors(counted, survey.rows, None if output is None else Path(output).absolute().parent)

    def predict(vectors: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]:
        order, logs = classifier.assess(vectors)
        return order[:, 0], logs, _reject(rejector, classifier, vectors, order[:, 0])

    def test_fit(vectors: NDArray[np.float32]) -> float:
        vectors = draw_tested(vectors)  # before the predictions, which take most of the time
        codes, logs, rejected = predict(vectors)
        novelty = measures.novelty_scores(vectors[~rejected], classifier.classes_[codes[~rejected]])
        return fit_test.p_value(logs[~rejected], novelty)

    def count(number: int) -> SampleCounts:
        codes, logs, rejected = predict(vectors_of[number])
        inner = None if drawn_by is None else drawn_by[survey.rows[number]]
        return count_sample(survey, number, labels, codes, logs, rejected, corrector, kept, inner, not misfits[number])

    tested = progress_bar(range(len(survey.rows)), "tests of the samples", "sample", shown=progress)
    fit_p = np.array([test_fit(vectors_of[number]) for number in tested])
    untested = np.isnan(fit_p)
    if untested.any():  # too small to be tested one by one
        fit_p[untested] = test_fit(np.concatenate([vectors_of[int(number)] for number in np.flatnonzero(untested)]))
    misfits = find_misfits(fit_p)
    bar = progress_bar(range(len(survey.rows)), "samples", "sample", shown=progress)
    settings = {
        "by": by,
        "method": method,
        "unknown_rate": rejector and rejector.rate_,
        "refuse_by": rejector and rejector.measure,
        "correction": correction,
        "level": level,
        "n_draws": n_draws,
        "intervals_by": intervals_by or "image",
        "seed": seed,
        "biovolume": survey.biovolume_kind,
    }
    found = gather_counts(survey, labels, (count(number) for number in bar), level, UNKNOWN, settings | summary)
    judged = (vectors_of[number][draw_judged(len(rows))] for number, rows in enumerate(survey.rows))
    samples = [EmbeddingTable(vectors) for vectors in judged]
    verdicts = judge_shift(
        partial(describe_predictions, classifier, measures),
        *(calibration_set, samples, survey.samples["sample"].tolist()),
        calibration_samples=calibration_samples,
        progress=progress,
    )
    _describe_fit(found, fit_p, misfits, verdicts, correction)
    write_analysis(output, "abundance", None, found.to_dict(), lambda folder: _write(folder, found))
    return found


def _write(folder: Path, found: Abundance) -> None:
    write_frame(folder / "abundance.csv", found.table)
    write_frame(folder / "totals.csv", found.totals.reset_index())
    write_frame(folder / "samples.csv", found.samples)
    if found.parts is not None:
        write_frame(folder / "parts.csv", found.parts)
    write_frame(folder / "counts.csv", found.by_sample("count").reset_index())
    write_frame(folder / "corrected.csv", found.by_sample("corrected").reset_index())
    save_figure(draw_abundance(found), folder / "abundance.png")
    save_figure(draw_composition(found), folder / "composition.png")
    for name, table, draw in (
        ("size_spectra", found.spectra, draw_size_spectra),
        ("profile", found.profile, draw_profile),
        ("time_series", found.time_series, draw_time_series),
    ):
        if table is not None:
            write_frame(folder / f"{name}.csv", table)
            save_figure(draw(found), folder / f"{name}.png")


# ---------------------------------------------------------------------------------------------- images


def _load_images(
    reference: Reference,
    query: Query,
    catalog: ImageCatalog | str | Path | None,
    root: str | Path | None,
    columns: Sequence[str],
    device: str,
    progress: bool,
) -> tuple[Vectors, pd.DataFrame | None]:
    """Return the vectors of the query, and the catalog of its images; of a folder of catalogs, these columns."""
    path = Path(query) if isinstance(query, str | Path) else None
    if path is not None and not path.exists():
        raise InputError(f"{path} does not exist")
    run, query_run = as_run(reference), as_run(query)
    source = query if isinstance(query, ImageCatalog) else path
    if run is not None and source is not None and is_images(source):
        if catalog is not None:
            raise SettingError(
                "catalog: it can only be used with vectors; a source of images has its own catalog, so leave it out"
            )
        images = read_source(source, root)
        refuse_unknown(images.classes, path or "the query")
        from plankton_embed.embedding import embed_source  # torch, which vectors alone do not need

        return embed_source(run.model, images, device=device, progress=progress), images.frame
    if root is not None and (catalog is None or isinstance(catalog, ImageCatalog)):
        raise SettingError(
            "root: it can only be used with a catalog file; give one (--catalog CATALOG), or leave it out"
        )
    table = load_described(reference, query, device, progress)[0]
    if catalog is None and query_run is not None and query_run.catalog.is_file():
        return table, ImageCatalog.load(query_run.catalog).frame
    if isinstance(catalog, str | Path) and is_shards(catalog):
        shards = CatalogShards.open(catalog, root)
        _check_by(columns[0], shards.shards.schema.names)
        return table, shards.load(columns)
    return table, None if catalog is None else read_source(catalog, root).frame


def _describe_images(table: Vectors, catalog: pd.DataFrame | None, by: str) -> pd.DataFrame:
    """Return the rows of the catalog for the images of a table, in its order."""
    ids = table.read_ids() if isinstance(table, VectorShards) else _to_text(table.object_id)
    if catalog is None:
        if by != "sample_id":
            raise InputError(f"by: vectors have no column {by}; give the catalog that has it (--catalog CATALOG)")
        return pd.DataFrame({"object_id": from_arrow(ids), "sample_id": table.sample_id})
    others = _to_text(catalog["object_id"])
    images = catalog.reset_index(drop=True)
    if not ids.equals(others):
        rows = pc.fill_null(pc.index_in(ids, others), -1).to_numpy()  # in a third of the memory that pandas needs
        if (rows < 0).any():
            raise InputError(
                f"catalog: it lacks {(rows < 0).sum()} of {len(rows)} images by object_id, such as "
                f"{ids[int((rows < 0).argmax())]}; give the catalog that the vectors were made from"
            )
        images = catalog.iloc[rows].reset_index(drop=True)
    if "sample_id" not in images:
        images["sample_id"] = table.sample_id
    _check_by(by, images.columns)
    return images


def _to_text(values: NDArray[np.object_] | pd.Series) -> Any:
    """Return a column as Arrow text in pieces, without a copy of such text."""
    return pa.table({"values": values})["values"].cast(pa.large_string())


def _check_by(by: str, columns: Iterable[object]) -> None:
    names = list(map(str, columns))
    if by not in (*names, "sample_id"):  # vectors have this one too
        raise InputError(f"by: the catalog has no column {by}; it has {', '.join(names)}")


def _code_samples(column: str, table: Vectors, query: Query, images: pd.DataFrame) -> NDArray[np.intp]:
    """Return the code of the column's value of each image; images with the same code are drawn together."""
    own = images[column] if column in images and images[column].notna().any() else None
    return np.asarray(
        pd.factorize(read_samples(column, table, query) if own is None else own, use_na_sentinel=False)[0]
    )


def _first_images(images: pd.DataFrame) -> NDArray[np.bool_]:
    """Return (n,) whether each image is the first of its object (EcoTaxa's objects may have several).

    The reader gives the first image of an object its ID, and further ones ID/1, ID/2, …: the first has the shortest id.
    """
    if "ecotaxa_id" not in images:
        return np.ones(len(images), dtype=bool)
    in_order = images.loc[images["object_id"].str.len().sort_values(kind="stable").index]
    keys = [name for name in ("sample_id", "acq_id", "ecotaxa_id") if name in images]
    further = in_order.duplicated(keys) & in_order["ecotaxa_id"].notna()
    return ~further.sort_index().to_numpy()


# ---------------------------------------------------------------------------------------------- errors of predictions


def _learn_errors(
    reference: EmbeddingTable,
    calibration: EmbeddingTable,
    classifier: Classifier,
    rejector: Rejector | None,
    measures: Rejector,
    method: Method,
    correction: CorrectionMethod,
    n_draws: int,
    level: float,
    seed: int,
    samples: NDArray[np.intp] | None,
) -> tuple[CountCorrection, MixtureTest, NDArray[np.float64] | None, dict[str, Any]]:
    """Estimate from the calibration images the errors of predictions, and the share of each class not rejected.

    Returns:
        The correction, the test of whether a sample is a mixture of the classes (without rejected images), the shares
        (see `count_sample`), and the part of the summary about the calibration.
    """
    codes = np.searchsorted(classifier.classes_, calibration.label.astype(str))
    order, logs = classifier.assess(calibration.vectors)
    kept = ~_reject(rejector, classifier, calibration.vectors, order[:, 0])
    if not kept.any():
        raise InputError("calibration: every image is rejected as unknown; choose a smaller unknown rate")
    prior = None  # of class means; the other methods expect the class mix of the reference
    if method != "centroid":
        prior = np.bincount(np.searchsorted(classifier.classes_, reference.label.astype(str)))
        prior = prior / prior.sum()
    inner = None if samples is None else samples[kept]
    corrector = CountCorrection(
        logs[kept],
        codes[kept],
        prior,
        correction,
        samples=inner,
        n_draws=n_draws,
        level=level,
        seed=seed,
    )
    novelty = measures.novelty_scores(calibration.vectors[kept], classifier.classes_[order[kept, 0]])
    fit_test = MixtureTest(corrector, logs[kept], codes[kept], novelty, seed, inner)
    described = {"n_images": len(calibration), "accuracy": float((order[:, 0] == codes).mean())}
    shares = None
    if rejector is not None:
        rejected = rejector.count_rejected(calibration.vectors, classifier.classes_[order[:, 0]])
        shares = estimate_kept(rejected, codes, len(classifier.classes_), n_draws, seed)
        described["rejected"] = float(rejected.mean())
    return corrector, fit_test, shares, {"n_classes": len(classifier.classes_), "calibration": described}


def _describe_fit(
    counted: Abundance, fit_p: NDArray[np.float64], failed: NDArray[np.bool_], verdicts: list[str], correction: str
) -> None:
    """Add to samples and summary which samples are not corrected, why, and the verdict on shift; warn of them."""
    why = f"the images are not a mixture of the classes of the calibration images (false discovery rate {FIT_LIMIT:g})"
    columns: dict[str, Any] = {
        "correction": np.where(failed, "none", correction),
        "why_uncorrected": np.where(failed, why, ""),
        "fit_p": fit_p,
        "shift": verdicts,
    }
    for position, (name, values) in enumerate(columns.items(), start=3):
        counted.samples.insert(position, name, values)
    counted.summary["n_uncorrected"] = int(failed.sum())
    if failed.any():
        logger.warning(
            "%d of %d samples are not corrected and have no intervals, such as %s: %s. There may be images of unknown "
            "classes or of another instrument (see shift): reject unknown classes (a higher --unknown-rate), or "
            "calibrate with images like those of the sample",
            *(int(failed.sum()), len(failed), counted.samples["sample"].iloc[int(failed.argmax())], why),
        )


def _reject(
    rejector: Rejector | None, classifier: Classifier, vectors: NDArray[np.float32], codes: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Return (n,) whether each image is too novel for its predicted class, given as code (n,)."""
    return np.zeros(len(vectors), bool) if rejector is None else rejector.reject(vectors, classifier.classes_[codes])


def _warn(survey: Survey, samples: pd.Series, calibration: EmbeddingTable, classifier: Classifier) -> None:
    """Warn where counts are less certain than their intervals show."""
    counts = pd.Series(calibration.label.astype(str)).value_counts()
    counts = counts.reindex(classifier.classes_.astype(str), fill_value=0)
    few = counts[counts < FEW_CALIBRATION].sort_values(kind="stable")
    if len(few):
        n_empty = int((few == 0).sum())
        listed = ", ".join(f"{name} ({n})" for name, n in few.head(5).items()) + (", …" if len(few) > 5 else "")
        logger.warning(
            "%d of %d classes have fewer than %d calibration images%s; their errors are uncertain: %s",
            *(len(few), len(counts), FEW_CALIBRATION, f" ({n_empty} have none)" if n_empty else "", listed),
        )
    n_small = int((survey.samples["n_images"] < FEW_IMAGES).sum())
    if n_small:
        logger.warning(
            "%d of %d samples have fewer than %d images; their intervals are too narrow",
            *(n_small, len(survey.samples), FEW_IMAGES),
        )
    if samples.isna().all():
        logger.warning("no image has a sample_id, so all are one sample; give another column of the catalog with --by")
    elif samples.isna().any():
        logger.warning("%d images have no %s; they are the sample %s", samples.isna().sum(), samples.name, NO_SAMPLE)
    if survey.biovolume is not None and np.isnan(survey.biovolume).any():
        logger.warning(
            "%d of %d images have no body size; their biovolume is missing from the sums",
            *(int(np.isnan(survey.biovolume).sum()), len(survey.biovolume)),
        )


def _warn_of_amounts(survey: Survey, images: pd.DataFrame, catalog: pd.DataFrame | None, by: str) -> None:
    """Warn where individuals or concentrations are missing, or are those of only a part of the sample."""
    samples = survey.samples
    if catalog is None:
        return
    if "volume" not in samples:
        logger.warning("no concentrations: the catalog has no column volume (m³ of water of each sample)")
    if "why_missing" in samples:
        what = "concentration" if "volume" in samples else "individuals"
        for why, rows in samples[~samples["why_missing"].isin(["", f"no {by}"])].groupby("why_missing"):
            first = rows["sample"].iloc[0]
            shown = ""
            if CONTRADICTING in str(why):
                volumes = np.sort(survey.parts.loc[survey.parts["sample"] == first, "volume"].dropna().unique())
                shown = f" ({', '.join(f'{volume:g}' for volume in volumes[:5])} m³)"
            logger.warning(
                "no %s for %d of %d samples, such as %s%s: %s", what, len(rows), len(samples), first, shown, why
            )
    if survey.n_divided:
        logger.warning(
            "--by %s divides the images of %d sample_id among several samples, so individuals and concentrations are "
            "only those of parts; --by sample_id adds the parts up",
            *(by, survey.n_divided),
        )
    has_amounts = samples.columns.isin(["volume", "subsample_factor"]).any()
    if by in catalog and has_amounts and len(catalog) > len(images):
        firsts = catalog[_first_images(catalog)]
        others = firsts[~firsts["object_id"].isin(images["object_id"])]
        n_left_out = int(others[by].isin(images[by].dropna()).sum())
        if n_left_out:
            logger.warning(
                "the catalog has %d more images of these samples that are not counted: individuals and concentrations "
                "are those of the images counted",
                n_left_out,
            )
