"""How the results of commands are printed: tables and sentences, or JSON.

One function for each command, with the name of the command. It takes the result and the options of the command line.
"""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from plankton_embed.analysis.clusters import Clusters
    from plankton_embed.analysis.counts import Abundance
    from plankton_embed.analysis.dendrogram import Dendrogram
    from plankton_embed.analysis.projection import Film, Projection
    from plankton_embed.analysis.relations import Relations
    from plankton_embed.analysis.shift import Shift
    from plankton_embed.analysis.suspects import Suspects
    from plankton_embed.analysis.taxonomy_comparison import TaxonomyFindings
    from plankton_embed.classifiers.evaluation import Evaluation
    from plankton_embed.images.catalog import ImageCatalog
    from plankton_embed.images.corrections import CorrectedCatalog
    from plankton_embed.network.model import EmbeddingModel
    from plankton_embed.sharded_index import ShardedIndex
    from plankton_embed.table import EmbeddingTable
    from plankton_embed.vector_index import VectorIndex
    from plankton_embed.vector_shards import VectorShards
    from plankton_embed.workflows.classify import WrittenPredictions
    from plankton_embed.workflows.compare import Comparison
    from plankton_embed.workflows.doctor import Diagnosis
    from plankton_embed.workflows.review import Review
    from plankton_embed.workflows.run import RunResult
    from plankton_embed.workflows.seen_unseen import SeenUnseen

Options = Mapping[str, Any]

METHODS = ("centroid", "knn", "mlp")
N_MISSING = 10  # labels missing in the reference that are shown on screen
UNITS = {  # columns of `abundance` with their units
    "biovolume": "biovolume (mm³)",
    "biovolume_concentration": "biovolume (mm³ m⁻³)",
    **{f"concentration{end}": f"concentration{end} (m⁻³)" for end in ("", "_low", "_high")},
}


def run(result: RunResult, options: Options) -> None:
    """Print the scores of a run, and where its files are."""
    import pandas as pd

    scores, folder = result.scores, result.folder
    if not result.vectors:  # one of several processes that trained; the first prints the scores
        return
    faults = pd.read_csv(folder.faults) if folder.faults.exists() else pd.DataFrame()
    n_kept = int((faults["outcome"] == "kept").sum()) if "outcome" in faults else 0  # old runs list lost rows only
    n_lost = len(faults) - n_kept
    if options["json"]:
        print_json({"output": str(folder.path), "n_lost": n_lost, "n_kept": n_kept, **scores})
        return
    if scores["split"] is None:
        print("no scores: there are no labelled images outside train")
    else:
        print(
            f"\n{scores['n_images']} images of the {scores['split']} split, predicted from {scores['n_train']} of train"
        )
        _print_scores({name: scores[name] for name in METHODS})
        _print_missing(scores.get("missing_classes", []))  # missing in runs of earlier releases
        _print_retrieval(
            scores["retrieval"],
            scores.get("retrieval_of", f"queries: {scores['split']}, gallery: train"),
            scores["self_centroid_accuracy"],
        )
    paths = {
        "model": folder.model,
        "vectors": folder.vectors("test").parent,
        "index": folder.index,
        "predictions": folder.predictions,
        "scores": folder.scores,
        "figures": folder.figures,
        "report": folder.report,
    }
    print("")
    for name, path in paths.items():
        if path.exists():
            print(f"{name:13}{path}")
    if len(faults):
        print(f"{'faults':13}{n_lost} lost (rows, images, files), {n_kept} kept -> {folder.faults}")


train = demo = run


