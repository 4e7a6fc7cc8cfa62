"""The command line: each command passes its options on to the Python function of the same name.

A command is declared by its options alone. Only options that are given are passed on, so every default is that of the
function. The body of a command, if it has one, returns the arguments that it has made from text. Slow imports are
inside functions, so that `--help` is quick.
"""

from __future__ import annotations

import ast
import atexit
import gc
import inspect
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

import typer
from typer import Argument, Option
from typer.core import TyperCommand, TyperGroup
from typer.models import ArgumentInfo, OptionInfo

from plankton_embed import __version__
from plankton_embed.errors import PlanktonEmbedError, SettingError
from plankton_embed.images.readers import FORMATS

if TYPE_CHECKING:
    from plankton_embed.settings import Settings

HELP = "Plankton images as points in a space where distance means similarity: train, search, classify, explore."
GROUPS = {
    "Start": ("run", "demo", "doctor", "models"),
    "Images and vectors": ("catalog", "adapt", "embed", "index", "search", "export-model"),
    "Train": ("train", "compare", "seen-unseen"),
    "Classify": ("classify", "evaluate", "enroll", "next"),
    "Explore": ("pca", "film", "dendrogram", "taxonomy", "clusters", "relations", "analogy"),
    "Correct": ("suspects", "apply-corrections", "report", "review"),
    "Count": ("abundance", "shift", "export"),
}
RESUMED = {
    **dict.fromkeys(("run", "demo", "seen-unseen"), "without --overwrite, resumes from the last state on disk"),
    "train": "with --resume and without --overwrite, resumes from the last state on disk",
    **dict.fromkeys(("embed", "classify"), "with a folder as output and without --overwrite, adds what is missing"),
    "compare": "without --overwrite, measures what is missing",
}
OLD_OPTIONS = {  # by command; they work until the release after next
    "search": {"-k": "-n", "--neighbors": "--results"},
    "analogy": {"-k": "-n", "--neighbors": "--results"},
    "catalog": {"--split": "--fractions"},
    "pca": {"-m": "--projection", "--method": "--projection"},
    "clusters": {"-m": "--clustering", "--method": "--clustering", "--only": "--predictions"},
    "compare": {"--only": "--systems"},
    "enroll": {"--draws": "--repeats"},
    "seen-unseen": {"--draws": "--repeats"},
    "shift": {"--draws": "--null-draws"},
}


class Commands(TyperGroup):
    """The commands in groups; the forms of earlier releases still work."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command; `pca --film` is `film`, and `relations --query` is `analogy`."""
        for old, option, new in (("pca", "--film", "film"), ("relations", "--query", "analogy")):
            if args and args[0] == old and option in args:
                _warn_of_old(f"{old} {option}", new)
                position = args.index(option)
                end = position + 1 + (3 if new == "analogy" else 0)  # A B C follow the vectors
                args = [new, *args[1:position], *args[end:], *args[position + 1 : end]]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, group by group."""
        width = max(map(len, self.commands))
        for title, names in GROUPS.items():
            with formatter.section(title):
                rows = [(f"{name:{width}}", self.commands[name].get_short_help_str(formatter.width)) for name in names]
                formatter.write_dl(rows)


class Command(TyperCommand):
    """A command that refuses an option given twice, since the first would be ignored silently."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options of the command line."""
        args = list(args)
        for position, argument in enumerate(args):
            name, equals, value = argument.partition("=")
            if argument[:1] == "-" and argument[1:2] != "-":  # -k5 is -k 5
                name, value = argument[:2], argument[2:]
                equals = "=" if value else ""
            if new := OLD_OPTIONS.get(ctx.info_name, {}).get(name):
                _warn_of_old(name, new)
                args[position] = new + (equals if new.startswith("--") else "") + value
        given: list[Any] = self.make_parser(ctx).parse_args(list(args))[2]
        for option in given:
            is_one = option.param_type_name == "option" and not option.multiple
            if is_one and given.count(option) > 1 and (not option.is_flag or option.secondary_opts):
                raise typer.BadParameter(f"given {given.count(option)} times; give it once", ctx, option)
        return super().parse_args(ctx, args)


