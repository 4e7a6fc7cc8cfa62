"""The command line: one command a verb, whose options are passed on to the Python function of the same name.

A command is declared by its options alone. Only those that are given are passed on, so every default is that of the
function. Its body, where it has one, returns what is passed on in place of text. Everything heavy is imported inside,
so that `--help` answers at once.
"""

from __future__ import annotations

import ast
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
from typer.core import TyperCommand, TyperGroup
from typer.models import ArgumentInfo, OptionInfo

from plankton_embed import __version__
from plankton_embed.errors import PlanktonEmbedError, SettingError
from plankton_embed.images.readers import FORMATS

if TYPE_CHECKING:
    from plankton_embed.settings import Settings

HELP = "Plankton images as points in a space where distance means likeness: train, search, classify, explore."
GROUPS = {
    "Start": ("run", "demo", "doctor"),
    "Images and vectors": ("catalog", "embed", "index", "search"),
    "Train": ("train", "compare", "seen-unseen"),
    "Classify": ("classify", "evaluate", "enroll"),
    "Explore": ("pca", "film", "dendrogram", "taxonomy", "clusters", "relations", "analogy"),
    "Correct": ("suspects", "apply-corrections"),
    "Count": ("abundance", "shift", "export"),
}
GO_ON = {
    **dict.fromkeys(("run", "demo", "seen-unseen"), "without --overwrite, goes on from the last state on disk"),
    "train": "with --resume and without --overwrite, goes on from the last state on disk",
    "compare": "without --overwrite, goes on with what is not measured yet",
}
OLD_OPTIONS = {  # of each command, until the release after next
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
    """The commands in groups; those of earlier releases are still understood."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command; `pca --film` is `film`, and `relations --query` is `analogy`."""
        for old, option, new in (("pca", "--film", "film"), ("relations", "--query", "analogy")):
            if args and args[0] == old and option in args:
                _warn_of_old(f"{old} {option}", new)
                place = args.index(option)
                args = [new, *args[1:place], *args[place + 1 :]]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, group by group."""
        width = max(map(len, self.commands))
        for title, names in GROUPS.items():
            with formatter.section(title):
                rows = [(f"{name:{width}}", self.commands[name].get_short_help_str(formatter.width)) for name in names]
                formatter.write_dl(rows)


class Command(TyperCommand):
    """A command that refuses an option given twice, of which the first would be ignored without a word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options of the command line."""
        args = list(args)
        for place, argument in enumerate(args):
            name, equals, value = argument.partition("=")
            if new := OLD_OPTIONS.get(ctx.info_name, {}).get(name):
                _warn_of_old(name, new)
                args[place] = new + equals + value
        given: list[Any] = self.make_parser(ctx).parse_args(list(args))[2]
        for option in given:
            is_one = option.param_type_name == "option" and not option.multiple
            if is_one and given.count(option) > 1 and (not option.is_flag or option.secondary_opts):
                raise typer.BadParameter(f"given {given.count(option)} times; give it once", ctx, option)
        return super().parse_args(ctx, args)


app = typer.Typer(cls=Commands, help=HELP, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def verb(example: str) -> Callable[[Callable[..., Any]], None]:
    """Declare a command: its options are passed to the function of its name, and what that returns to `console`.

    Options that several commands have (`SHARED`) are added where the function has a parameter of their name.
    """

    def declare(declared: Callable[..., Any]) -> None:
        name, command = declared.__name__, declared.__name__.replace("_", "-")
        defaults = _read_defaults(name)
        own = inspect.signature(declared).parameters
        trains = {"source", "settings"} <= set(defaults)
        hints = {**SHARED, **(OF_SETTINGS if trains else {}), **get_type_hints(declared, include_extras=True)}

        def call(context: typer.Context, **options: Any) -> None:
            with _command(command, options["quiet"], options["json"] or options.get("output") is None):
                import plankton_embed as pe
                from plankton_embed import console

                passed = {key: options[key] for key in options if key in defaults and _is_given(context, key)}
                if trains:
                    passed["settings"] = _settings(*(options[key] for key in OF_SETTINGS))
                if "progress" in defaults:
                    passed["progress"] = not options["quiet"]
                result = getattr(pe, name)(**passed | (declared(**{key: options[key] for key in own}) or {}))
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
    """Return the declaration of an option or argument with its name, where it has none: `n_folds` is `--folds`."""
    kind, info = get_args(hint)
    if isinstance(info, OptionInfo) and not (info.param_decls or isinstance(info.default, str)):
        info = copy(info)
        info.param_decls = (f"--{key.removeprefix('n_').replace('_', '-')}",)
    elif isinstance(info, ArgumentInfo) and info.metavar is None:
        info = copy(info)
        info.metavar = key.upper()
    return Annotated[kind, info]


def _read_defaults(name: str) -> dict[str, Any]:
    """Return the parameters of a Python verb with their defaults, read from its file: importing it takes seconds."""
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
    """Return the value of a literal, or of a constant of the module or of one that it is imported from."""
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
    typer.echo(f"warning: {old} is now {new}; the old form goes in the release after next", err=True)


# ---------------------------------------------------------------------------------------------- options

Method = Literal["centroid", "knn", "mlp"]
RefuseBy = Literal["centroid", "neighbor", "density"]
IndexKind = Literal["flat", "ivf_sq8"]
TreeOf = Literal["images", "classes"]
ProjectionMethod = Literal["pca", "umap", "tsne"]
ClusterMethod = Literal["tree", "hdbscan"]
Split = Literal["train", "val", "test"]
Definition = Literal["exact", "window_2019"]
Preset = Literal["cpu", "quick", "gpu"]
Correction = Literal["em", "confusion"]
Dilution = Literal["multiply", "divide", "ignore"]
FeatureUnit = Literal["px", "um"]
Target = Literal["ecotaxa", "ifcb"]

Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="images of any format, or a catalog")]
Vectors = Annotated[Path, typer.Argument(metavar="VECTORS", help="a file of vectors, or a run (its training vectors)")]
Analysed = Annotated[Path, typer.Argument(metavar="VECTORS", help="a file of vectors, or a run (see --split)")]
Reference = Annotated[
    Path, typer.Argument(metavar="REFERENCE", help="labelled reference vectors: a file or a run folder")
]
Query = Annotated[
    Path, typer.Argument(metavar="QUERY", help="vectors to classify; with a run as reference also images")
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="where to write")]
OptionalOutput = Annotated[Path | None, typer.Option("--output", "-o", metavar="PATH", help="where to write")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what is there")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print warnings and errors only, and what --json prints")]
Seed = Annotated[int | None, typer.Option(help="seed of every random draw (the setting `seed`)")]
DrawSeed = Annotated[int, typer.Option("--seed", help="seed of every random draw")]
Root = Annotated[Path | None, typer.Option(help="where relative paths of a catalog start  [default: its folder]")]
Status = Annotated[
    str | None,
    typer.Option(
        metavar="STATUS,...",
        help="ecotaxa, challenge: statuses whose names are labels, such as validated,predicted  [default: validated]",
    ),
]
PresetOption = Annotated[
    Preset | None,
    typer.Option(help="cpu: 96 px; quick: 64 px, ten minutes; gpu: 299 px, ImageNet weights, long  [default: cpu]"),
]
SettingsFile = Annotated[Path | None, typer.Option("--settings", metavar="FILE", help="YAML with settings to change")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="such as training.epochs=20; repeatable")
]
DropDuplicates = Annotated[
    bool, typer.Option("--drop-duplicates", help="drop duplicate images found in more than one split")
]
GroupBy = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="keep images with the same value, such as sample_id, in one split")
]
MethodOption = Annotated[Method, typer.Option("--method", "-m", help="of classification")]
NNeighbors = Annotated[
    int | None, typer.Option("-k", "--neighbors", help="k of kNN  [default: that of the reference's run, else 10]")
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        metavar="VECTORS",
        help="labelled vectors of images not used in training  [default: val.parquet beside the reference]",
    ),
]
UnknownRate = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="share of images of known classes to reject as unknown  [default: none]"),
]
RefuseByOption = Annotated[
    RefuseBy | None,
    typer.Option(
        help="novelty score: distance to the class centroid, to the 10th neighbour, or local outlier factor"
        "  [default: neighbor]"
    ),
]
IntervalsBy = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="draw whole samples for intervals, such as sample_id  [default: images]"),
]
Repeats = Annotated[int | None, typer.Option("--repeats", help="draws of each number of examples  [default: 10]")]
Unseen = Annotated[
    str, typer.Option(metavar="CLASS,...", help="classes to withhold, comma-separated, or a file with one a line")
]
SplitOption = Annotated[
    Split | None, typer.Option("--split", help="vectors of a run to use  [default: test, else val, else train]")
]
Results = Annotated[int, typer.Option("-n", "--results", help="images to find for each")]
PerClass = Annotated[int, typer.Option(help="images of each class to show")]

SHARED: dict[str, Any] = {  # options of every command whose function has a parameter of that name
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
    "device": Device,
    "overwrite": Overwrite,
}
OF_SETTINGS: dict[str, Any] = {  # of every command that trains on a source
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
    app(prog_name="plankton-embed")


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False) -> None:
    if version:
        typer.echo(f"plankton-embed {__version__}")
        raise typer.Exit


@verb("zooscan/ -o runs/zooscan")
def run() -> None:
    """Catalog, split, train, embed, index, evaluate.

    Finished steps are skipped, so that the same command goes on with a run that was stopped.
    """


@verb("-o runs/demo")
def demo(
    output: Annotated[Path, typer.Option("-o", metavar="FOLDER", help="folder of the run")],
) -> None:
    """Run on a drawn plankton set, without a download."""


@verb("zooscan/ -o zooscan.csv --fractions .7,.1,.2 --group-by sample_id")
def catalog(
    source_format: Annotated[
        str | None,
        typer.Option("--format", metavar=f"<{'|'.join(FORMATS)}>", help="of the source  [default: found out]"),
    ],
    keep_going: Annotated[bool, typer.Option(help="leave out faulty rows and files, with a warning")],
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="arrays: CSV with the class of each image")],
    label_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="challenge: of meta.csv, the class  [default: level2]")
    ],
    masks: Annotated[bool, typer.Option(help="flowcam: white where the mask beside the picture is black")],
    dilution: Annotated[Dilution | None, typer.Option(help="PlanktoScope: what sample_dilution_factor does to counts")],
    images_per_sample: Annotated[str | None, typer.Option(help="UVP: images taken of each sample, a number or a CSV")],
    feature_unit: Annotated[
        FeatureUnit | None, typer.Option(help="ecotaxa: of areas and axes  [default: found out, else px]")
    ],
    class_map: Annotated[Path | None, typer.Option(metavar="FILE", help="CSV: old name, new name; empty drops")],
    drop_duplicates: DropDuplicates,
    preview: Annotated[bool, typer.Option(help="draw pictures into <output>_preview/")],
    group_by: GroupBy,
    split: Annotated[
        str | None, typer.Option("--fractions", metavar="TRAIN,VAL,TEST", help="split, such as .7,.1,.2")
    ] = None,
    include: Annotated[str, typer.Option(metavar="CLASS,...", help="keep only these classes, comma-separated")] = "",
    exclude: Annotated[str, typer.Option(metavar="CLASS,...", help="drop these classes, comma-separated")] = "",
    set_: Set = None,
    preset: Annotated[Preset | None, typer.Option(help="of --preview: how images are prepared  [default: cpu]")] = None,
) -> dict[str, Any]:
    """Gather images into a catalog, and sum up what it holds."""
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
    resume: Annotated[bool, typer.Option(help="go on with the run that is there")],
) -> None:
    """Train a model, embed its splits, evaluate."""


@verb("runs/zooscan new_images/ -o new.parquet")
def embed(
    model: Annotated[str, typer.Argument(help="a model folder, a run, or a hub name")],
    views: Annotated[int | None, typer.Option(help="test-time augmentation: 1, 2, 4 or 8  [default: the model's]")],
) -> None:
    """Turn images into vectors (.parquet, .csv or .npz)."""


@verb("new.parquet -o new_index")
def index(
    vectors: Vectors,
    kind: Annotated[IndexKind, typer.Option(help="flat: exact; ivf_sq8: for millions")],
) -> None:
    """Build a similarity index over vectors."""


@verb("runs/zooscan strange.png -n 5 --sheet found.png")
def search(
    index: Annotated[Path, typer.Argument(help="a run, or an index (with --model)")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="image files, or one source of images")],
    model: Annotated[str | None, typer.Option(help="that made the vectors of the index  [default: the run's]")],
    n_results: Results,
    output: OptionalOutput,
    sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="picture to draw: each image and those found")],
) -> dict[str, Any]:
    """Find the images most like the given ones."""
    if model is None and len(images) > 1 and _may_be_model(images[0]):
        _warn_of_old("search INDEX MODEL IMAGE", "search INDEX IMAGE --model MODEL")
        model, images = str(images[0]), images[1:]
    return {"model": model, "images": images}


@verb("runs/zooscan new_images/ -o predictions.csv --unknown-rate .05")
def classify(
    query: Query,
    probabilities: Annotated[
        bool | None,
        typer.Option(
            "--probabilities/--no-probabilities", help="give them  [default: where there is a calibration set]"
        ),
    ],
    all_probabilities: Annotated[bool, typer.Option(help="of every class, in columns p(<class>)")],
) -> None:
    """Predict labels; reject images of unknown classes."""


@verb("runs/zooscan labelled_images/ -m knn -o scores/")
def evaluate(
    query: Annotated[Path, typer.Argument(help="labelled vectors not in the reference, or a run")],
    output: OptionalOutput,
    unseen: Unseen = "",
) -> dict[str, Any]:
    """Score predictions of labelled images.

    Accuracy, F1, confusion, retrieval, calibration, rejection of unknown classes.
    """
    return {"unseen": _read_names(unseen)}


@verb("runs/zooscan new_class.parquet -o reference.parquet")
def enroll(
    new: Annotated[Path, typer.Argument(help="labelled vectors; with a run as reference also images")],
    curve: Annotated[bool, typer.Option(help="score 1, 2, 5, … examples a class, into <output>_curve/")],
    query: Annotated[Path | None, typer.Option(metavar="VECTORS", help="labelled, to classify for the curve")],
    n_draws: Repeats,
    seed: Annotated[int | None, typer.Option(help="seed of the draws  [default: 0]")],
) -> None:
    """Add classes or examples to a reference; no training."""


@verb("zooscan.csv -o runs/unseen --n-unseen 5")
def seen_unseen(
    n_unseen: Annotated[int | None, typer.Option("--n-unseen", help="classes to draw instead  [default: a third]")],
    unknown_rate: Annotated[
        float, typer.Option(metavar="SHARE", help="of images of known classes to reject as unknown")
    ],
    n_draws: Annotated[int, typer.Option("--repeats", help="draws of each number of examples")],
    unseen: Unseen = "",
) -> dict[str, Any]:
    """Train on some classes; reject and enroll the others."""
    return {"unseen": _read_names(unseen)}


@verb("zooscan.csv -o runs/comparison --systems embedding,softmax --budget 10")
def compare(
    budget: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="of training for each  [default: by its settings]")
    ],
    seeds: Annotated[int, typer.Option(help="how many times each is trained, with --seed and the numbers after it")],
    only: Annotated[str, typer.Option("--systems", metavar="NAME,...", help="[default: one of each kind]")] = "",
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="TRUNK=FILE", help="(or imagenet, none) of a pretrained backbone; repeatable"),
    ] = None,
) -> dict[str, Any]:
    """Compare the embedding with other systems.

    All are trained and tested on the same images. A stopped comparison goes on when it is called again; so does one
    with more seeds or other systems.
    """
    return {"only": _names(only), "weights": _pairs("--weights", weights or [])}


@verb("runs/zooscan -o pca/")
def pca(
    vectors: Analysed,
    method: Annotated[ProjectionMethod, typer.Option("--projection", help="umap and tsne need the extra reduce")],
    n_components: Annotated[int | None, typer.Option(help="axes  [default: 3; of umap and tsne 2]")],
) -> None:
    """Project vectors onto a few axes (PCA, UMAP, t-SNE)."""


@verb("runs/zooscan -o film.gif")
def film(
    run: Annotated[Path, typer.Argument(help="trained with --set training.keep_every_epoch=true")],
    output: Annotated[Path, typer.Option("-o", metavar="FILE", help="a file .mp4, .webp or .gif")],
    basis_epoch: Annotated[int | None, typer.Option("--basis", help="epoch that gives the axes  [default: the last]")],
    seconds: Annotated[float | None, typer.Option(help="length of the film")],
) -> None:
    """Show how classes separate during training.

    A film of every epoch on the same axes.
    """


@verb("runs/zooscan -o tree/ --of classes")
def dendrogram(
    vectors: Analysed,
    of: Annotated[TreeOf, typer.Option(help="join images, or the means of the classes")],
    n_leaves: Annotated[int | None, typer.Option(help="of the cut tree  [default: 40; of classes all]")],
    n_branches: Annotated[int | None, typer.Option(help="main ones  [default: as separate best, 8 at most]")],
) -> None:
    """Join images into Ward's tree; report its branches."""


@verb("runs/zooscan worms.csv -o taxonomy/")
def taxonomy(
    vectors: Analysed,
    tree: Annotated[Path, typer.Argument(help="a taxonomy: Newick, or a table with lineages or ranks")],
    query: Annotated[
        Path | None, typer.Option(metavar="VECTORS", help="labelled, to classify  [default: those of a run]")
    ],
    method: Annotated[Method | None, typer.Option("-m", help="of classification  [default: knn]")],
    certainty: Annotated[float | None, typer.Option(help="least probability, else a broader group  [default: 0.9]")],
    n_permutations: Annotated[int, typer.Option(help="of the class names, for the p-values")],
) -> None:
    """Compare the learned class tree with a taxonomy.

    With labelled images to classify, accuracy at each rank is reported too.
    """


@verb("new.parquet -o groups/")
def clusters(
    vectors: Vectors,
    reference: Annotated[Path | None, typer.Option(metavar="VECTORS", help="labelled: report the nearest class")],
    only: Annotated[
        Path | None, typer.Option("--predictions", metavar="FILE", help="group the images that are unknown there")
    ],
    method: Annotated[ClusterMethod, typer.Option("--clustering", help="tree: all images; hdbscan: dense groups only")],
    n_clusters: Annotated[int | None, typer.Option("--groups", help="tree: number of groups  [default: root of n]")],
    min_size: Annotated[int | None, typer.Option(help="hdbscan: images that make a group  [default: 10]")],
) -> None:
    """Group images without labels, for a person to name."""


@verb("runs/zooscan -o relations/")
def relations(
    vectors: Analysed,
    epsilon: Annotated[
        float | None, typer.Option(help="largest difference of two relations  [default: as --limit needs]")
    ],
    n_images: Annotated[int, typer.Option(help="images to compare, drawn class by class; 3000 at most")],
    same_class: Annotated[bool, typer.Option(help="relations within a class count too")],
    definition: Annotated[Definition, typer.Option(help="window_2019: as the report of 2019; misses most")],
    limit: Annotated[int, typer.Option(help="relations kept; all are counted")],
    n_shuffles: Annotated[int, typer.Option(help="of the labels, for the expected numbers")],
) -> None:
    """Find relations between images that repeat.

    x1 is to y1 as x2 is to y2.
    """


@verb("runs/zooscan copepod copepod_with_eggs fish")
def analogy(
    vectors: Analysed,
    a: Annotated[str, typer.Argument(help="a class or an object ID")],
    b: Annotated[str, typer.Argument(help="the same")],
    c: Annotated[str, typer.Argument(help="the same")],
    n_results: Annotated[int, typer.Option("-n", "--results", help="images to find")],
) -> None:
    """Complete an analogy: A is to B as C is to which?"""


@verb("runs/zooscan -o suspects/")
def suspects(
    vectors: Vectors,
    n_folds: Annotated[int, typer.Option(help="cross-validation folds for the loss signal (0: off)")],
    use_cleanlab: Annotated[bool, typer.Option("--cleanlab", help="cleanlab's label quality is a signal too")],
    n_corrections: Annotated[int, typer.Option(help="rows of corrections.csv")],
) -> None:
    """Rank the labels that may be wrong.

    A person decides in corrections.csv; then apply-corrections writes a new catalog.
    """


@verb("zooscan.csv suspects/corrections.csv -o corrected.csv")
def apply_corrections(
    catalog: Annotated[Path, typer.Argument(help="the catalog to correct")],
    corrections: Annotated[Path, typer.Argument(help="corrections.csv; with --undo the changes")],
    output: OptionalOutput,
    undo: Annotated[bool, typer.Option(help="take changes back")],
) -> None:
    """Relabel and leave out images in a new catalog.

    Without --output it reports what would change, and writes nothing.
    """


@verb("runs/zooscan new_cruise/ -o shift/")
def shift(
    new: Annotated[Path, typer.Argument(help="vectors to compare; with a run as reference also images")],
    unknown_rate: Annotated[
        float, typer.Option(metavar="SHARE", help="of images of known classes to reject as unknown")
    ],
    n_permutations: Annotated[int, typer.Option(help="of each test, 1000 or more")],
    n_draws: Annotated[int, typer.Option("--null-draws", help="of calibration images; a flagged sample exceeds all")],
) -> None:
    """Compare new images with the calibration set.

    Are they like those that the model was validated on? Sample by sample.
    """


@verb("runs/zooscan new_cruise/ -o abundance/ --by station")
def abundance(
    query: Annotated[Path, typer.Argument(help="vectors to count; with a run also images")],
    by: Annotated[str, typer.Option(metavar="COLUMN", help="column whose values are the samples")],
    catalog: Annotated[Path | None, typer.Option(metavar="FILE", help="with vectors: what is known of their images")],
    correction: Annotated[Correction, typer.Option(help="em: from probabilities; confusion: from predictions")],
    n_draws: Annotated[int, typer.Option(help="of the intervals; 20 at least")],
    level: Annotated[float, typer.Option(help="share of the intervals that should hold the true count")],
    depth_bin: Annotated[
        float | None, typer.Option(metavar="METRES", help="bins of a depth profile  [default: a round width]")
    ],
) -> None:
    """Count classes in samples, corrected, with intervals.

    Counts, concentrations in m⁻³, biovolume in mm³.
    """


@verb("predictions.csv zooscan.csv -o ecotaxa_predictions.tsv")
def export(
    names: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="what classify wrote")],
    catalog: Annotated[Path, typer.Argument(help="of the images predicted, or their source")],
    output: Annotated[Path, typer.Option("-o", metavar="PATH", help="a file ecotaxa….tsv; ifcb: a folder")],
    target: Annotated[Target, typer.Option(help="EcoTaxa, or an IFCB dashboard")],
    class_map: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV: old name, new name (Name or Name<Parent)")
    ],
    replace_validated: Annotated[bool, typer.Option(help="ecotaxa: also objects decided by a person")],
    image_names: Annotated[bool, typer.Option(help="ecotaxa: one row an image; for new objects")],
    copy_images: Annotated[bool, typer.Option(help="ecotaxa: the same, of copies beside the table")],
    model_id: Annotated[str | None, typer.Option(help="ifcb: what made the predictions  [default: plankton_embed]")],
) -> None:
    """Export predictions to EcoTaxa or an IFCB dashboard.

    EcoTaxa takes a table (TSV), a dashboard class scores (HDF5).
    """