def catalog(gathered: ImageCatalog, options: Options) -> None:
    """Print the classes, gaps and sizes of a catalog, and how many faults its source has."""
    import pandas as pd

    from plankton_embed.workflows.catalog import faults_path

    output, summary = options["output"], gathered.summary
    if summary is None:
        return
    listed = faults_path(output)
    faults = pd.read_csv(listed)["outcome"] if listed.exists() else pd.Series(dtype=str)
    n_lost, n_kept = int((faults == "lost").sum()), int((faults == "kept").sum())
    if options["json"]:
        print_json({"output": str(output), "n_lost": n_lost, "n_kept": n_kept, **summary.to_dict()})
        return
    if len(summary.classes):
        print_table(summary.classes.assign(share=summary.classes["share"].map("{:.1%}".format)))
    gaps = summary.gaps[summary.gaps["missing"] > 0]
    if len(gaps):
        print_table(gaps.assign(percent=gaps["percent"].map("{:.1f}".format)))
    if len(summary.sizes):
        print_table(
            summary.size_quantiles.rename_axis("quantile")
            .reset_index()
            .astype(dict.fromkeys(("width", "height", "area"), int))
        )
    unreadable = f", {summary.n_unreadable} unreadable" if summary.n_unreadable else ""
    unlabelled = f", {summary.n_unlabelled} unlabelled" if summary.n_unlabelled else ""
    counts = gathered.frame["split"].value_counts().to_dict() if "split" in gathered.frame else {}
    splits = "".join(f", {counts[name]} {name}" for name in ("train", "val", "test") if name in counts)
    print(f"{summary.n_images} images, {len(summary.classes)} classes{splits}{unlabelled}{unreadable} -> {output}")
    if len(faults):
        print(f"faults: {n_lost} lost (rows, images, files), {n_kept} kept -> {listed}")


def embed(table: EmbeddingTable | VectorShards, options: Options) -> None:
    """Print how many vectors were written."""
    output, faults = options["output"], table.provenance.get("faults", {})
    if options["json"]:
        result = {"output": str(output), "n_images": len(table), "dimension": table.dimension, "faults": faults}
        print_json({**result, "model_hash": table.model_hash})
    else:
        print(f"{len(table)} vectors of {table.dimension} numbers -> {output}")


def index(built: VectorIndex | ShardedIndex, options: Options) -> None:
    """Print how many vectors the index has, and how many of the nearest it finds."""
    output, n_shards = options["output"], getattr(built, "n_shards", None)
    if options["json"]:
        names = ("kind", "n_cells", "n_probes", "recall", "bytes_per_vector")
        result = {"output": str(output), "n_vectors": len(built), "model_hash": built.model_hash}
        result |= {"n_shards": n_shards} if n_shards else {}
        print_json(result | {name: getattr(built, name) for name in names})
        return
    if built.recall is None:
        print(f"{built.kind}: the recall was not measured after the addition")
    elif built.kind != "flat":
        print(
            f"{built.kind}: a search looks through {built.n_probes} of {built.n_cells} cells and finds "
            f"{built.recall:.1%} of the 10 nearest (of a sample of its vectors, each left out of its own answer); "
            f"{built.bytes_per_vector:.0f} bytes a vector"
        )
    print(f"index of {len(built)} vectors{f' in {n_shards} shards' if n_shards else ''} -> {output}")


def search(found: pd.DataFrame, options: Options) -> None:
    """Print the images found."""
    print_frame(found, options["json"])


def adapt(adapted: EmbeddingModel, options: Options) -> None:
    """Print to how many images the model was adapted, and where it is."""
    n_images, output = adapted.training["adapted_to"], str(options["output"])
    if options["json"]:
        print_json({"output": output, "n_images": n_images, "model": adapted.hash})
    else:
        print(f"model {adapted.hash}, adapted to {n_images} images -> {output}")


def export_model(written: Path, options: Options) -> None:
    """Print where the model is, and its size."""
    megabytes = round(written.stat().st_size / 1e6, 1)
    if options["json"]:
        print_json({"output": str(written), "megabytes": megabytes})
    else:
        print(f"model of {megabytes} MB -> {written}")


def classify(predictions: pd.DataFrame | WrittenPredictions, options: Options) -> None:
    """Print how many images were predicted as each class."""
    import pandas as pd

    output = options["output"]
    if isinstance(predictions, pd.DataFrame):
        counts = predictions["label"].value_counts().rename_axis("label").reset_index(name="count")
    else:
        counts = predictions.counts
    if options["json"]:
        print_json({"output": str(output), "n_images": len(predictions), "counts": counts.to_dict("records")})
    else:
        print_table(counts)
        print(f"{len(predictions)} predictions -> {output}")


def evaluate(found: Evaluation, options: Options) -> None:
    """Print the scores."""
    if options["json"]:
        print_json(found.to_dict())
    else:
        _print_scores({found.method: found.scores_dict()})
        _print_missing(found.to_dict()["missing_classes"])
        _print_retrieval(found.retrieval, found.retrieval_of, found.self_centroid_accuracy)
        _print_rejection(found)