app = typer.Typer(cls=Commands, help=HELP, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def _import(name: str) -> Callable[..., Any]:
    """Return a function of the package, imported without garbage collection, which takes a third of the time."""
    import plankton_embed

    collects = gc.isenabled()
    gc.disable()
    try:
        function: Callable[..., Any] = getattr(plankton_embed, name)
    finally:
        if collects:
            gc.enable()
    return function


def verb(example: str) -> Callable[[Callable[..., Any]], None]:
    """Declare a command: its options go to the function of its name, and the result of that to `console`.

    Options of several commands (`SHARED`) are added if the function has a parameter of their name.
    """

    def declare(declared: Callable[..., Any]) -> None:
        name = declared.__name__.rstrip("_")  # `next_` is the command next, whose name is that of a built-in function
        command = name.replace("_", "-")
        defaults = _read_defaults(name)
        own = inspect.signature(declared).parameters
        trains = {"source", "settings"} <= set(defaults)
        hints = {**SHARED, **(OF_SETTINGS if trains else {}), **get_type_hints(declared, include_extras=True)}

        def call(context: typer.Context, **options: Any) -> None:
            with _command(command, options["quiet"], options["json"] or options.get("output") is None):
                from plankton_embed import console

                if "RANK" in os.environ and command != "train":  # started by torchrun
                    from plankton_embed.training.ranks import refuse_ranks

                    refuse_ranks(command)
                passed = {key: options[key] for key in options if key in defaults and _is_given(context, key)}
                if trains:
                    default = "instant" if name == "run" else "cpu"
                    passed["settings"] = _settings(*(options[key] for key in OF_SETTINGS), default=default)
                if "progress" in defaults:
                    passed["progress"] = not options["quiet"]
                result = _import(name)(**passed | (declared(**{key: options[key] for key in own}) or {}))
                getattr(console, name)(result, options)
                if name == "doctor" and result.problems:
                    raise typer.Exit(1)

        empty, keyword = inspect.Parameter.empty, inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter("context", keyword, annotation=typer.Context)]
        for key in dict.fromkeys([*defaults, *own, *(OF_SETTINGS if trains else ())]):
            if key in hints:
                default = own[key].default if key in own else empty
                default = defaults.get(key) if default is empty and hints[key] is not Output else default
                parameters.append(inspect.Parameter(key, keyword, default=default, annotation=_name(key, hints[key])))
        for key, kind in (("json", Json), ("quiet", Quiet)):
            parameters.append(inspect.Parameter(key, keyword, default=False, annotation=kind))
        call.__name__, call.__doc__ = name, declared.__doc__
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(command, cls=Command, epilog=f"Example: plankton-embed {command} {example}")(call)

    return declare


def _name(key: str, hint: Any) -> Any:
    """Return the declaration of an option or argument; without a name it gets one: `n_folds` is `--folds`."""
    kind, info = get_args(hint)
    if isinstance(info, OptionInfo) and not (info.param_decls or isinstance(info.default, str)):
        info = copy(info)
        info.param_decls = (f"--{key.removeprefix('n_').replace('_', '-')}",)
    elif isinstance(info, ArgumentInfo) and info.metavar is None:
        info = copy(info)
        info.metavar = key.upper()
    return Annotated[kind, info]


def _read_defaults(name: str) -> dict[str, Any]:
    """Return the parameters of a Python function with their defaults, read from its file: an import takes seconds."""
    folder = Path(__file__).parent
    file = folder / "workflows" / f"{'run' if name in ('train', 'demo') else name}.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    positional = [*function.args.posonlyargs, *function.args.args]
    given = [None] * (len(positional) - len(function.args.defaults)) + function.args.defaults
    pairs = [
        *zip(positional, given, strict=True),
        *zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True),
    ]
    empty = inspect.Parameter.empty
    return {a.arg: empty if value is None else _evaluate(value, tree, folder) for a, value in pairs}


def _evaluate(value: ast.expr, tree: ast.Module, folder: Path) -> Any:
    """Return the value of a literal, or of a constant of the module or of the module it is imported from."""
    if not isinstance(value, ast.Name):
        return ast.literal_eval(value)
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == value.id:
            return ast.literal_eval(node.value)
        if isinstance(node, ast.ImportFrom) and value.id in {alias.asname or alias.name for alias in node.names}:
            path = folder.joinpath(*str(node.module).split(".")[1:]).with_suffix(".py")
            return _evaluate(value, ast.parse(path.read_text(encoding="utf-8")), folder)
    raise NameError(f"{value.id} is not a constant")


def _is_given(context: typer.Context, name: str) -> bool:
    return getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"


def _warn_of_old(old: str, new: str) -> None:
    typer.echo(f"warning: {old} is now {new}; the old form works until the release after next", err=True)


# ---------------------------------------------------------------------------------------------- options

Method = Literal["centroid", "knn", "mlp"]
RefuseBy = Literal["centroid", "neighbor", "density"]
IndexKind = Literal["flat", "ivf_flat", "ivf_sq8", "auto", "sharded"]
ClusterMethod = Literal["tree", "hdbscan"]
Split = Literal["train", "val", "test"]
Definition = Literal["exact", "window_2019"]
Preset = Literal["instant", "quick", "cpu", "gpu"]
Correction = Literal["em", "confusion"]
Dilution = Literal["multiply", "divide", "ignore"]
FeatureUnit = Literal["px", "um"]
Engine = Literal["local", "ray"]
Target = Literal["ecotaxa", "ifcb", "atlas"]

