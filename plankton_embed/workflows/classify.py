"""`classify`: predict the classes of images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from plankton_embed.analysis.shift import draw_judged, judge_shift
from plankton_embed.classifiers.prediction import (
    BLOCK,
    Classifier,
    Method,
    PredictionOptions,
    UnknownRate,
    describe_predictions,
    predict_in_blocks,
)
from plankton_embed.classifiers.rejection import NoveltyScore, Rejector
from plankton_embed.distributed import run_job
from plankton_embed.errors import OutputError, SettingError
from plankton_embed.index_shards import is_sharded_index
from plankton_embed.jobs import Engine, Job, check_folder_options, refuse_overlap
from plankton_embed.notebook import Shown
from plankton_embed.output import progress_bar, refuse_overwrite, write_frames
from plankton_embed.shards import open_parquet
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_shards import VectorShards, take_rows
from plankton_embed.workflows.inputs import (
    PreparedPrediction,
    Query,
    Reference,
    load_settings,
    prepare_prediction,
    prepare_with_index,
)


def classify(
    reference: Reference,
    query: Query,
    method: Method = "centroid",
    output: str | Path | None = None,
    *,
    n_neighbors: int | None = None,
    calibration: Reference | None = None,
    probabilities: bool | None = None,
    all_probabilities: bool = False,
    unknown_rate: UnknownRate | None = None,
    refuse_by: NoveltyScore | None = None,
    status: str | Sequence[str] | None = None,
    engine: Engine = "local",
    address: str | None = None,
    n_workers: int | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame | WrittenPredictions:
    """Predict the classes of the images in `query` from the labelled vectors in `reference`.

    Vectors in a folder of Parquet files (shards) are read a part at a time, and need not fit in memory. If the output
    is a folder too, the predictions of each file are one Parquet file of it. The same call continues a job that was
    stopped, with the files that are missing.

    Args:
        reference: labelled vectors: a table, its file, or the folder of a run (its training vectors). For `knn` also a
            sharded index (`index --kind sharded`), without probabilities and rejection; a distance is then nan if the
            class is not among the k neighbours.
        query: vectors to predict: a table, its file, or a folder of Parquet files. If the reference is a run, also
            images (a folder, a catalog file), which its model embeds.
        method: `centroid`, `knn` or `mlp`.
        output: CSV to write the predictions to; or a folder, whose name has no suffix, if the query is one.
        n_neighbors: k of kNN; by default the k of the run that the reference belongs to (see `find_run`), else 10.
        calibration: labelled vectors of images that the network was not trained on, for probabilities and rejection
            (and for early stopping of the MLP); by default `val.parquet` beside the reference, if it exists.
        probabilities: give probabilities; by default if there is a calibration set.
        all_probabilities: also give the probabilities of all classes, in columns `p(<class>)`.
        unknown_rate: share of the images of known classes that may be rejected; by default none is rejected. `auto`:
            the share with the smallest error of the composition when classes are withheld (see `score_unknown_rates`).
        refuse_by: the novelty score: `centroid`, `neighbor` (the default) or `density` (see `Rejector`).
        status: for images: the statuses whose class names are used as labels (see `embed`).
        engine, address, n_workers: where a folder of predictions is made; see `embed`.
        overwrite: replace the output.
        device: where to embed.
        progress: show bars.

    Returns:
        Predictions, one row per image (see `predict_images`); of shards, if there is an output, the
        `WrittenPredictions`.

    Raises:
        MismatchError: reference and query were made by different models; both hashes are given.
        SettingError: all probabilities are requested, and probabilities are turned off; or an option for a folder is
            given with another output.
        OutputError: the output exists, or overlaps with the input; or the query is not a folder, but the output is.
        InputError: probabilities or an unknown rate are requested, and there is no calibration set.
    """
    of_folder = {"engine": engine, "address": address, "n_workers": n_workers}
    is_folder = check_folder_options(output, of_folder)
    if output is not None and is_folder:
        refuse_overlap(output, [query], [reference, calibration])
    elif output is not None:
        refuse_overwrite(output, overwrite, (".csv",))
    options = PredictionOptions(method, n_neighbors, unknown_rate, refuse_by, load_settings(reference))
    if all_probabilities and probabilities is False:
        raise SettingError(
            "all_probabilities (--all-probabilities): probabilities are turned off; leave out one of the two"
        )
    reasons = (("probabilities", probabilities or all_probabilities), ("refusing", unknown_rate))
    needed = [what for what, wanted in reasons if wanted]
    calibrated = probabilities is not False or method == "mlp" or bool(needed)
    if isinstance(reference, str | Path) and is_sharded_index(reference):
        not_used = {"calibration": calibration, "probabilities": probabilities, "all_probabilities": all_probabilities}
        ready = prepare_with_index(reference, query, options, not_used | {"status": status}, device, progress)
    else:
        ready = prepare_prediction(
            reference,
            query,
            options,
            calibration,
            needed,
            calibrated=calibrated,
            status=status,
            device=device,
            progress=progress,
        )
    if output is not None and is_folder and not isinstance(ready.query, VectorShards):
        raise OutputError(
            f"{output}: a folder of predictions is made of a folder of vectors (embed -o FOLDER); give a name that "
            "ends in .csv"
        )
    if ready.calibration is not None and len(ready.query):
        labelled = ready.reference.labelled
        measures = Rejector().fit(labelled.vectors, labelled.label)
        judged = take_rows(ready.query, draw_judged(len(ready.query)))
        judge_shift(partial(describe_predictions, ready.classifier, measures), ready.calibration, [judged])
    predict = PredictPart(
        ready.classifier,
        ready.rejector,
        probabilities=ready.calibration is not None and probabilities is not False,
        all_probabilities=all_probabilities,
        with_truth=bool(ready.query.is_labelled.any()),
    )
    if output is not None and is_folder and isinstance(ready.query, VectorShards):
        chosen = {
            "method": method,
            "n_neighbors": n_neighbors or options.settings.classification.n_neighbors,
            "unknown_rate": unknown_rate,
            "refuse_by": options.measure,
        }
        return _classify_shards(ready, ready.query, predict, output, chosen, of_folder, overwrite, device, progress)
    parts, counts = [], pd.Series(dtype=int)
    is_kept = output is None or not isinstance(ready.query, VectorShards)
    bar = progress_bar(len(ready.query), "classify", "image", shown=progress and len(ready.query) > BLOCK)
    with bar, nullcontext() if output is None else write_frames(Path(output)) as write:
        for part in predict.predict(ready.query):
            if write is not None:
                write(part)
            if is_kept:
                parts.append(part)
            counts = counts.add(part["label"].value_counts(), fill_value=0)
            bar.update(len(part))
    return pd.concat(parts) if output is None or is_kept else WrittenPredictions(Path(output), _sort_counts(counts))


@dataclass(frozen=True, eq=False, repr=False)
class WrittenPredictions(Shown):
    """Predictions that are in a file or a folder, because they need not fit in memory.

    `counts`: number of images by predicted `label`, the most frequent first.
    """

    output: Path
    counts: pd.DataFrame

    def __len__(self) -> int:
        return int(self.counts["count"].sum())

    def _describe(self) -> str:
        return f"{len(self):,} images, {len(self.counts)} labels, in {self.output}"

    def _preview(self) -> pd.DataFrame:
        return self.counts


@dataclass
class PredictPart:
    """Predicts the images of a part; the options are those of `predict_in_blocks`."""

    classifier: Classifier
    rejector: Rejector | None
    probabilities: bool
    all_probabilities: bool
    with_truth: bool

    def start(self, device: str) -> None:
        """Do nothing: the classifiers compute on CPUs."""

    def predict(self, query: EmbeddingTable | VectorShards) -> Iterator[pd.DataFrame]:
        """Yield the predictions in blocks."""
        return predict_in_blocks(
            self.classifier,
            query,
            self.rejector,
            probabilities=self.probabilities,
            all_probabilities=self.all_probabilities,
            with_truth=self.with_truth,
        )

    def __call__(self, part: VectorShards, path: Path) -> None:
        """Write the predictions of a file as Parquet."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        writer = None
        for block in self.predict(part):
            kinds = {name: pa.float64() if kind == "float64" else pa.string() for name, kind in block.dtypes.items()}
            columns = [pa.array(block[name], kind, from_pandas=True) for name, kind in kinds.items()]
            writer = writer or pq.ParquetWriter(path, pa.schema(kinds.items()))
            writer.write_table(pa.table(columns, writer.schema))
        if writer is not None:
            writer.close()