def enroll(enrolled: EmbeddingTable, options: Options) -> None:
    """Print how many vectors and classes the new reference has."""
    output = options["output"]
    if options["json"]:
        print_json({"output": str(output), "n_vectors": len(enrolled), "classes": enrolled.classes})
    else:
        print(f"{len(enrolled)} vectors of {len(enrolled.classes)} classes -> {output}")


def seen_unseen(found: SeenUnseen, options: Options) -> None:
    """Print the scores of seen and of unseen classes."""
    if options["json"]:
        print_json(found.to_dict())
        return
    print(f"{len(found.unseen)} unseen classes: {', '.join(found.unseen)}\n")
    _print_scores({"knn": found.evaluation.scores_dict()})
    _print_rejection(found.evaluation)
    print()
    print_table(found.summary)
    print(f"tables and figures -> {options['output']}")


def compare(found: Comparison, options: Options) -> None:
    """Print the scores of the systems, and the tests of the best one."""
    if options["json"]:
        systems, tests = found.summary.to_dict("records"), found.tests.to_dict("records")
        print_json({"systems": systems, "faults": found.faults, "mcnemar": tests})
        return
    columns = ["name", "start", "n_seeds", "f1_macro", "accuracy", "training_minutes", "images_per_second"]
    print_table(found.summary[columns])
    if len(found.tests):
        print("McNemar's test of the best classifier, p corrected (Holm) for all pairs of a seed:")
        print_table(found.tests_of_best)
    print(f"tables and figures -> {options['output']}")


def pca(found: Projection, options: Options) -> None:
    """Print the images at both ends of every axis."""
    if not options["json"]:
        print_table(found.ends(3).drop(columns="row"))
    _print_summary(options)


def film(made: Film, options: Options) -> None:
    """Print how many epochs the film shows."""
    from plankton_embed.plots.film import name_film

    if options["json"]:
        print_json({"output": str(name_film(options["output"])), "epochs": made.epochs.tolist()})
    else:
        print(f"{len(made)} epochs -> {name_film(options['output'])}")


def dendrogram(found: Dendrogram, options: Options) -> None:
    """Print the leaves of the tree."""
    if not options["json"]:
        leaves = found.leaves.reset_index()
        columns = ["node", "branch", "n_images", "label", "purity", "n_classes"]
        if (leaves["n_images"] == 1).all():
            leaves["object_id"] = found.table.object_id[leaves["node"]]
            columns = ["node", "branch", *(["object_id"] if found.of == "images" else []), "label"]
        print_table(leaves[columns])
    _print_summary(options)


def taxonomy(found: TaxonomyFindings, options: Options) -> None:
    """Print what does not fit the taxonomy, and the accuracy at each rank."""
    if not options["json"]:
        print_table(found.comparison.misplaced.head(10))
        if found.by_rank is not None:
            print_table(found.by_rank)
        if (by_level := found.by_level()) is not None:
            print_table(by_level)
    _print_summary(options)


def clusters(found: Clusters, options: Options) -> None:
    """Print the groups, and how to name them."""
    output = options["output"]
    if not options["json"]:
        print_table(found.groups)
        if found.n_means is not None:
            print(
                f"{len(found.table):,} images were grouped by {found.n_means:,} means of similar images (k-means), "
                f"which keep {found.share_kept:.1%} of their sum of squares"
            )
        print(f"fill in the names in {output / 'cluster_names.csv'}, then run")
        known = found.table.is_labelled.any() or options.get("only")  # then the reference is another file
        reference = options["reference"] or ("REFERENCE" if known else options["vectors"])
        print(f"plankton-embed enroll {reference} {output} -o reference.parquet\n")
    _print_summary(options)


def relations(found: Relations, options: Options) -> None:
    """Print the repeated relations between classes."""
    if not options["json"]:
        print_table(found.analogies.head(20))
    _print_summary(options)


def analogy(found: tuple[pd.DataFrame, pd.DataFrame], options: Options) -> None:
    """Print the nearest classes and images."""
    by_class, by_image = found
    if options["json"]:
        print_json({"classes": by_class.to_dict("records"), "images": by_image.to_dict("records")})
    else:
        print_table(by_class)
        print_table(by_image)