Model = Annotated[str, Argument(help="a model folder, a run, a name in `models`, or a name on the Hugging Face hub")]
Source = Annotated[
    Path, Argument(metavar="SOURCE", help="images of any format, or a catalog (a file or a folder of them)")
]
Vectors = Annotated[
    Path,
    Argument(metavar="VECTORS", help="vectors (a file or a folder of Parquet files), or a run (its training vectors)"),
]
Analysed = Annotated[Path, Argument(metavar="VECTORS", help="a file of vectors, or a run (see --split)")]
Reference = Annotated[Path, Argument(metavar="REFERENCE", help="labelled reference vectors: a file or a run folder")]
Query = Annotated[Path, Argument(metavar="QUERY", help="vectors to classify, or images if the reference is a run")]
Output = Annotated[Path, Option("--output", "-o", metavar="PATH", help="file or folder to write")]
OptionalOutput = Annotated[Path | None, Option("--output", "-o", metavar="PATH", help="file or folder to write")]
Overwrite = Annotated[bool, Option("--overwrite", help="replace the output if it exists")]
Device = Annotated[str, Option(help="where to compute: auto, cpu, cuda or mps")]
Json = Annotated[bool, Option("--json", help="print the result as JSON")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="print only warnings and errors, and JSON with --json")]
Seed = Annotated[int | None, Option(help="seed of every random draw (the setting `seed`)")]
DrawSeed = Annotated[int, Option("--seed", help="seed of every random draw")]
Root = Annotated[Path | None, Option(help="folder where relative paths in a catalog start  [default: its own]")]
Status = Annotated[
    str | None,
    Option(
        metavar="STATUS,...",
        help="ecotaxa, challenge: use class names with these statuses as labels, such as validated,predicted  "
        "[default: validated]",
    ),
]
PresetOption = Annotated[
    Preset | None,
    Option(
        help="instant: only the last layer is fitted, a minute; quick: ten minutes; cpu: about an hour; gpu: "
        "Inception-v3, 299 px, long  [default: instant for run, else cpu]"
    ),
]
SettingsFile = Annotated[Path | None, Option("--settings", metavar="FILE", help="YAML file with settings to change")]
Set = Annotated[list[str] | None, Option("--set", metavar="NAME=VALUE", help="such as embedding.views=8; repeatable")]
DropDuplicates = Annotated[bool, Option("--drop-duplicates", help="drop duplicate images found in more than one split")]
GroupBy = Annotated[
    str | None, Option(metavar="COLUMN", help="images with the same value, such as sample_id, stay in one split")
]
MethodOption = Annotated[Method, Option("--method", "-m", help="classification method")]
NNeighbors = Annotated[int | None, Option("-k", "--neighbors", help="k of kNN  [default: that of the run, else 10]")]
UNKNOWN_HELP = (
    ".05: about 5 % of the images from known classes are labelled unknown, along with as many images of new classes "
    "as the model can detect"
)
Calibration = Annotated[
    Path | None,
    Option(
        metavar="VECTORS",
        help="labelled vectors of images not used in training  [default: val.parquet beside the reference]",
    ),
]


def _read_rate(text: str) -> float | str:
    try:
        return text if text == "auto" else float(text)
    except ValueError as error:
        raise typer.BadParameter(f"expected a share such as .05, or auto; found {text!r}") from error


UnknownRate = Annotated[
    Any,
    Option(
        metavar="SHARE|auto",
        parser=_read_rate,
        help=f"{UNKNOWN_HELP}; auto: the share with the smallest error of the counts when some classes are withheld  "
        "[default: none]",
    ),
]
RefuseByOption = Annotated[
    RefuseBy | None,
    Option(
        help="novelty score: distance to the class centroid, to the 10th neighbour, or local outlier factor"
        "  [default: neighbor]"
    ),
]
IntervalsBy = Annotated[
    str | None,
    Option(
        metavar="COLUMN",
        help="for intervals, draw all images with the same value of this column together, such as sample_id  "
        "[default: single images]",
    ),
]
Repeats = Annotated[int | None, Option("--repeats", help="random draws of each number of examples  [default: 10]")]
Unseen = Annotated[str, Option(metavar="CLASS,...", help="classes to withhold, or a file with one on each line")]
EngineOption = Annotated[
    Engine, Option(help="for a folder as output: local, or ray on a cluster of machines (extra scale)")
]
Address = Annotated[
    str | None, Option(help="ray: address of the cluster  [default: that of this machine, else this machine alone]")
]
NWorkers = Annotated[
    int | None, Option("--workers", help="ray: processes  [default: one for each GPU, else for each 4 cores]")
]
SplitOption = Annotated[Split | None, Option("--split", help="vectors of a run  [default: test, else val, else train]")]
Results = Annotated[int, Option("-n", "--results", help="images to find for each query")]
Groups = Annotated[
    Path | None,
    Option(metavar="FOLDER", help="folder that clusters wrote  [default: analysis/clusters of the run]"),
]
PerClass = Annotated[int, Option(help="images of each class to show")]