def _classify_shards(
    ready: PreparedPrediction,
    query: VectorShards,
    predict: PredictPart,
    output: str | Path,
    chosen: dict[str, Any],
    of_folder: dict[str, Any],
    overwrite: bool,
    device: str,
    progress: bool,
) -> WrittenPredictions:
    """Predict the files of a folder into another folder."""
    inputs = {
        "command": "classify",
        "vectors": query.digest(),
        "reference": _digest(ready.reference),
        "calibration": None if ready.calibration is None else _digest(ready.calibration),
        "probabilities": predict.probabilities,
        "all_probabilities": predict.all_probabilities,
        **chosen,
    }

    def read_parts(numbers: Sequence[int]) -> Iterator[tuple[int, VectorShards]]:
        return ((number, query.of_file(number)) for number in numbers)

    counts = pd.Series(dtype=int)
    with Job.alone(output, inputs, len(query.files), overwrite=overwrite) as job:
        run_job(job, predict, read_parts, query.counts, "classify", **of_folder, device=device, progress=progress)
        for number, n in enumerate(query.counts):
            labels = open_parquet(job.part(number)).read(["label"])["label"].to_pandas()
            if len(labels) != n:
                raise OutputError(
                    f"{job.part(number)}: expected {n} predictions; found {len(labels)}; delete the file and run the "
                    "command again"
                )
            counts = counts.add(labels.value_counts(), fill_value=0)
        job.finish(n_images=len(query))
    return WrittenPredictions(Path(output), _sort_counts(counts))


def _sort_counts(counts: pd.Series) -> pd.DataFrame:
    ordered = counts.astype(int).sort_index().sort_values(ascending=False, kind="stable")
    return ordered.rename_axis("label").reset_index(name="count")


def _digest(table: EmbeddingTable) -> str:
    """Return a hash of labelled vectors."""
    digest = hashlib.sha256(table.vectors.tobytes())
    digest.update("\0".join(label or "" for label in table.label).encode())
    return digest.hexdigest()[:16]