def suspects(found: Suspects, options: Options) -> None:
    """Print the most suspect labels, and how to correct them."""
    output = options["output"]
    if not options["json"]:
        for group in found.groups.itertuples():
            share = f"{group.n_images} of {group.n_of_class} images labelled {group.label}"
            print(f"group {group.group}: {share} look like {group.guess}")
        print_table(found.first(20)[["object_id", "label", "guess", "score"]])
        if found.recall is not None:
            print(
                f"neighbours were searched in the nearest cells of an index, which finds {found.recall:.1%} of the 10 "
                "nearest (measured on a sample)"
            )
        print(f"decide in {output / 'corrections.csv'} (keep, relabel or delete), then run")
        print(f"plankton-embed apply-corrections CATALOG {output / 'corrections.csv'} -o CATALOG2\n")
    _print_summary(options)


def apply_corrections(done: CorrectedCatalog, options: Options) -> None:
    """Print the changes."""
    output = options["output"]
    counts = done.changes["correction_action"].value_counts().to_dict()
    result = {"output": str(output) if output else None, "n_images": len(done.catalog), "n_kept": done.n_kept}
    result |= {"n_relabelled": counts.get("relabel", 0), "n_deleted": counts.get("delete", 0)}
    if options["json"]:
        print_json(result)
        return
    if len(done.changes):
        columns = {"correction_action": "action", "correction_label": "new_label", "correction_reason": "reason"}
        print_table(done.changes[["object_id", "label", *columns]].rename(columns=columns))
    described = f"{result['n_relabelled']} relabelled, {result['n_deleted']} left out"
    described += ", undone" if options["undo"] else f", {done.n_kept} kept"
    print(f"{described}; {len(done.catalog)} images {f'-> {output}' if output else '(not written: give --output)'}")


def report(written: Path, options: Options) -> None:
    """Print where the page is, and its size."""
    megabytes = round(written.stat().st_size / 1e6, 1)
    if options["json"]:
        print_json({"output": str(written), "megabytes": megabytes})
    else:
        print(f"page of {megabytes} MB -> {written}")


def review(done: Review, options: Options) -> None:
    """Print how many decisions there are, and the commands that take them."""
    if options["json"]:
        print_json(done.to_dict())
        return
    print(f"{done.n_decisions} decisions -> {done.journal}")
    if done.next_steps:
        print("to use them:")
        print("\n".join(done.next_steps))


def next(chosen: pd.DataFrame, options: Options) -> None:
    """Print the first images to label."""
    output = options["output"]
    if options["json"]:
        print_json({"output": str(output) if output else None, "images": chosen.to_dict("records")})
        return
    print_table(chosen.head(20))
    print(f"{len(chosen)} images to label {f'-> {output}' if output else '(not written: give --output)'}")


def shift(found: Shift, options: Options) -> None:
    """Print the verdict on every sample."""
    if not options["json"]:
        columns = ["sample_id", "n_images", "verdict", "vectors_effect", "appearance_effect", "refused"]
        shown = found.samples[[*columns, "expected_accuracy"]].head(21)
        print_table(shown.fillna({"sample_id": "(all images)"}))
        print_table(found.classes[found.classes["sample_id"].isna()].drop(columns="sample_id").head(10))
    _print_summary(options)


def abundance(found: Abundance, options: Options) -> None:
    """Print the samples, and the totals of the classes."""
    if not options["json"]:
        print_table(found.samples.head(20).rename(columns=UNITS))
        print_table(found.totals.head(20).reset_index().rename(columns=UNITS))
    _print_summary(options)


def export(counts: Any, options: Options) -> None:
    """Print how many predictions were written."""
    values, output = counts.to_dict(), options["output"]
    if options["json"]:
        print_json({"output": str(output), **values})
    else:
        words = {"n_validated": "validated by a person", "n_unknown": "unknown", "n_unnamed": "without a prediction"}
        parts = [f"{n} {words.get(name, name.removeprefix('n_'))}" for name, n in values.items() if n]
        print(f"{', '.join(parts)} -> {output}")


def doctor(found: Diagnosis, options: Options) -> None:
    """Print the versions and other facts, and the problems."""
    if options["json"]:
        print_json(found.to_dict())
        return
    for name, value in found.facts.items():
        print(f"{name:26}{value}")
    print("\n".join(["", *found.problems]) if found.problems else "no problems found")