SHARED: dict[str, Any] = {  # added to every command whose function has a parameter of that name
    "source": Source,
    "reference": Reference,
    "output": Output,
    "split": SplitOption,
    "root": Root,
    "status": Status,
    "method": MethodOption,
    "n_neighbors": NNeighbors,
    "calibration": Calibration,
    "unknown_rate": UnknownRate,
    "refuse_by": RefuseByOption,
    "intervals_by": IntervalsBy,
    "per_class": PerClass,
    "seed": DrawSeed,
    "engine": EngineOption,
    "address": Address,
    "n_workers": NWorkers,
    "device": Device,
    "overwrite": Overwrite,
}
OF_SETTINGS: dict[str, Any] = {  # added to every command that trains
    "preset": PresetOption,
    "settings_file": SettingsFile,
    "set_": Set,
    "group_by": GroupBy,
    "drop_duplicates": DropDuplicates,
    "seed": Seed,
}

# ---------------------------------------------------------------------------------------------- commands


def main() -> None:
    """Run the command line."""
    # threads that wait for each other in a loop are very slow beside other programs
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    atexit.register(gc.freeze)  # without a last garbage collection, which takes seconds and frees what ends anyway
    app(prog_name="plankton-embed")


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, Option("--version", help="print the version and exit")] = False) -> None:
    if version:
        typer.echo(f"plankton-embed {__version__}")
        raise typer.Exit


@verb("zooscan/ -o runs/zooscan")
def run() -> None:
    """Catalog, split, train, embed, index, evaluate, report.

    Finished steps are skipped: the same command resumes a run that was stopped.
    """


@verb("-o runs/demo")
def demo(
    output: Annotated[Path, Option("--output", "-o", metavar="FOLDER", help="folder of the run")],
) -> None:
    """Run on drawn plankton images; nothing is downloaded."""


@verb("zooscan/ -o zooscan.csv --fractions .7,.1,.2 --group-by sample_id")
def catalog(
    source_format: Annotated[
        str | None,
        Option("--format", metavar=f"<{'|'.join(FORMATS)}>", help="format of the source  [default: detected]"),
    ],
    keep_going: Annotated[bool, Option(help="leave out faulty rows and files, with a warning")],
    labels: Annotated[Path | None, Option(metavar="FILE", help="arrays: CSV with the class of each image")],
    label_column: Annotated[str | None, Option(metavar="COLUMN", help="challenge: class column  [default: level2]")],
    masks: Annotated[bool, Option(help="flowcam: make pixels outside the mask beside the picture white")],
    dilution: Annotated[Dilution | None, Option(help="PlanktoScope: how sample_dilution_factor changes counts")],
    images_per_sample: Annotated[str | None, Option(help="UVP: images taken of each sample: a number or a CSV file")],
    feature_unit: Annotated[
        FeatureUnit | None, Option(help="ecotaxa: unit of areas and axes  [default: detected, else px]")
    ],
    class_map: Annotated[
        Path | None, Option(metavar="FILE", help="CSV with header old,new; empty new: drop the class")
    ],
    drop_duplicates: DropDuplicates,
    preview: Annotated[bool, Option(help="draw pictures into <output>_preview/")],
    group_by: GroupBy,
    split: Annotated[
        str | None, Option("--fractions", metavar="TRAIN,VAL,TEST", help="split into these shares, such as .7,.1,.2")
    ] = None,
    include: Annotated[str, Option(metavar="CLASS,...", help="keep only these classes, comma-separated")] = "",
    exclude: Annotated[str, Option(metavar="CLASS,...", help="drop these classes, comma-separated")] = "",
    set_: Annotated[
        list[str] | None,
        Option("--set", metavar="NAME=VALUE", help="--preview: such as preparation.target_size=64; repeatable"),
    ] = None,
    preset: Annotated[Preset | None, Option(help="--preview: how images are prepared  [default: cpu]")] = None,
) -> dict[str, Any]:
    """Gather images into a catalog, and summarize it."""
    for name in (text.partition("=")[0].strip() for text in set_ or []):
        if not (name.startswith("preparation.") and preview):
            raise SettingError(f"--set {name}: catalog takes preparation settings only, for --preview")
    if preset is not None and not preview:
        raise SettingError(f"--preset {preset}: catalog takes it for --preview only; give both, or leave it out")
    chosen = _settings(preset, None, set_)
    changed = {"include": _names(include), "exclude": _names(exclude), "split": _fractions(split)}
    return changed | {"preparation": chosen.preparation, "masks": masks or None}


