"""`compare`: every classifier of this library on the same images and splits, scored by the same code."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from plankton_embed.baselines.losses import LOSSES_FILE
from plankton_embed.baselines.systems import DEFAULT_SYSTEMS, SYSTEMS
from plankton_embed.classifiers.scoring import compare_right, correct_holm
from plankton_embed.errors import InputError, OutputError, PlanktonEmbedError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.corrections import UNTOUCHED
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.source import read_source
from plankton_embed.images.readers.status import describe_unvalidated
from plankton_embed.network.device import choose_device
from plankton_embed.network.embedding_net import check_weights
from plankton_embed.network.pretrained import HUB, KEYWORDS, list_pretrained, published_weights
from plankton_embed.notebook import Shown
from plankton_embed.output import write_atomically, write_frame, write_json
from plankton_embed.plots.comparison import draw_comparison
from plankton_embed.plots.figure import save_figure
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.spreadsheet import refuse_filled_in
from plankton_embed.training.ranks import refuse_ranks
from plankton_embed.workflows import compare_trial
from plankton_embed.workflows.compare_trial import FAULT_FILE, FEATURES_FILE, MEASURES_FILE, SYSTEMS_FOLDER, Trial
from plankton_embed.workflows.inputs import SettingsLike, Source, build_settings, from_scratch
from plankton_embed.workflows.run_start import open_run
from plankton_embed.workflows.run_steps import prepare_step

MEASURED = {  # column: title in the table, decimals
    "f1_macro": ("macro F1", 3),
    "accuracy": ("accuracy", 3),
    "balanced_accuracy": ("balanced accuracy", 3),
    "precision_macro": ("macro precision", 3),
    "recall_macro": ("macro recall", 3),
    "loss": ("loss", 3),
    "worst_class_f1": ("F1 of the worst class", 3),
    "training_minutes": ("training, min", 1),
    "images_per_second": ("images/s", 0),
    "size_mb": ("size, MB", 1),
    "peak_memory_mb": ("peak memory, MB", 0),
}
TABLES = ("runs.csv", "comparison.csv", "comparison.md", "comparison.png")
TESTS_FILE = "mcnemar.csv"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """The scores and costs of every system on the test images.

    `runs`: one row for each classifier and seed, with `system`, `name` (an embedding has several classifiers),
    `origin`, `start` (the starting weights), `n_seen` (test images that these were trained on; missing where that is
    not known), `seed`, `worst_class` and the columns of MEASURED. `faults`: why a system could not be measured.
    `tests`: McNemar's test for each pair of classifiers of a seed, on whether they predict a test image correctly:
    `seed`, `name`, `other`, `only_name_right`, `only_other_right`, `p`, and `p_holm`, corrected for the number of tests
    of that seed.
    """

    runs: pd.DataFrame
    faults: dict[str, str]
    tests: pd.DataFrame

    @property
    def tests_of_best(self) -> pd.DataFrame:
        """The tests between the classifier with the best macro F1 and each other classifier, for all seeds."""
        best = self.summary["name"].iloc[0]
        chosen: pd.DataFrame = self.tests[(self.tests["name"] == best) | (self.tests["other"] == best)]
        return chosen.reset_index(drop=True)

    @property
    def summary(self) -> pd.DataFrame:
        """One row per name, best macro F1 first: the mean of each measure over the seeds, and its sd (`_sd`)."""
        groups, columns = self.runs.groupby("name", sort=False), list(MEASURED)
        rows = (
            groups[["origin", "start"]]
            .first()
            .assign(n_seeds=groups.size(), worst_class=groups["worst_class"].agg(lambda names: names.mode().iloc[0]))
        )
        rows = rows.join(groups[columns].mean()).join(groups[columns].std().add_suffix("_sd"))
        return rows.sort_values("f1_macro", ascending=False, kind="stable").reset_index()

    def describe_seen(self) -> list[str]:
        """Return a sentence for each classifier whose starting weights were, or may be, trained on test images."""
        every = self.runs.drop_duplicates("name").set_index("name")["n_seen"]
        known = [
            f"{name}: its starting weights were trained on {n} of the test images, so its scores are too high."
            for name, n in every[every > 0].items()
        ]
        return known + [
            f"{name}: it is not known which images its starting weights were trained on; if test images are among "
            "them, its scores are too high."
            for name in every.index[every.isna()]
        ]

    def to_markdown(self) -> str:
        """Return the table in Markdown, the sd over seeds after each mean; then the tests of the best classifier."""
        titles = ["name", "by", "start", "seeds", *(title for title, _ in MEASURED.values()), "worst class"]
        lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
        for row in self.summary.to_dict("records"):
            cells = [str(row[name]) for name in ("name", "origin", "start", "n_seeds", "worst_class")]
            cells = [cell.replace("|", "\\|") for cell in cells]  # which would end the cell
            for name, (_, decimals) in MEASURED.items():
                spread = "" if pd.isna(row[f"{name}_sd"]) else f" ({row[f'{name}_sd']:.{decimals}f})"
                cells.insert(-1, f"{row[name]:.{decimals}f}{spread}")
            lines.append(f"| {' | '.join(cells)} |")
        lines += [f"\n{text}" for text in self.describe_seen()]
        lines += [f"\nNot measured: {name}: {fault}" for name, fault in self.faults.items()]
        if len(self.tests):
            lines.append(f"\nMcNemar's exact test; Holm: corrected for all pairs of a seed, as in {TESTS_FILE}:\n")
        lines += [
            f"- {row['name']} and {row['other']}, seed {row['seed']}: {row['only_name_right']} and "
            f"{row['only_other_right']} test images predicted correctly by one of the two only, "
            f"p = {row['p']:.2g}, Holm {row['p_holm']:.2g}"
            for row in self.tests_of_best.to_dict("records")
        ]
        return "\n".join(lines) + "\n"

    def _describe(self) -> str:
        return f"{len(self.summary)} classifiers, {len(self.faults)} not measured"

    def _preview(self) -> pd.DataFrame:
        return self.summary


def compare(
    source: Source,
    output: str | Path,
    *,
    only: Sequence[str] = (),
    budget: float | None = None,
    seeds: int = 1,
    weights: Mapping[str, str] | None = None,
    settings: SettingsLike = None,
    root: str | Path | None = None,
    status: str | Sequence[str] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Comparison:
    """Train every system on the same images, predict the same test images, and report all measures in one table.

    Each system and seed runs in its own process, so that peak memory is measured separately. After an interruption, or
    with more seeds or other systems, the same call continues. `faults` reports what could not be measured; the next
    call tries it again.

    Args:
        source: a catalog, its file, or any source that `catalog` reads; without splits it is split according to the
            settings.
        output: folder to write: `comparison.csv`, `.md` and `.png`, `runs.csv`, `mcnemar.csv` (see `Comparison`). Its
            folder `systems/` contains, for every system and seed, predictions, scores by class, confusion matrix and
            highest losses; for nets also curves, layer table and weights; for an embedding also its run.
        only: names of systems (see SYSTEMS); by default DEFAULT_SYSTEMS.
        budget: minutes of wall time that each system may train; a net may stop earlier by its own rule, and trees
            need seconds. None: as long as its own settings allow.
        seeds: how many times each system is trained, with the setting `seed` (0) and the whole numbers after it.
        weights: trunk -> `imagenet` (the default; `hub` for trunks of timm), `none`, a name of `models` or a file, for
            systems with a pretrained trunk: `{"resnet18": "run/model", "vgg19": "vgg19.pth"}`. The weights of a
            measured system cannot be changed.
        settings: the settings of the embedding, of its preparation (which `fine_tuned` shares) and of the split. The
            starting weights `auto` become `none`; a frozen trunk is an error.
        root: where the relative paths of a catalog file start.
        status: for sources with a status (EcoTaxa, challenge sets): the statuses whose class names are used as
            labels, such as `validated,predicted`; by default `validated`.
        overwrite: start again, unless a person has filled in a table of highest losses.
        device: `auto`, `cpu`, `cuda`, `mps`; the same for all calls.
        progress: show bars.

    Raises:
        SettingError: an unknown system, a trunk that no system uses, a budget or seeds out of range, or options that
            differ from the folder's.
        InputError: there are no labelled test images.
        OutputError: the folder contains a run, or a table that a person has filled in.
        PlanktonEmbedError: no system could be measured.
    """
    refuse_ranks("compare")
    names, weights = list(dict.fromkeys(only)) or list(DEFAULT_SYSTEMS), dict(weights or {})
    chosen = from_scratch(build_settings(settings))
    if chosen.network.frozen:
        raise SettingError("network.frozen: compare trains every network; leave it out (--preset quick or cpu)")
    if (start := chosen.network).weights != "none":
        raise SettingError(
            f"network.weights is {start.weights}, but embedding starts from scratch here, and embedding_pretrained "
            f"from weights={{{start.trunk!r}: …}} (--weights {start.trunk}=…); set network.weights to none"
        )
    folder, chosen = open_run(source, output, chosen, overwrite, device)
    base, exists = folder.path, folder.comparison.exists()
    if not exists and (folder.model.exists() or folder.checkpoints.exists()):
        raise OutputError(f"{base} contains a run, not a comparison; choose another folder")
    weights = _check_options(names, budget, seeds, weights, chosen)
    options = {"budget": budget, "device": choose_device(device).type, "weights": weights}
    if exists and not overwrite:
        options["weights"] = _continue(folder, options, chosen)
    elif exists:
        for sheet in base.glob(f"{SYSTEMS_FOLDER}/**/{LOSSES_FILE}"):
            refuse_filled_in(sheet, *UNTOUCHED)
    faults = Faults()
    given = read_source(source, root, status=status, faults=faults)
    if given.has_splits:
        _check_test_images(given)  # before anything is written
    prepared = prepare_step(folder, given, chosen, overwrite, progress, faults)
    images, options["white_level_16bit"] = prepared.catalog, prepared.preparation.white_level_16bit
    if not folder.comparison.exists():  # a new comparison; an earlier call may have been stopped here
        shutil.rmtree(base / SYSTEMS_FOLDER, ignore_errors=True)
        for name in (FEATURES_FILE, TESTS_FILE, *TABLES):
            (base / name).unlink(missing_ok=True)
    write_json(folder.comparison, options)
    _check_test_images(images)
    all_seeds = range(chosen.seed, chosen.seed + seeds)
    trials = [Trial(base, name, seed, device, progress) for seed in all_seeds for name in names]
    found = _gather(base)
    for number, trial in enumerate(trials, 1):
        if trial.is_finished:
            continue
        logger.info("%s, seed %d (%d of %d)", trial.name, trial.seed, number, len(trials))
        _measure_apart(trial)
        found = _gather(base)
    if found.runs.empty:
        described = "; ".join(f"{name}: {fault}" for name, fault in found.faults.items())
        raise PlanktonEmbedError(f"no system could be measured; {described}")
    for text in found.describe_seen():
        logger.warning("%s", text)
    return found


def _check_options(
    names: Sequence[str], budget: float | None, seeds: int, weights: Mapping[str, str], settings: Settings
) -> dict[str, str]:
    """Check the options; return the weights, with absolute paths of files."""
    unexpected = [name for name in names if name not in SYSTEMS]
    if unexpected:
        raise SettingError(f"only: unknown systems {', '.join(unexpected)}; expected some of {', '.join(SYSTEMS)}")
    if budget is not None and not budget > 0:
        raise SettingError(f"budget: expected minutes above 0; found {budget!r}")
    if not isinstance(seeds, int) or seeds < 1:
        raise SettingError(f"seeds: expected a whole number of at least 1; found {seeds!r}")
    trunk = settings.network.trunk
    trunks = list(dict.fromkeys(system.trunk or trunk for system in SYSTEMS.values() if system.pretrained))
    for name, value in weights.items():
        if name not in trunks:
            raise SettingError(f"weights: no system uses the trunk {name!r}; expected one of {', '.join(trunks)}")
        if not _is_keyword(value) and not Path(value).exists():
            expected = ", ".join([published_weights(name), "none", *list_pretrained()])
            raise InputError(f"weights of {name}: {value} does not exist; expected {expected}, or a file")
        check_weights(settings.network.model_copy(update={"trunk": name, "weights": value}))
    return {n: v if _is_keyword(v) else str(Path(v).resolve()) for n, v in weights.items()}


def _is_keyword(weights: str) -> bool:
    """Return whether weights are a word or a name, not a path."""
    return weights in (*KEYWORDS, *list_pretrained()) or weights.startswith(HUB)


def _check_test_images(images: ImageCatalog) -> None:
    if not images.split("test").frame["label"].notna().any():
        raise InputError(
            "a comparison needs labelled test images; split the catalog into train, val and test."
            + describe_unvalidated(images.frame)
        )


def _continue(folder: RunFolder, options: Mapping[str, Any], settings: Settings) -> dict[str, str]:
    """Return the weights of all calls; raise an error if new rows could not be compared with the measured ones."""
    base, weights = folder.path, options["weights"]
    before = json.loads(folder.comparison.read_text(encoding="utf-8"))
    for name in ("budget", "device"):
        if before[name] != options[name]:
            was, now = ("none" if value is None else value for value in (before[name], options[name]))
            raise SettingError(f"{base} contains a comparison with another {name}: expected {was}; found {now}; "
                               "use the same, or choose another folder")  # fmt: skip
    measured = {path.parents[1].name for path in base.glob(f"{SYSTEMS_FOLDER}/*/seed_*/{MEASURES_FILE}")}
    systems = [system for name, system in SYSTEMS.items() if name in measured and system.pretrained]
    for trunk in (system.trunk or settings.network.trunk for system in systems):
        old = before["weights"].get(trunk, published_weights(trunk))
        if weights.get(trunk, old) != old:
            raise SettingError(
                f"{base} contains a comparison with other weights of {trunk} ({old}); choose another folder"
            )
    return {**before["weights"], **weights}


def _measure_apart(trial: Trial) -> None:
    """Measure in a separate process; if that fails, write the reason."""
    trial.fault.unlink(missing_ok=True)
    arguments = (str(trial.folder), trial.name, str(trial.seed), trial.device, str(trial.progress))
    code = subprocess.run([sys.executable, "-m", compare_trial.__name__, *arguments], check=False).returncode
    if code != 0 and not trial.fault.exists():
        trial.note_fault(f"its process ended with code {code}")
    if trial.fault.exists():
        logger.warning("%s, seed %d: not measured: %s", trial.name, trial.seed, trial.fault.read_text(encoding="utf-8"))


def _test_pairs(base: Path, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return `Comparison.tests`, from the predictions that the trials wrote."""
    right: dict[int, dict[str, pd.Series]] = {}
    for row in rows:
        folder = base / SYSTEMS_FOLDER / row["system"] / f"seed_{row['seed']}"
        inner = folder / row["name"].removeprefix(f"{row['system']}_")  # an embedding has several classifiers
        path = (inner if inner.is_dir() else folder) / "predictions.csv"
        if not path.is_file():  # removed by hand
            continue
        found = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("object_id")
        right.setdefault(row["seed"], {})[row["name"]] = found["label"] == found["true_label"]
    columns = ["seed", "name", "other", "only_name_right", "only_other_right", "p", "p_holm"]
    tables = []
    for seed, of_seed in right.items():
        table = pd.DataFrame(
            [
                (seed, name, other, *compare_right(*(of_seed[n].sort_index().to_numpy() for n in (name, other))))
                for name, other in itertools.combinations(of_seed, 2)
            ],
            columns=columns[:-1],
        )
        tables.append(table.assign(p_holm=correct_holm(table["p"])))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _gather(base: Path) -> Comparison:
    """Collect the finished trials of a folder; write their tables and figure if there are any."""
    rows: list[dict[str, Any]] = []
    faults: dict[str, str] = {}
    for seed_folder in sorted((base / SYSTEMS_FOLDER).glob("*/seed_*")):
        measures, fault = seed_folder / MEASURES_FILE, seed_folder / FAULT_FILE
        if measures.exists():
            rows += [{"n_seen": 0, **row} for row in json.loads(measures.read_text(encoding="utf-8"))]  # older: scratch
        if fault.exists():
            faults[f"{seed_folder.parent.name}, {seed_folder.name}"] = fault.read_text(encoding="utf-8")
    found = Comparison(pd.DataFrame(rows), faults, _test_pairs(base, rows))
    if not rows:
        return found
    found.runs["n_seen"] = found.runs["n_seen"].astype("Int64")
    found.runs[[*MEASURED]] = found.runs[[*MEASURED]].astype(float)  # JSON has no nan
    runs, summary, page, figure = (base / name for name in TABLES)
    write_frame(runs, found.runs)
    write_frame(summary, found.summary)
    write_frame(base / TESTS_FILE, found.tests)
    with write_atomically(page) as temporary:
        temporary.write_text(found.to_markdown(), encoding="utf-8")
    save_figure(draw_comparison(found.runs), figure)
    return found
