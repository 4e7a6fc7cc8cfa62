"""The command line: one command a verb, options in, a table or JSON out.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import io
import json as json_module
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from typer.core import TyperCommand

from plankton_embed import __version__
from plankton_embed.errors import PlanktonEmbedError, SettingError

if TYPE_CHECKING:
    import pandas as pd

    from plankton_embed.classifiers.evaluation import Evaluation
    from plankton_embed.images.catalog_summary import CatalogSummary
    from plankton_embed.settings import Settings
    from plankton_embed.workflows.run import RunResult

HELP = "Plankton images as points in a space where distance means likeness: train, search, name, explore."
METHODS = ("centroid", "knn", "mlp")
N_MISSING = 10  # labels that the reference lacks, on screen
UNITS = {  # of the columns of `abundance`, as they are shown
    "biovolume": "biovolume (mm³)",
    "biovolume_concentration": "biovolume (mm³ m⁻³)",
    **{f"concentration{end}": f"concentration{end} (m⁻³)" for end in ("", "_low", "_high")},
}
GO_ON = {
    "compare": "the same command, without --overwrite, goes on with what is not measured yet",
    "run": "the same command, without --overwrite, goes on from the last state on disk",
    "demo": "the same command, without --overwrite, goes on from the last state on disk",
    "seen-unseen": "the same command, without --overwrite, goes on from the last state on disk",
    "train": "the same command, with --resume and without --overwrite, goes on from the last state on disk",
}


class OneCommand(TyperCommand):
    """A command that refuses an option given twice, of which the first would be ignored without a word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options of the command line."""
        given: list[Any] = self.make_parser(ctx).parse_args(list(args))[2]
        for option in given:
            is_one = option.param_type_name == "option" and not option.multiple
            if is_one and given.count(option) > 1 and (not option.is_flag or option.secondary_opts):
                raise typer.BadParameter(f"given {given.count(option)} times; give it once", ctx, option)
        return super().parse_args(ctx, args)


app = typer.Typer(
    help=HELP, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
)


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
SourceFormat = Literal["ecotaxa", "ifcb", "flowcam", "challenge", "arrays", "folder", "catalog"]

Output = Annotated[Path, typer.Option("--output", "-o", help="where to write", show_default=False)]
OptionalOutput = Annotated[Path | None, typer.Option("--output", "-o", help="where to write; by default nowhere")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what is there")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print warnings and errors only, and what --json prints")]
Seed = Annotated[int | None, typer.Option(help="seed of every random draw (the setting `seed`)")]
Root = Annotated[Path | None, typer.Option(help="where relative paths of a catalog start; by default its folder")]
Status = Annotated[
    str | None,
    typer.Option(
        help="ecotaxa, challenge: statuses whose names are labels, comma-separated, such as validated,predicted"
        "  [default: validated]"
    ),
]
PresetOption = Annotated[
    Preset | None,
    typer.Option(help="cpu: 96 px; quick: 64 px, ten minutes; gpu: 299 px, ImageNet weights, long  [default: cpu]"),
]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="YAML with the settings to change")]
Set = Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, such as training.epochs=20; repeatable")]
DropDuplicates = Annotated[
    bool, typer.Option("--drop-duplicates", help="drop duplicate images found in more than one split")
]
GroupBy = Annotated[str | None, typer.Option(help="column kept on one side of the split, such as sample_id")]
Reference = Annotated[Path, typer.Argument(help="vectors that know their names: a file, or a run", show_default=False)]
Query = Annotated[Path, typer.Argument(help="vectors to name; with a run as reference also images", show_default=False)]
MethodOption = Annotated[Method, typer.Option("--method", "-m", help="how to name")]
Calibration = Annotated[
    Path | None,
    typer.Option(help="labelled vectors the network was not trained on; by default val.parquet beside the reference"),
]
UnknownRate = Annotated[
    float | None, typer.Option(help="share of known images that may be refused, such as 0.05; by default none is")
]
RefuseByOption = Annotated[
    RefuseBy | None,
    typer.Option(
        help="what makes an image strange: distance to the centroid, to the 10th neighbour, or that relative to theirs"
        "  [default: neighbor]"
    ),
]
IntervalsBy = Annotated[
    str | None,
    typer.Option(
        help="column, such as sample_id, whose values are drawn as a whole: images of one sample are more alike  "
        "[default: images]"
    ),
]
Draws = Annotated[int | None, typer.Option(help="draws of each number of examples  [default: 10]")]
Unseen = Annotated[str, typer.Option(help="classes to withhold, comma between, or a file with one a line")]
Vectors = Annotated[Path, typer.Argument(help="vectors, or a run (its training vectors)", show_default=False)]
Analysed = Annotated[Path, typer.Argument(help="vectors, or a run (see --split)", show_default=False)]
SplitOption = Annotated[
    Split | None, typer.Option("--split", help="vectors of a run to use  [default: test, else val, else train]")
]
DrawSeed = Annotated[int, typer.Option("--seed", help="seed of every random draw")]
NNeighbors = Annotated[
    int | None, typer.Option("-k", "--neighbors", help="k of kNN  [default: that of the reference's run, else 10]")
]


def main() -> None:
    """Run the command line."""
    app(prog_name="plankton-embed")


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False) -> None:
    if version:
        typer.echo(f"plankton-embed {__version__}")
        raise typer.Exit


@app.command(cls=OneCommand)
def run(
    source: Annotated[Path, typer.Argument(help="images of any format, or a catalog", show_default=False)],
    output: Output,
    preset: PresetOption = None,
    settings: SettingsFile = None,
    set_: Set = None,
    root: Root = None,
    status: Status = None,
    group_by: GroupBy = None,
    drop_duplicates: DropDuplicates = False,
    seed: Seed = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Catalog, split, train, embed, index, evaluate; finished steps are skipped."""
    with _command("run", quiet, json):
        import plankton_embed as pe

        chosen = _settings(preset, settings, set_, seed, group_by, drop_duplicates)
        result = pe.run(
            source,
            output,
            settings=chosen,
            root=root,
            status=status,
            overwrite=overwrite,
            device=device,
            progress=not quiet,
        )
        _print_run(result, json)