@verb("zooscan.csv -o runs/zooscan --preset quick")
def train(
    resume: Annotated[bool, Option(help="resume the run in the output folder")],
) -> None:
    """Train a model, embed its splits, evaluate."""


@verb("runs/zooscan new_images/ -o new.parquet")
def embed(
    model: Model,
    views: Annotated[int | None, Option(help="test-time augmentation: 1, 2, 4 or 8  [default: the model's]")],
    precision: Annotated[Literal["auto", "float32"], Option(help="auto: bfloat16 if the device is fast with it")],
    compile: Annotated[Literal["auto", "on", "off"], Option(help="compile the network; auto: of 300,000 images")],
    part_size: Annotated[
        int | None, Option(help="for a folder as output: images in each of its files  [default: a hundredth of all]")
    ],
) -> None:
    """Turn images into vectors (.parquet, .csv or .npz).

    A folder as output (a name without a suffix) gets many Parquet files; the same command continues a stopped job.
    """


@verb("isiis-resnet18 my_images/ -o my_model")
def adapt(model: Model) -> None:
    """Fit a model to the images of another instrument, without labels.

    Its batch norms measure the images; its weights stay. Embed all images with the adapted model.
    """


@verb("new.parquet -o new_index")
def index(
    vectors: Vectors,
    kind: Annotated[
        IndexKind | None,
        Option(
            help="flat: exact; ivf_flat, ivf_sq8: approximate, faster; auto: by size; sharded: ivf_sq8 in parts, for "
            "more vectors than memory holds  [default: flat; of a folder of Parquet files: sharded]"
        ),
    ],
    shard_size: Annotated[int, Option(help="sharded: vectors in each part")],
    add: Annotated[bool, Option("--add", help="add the vectors, or a sharded index, to the sharded index in --output")],
) -> None:
    """Build a similarity index over vectors."""


@verb("runs/zooscan new.png -n 5 --sheet found.png")
def search(
    index: Annotated[Path, Argument(help="a run, or an index (with --model)")],
    images: Annotated[list[Path], Argument(metavar="IMAGE", help="image files, or one source of images")],
    model: Annotated[str | None, Option(help="model that made the vectors of the index  [default: that of the run]")],
    n_results: Results,
    output: OptionalOutput,
    sheet: Annotated[Path | None, Option(metavar="FILE", help="picture to draw: each query and the images found")],
) -> dict[str, Any]:
    """Find the images most similar to the given ones."""
    if model is None and len(images) > 1 and _may_be_model(images[0]):
        _warn_of_old("search INDEX MODEL IMAGE", "search INDEX IMAGE --model MODEL")
        model, images = str(images[0]), images[1:]
    return {"model": model, "images": images}


@verb("runs/zooscan -o model.onnx")
def export_model(model: Model) -> None:
    """Write a model as an ONNX file, to embed without torch.

    This needs the extra onnx. In Python, OnnxEmbedder embeds images with the file.
    """


@verb("runs/zooscan new_images/ -o predictions.csv --unknown-rate .05")
def classify(
    query: Query,
    probabilities: Annotated[
        bool | None,
        Option(
            "--probabilities/--no-probabilities", help="write probabilities  [default: if there is a calibration set]"
        ),
    ],
    all_probabilities: Annotated[bool, Option(help="write the probability of every class, in columns p(<class>)")],
) -> None:
    """Predict labels; reject images of unknown classes."""


@verb("runs/zooscan labelled_images/ -m knn -o scores/")
def evaluate(
    query: Annotated[Path, Argument(help="labelled vectors not in the reference, or a run")],
    output: OptionalOutput,
    unseen: Unseen = "",
) -> dict[str, Any]:
    """Evaluate predictions of labelled images.

    Accuracy, F1, confusion, retrieval, calibration, rejection of unknown classes.
    """
    return {"unseen": _read_names(unseen)}


@verb("runs/zooscan new_class.parquet -o reference.parquet")
def enroll(
    new: Annotated[
        Path,
        Argument(
            help="labelled vectors, a folder of named clusters, a journal of review; images if the reference is a run"
        ),
    ],
    curve: Annotated[bool, Option(help="learning curve with 1, 2, 5, … examples of each class, in <output>_curve/")],
    query: Annotated[
        Path | None,
        Option(metavar="VECTORS", help="labelled vectors to classify for the curve  [default: half of NEW]"),
    ],
    n_draws: Repeats,
    seed: Annotated[int | None, Option(help="seed of the random draws  [default: 0]")],
) -> None:
    """Add classes or examples to a reference; no training."""


@verb("new.parquet --reference runs/zooscan -o next.csv")
def next_(
    vectors: Annotated[Path, Argument(metavar="VECTORS", help="a file of vectors, or a run")],
    output: OptionalOutput,
    reference: Annotated[Path | None, Option(metavar="VECTORS", help="labelled vectors: classes that have examples")],
    n_images: Annotated[int, Option("-n", "--images", help="images to choose")],
) -> None:
    """Choose the images to label next.

    Images between classes, far from all classes, and of many kinds.
    """