@verb("--json")
def doctor() -> None:
    """Check the installation: versions, device, clashes.

    Where something is wrong, the line that fixes it is printed, and the exit code is 1.
    """


# ---------------------------------------------------------------------------------------------- how they run


@contextmanager
def _command(name: str, quiet: bool, printed: bool) -> Iterator[None]:
    """Log to stderr; turn an expected fault into one message and exit 1 (2: a wrong setting), a stop into exit 130.

    A quiet command prints only what is `printed` in any case: JSON, or a result that is written nowhere.
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
        what = f"the same command, {GO_ON[name]}" if name in GO_ON else "nothing was half written"
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
) -> Settings:
    from plankton_embed.settings import Settings

    extra = [f"seed={seed}"] if seed is not None else []
    extra += [f"split.group_by={group_by}"] if group_by is not None else []
    extra += ["split.drop_duplicates=true"] if drop_duplicates else []
    return Settings.build(preset, file, [*(overrides or []), *extra])


def _may_be_model(path: Path) -> bool:
    """Return whether a path is a model folder, a run, or no file at all but perhaps a hub name."""
    is_folder = (path / "config.json").is_file() or (path / "model" / "config.json").is_file()
    return is_folder or not (path.exists() or path.suffix or len(path.parts) != 2)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _read_names(text: str) -> list[str]:
    """Return comma-separated names, or those of a file, one a line."""
    if not os.path.isfile(text):  # noqa: PTH113  (Path raises where a list of names is too long for a file's)
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