@app.command(cls=OneCommand)
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the run")] = Path("runs/demo"),
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run on a drawn plankton set: everything in minutes, without a download."""
    with _command("demo", quiet, json):
        import plankton_embed as pe

        _print_run(pe.demo(output, overwrite=overwrite, device=device, progress=not quiet), json)


@app.command(cls=OneCommand)
def catalog(
    source: Annotated[Path, typer.Argument(help="images of any format, or a catalog", show_default=False)],
    output: Output,
    format_: Annotated[
        SourceFormat | None, typer.Option("--format", help="of the source; by default found out")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="leave out faulty rows, files and folders with a warning")
    ] = False,
    labels: Annotated[Path | None, typer.Option(help="arrays: CSV with the class of each image")] = None,
    label_column: Annotated[
        str | None, typer.Option(help="challenge: column of meta.csv that is the class  [default: level2]")
    ] = None,
    masks: Annotated[
        bool, typer.Option("--masks", help="flowcam: white where the mask beside the picture is black")
    ] = False,
    status: Status = None,
    dilution: Annotated[
        Dilution | None,
        typer.Option(help="ecotaxa, PlanktoScope: what sample_dilution_factor does to the number of objects"),
    ] = None,
    images_per_sample: Annotated[
        str | None, typer.Option(help="ecotaxa, UVP: images taken of each sample, a number or a CSV sample,images")
    ] = None,
    feature_unit: Annotated[
        FeatureUnit | None, typer.Option(help="ecotaxa: unit of areas and axes  [default: found out, else px]")
    ] = None,
    split: Annotated[str | None, typer.Option(help="shares of train,val,test, such as .7,.1,.2")] = None,
    group_by: GroupBy = None,
    include: Annotated[str, typer.Option(help="keep only these classes, comma between")] = "",
    exclude: Annotated[str, typer.Option(help="drop these classes, comma between")] = "",
    class_map: Annotated[Path | None, typer.Option(help="CSV: old name, new name; empty drops")] = None,
    root: Root = None,
    drop_duplicates: DropDuplicates = False,
    preview: Annotated[bool, typer.Option("--preview", help="draw pictures into <output>_preview/")] = False,
    preset: Annotated[
        Preset | None, typer.Option(help="with --preview: show images as this preset prepares them  [default: cpu]")
    ] = None,
    set_: Set = None,
    seed: Seed = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Gather images into a catalog, and sum up what it holds."""
    with _command("catalog", quiet, json):
        import plankton_embed as pe
        from plankton_embed.images.readers.faults import Faults
        from plankton_embed.workflows import catalog as catalog_module

        for name in (text.partition("=")[0].strip() for text in set_ or []):
            if not (name.startswith("preparation.") and preview):
                raise SettingError(f"--set {name}: catalog takes preparation settings only, for --preview")
        if preset is not None and not preview:
            raise SettingError(f"--preset {preset}: catalog takes it for --preview only; give both, or leave it out")
        chosen = _settings(preset, None, set_, seed)
        faults = Faults()
        gathered = pe.catalog(
            source,
            output,
            root=root,
            source_format=format_,
            keep_going=keep_going,
            labels=labels,
            label_column=label_column,
            masks=masks or None,
            status=status,
            dilution=dilution,
            images_per_sample=images_per_sample,
            feature_unit=feature_unit,
            include=_names(include),
            exclude=_names(exclude),
            class_map=class_map,
            split=_shares(split),
            group_by=group_by,
            drop_duplicates=drop_duplicates,
            preview=preview,
            preparation=chosen.preparation,
            seed=chosen.seed,
            overwrite=overwrite,
            progress=not quiet,
            faults=faults,
        )
        summary = cast("CatalogSummary", gathered.summary)
        if json:
            counts = {"n_lost": faults.n_lost, "n_kept": faults.n_kept}
            _print_json({"output": str(output), **counts, **summary.to_dict()})
            return
        if len(summary.classes):
            _print_table(summary.classes.assign(share=summary.classes["share"].map("{:.1%}".format)))
        gaps = summary.gaps[summary.gaps["missing"] > 0]
        if len(gaps):
            _print_table(gaps.assign(percent=gaps["percent"].map("{:.1f}".format)))
        if len(summary.sizes):
            _print_table(
                summary.size_quantiles.rename_axis("quantile")
                .reset_index()
                .astype(dict.fromkeys(("width", "height", "area"), int))
            )
        unreadable = f", {summary.n_unreadable} unreadable" if summary.n_unreadable else ""
        unlabelled = f", {summary.n_unlabelled} unlabelled" if summary.n_unlabelled else ""
        typer.echo(f"{summary.n_images} images, {len(summary.classes)} classes{unlabelled}{unreadable} -> {output}")
        if faults.found:
            listed = catalog_module.faults_path(output)
            typer.echo(f"faults: {faults.n_lost} lost (rows, images, files), {faults.n_kept} kept -> {listed}")