@verb("zooscan.csv -o runs/unseen --n-unseen 5")
def seen_unseen(
    n_unseen: Annotated[int | None, Option("--n-unseen", help="classes to withhold at random  [default: a third]")],
    unknown_rate: Annotated[float, Option(metavar="SHARE", help=UNKNOWN_HELP)],
    n_draws: Annotated[int, Option("--repeats", help="random draws of each number of examples")],
    unseen: Unseen = "",
) -> dict[str, Any]:
    """Train on some classes; reject and enroll the others.

    The network starts from random weights, unless network.weights is set.
    """
    return {"unseen": _read_names(unseen)}


@verb("zooscan.csv -o runs/comparison --systems embedding,softmax --budget 10")
def compare(
    budget: Annotated[
        float | None, Option(metavar="MINUTES", help="maximum training time of each system  [default: by its settings]")
    ],
    seeds: Annotated[int, Option(help="trainings of each system, with --seed and the numbers after it")],
    only: Annotated[str, Option("--systems", metavar="SYSTEM,...", help="systems  [default: one of each kind]")] = "",
    weights: Annotated[
        list[str] | None,
        Option(
            metavar="TRUNK=FILE",
            help="weights of a pretrained trunk: a file, a name in `models`, imagenet, hub or none; repeatable",
        ),
    ] = None,
) -> dict[str, Any]:
    """Compare the embedding with other systems.

    All are trained and tested on the same images; the embedding starts from random weights. The same command resumes a
    comparison that was stopped, also with more seeds or other systems.
    """
    return {"only": _names(only), "weights": _pairs("--weights", weights or [])}


@verb("runs/zooscan -o pca/")
def pca(
    vectors: Analysed,
    method: Annotated[Literal["pca", "umap", "tsne"], Option("--projection", help="umap, tsne: of the extra reduce")],
    n_components: Annotated[int | None, Option(help="number of axes  [default: 3; umap, tsne: 2]")],
) -> None:
    """Project vectors onto a few axes (PCA, UMAP, t-SNE)."""


@verb("runs/zooscan -o film.gif")
def film(
    run: Annotated[Path, Argument(help="a run that was trained with --set training.keep_every_epoch=true")],
    basis_epoch: Annotated[int | None, Option("--basis", help="epoch that gives the axes  [default: the last]")],
    seconds: Annotated[float | None, Option(help="length of the film  [default: by the number of epochs]")],
) -> None:
    """Show how classes separate during training.

    A film (.mp4, .webp or .gif) of every epoch on the same axes.
    """


@verb("runs/zooscan -o tree/ --of classes")
def dendrogram(
    vectors: Analysed,
    of: Annotated[Literal["images", "classes"], Option(help="tree of images, or of class means")],
    n_leaves: Annotated[int | None, Option(help="number of leaves of the cut tree  [default: 40; classes: all]")],
    n_branches: Annotated[int | None, Option(help="main branches  [default: those that separate best, at most 8]")],
) -> None:
    """Build Ward's tree of images or classes."""


@verb("runs/zooscan worms.csv -o taxonomy/")
def taxonomy(
    vectors: Analysed,
    tree: Annotated[Path, Argument(help="a taxonomy: Newick, or a table with lineages or ranks")],
    query: Annotated[
        Path | None, Option(metavar="VECTORS", help="labelled vectors to classify  [default: the test images of a run]")
    ],
    method: Annotated[Method | None, Option("--method", "-m", help="classification method  [default: knn]")],
    certainty: Annotated[float | None, Option(help="minimum probability, else a broader group  [default: 0.9]")],
    n_permutations: Annotated[int, Option(help="permutations of the class names, for the p-values")],
) -> None:
    """Compare the learned class tree with a taxonomy.

    Accuracy at each rank is reported for labelled images (--query).
    """


@verb("new.parquet -o groups/")
def clusters(
    vectors: Vectors,
    reference: Annotated[Path | None, Option(metavar="VECTORS", help="labelled vectors, to report the nearest class")],
    only: Annotated[
        Path | None,
        Option("--predictions", metavar="PATH", help="predictions of classify; group only its unknown images"),
    ],
    method: Annotated[ClusterMethod, Option("--clustering", help="tree, or hdbscan (dense groups); >50,000: k-means")],
    n_clusters: Annotated[int | None, Option("--groups", help="tree: number of groups  [default: √n of n images]")],
    min_size: Annotated[int | None, Option(help="hdbscan: minimum number of images in a group  [default: 10]")],
) -> None:
    """Group unlabelled images; a person then names the groups."""