def models(found: pd.DataFrame, options: Options) -> None:
    """Print the models that come with the package, one on each line."""
    if options["json"]:
        print_json({"models": found.to_dict("records")})
    elif len(found):
        print_table(found)
    else:
        print("no model comes with this installation")


def _print_scores(methods: Mapping[str, Mapping[str, Any]]) -> None:
    head = f"{'method':10}{'accuracy':>22}{'balanced':>10}{'macro F1':>10}{'weighted F1':>13}"
    print(head + f"{'ECE':>8}" * any("calibration" in s for s in methods.values()))
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
            print(
                f"{title:10}{row['accuracy']:8.3f} {interval:>13}{row['balanced_accuracy']:9.3f}"
                f"{row['f1_macro']:10.3f}{row['f1_weighted']:13.3f}"
                + (f"{row['calibration']['ece']:8.3f}" if "calibration" in row else "")
            )
        if len(rows) > 1:
            notes[f"shared: the {rows['  shared']['n_images']} images whose label is in the reference"] = None
    for note in notes:
        print(note)


def _print_missing(missing: Sequence[Mapping[str, Any]]) -> None:
    """Print the labels that are not in the reference, the most frequent first."""
    if not missing:
        return
    import pandas as pd

    n, share = sum(row["n_images"] for row in missing), sum(row["share"] for row in missing)
    more = f"; the first {N_MISSING} (--json prints all)" if len(missing) > N_MISSING else ""
    print(f"\n{len(missing)} labels are not in the reference ({n} images, {share:.1%}){more}:")
    print_table(
        pd.DataFrame(missing).head(N_MISSING).assign(share=[f"{row['share']:.1%}" for row in missing][:N_MISSING])
    )


def _print_retrieval(retrieval: Mapping[str, float], of: str, self_centroid: float) -> None:
    shown = {"map_at_r": "MAP@R"} | {name: name.replace("_at_", "@") for name in retrieval if name.startswith("recall")}
    parts = [f"{shown[name]} {value:.3f}" for name, value in retrieval.items()]
    if parts:
        print(f"retrieval ({of}): {', '.join(parts)}")
    print(f"self-centroid accuracy {self_centroid:.3f} (too high: measured on the vectors that made the centroids)")


def _print_rejection(evaluation: Evaluation) -> None:
    if evaluation.counts is not None:
        n_images, n_scored = len(evaluation.names), evaluation.scores_dict()["n_images"]
        which = " whose label is in the reference" if n_scored < n_images else ""
        print(
            f"rejected as unknown: {evaluation.counts['refused'].sum()} of {n_images} images; "
            f"the scores above are without rejection, of the {n_scored} images{which}"
        )
    scores = evaluation.open_set
    if scores is not None:
        print(
            f"unseen classes: AUROC {scores.auroc:.3f} ({scores.n_known} images of known classes, {scores.n_unseen} of "
            "unseen classes); a threshold that rejects 5 % of the images of known classes rejects "
            f"{100 * scores.refused_at_5:.1f} % of the images of unseen classes; the thresholds in use reject "
            f"{100 * scores.known_refused:.1f} % and {100 * scores.unseen_refused:.1f} %"
        )


def _print_summary(options: Options) -> None:
    """Print the summary of an analysis, and its folder."""
    output = Path(options["output"])
    summary = json_module.loads((output / "summary.json").read_text(encoding="utf-8"))
    if options["json"]:
        print_json({"output": str(output), **summary})
        return
    lists = [
        name for name, value in summary.items() if isinstance(value, list) and value and isinstance(value[0], dict)
    ]
    lines = [f"{name:26}{_to_text(value)}" for name, value in summary.items() if name not in lists]
    print("\n".join(lines))
    print(f"tables and figures -> {output}")


def _to_text(value: Any) -> str:
    """Return a value of a summary: numbers with four digits; `-` is an empty one."""
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_to_text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_to_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_frame(frame: pd.DataFrame, json: bool) -> None:
    """Print a table, or its rows as JSON."""
    if json:
        print_json(frame.to_dict("records"))
    else:
        print_table(frame)


def print_table(frame: pd.DataFrame) -> None:
    """Print a table; `-` is an empty cell."""
    shown = frame.astype(object).where(frame.notna(), "-")
    print(shown.to_string(index=False, float_format="{:.3f}".format) + "\n")


def print_json(values: Any) -> None:
    """Print values as JSON."""
    from plankton_embed.output import to_json

    print(to_json(values))