@app.command(cls=OneCommand)
def train(
    catalog: Annotated[Path, typer.Argument(help="a catalog, or images of any format", show_default=False)],
    output: Output,
    preset: PresetOption = None,
    settings: SettingsFile = None,
    set_: Set = None,
    root: Root = None,
    status: Status = None,
    group_by: GroupBy = None,
    drop_duplicates: DropDuplicates = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run that is there")] = False,
    seed: Seed = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model, embed its splits, evaluate."""
    with _command("train", quiet, json):
        import plankton_embed as pe

        chosen = _settings(preset, settings, set_, seed, group_by, drop_duplicates)
        result = pe.train(
            catalog,
            output,
            settings=chosen,
            root=root,
            status=status,
            resume=resume,
            overwrite=overwrite,
            device=device,
            progress=not quiet,
        )
        _print_run(result, json)


@app.command(cls=OneCommand)
def embed(
    model: Annotated[str, typer.Argument(help="a model folder, a run, or a hub name", show_default=False)],
    source: Annotated[Path, typer.Argument(help="images of any format, or a catalog", show_default=False)],
    output: Output,
    views: Annotated[
        int | None, typer.Option(help="views averaged: 1, 2, 4 or 8; by default the model's own", show_default=False)
    ] = None,
    root: Root = None,
    status: Status = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn images into vectors (.parquet, .csv or .npz)."""
    with _command("embed", quiet, json):
        from plankton_embed import embedding
        from plankton_embed.output import refuse_overwrite
        from plankton_embed.table import TABLE_SUFFIXES

        refuse_overwrite(output, overwrite, TABLE_SUFFIXES)
        table = embedding.embed(model, source, root=root, status=status, views=views, device=device, progress=not quiet)
        table.save(output)
        faults = table.provenance.get("faults", {})
        result = {"output": str(output), "n_images": len(table), "dimension": table.dimension, "faults": faults}
        if json:
            _print_json({**result, "model_hash": table.model_hash})
        else:
            typer.echo(f"{len(table)} vectors of {table.dimension} numbers -> {output}")


@app.command(cls=OneCommand)
def index(
    vectors: Annotated[Path, typer.Argument(help="vectors, or a run", show_default=False)],
    output: Output,
    kind: Annotated[IndexKind, typer.Option(help="flat: exact; ivf_sq8: for millions")] = "flat",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Build a similarity index over vectors."""
    with _command("index", quiet, json):
        import plankton_embed as pe

        built = pe.index(vectors, output, kind=kind, overwrite=overwrite)
        if json:
            _print_json({"output": str(output), "n_vectors": len(built), "model_hash": built.table.model_hash})
        else:
            typer.echo(f"index of {len(built)} vectors -> {output}")


@app.command(cls=OneCommand)
def search(
    index: Annotated[Path, typer.Argument(help="an index, or a run", show_default=False)],
    model: Annotated[str, typer.Argument(help="the model that made it: a folder, a run, a hub name")],
    images: Annotated[list[Path], typer.Argument(help="image files, or one source of images", show_default=False)],
    k: Annotated[int, typer.Option("-k", "--neighbors", help="neighbours an image")] = 10,
    output: OptionalOutput = None,
    sheet: Annotated[Path | None, typer.Option(help="picture to draw: each image and its neighbours")] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the images most like the given ones."""
    with _command("search", quiet, json or output is None):
        import plankton_embed as pe
        from plankton_embed.images.readers.folder import IMAGE_SUFFIXES
        from plankton_embed.output import refuse_overwrite, write_frame

        for path, suffixes in ((output, (".csv",)), (sheet, (".png", ".jpg", ".pdf", ".svg"))):
            if path is not None:
                refuse_overwrite(path, overwrite, suffixes)
        is_source = len(images) == 1 and images[0].exists() and images[0].suffix.lower() not in IMAGE_SUFFIXES
        source = images[0] if is_source else images
        found = pe.search(index, model, source, k, sheet=sheet, device=device, progress=not quiet)
        if output is not None:
            write_frame(output, found)
        _print_frame(found, json)


@app.command(cls=OneCommand)
def classify(
    reference: Reference,
    query: Query,
    output: Output,
    method: MethodOption = "centroid",
    neighbors: NNeighbors = None,
    calibration: Calibration = None,
    probabilities: Annotated[
        bool | None,
        typer.Option("--probabilities/--no-probabilities", help="by default where there is a calibration set"),
    ] = None,
    all_probabilities: Annotated[
        bool, typer.Option("--all-probabilities", help="also those of every class, in columns p(<class>)")
    ] = False,
    unknown_rate: UnknownRate = None,
    refuse_by: RefuseByOption = None,
    status: Status = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Name images by labelled vectors, and refuse what is too strange."""
    with _command("classify", quiet, json):
        import plankton_embed as pe

        names = pe.classify(
            reference,
            query,
            method,
            output,
            n_neighbors=neighbors,
            calibration=calibration,
            probabilities=probabilities,
            all_probabilities=all_probabilities,
            unknown_rate=unknown_rate,
            refuse_by=refuse_by,
            status=status,
            overwrite=overwrite,
            device=device,
            progress=not quiet,
        )
        counts = names["label"].value_counts().rename_axis("label").reset_index(name="count")
        if json:
            _print_json({"output": str(output), "n_images": len(names), "counts": counts.to_dict("records")})
        else:
            _print_table(counts)
            typer.echo(f"{len(names)} images named -> {output}")


@app.command(cls=OneCommand)
def evaluate(
    reference: Reference,
    query: Annotated[Path, typer.Argument(help="labelled vectors the reference has not seen, or a run")],
    output: OptionalOutput = None,
    method: MethodOption = "centroid",
    neighbors: NNeighbors = None,
    calibration: Calibration = None,
    unseen: Unseen = "",
    unknown_rate: UnknownRate = None,
    refuse_by: RefuseByOption = None,
    intervals_by: IntervalsBy = None,
    status: Status = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score the names that labelled vectors give: accuracy, F1, confusion, retrieval, calibration, refusing."""
    with _command("evaluate", quiet, json or output is None):
        import plankton_embed as pe

        found = pe.evaluate(
            reference,
            query,
            method,
            output,
            n_neighbors=neighbors,
            calibration=calibration,
            unseen=_read_names(unseen),
            unknown_rate=unknown_rate,
            refuse_by=refuse_by,
            intervals_by=intervals_by,
            status=status,
            overwrite=overwrite,
            device=device,
            progress=not quiet,
        )
        if json:
            _print_json(found.to_dict())
        else:
            _print_scores({method: found.scores_dict()})
            _print_missing(found.to_dict()["missing_classes"])
            _print_retrieval(found.retrieval, found.retrieval_of, found.self_centroid_accuracy)
            _print_refusing(found)


@app.command(cls=OneCommand)
def enroll(
    reference: Reference,
    new: Annotated[
        Path, typer.Argument(help="labelled vectors; with a run as reference also images", show_default=False)
    ],
    output: Output,
    curve: Annotated[
        bool, typer.Option("--curve", help="score 1, 2, 5, … examples a class, into <output>_curve/")
    ] = False,
    query: Annotated[Path | None, typer.Option(help="labelled vectors to name for the curve")] = None,
    neighbors: NNeighbors = None,
    draws: Draws = None,
    seed: Annotated[int | None, typer.Option(help="seed of the draws  [default: 0]")] = None,
    status: Status = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Add new classes, or more examples, to labelled vectors, without training."""
    with _command("enroll", quiet, json):
        import plankton_embed as pe

        enrolled = pe.enroll(
            reference,
            new,
            output,
            curve=curve,
            query=query,
            n_neighbors=neighbors,
            n_draws=draws,
            seed=seed,
            status=status,
            overwrite=overwrite,
            device=device,
            progress=not quiet,
        )
        if json:
            _print_json({"output": str(output), "n_vectors": len(enrolled), "classes": enrolled.classes})
        else:
            typer.echo(f"{len(enrolled)} vectors of {len(enrolled.classes)} classes -> {output}")


@app.command(cls=OneCommand)
def seen_unseen(
    catalog: Annotated[Path, typer.Argument(help="a catalog, or images of any format", show_default=False)],
    output: Output,
    unseen: Unseen = "",
    n_unseen: Annotated[int | None, typer.Option(help="classes to draw instead  [default: a third]")] = None,
    preset: PresetOption = None,
    settings: SettingsFile = None,
    set_: Set = None,
    root: Root = None,
    status: Status = None,
    group_by: GroupBy = None,
    drop_duplicates: DropDuplicates = False,
    unknown_rate: Annotated[float, typer.Option(help="share of known images that may be refused")] = 0.05,
    refuse_by: RefuseByOption = None,
    draws: Draws = None,
    seed: Seed = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train on some classes; refuse the images of the others, enroll these, score both."""
    with _command("seen-unseen", quiet, json):
        import plankton_embed as pe

        found = pe.seen_unseen(
            catalog,
            output,
            unseen=_read_names(unseen),
            n_unseen=n_unseen,
            settings=_settings(preset, settings, set_, seed, group_by, drop_duplicates),
            root=root,
            status=status,
            unknown_rate=unknown_rate,
            refuse_by=refuse_by,
            n_draws=10 if draws is None else draws,
            overwrite=overwrite,
            device=device,
            progress=not quiet,
        )
        if json:
            _print_json(found.to_dict())
            return
        typer.echo(f"{len(found.unseen)} unseen classes: {', '.join(found.unseen)}\n")
        _print_scores({"knn": found.evaluation.scores_dict()})
        _print_refusing(found.evaluation)
        typer.echo("")
        _print_table(found.summary)
        typer.echo(f"tables and pictures -> {output}")


@app.command(cls=OneCommand)
def compare(
    catalog: Annotated[Path, typer.Argument(help="a catalog, or images of any format", show_default=False)],
    output: Output,
    only: Annotated[str, typer.Option(help="systems, comma between; by default one of each kind")] = "",
    budget: Annotated[
        float | None, typer.Option(help="minutes each may learn; by default as long as its own settings say")
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="how many times each is trained, with --seed and the numbers after it")
    ] = 1,
    seed: Seed = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="TRUNK=FILE (or imagenet, none) for systems that start from one; repeatable"),
    ] = None,
    preset: PresetOption = None,
    settings: SettingsFile = None,
    set_: Set = None,
    root: Root = None,
    status: Status = None,
    group_by: GroupBy = None,
    drop_duplicates: DropDuplicates = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the embedding and the systems before it on the same images, and compare what they reach.

    A stopped comparison goes on when it is called again; so does one with more seeds or other systems.
    """
    with _command("compare", quiet, json):
        import plankton_embed as pe

        found = pe.compare(
            catalog,
            output,
            only=_names(only),
            budget=budget,
            seeds=seeds,
            weights=_pairs("--weights", weights or []),
            settings=_settings(preset, settings, set_, seed, group_by, drop_duplicates),
            root=root,
            status=status,
            overwrite=overwrite,
            device=device,
            progress=not quiet,
        )
        if json:
            systems, tests = found.summary.to_dict("records"), found.tests.to_dict("records")
            _print_json({"systems": systems, "faults": found.faults, "mcnemar": tests})
            return
        columns = ["name", "start", "n_seeds", "f1_macro", "accuracy", "training_minutes", "images_per_second"]
        _print_table(found.summary[columns])
        if len(found.tests):
            typer.echo("McNemar's test of the best classifier, p corrected (Holm) for all pairs of a seed:")
            _print_table(found.tests_of_best)
        typer.echo(f"tables and pictures -> {output}")


@app.command(cls=OneCommand)
def pca(
    vectors: Annotated[Path, typer.Argument(help="vectors, or a run; for a film a run", show_default=False)],
    output: Output,
    split: SplitOption = None,
    method: Annotated[
        ProjectionMethod, typer.Option("--method", "-m", help="umap and tsne need the extra reduce")
    ] = "pca",
    components: Annotated[int | None, typer.Option(help="axes  [default: 3, of a map 2]")] = None,
    per_class: Annotated[int, typer.Option(help="images of each class to show")] = 25,
    film: Annotated[
        bool, typer.Option("--film", help="every kept epoch of a run; OUTPUT is .mp4, .webp or .gif")
    ] = False,
    basis: Annotated[int | None, typer.Option(help="film: the epoch that gives the axes  [default: the last]")] = None,
    seconds: Annotated[float | None, typer.Option(help="film: its length")] = None,
    seed: DrawSeed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Bring vectors onto few axes, or show how they parted over training (--film)."""
    with _command("pca", quiet, json):
        import plankton_embed as pe
        from plankton_embed.plots.film import name_film

        if film:
            if method != "pca" or components is not None:
                raise SettingError("a film has the first principal components; leave --method and --components out")
            made = pe.film(
                vectors,
                output,
                split=split,
                basis_epoch=basis,
                per_class=per_class,
                seconds=seconds,
                seed=seed,
                overwrite=overwrite,
                device=device,
                progress=not quiet,
            )
            if json:
                _print_json({"output": str(name_film(output)), "epochs": made.epochs.tolist()})
            else:
                typer.echo(f"{len(made)} epochs shown")
            return
        if basis is not None or seconds is not None or device != "auto":
            raise SettingError("--basis, --seconds and --device are for a film (--film)")
        found = pe.pca(
            vectors,
            output,
            split=split,
            method=method,
            n_components=components,
            per_class=per_class,
            seed=seed,
            overwrite=overwrite,
        )
        if not json:
            _print_table(found.ends(3).drop(columns="row"))
        _print_summary(output, json)


@app.command(cls=OneCommand)
def dendrogram(
    vectors: Analysed,
    output: Output,
    split: SplitOption = None,
    of: Annotated[TreeOf, typer.Option(help="join images, or the means of the classes")] = "images",
    leaves: Annotated[int | None, typer.Option(help="leaves of the cut tree  [default: 40, of classes all]")] = None,
    branches: Annotated[
        int | None, typer.Option(help="main branches; by default as many as part the vectors best, 8 at most")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Join images into Ward's tree, and tell what its branches hold."""
    with _command("dendrogram", quiet, json):
        import plankton_embed as pe

        found = pe.dendrogram(
            vectors,
            output,
            split=split,
            of=of,
            n_leaves=leaves,
            n_branches=branches,
            overwrite=overwrite,
            progress=not quiet,
        )
        if not json:
            columns = ["branch", "n_images", "label", "purity", "n_classes"]
            _print_table(found.leaves[columns].reset_index())
        _print_summary(output, json)


@app.command(cls=OneCommand)
def taxonomy(
    vectors: Analysed,
    tree: Annotated[Path, typer.Argument(help="a taxonomy: Newick, or a table with lineages or ranks")],
    output: Output,
    split: SplitOption = None,
    query: Annotated[
        Path | None, typer.Option(help="labelled vectors to name; by default the test images of a run")
    ] = None,
    method: Annotated[
        Method | None, typer.Option("--method", "-m", help="how to name the query  [default: knn]")
    ] = None,
    calibration: Calibration = None,
    certainty: Annotated[
        float | None, typer.Option(help="least probability of a name; else a broader one is given  [default: 0.9]")
    ] = None,
    permutations: Annotated[int, typer.Option(help="permutations of the class names, for the p-values")] = 999,
    seed: DrawSeed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Hold the learned tree against a taxonomy; score names rank by rank."""
    with _command("taxonomy", quiet, json):
        import plankton_embed as pe

        found = pe.taxonomy(
            vectors,
            tree,
            output,
            split=split,
            query=query,
            method=method,
            calibration=calibration,
            certainty=certainty,
            n_permutations=permutations,
            seed=seed,
            overwrite=overwrite,
            progress=not quiet,
        )
        if not json:
            _print_table(found.comparison.misplaced.head(10))
            if found.by_rank is not None:
                _print_table(found.by_rank)
            if (by_level := found.by_level()) is not None:
                _print_table(by_level)
        _print_summary(output, json)


@app.command(cls=OneCommand)
def clusters(
    vectors: Vectors,
    output: Output,
    reference: Annotated[Path | None, typer.Option(help="labelled vectors: name the nearest known class")] = None,
    only: Annotated[Path | None, typer.Option(help="predictions: group the images called unknown there")] = None,
    method: Annotated[
        ClusterMethod, typer.Option("--method", "-m", help="tree: all images in groups; hdbscan: dense groups only")
    ] = "tree",
    groups: Annotated[int | None, typer.Option(help="tree: number of groups  [default: root of the images]")] = None,
    min_size: Annotated[int | None, typer.Option(help="hdbscan: images that make a group  [default: 10]")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find groups among images without a name, for a person to name."""
    with _command("clusters", quiet, json):
        import plankton_embed as pe

        found = pe.clusters(
            vectors,
            output,
            reference=reference,
            only=only,
            method=method,
            n_clusters=groups,
            min_size=min_size,
            overwrite=overwrite,
            progress=not quiet,
        )
        if not json:
            _print_table(found.groups)
            typer.echo(f"write names into {output / 'names.csv'}, then")
            typer.echo(f"plankton-embed enroll REFERENCE {output} -o REFERENCE2\n")
        _print_summary(output, json)


@app.command(cls=OneCommand)
def relations(
    context: typer.Context,
    vectors: Analysed,
    output: OptionalOutput = None,
    split: SplitOption = None,
    epsilon: Annotated[
        float | None,
        typer.Option(help="how far two relations may differ, a Euclidean distance; by default as far as --limit needs"),
    ] = None,
    images: Annotated[int, typer.Option(help="images to compare, drawn class by class; 3000 at most")] = 1000,
    same_class: Annotated[bool, typer.Option("--same-class", help="relations within a class count too")] = False,
    definition: Annotated[Definition, typer.Option(help="window_2019: as the report of 2019; misses most")] = "exact",
    limit: Annotated[int, typer.Option(help="relations kept; all are counted")] = 10_000,
    shuffles: Annotated[int, typer.Option(help="shufflings of the labels")] = 99,
    query: Annotated[
        tuple[str, str, str] | None,
        typer.Option(help="A B C: A is to B as C is to ?; classes or object ids", show_default=False),
    ] = None,
    answers: Annotated[int, typer.Option("-k", "--neighbors", help="answers to the query")] = 10,
    seed: DrawSeed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find relations between images that repeat, or complete one (--query A B C)."""
    with _command("relations", quiet, json or output is None):
        import plankton_embed as pe
        from plankton_embed.workflows import analogy as analogy_module

        if query is not None:
            searching = ("output", "epsilon", "images", "same_class", "definition", "limit", "shuffles", "seed")
            _refuse_given(context, (*searching, "overwrite"), "--query only answers")
            by_class, by_image = analogy_module.analogy(vectors, *query, k=answers, split=split)
            if json:
                _print_json({"classes": by_class.to_dict("records"), "images": by_image.to_dict("records")})
            else:
                _print_table(by_class)
                _print_table(by_image)
            return
        _refuse_given(context, ("answers",), "-k is for --query")
        if output is None:
            raise SettingError("relations: expected --output FOLDER, or --query A B C; found neither")
        found = pe.relations(
            vectors,
            output,
            split=split,
            epsilon=epsilon,
            n_images=images,
            same_class=same_class,
            definition=definition,
            limit=limit,
            n_shuffles=shuffles,
            seed=seed,
            overwrite=overwrite,
            progress=not quiet,
        )
        if not json:
            _print_table(found.analogies.head(20))
        _print_summary(output, json)


@app.command(cls=OneCommand)
def suspects(
    vectors: Vectors,
    output: Output,
    folds: Annotated[int, typer.Option(help="folds of the head whose loss is a signal; 0: without")] = 5,
    neighbors: NNeighbors = None,
    cleanlab: Annotated[bool, typer.Option("--cleanlab", help="cleanlab's label quality is a signal too")] = False,
    corrections: Annotated[int, typer.Option(help="rows of corrections.csv")] = 240,
    seed: DrawSeed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Rank the labels that may be wrong, for a person to correct."""
    with _command("suspects", quiet, json):
        import plankton_embed as pe

        found = pe.suspects(
            vectors,
            output,
            n_folds=folds,
            n_neighbors=neighbors,
            use_cleanlab=cleanlab,
            n_corrections=corrections,
            seed=seed,
            overwrite=overwrite,
            progress=not quiet,
        )
        if not json:
            for group in found.groups.itertuples():
                share = f"{group.n_images} of {group.n_of_class} images labelled {group.label}"
                typer.echo(f"group {group.group}: {share} look like {group.guess}")
            _print_table(found.first(20)[["object_id", "label", "guess", "score"]])
            typer.echo(f"decide in {output / 'corrections.csv'} (keep, relabel or delete), then")
            typer.echo(f"plankton-embed apply-corrections CATALOG {output / 'corrections.csv'} -o CATALOG2\n")
        _print_summary(output, json)


@app.command(cls=OneCommand)
def apply_corrections(
    catalog: Annotated[Path, typer.Argument(help="the catalog to correct", show_default=False)],
    corrections: Annotated[Path, typer.Argument(help="corrections.csv; with --undo the changes", show_default=False)],
    output: OptionalOutput = None,
    undo: Annotated[bool, typer.Option("--undo", help="take changes back")] = False,
    root: Root = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Relabel and leave out images in a new catalog; without --output only say what would change."""
    with _command("apply-corrections", quiet, json or output is None):
        import plankton_embed as pe

        done = pe.apply_corrections(catalog, corrections, output, undo=undo, root=root, overwrite=overwrite)
        counts = done.changes["correction_action"].value_counts().to_dict()
        result = {"output": str(output) if output else None, "n_images": len(done.catalog), "n_kept": done.n_kept}
        result |= {"n_relabelled": counts.get("relabel", 0), "n_deleted": counts.get("delete", 0)}
        if json:
            _print_json(result)
            return
        if len(done.changes):
            columns = ["object_id", "label", "correction_action", "correction_label", "correction_reason"]
            _print_table(done.changes[columns].rename(columns=lambda name: name.removeprefix("correction_")))
        described = f"{result['n_relabelled']} relabelled, {result['n_deleted']} left out"
        described += ", taken back" if undo else f", {done.n_kept} kept as they are"
        typer.echo(f"{described}; {len(done.catalog)} images -> {output or 'nowhere: give --output'}")


@app.command(cls=OneCommand)
def shift(
    reference: Reference,
    new: Annotated[
        Path, typer.Argument(help="vectors to compare; with a run as reference also images", show_default=False)
    ],
    output: Output,
    method: MethodOption = "centroid",
    neighbors: NNeighbors = None,
    calibration: Calibration = None,
    unknown_rate: Annotated[float, typer.Option(help="share of known images that may be refused")] = 0.05,
    refuse_by: RefuseByOption = None,
    permutations: Annotated[int, typer.Option(help="permutations of each test; 1000 at least")] = 2000,
    draws: Annotated[int, typer.Option(help="draws from the calibration images, which a flagged sample exceeds")] = 100,
    intervals_by: IntervalsBy = None,
    seed: DrawSeed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare new samples with the images that the model was validated on."""
    with _command("shift", quiet, json):
        import plankton_embed as pe

        found = pe.shift(
            reference,
            new,
            output,
            method=method,
            n_neighbors=neighbors,
            calibration=calibration,
            unknown_rate=unknown_rate,
            refuse_by=refuse_by,
            n_permutations=permutations,
            n_draws=draws,
            intervals_by=intervals_by,
            seed=seed,
            overwrite=overwrite,
            device=device,
            progress=not quiet,
        )
        if not json:
            columns = ["sample_id", "n_images", "verdict", "vectors_effect", "appearance_effect", "refused"]
            shown = found.samples[[*columns, "expected_accuracy"]].head(21)
            _print_table(shown.fillna({"sample_id": "(all images)"}))
            _print_table(found.classes[found.classes["sample_id"].isna()].drop(columns="sample_id").head(10))
        _print_summary(output, json)


@app.command(cls=OneCommand)
def abundance(
    reference: Reference,
    query: Annotated[
        Path, typer.Argument(help="vectors to count; with a run as reference also images", show_default=False)
    ],
    output: Output,
    by: Annotated[str, typer.Option(help="column whose values are the samples")] = "sample_id",
    catalog: Annotated[
        Path | None, typer.Option(help="vectors: what is known of their images; images come with their own")
    ] = None,
    root: Root = None,
    method: MethodOption = "centroid",
    neighbors: NNeighbors = None,
    calibration: Calibration = None,
    unknown_rate: UnknownRate = None,
    refuse_by: RefuseByOption = None,
    correction: Annotated[
        Correction, typer.Option(help="em: by the probabilities; confusion: by the names alone")
    ] = "em",
    draws: Annotated[int, typer.Option(help="draws of the intervals; 20 at least")] = 200,
    level: Annotated[float, typer.Option(help="share of the intervals that should hold the true count")] = 0.9,
    depth_bin: Annotated[
        float | None, typer.Option(help="m, bins of a profile within samples; by default a round width")
    ] = None,
    intervals_by: IntervalsBy = None,
    seed: DrawSeed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Count the classes in every sample, corrected for errors, with intervals: counts, m⁻³, biovolume in mm³."""
    with _command("abundance", quiet, json):
        import plankton_embed as pe

        found = pe.abundance(
            reference,
            query,
            output,
            by=by,
            catalog=catalog,
            root=root,
            method=method,
            n_neighbors=neighbors,
            calibration=calibration,
            unknown_rate=unknown_rate,
            refuse_by=refuse_by,
            correction=correction,
            n_draws=draws,
            level=level,
            depth_bin=depth_bin,
            intervals_by=intervals_by,
            seed=seed,
            overwrite=overwrite,
            device=device,
            progress=not quiet,
        )
        if not json:
            _print_table(found.samples.head(20).rename(columns=UNITS))
            _print_table(found.totals.head(20).reset_index().rename(columns=UNITS))
        _print_summary(output, json)


@app.command(cls=OneCommand)
def export(
    names: Annotated[Path, typer.Argument(help="what classify wrote", show_default=False)],
    catalog: Annotated[
        Path, typer.Argument(help="the images named: their catalog, or the source it was read from", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="a file ecotaxa….tsv; for ifcb a folder", show_default=False)
    ],
    target: Annotated[Target, typer.Option(help="where the names go: EcoTaxa, or an IFCB dashboard")] = "ecotaxa",
    class_map: Annotated[Path | None, typer.Option(help="CSV: old name, new name (Name or Name<Parent)")] = None,
    replace_validated: Annotated[
        bool, typer.Option("--replace-validated", help="ecotaxa: also objects that a person has decided")
    ] = False,
    image_names: Annotated[
        bool,
        typer.Option(
            "--image-names", help="ecotaxa: a row an image, with its path from the table; new objects need it"
        ),
    ] = False,
    copy_images: Annotated[
        bool, typer.Option("--copy-images", help="ecotaxa: the same, of copies made beside the table")
    ] = False,
    model_id: Annotated[str | None, typer.Option(help="ifcb: what made the names  [default: plankton_embed]")] = None,
    root: Root = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write names in the form of the place the images came from: a table for EcoTaxa, class scores for IFCB."""
    with _command("export", quiet, json):
        import plankton_embed as pe

        counts = pe.export(
            names,
            catalog,
            output,
            target=target,
            class_map=class_map,
            replace_validated=replace_validated,
            image_names=image_names,
            copy_images=copy_images,
            model_id=model_id,
            overwrite=overwrite,
            root=root,
        ).to_dict()
        if json:
            _print_json({"output": str(output), **counts})
        else:
            words = {"n_validated": "decided by a person", "n_unknown": "refused", "n_unnamed": "without a name"}
            told = [f"{n} {words.get(name, name.removeprefix('n_'))}" for name, n in counts.items() if n]
            typer.echo(f"{', '.join(told)} -> {output}")


@app.command(cls=OneCommand)
def doctor(json: Json = False) -> None:
    """Check the installation: versions, device, FAISS build, clashes and the line that mends each."""
    with _command("doctor", quiet=False, printed=True):
        import plankton_embed as pe

        found = pe.doctor()
        if json:
            _print_json(found.to_dict())
        else:
            for name, value in found.facts.items():
                typer.echo(f"{name:26}{value}")
            typer.echo("\n".join(["", *found.problems]) if found.problems else "all is well")
        if found.problems:
            raise typer.Exit(1)


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
        typer.echo(f"\nstopped; {GO_ON.get(name, 'nothing was half written')}", err=True)
        raise typer.Exit(130) from error
    finally:
        logger.setLevel(before)


def _refuse_given(context: typer.Context, names: Sequence[str], reason: str) -> None:
    """Raise where options were given that have no say here."""
    given = [
        max(option.opts, key=len)
        for option in context.command.params
        if option.name in names and getattr(context.get_parameter_source(option.name), "name", "") == "COMMANDLINE"
    ]
    if given:
        raise SettingError(f"{reason}; leave out {', '.join(given)}")


def _settings(
    preset: Preset | None,
    file: Path | None,
    overrides: list[str] | None,
    seed: int | None,
    group_by: str | None = None,
    drop_duplicates: bool = False,
) -> Settings:
    from plankton_embed.settings import Settings

    extra = [f"seed={seed}"] if seed is not None else []
    extra += [f"split.group_by={group_by}"] if group_by is not None else []
    extra += ["split.drop_duplicates=true"] if drop_duplicates else []
    return Settings.build(preset, file, [*(overrides or []), *extra])


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _read_names(text: str) -> list[str]:
    """Return names with commas between, or those of a file, one a line."""
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


def _shares(text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingError(f"--split: expected three numbers such as .7,.1,.2; found {text!r}") from error


def _print_run(result: RunResult, json: bool) -> None:
    import pandas as pd

    scores, folder = result.scores, result.folder
    faults = pd.read_csv(folder.faults) if folder.faults.exists() else pd.DataFrame()
    n_kept = int((faults["outcome"] == "kept").sum()) if "outcome" in faults else 0  # runs of old list lost ones alone
    n_lost = len(faults) - n_kept
    if json:
        _print_json({"output": str(folder.path), "n_lost": n_lost, "n_kept": n_kept, **scores})
        return
    if scores["split"] is None:
        typer.echo("no labelled images outside train: no scores")
    else:
        typer.echo(
            f"\n{scores['n_images']} images of the {scores['split']} split, named by {scores['n_train']} of train"
        )
        _print_scores({name: scores[name] for name in METHODS})
        _print_missing(scores.get("missing_classes", []))  # a run of an earlier release has none
        _print_retrieval(
            scores["retrieval"],
            scores.get("retrieval_of", f"queries: {scores['split']}, gallery: train"),
            scores["self_centroid_accuracy"],
        )
    places = {
        "model": folder.model,
        "vectors": folder.vectors("test").parent,
        "index": folder.index,
        "names": folder.predictions,
        "scores": folder.scores,
        "pictures": folder.figures,
    }
    typer.echo("")
    for name, path in places.items():
        if path.exists():
            typer.echo(f"{name:10}{path}")
    if len(faults):
        typer.echo(f"{'faults':10}{n_lost} lost (rows, images, files), {n_kept} kept -> {folder.faults}")


def _print_scores(methods: Mapping[str, Mapping[str, Any]]) -> None:
    head = f"{'names by':10}{'accuracy':>22}{'balanced':>10}{'macro F1':>10}{'weighted F1':>13}"
    typer.echo(head + f"{'ECE':>8}" * any("calibration" in s for s in methods.values()))
    notes: dict[str, None] = {}
    for name, s in methods.items():
        shared = s.get("shared_classes")
        rows = {name: s} | ({"  shared": shared} if shared and shared["n_images"] < s["n_images"] else {})
        for title, row in rows.items():
            interval = "(no interval)"
            if row["intervals_95"]:
                interval = "({:.3f}-{:.3f})".format(*row["intervals_95"]["accuracy"])
            elif "no_intervals" in row:
                notes[f"no interval: {row['no_intervals']}"] = None
            typer.echo(
                f"{title:10}{row['accuracy']:8.3f} {interval:>13}{row['balanced_accuracy']:9.3f}"
                f"{row['f1_macro']:10.3f}{row['f1_weighted']:13.3f}"
                + (f"{row['calibration']['ece']:8.3f}" if "calibration" in row else "")
            )
        if len(rows) > 1:
            notes[f"shared: over the {rows['  shared']['n_images']} images whose label the reference has"] = None
    for note in notes:
        typer.echo(note)


def _print_missing(missing: Sequence[Mapping[str, Any]]) -> None:
    """Show the labels that the reference lacks, the most frequent first."""
    if not missing:
        return
    import pandas as pd

    n, share = sum(row["n_images"] for row in missing), sum(row["share"] for row in missing)
    more = f"; the first {N_MISSING}, all in the JSON" if len(missing) > N_MISSING else ""
    typer.echo(f"\n{len(missing)} labels are not in the reference ({n} images, {share:.1%}){more}:")
    _print_table(
        pd.DataFrame(missing).head(N_MISSING).assign(share=[f"{row['share']:.1%}" for row in missing][:N_MISSING])
    )


def _print_retrieval(retrieval: Mapping[str, float], of: str, self_centroid: float) -> None:
    shown = {"map_at_r": "MAP@R"} | {name: name.replace("_at_", "@") for name in retrieval if name.startswith("recall")}
    parts = [f"{shown[name]} {value:.3f}" for name, value in retrieval.items()]
    if parts:
        typer.echo(f"retrieval ({of}): {', '.join(parts)}")
    typer.echo(f"self-centroid accuracy {self_centroid:.3f} (made and scored on the same vectors: it flatters)")


def _print_refusing(evaluation: Evaluation) -> None:
    if evaluation.counts is not None:
        typer.echo(f"refused: {evaluation.counts['refused'].sum()} of {len(evaluation.names)} images")
    scores = evaluation.open_set
    if scores is not None:
        typer.echo(
            f"unseen classes: AUROC {scores.auroc:.3f}; where 5 % of the known images are refused, "
            f"{scores.refused_at_5:.1%} of the unseen ({scores.n_known} known, {scores.n_unseen} unseen images); "
            f"here {scores.known_refused:.1%} and {scores.unseen_refused:.1%} were"
        )


def _print_summary(output: Path, json: bool) -> None:
    """Say what an analysis wrote, and the numbers of its summary."""
    summary = json_module.loads((output / "summary.json").read_text(encoding="utf-8"))
    if json:
        _print_json({"output": str(output), **summary})
    else:
        tables = [
            name for name, value in summary.items() if isinstance(value, list) and value and isinstance(value[0], dict)
        ]
        typer.echo(
            "\n".join(
                f"{name:26}{'-' if value is None else value}" for name, value in summary.items() if name not in tables
            )
        )
        typer.echo(f"tables and pictures -> {output}")


def _print_frame(frame: pd.DataFrame, json: bool) -> None:
    if json:
        _print_json(frame.to_dict("records"))
    else:
        _print_table(frame)


def _print_table(frame: pd.DataFrame) -> None:
    shown = frame.astype(object).where(frame.notna(), "-")
    typer.echo(shown.to_string(index=False, float_format="{:.3f}".format) + "\n")


def _print_json(values: Any) -> None:
    from plankton_embed.output import to_json

    typer.echo(to_json(values))