@verb("runs/zooscan -o relations/")
def relations(
    vectors: Analysed,
    epsilon: Annotated[float | None, Option(help="largest difference of two relations  [default: chosen by --limit]")],
    n_images: Annotated[int, Option(help="images to compare, drawn evenly from the classes; at most 3000")],
    same_class: Annotated[bool, Option(help="count relations within a class too")],
    definition: Annotated[Definition, Option(help="window_2019: as in the report of 2019, misses most relations")],
    limit: Annotated[int, Option(help="number of relations to write; all are counted")],
    n_shuffles: Annotated[int, Option(help="number of shuffles of the labels, to compute the expected counts")],
) -> None:
    """Find repeated relations between images.

    x1 is to y1 as x2 is to y2.
    """


@verb("runs/zooscan copepod copepod_with_eggs fish")
def analogy(
    vectors: Analysed,
    a: Annotated[str, Argument(help="a class or an object ID")],
    b: Annotated[str, Argument(help="a class or an object ID")],
    c: Annotated[str, Argument(help="a class or an object ID")],
    n_results: Annotated[int, Option("-n", "--results", help="images to find")],
) -> None:
    """Complete an analogy: A is to B as C is to which?"""


@verb("runs/zooscan -o suspects/")
def suspects(
    vectors: Vectors,
    n_folds: Annotated[int, Option(help="cross-validation folds for the loss signal (0 turns it off)")],
    use_cleanlab: Annotated[bool, Option("--cleanlab", help="use cleanlab's label quality too (extra clean)")],
    n_corrections: Annotated[int, Option(help="rows of corrections.csv")],
) -> None:
    """Rank the labels that may be wrong.

    A person decides in corrections.csv; then apply-corrections writes a new catalog.
    """


@verb("zooscan.csv suspects/corrections.csv -o corrected.csv")
def apply_corrections(
    catalog: Annotated[Path, Argument(help="the catalog to correct")],
    corrections: Annotated[
        Path, Argument(help="corrections.csv, or the journal of review; with --undo the file <output>_changes.csv")
    ],
    output: OptionalOutput,
    undo: Annotated[bool, Option(help="undo the changes")],
) -> None:
    """Relabel or leave out images in a new catalog.

    Without --output it reports what would change, and writes nothing.
    """


@verb("runs/zooscan -o report.html")
def report(
    vectors: Annotated[Path, Argument(metavar="VECTORS", help="a run, or a file of vectors")],
    images: Annotated[bool, Option("--images/--no-images", help="put pictures into the page, 20 MB at most")],
    groups: Groups,
) -> None:
    """Write one page to look at and correct a run.

    The page is one file that opens in any browser and loads nothing. This needs the extra report.
    """


@verb("runs/zooscan")
def review(
    vectors: Annotated[Path, Argument(metavar="VECTORS", help="a run, or a file of vectors")],
    images: Annotated[
        Path | None,
        Option(metavar="SOURCE", help="folder or catalog of the images  [default: the paths in the vectors]"),
    ],
    groups: Groups,
    journal: Annotated[
        Path | None, Option(metavar="FILE", help="file of decisions  [default: in the run, or beside the vectors]")
    ],
    port: Annotated[int, Option(help="port of 127.0.0.1; 0: any that is free")],
    open_browser: Annotated[bool, Option("--browser/--no-browser", help="open the page in the browser")],
) -> None:
    """Correct images in a browser; decisions are saved.

    The page of report, from a server on this machine alone, until Ctrl-C. This needs the extra review.
    """


@verb("runs/zooscan new_cruise/ -o shift/")
def shift(
    new: Annotated[Path, Argument(help="vectors to compare, or images if the reference is a run")],
    unknown_rate: Annotated[float, Option(metavar="SHARE", help=UNKNOWN_HELP)],
    n_permutations: Annotated[int, Option(help="permutations of each test, at least 1000")],
    n_draws: Annotated[
        int,
        Option("--null-draws", help="null draws from the calibration set; a flagged sample must exceed all of them"),
    ],
) -> None:
    """Compare new images with the calibration set.

    For each sample: are its images like those that the model was validated on?
    """


@verb("runs/zooscan new_cruise/ -o abundance/ --by station")
def abundance(
    query: Annotated[Path, Argument(help="vectors to count, or images if the reference is a run")],
    by: Annotated[str, Option(metavar="COLUMN", help="column whose values are the samples")],
    catalog: Annotated[Path | None, Option(metavar="FILE", help="the catalog of the images, if QUERY is vectors")],
    correction: Annotated[Correction, Option(help="correct counts by probabilities (em) or by the confusion matrix")],
    n_draws: Annotated[int, Option(help="random draws for the intervals, at least 20")],
    level: Annotated[float, Option(help="confidence level: share of the intervals that should contain the true count")],
    depth_bin: Annotated[float | None, Option(metavar="METRES", help="bin width of profiles  [default: a round one]")],
) -> None:
    """Count classes in samples, corrected, with intervals.

    Counts, concentrations in m⁻³, biovolume in mm³.
    """


@verb("predictions.csv zooscan.csv -o ecotaxa_predictions.tsv")
def export(
    names: Annotated[
        Path, Argument(metavar="PREDICTIONS", help="what classify wrote (CSV or folder); atlas: vectors, or a run")
    ],
    catalog: Annotated[Path | None, Argument(help="catalog of the images predicted, or their source; not for atlas")],
    output: Annotated[
        Path | None,
        Option("--output", "-o", metavar="PATH", help="a file ecotaxa….tsv; ifcb: a folder; atlas: .parquet"),
    ],
    target: Annotated[Target, Option(help="EcoTaxa, an IFCB dashboard, or Embedding Atlas")],
    class_map: Annotated[Path | None, Option(metavar="FILE", help="CSV with header old,new (Name or Name<Parent)")],
    corrections: Annotated[
        Path | None,
        Option(metavar="FILE", help="ecotaxa: journal of review, or corrections.csv: their labels are validated"),
    ],
    replace_validated: Annotated[bool, Option(help="ecotaxa: write objects validated by a person too")],
    image_names: Annotated[bool, Option(help="ecotaxa: one row for each image, with its path; for new objects")],
    copy_images: Annotated[bool, Option(help="ecotaxa: like --image-names, and copy the images beside the table")],
    model_id: Annotated[str | None, Option(help="ifcb: name of the model  [default: plankton_embed]")],
    coordinates: Annotated[
        Path | None, Option(metavar="FILE", help="atlas: coordinates.csv of pca  [default: principal components]")
    ],
) -> None:
    """Export to EcoTaxa, an IFCB dashboard or Embedding Atlas.

    EcoTaxa gets a table (TSV), a dashboard gets class scores (HDF5), Embedding Atlas gets vectors (Parquet).
    """


@verb("--json")
def doctor() -> None:
    """Check the installation: versions, device, conflicts.

    If something is wrong, the command that fixes it is printed, and the exit code is 1.
    """


@verb("")
def models() -> None:
    """List the models that come with the package.

    Their names can be given as MODEL, or as starting weights: --set network.weights=NAME.
    """


# ---------------------------------------------------------------------------------------------- how they run


@contextmanager
def _command(name: str, quiet: bool, printed: bool) -> Iterator[None]:
    """Log to stderr; turn an expected error into one message and exit 1 (2: a wrong setting), a stop into exit 130.

    A quiet command prints its result only if `printed`: as JSON, or if the result is not written to a file.
    """
    level = logging.WARNING if quiet else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s", force=True)
    logger = logging.getLogger("plankton_embed")
    before = logger.level
    logger.setLevel(level)
    try:
        with nullcontext() if printed or not quiet else redirect_stdout(io.StringIO()):
            yield
    except PlanktonEmbedError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, SettingError) else 1) from error
    except KeyboardInterrupt as error:
        what = f"the same command, {RESUMED[name]}" if name in RESUMED else "no incomplete output was left"
        typer.echo(f"\nstopped; {what}", err=True)
        raise typer.Exit(130) from error
    finally:
        logger.setLevel(before)


def _settings(
    preset: Preset | None,
    file: Path | None = None,
    overrides: list[str] | None = None,
    group_by: str | None = None,
    drop_duplicates: bool = False,
    seed: int | None = None,
    *,
    default: str = "cpu",
) -> Settings:
    from plankton_embed.settings import Settings

    extra = [f"seed={seed}"] if seed is not None else []
    extra += [f"split.group_by={group_by}"] if group_by is not None else []
    extra += ["split.drop_duplicates=true"] if drop_duplicates else []
    return Settings.build(preset, file, [*(overrides or []), *extra], default=default)


def _may_be_model(path: Path) -> bool:
    """Return whether a path is a model folder or a run, or else may be a name on the Hugging Face hub."""
    is_folder = (path / "config.json").is_file() or (path / "model" / "config.json").is_file()
    return is_folder or not (path.exists() or path.suffix or len(path.parts) != 2)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _read_names(text: str) -> list[str]:
    """Return comma-separated names, or those of a file with one on each line."""
    if not os.path.isfile(text):  # noqa: PTH113  (Path raises if a list of names is too long for a file name)
        return _names(text)
    from plankton_embed.spreadsheet import clean_label, read_text

    return [label for line in read_text(text, "names").splitlines() if (label := clean_label(line))]


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Return `NAME=VALUE` texts as a dictionary."""
    broken = [text for text in texts if not all(text.partition("="))]
    if broken:
        raise SettingError(f"{option}: expected NAME=VALUE; found {broken[0]!r}")
    return dict(text.split("=", 1) for text in texts)


def _fractions(text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingError(f"--fractions: expected three numbers such as .7,.1,.2; found {text!r}") from error
