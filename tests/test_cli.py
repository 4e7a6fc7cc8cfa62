"""Commands: exit codes, JSON on stdout, messages on stderr."""

import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import plankton_embed as pe
from plankton_embed import __version__, cli
from plankton_embed.cli import app
from plankton_embed.images.drawn import draw_set
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.plots.sheet import Sheet
from plankton_embed.table import EmbeddingTable

QUICK = """\
preparation: {target_size: 32}
network: {trunk: shufflenet_v2_x0_5, frozen: false, dimension: 16}
training: {epochs: 2, images_per_class: 16, classes_per_batch: 2, batch_images_per_class: 2}
"""


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    return draw_set(tmp_path_factory.mktemp("drawn"), n_per_class=10, classes=("copepod", "medusa", "fish_egg"))


@pytest.fixture(scope="session")
def quick(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "quick.yaml"
    path.write_text(QUICK)
    return path


@pytest.fixture(scope="session")
def run_folder(images, quick, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = call("run", images, "-o", folder, "--settings", quick, "--seed", 3)
    assert done.exit_code == 0, done.output
    assert "figures" in done.stdout and "faults" not in done.stdout
    return folder


def test_version():
    assert call("--version").stdout.strip() == f"plankton-embed {__version__}"


def test_from_catalog_to_predictions(images, run_folder, tmp_path):
    gathered = call("catalog", images, "-o", tmp_path / "c.csv", "--split", ".6,.2,.2", "--seed", 1)
    assert "30 images, 3 classes, 18 train, 6 val, 6 test -> " in gathered.stdout
    assert set(pd.read_csv(tmp_path / "c.csv")["split"]) == {"train", "val", "test"}

    embedded = call("embed", run_folder, images, "-o", tmp_path / "v.parquet", "--json")
    assert json.loads(embedded.stdout)["n_images"] == 30

    indexed = call("index", tmp_path / "v.parquet", "-o", tmp_path / "index", "--json")
    assert json.loads(indexed.stdout)["n_vectors"] == 30

    image = sorted(images.glob("copepod/*.png"))[0]
    found = json.loads(call("search", tmp_path / "index", image, "--model", run_folder, "-n", 3, "--json").stdout)
    assert [row["rank"] for row in found] == [1, 2, 3]
    assert found[0]["object_id"] == f"copepod/{image.name}"

    predicted = call("classify", run_folder, images, "-m", "knn", "-k", 5, "-o", tmp_path / "predictions.csv", "--json")
    assert sum(row["count"] for row in json.loads(predicted.stdout)["counts"]) == 30

    scored = call("evaluate", run_folder, run_folder, "-o", tmp_path / "scores", "--json")
    assert json.loads(scored.stdout)["n_images"] == json.loads((run_folder / "scores.json").read_text())["n_images"]
    assert (tmp_path / "scores" / "confusion.png").exists()


def test_views_of_a_run_go_with_its_model(images, quick, tmp_path, monkeypatch):
    monkeypatch.setattr("plankton_embed.workflows.run_steps.save_figure", lambda *_: None)
    monkeypatch.setattr("plankton_embed.workflows.result_folder.save_figure", lambda *_: None)
    settings = ("--settings", quick, "--set", "training.epochs=1", "--set", "embedding.views=4")
    done = call("train", images, "-o", tmp_path / "run", *settings)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["views"] == 4
    assert call("embed", tmp_path / "run", images, "-o", tmp_path / "v.parquet").exit_code == 0
    table = EmbeddingTable.load(tmp_path / "v.parquet")
    model = EmbeddingModel.load(tmp_path / "run", "cpu")
    np.testing.assert_allclose(table.vectors, model.embed(list(table.path), views=4), atol=1e-5)


def test_an_evaluation_prints_what_it_could_not_score(vectors, tmp_path):
    done = call("evaluate", vectors / "train.parquet", vectors / "test.parquet", "-m", "knn")
    assert done.exit_code == 0, done.output
    assert "1 labels are not in the reference (20 images, 20.0%):" in done.stdout
    assert "shared: the 80 images whose label is in the reference" in done.stdout
    assert "retrieval (queries: test.parquet, gallery: train.parquet): recall@1" in done.stdout
    assert "no interval" not in done.stdout
    few = EmbeddingTable.load(vectors / "test.parquet").select(np.arange(0, 75, 5))
    few.save(tmp_path / "few.parquet")
    done = call("evaluate", vectors / "train.parquet", tmp_path / "few.parquet")
    assert "(no interval)" in done.stdout and "no interval: 15 images; expected at least 20" in done.stdout
    assert "not in the reference" not in done.stdout


def test_a_quiet_command_prints_nothing_but_what_is_written_nowhere_and_json(vectors, run_folder, tmp_path):
    train, test = vectors / "train.parquet", vectors / "test.parquet"
    done = call("run", images_of(run_folder), "-o", run_folder, "-q", "--device", "cpu")
    assert (done.exit_code, done.output) == (0, "")
    # with probabilities there is a warning: some of the images are of a class that train lacks
    done = call("classify", train, test, "-o", tmp_path / "predictions.csv", "-q", "--no-probabilities")
    assert (done.exit_code, done.output) == (0, "") and len(pd.read_csv(tmp_path / "predictions.csv")) == 100
    assert json.loads(call("pca", train, "-o", tmp_path / "pca", "-q", "--json").stdout)["output"]
    assert call("evaluate", train, test, "-o", tmp_path / "scores", "-q").stdout == ""  # a warning: a class is missing
    assert "accuracy" in call("evaluate", train, test, "-q").stdout
    failed = call("pca", train, "-o", tmp_path / "pca", "-q")
    assert (failed.exit_code, failed.stdout) == (1, "") and "exists already" in failed.stderr


def images_of(run_folder):
    return os.path.commonpath(EmbeddingTable.load(run_folder / "vectors" / "train.parquet").path.tolist())


def test_a_run_resumes_with_its_own_settings_unless_others_are_given(run_folder):
    source = images_of(run_folder)
    done = call("run", source, "-o", run_folder, "--device", "cpu")
    assert done.exit_code == 0 and "training.epochs was 2, is 50" in done.stderr
    for option, differs in ((("--preset", "cpu"), "network.trunk was"), (("--seed", "4"), "seed was 3, is 4")):
        done = call("run", source, "-o", run_folder, "--device", "cpu", *option)
        assert done.exit_code == 2 and differs in done.stderr


def test_an_empty_cell_is_shown_as_such(vectors, tmp_path):
    table = EmbeddingTable.load(vectors / "train.parquet")
    replace(table, label=[None, *table.label[1:]]).save(tmp_path / "v.parquet")
    shown = call("dendrogram", tmp_path / "v.parquet", "-o", tmp_path / "tree", "--leaves", 160).stdout
    assert not re.search(r"\b(nan|NaN|None|<NA>)\b", shown)
    assert table.object_id[0] in shown  # of a leaf with one image
    assert re.search(r"^cophenetic_correlation +0\.\d{1,4}$", shown, re.MULTILINE)


def test_the_preview_of_a_catalog_is_as_the_preset_prepares(images, tmp_path, monkeypatch):
    sides = []
    monkeypatch.setattr(
        "plankton_embed.workflows.contact_sheets.preview_sheet",
        lambda catalog, settings, seed: sides.append(settings.target_size) or Sheet("preview", []),
    )
    for number, options in enumerate(
        ([], ["--preset", "gpu"], ["--preset", "quick", "--set", "preparation.target_size=80"])
    ):
        done = call("catalog", images, "-o", tmp_path / f"{number}.csv", "--preview", *options)
        assert done.exit_code == 0, done.output
    assert sides == [96, 299, 80]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("outcome\nlost\nkept\nkept\n", "faults       1 lost (rows, images, files), 2 kept -> "),
        ("object_id,path,reason\na,a.png,empty\n", "faults       1 lost (rows, images, files), 0 kept -> "),  # of old
    ],
)
def test_a_run_reports_faults_that_lost_something_apart_from_others(run_folder, tmp_path, rows, expected):
    images, folder = images_of(run_folder), shutil.copytree(run_folder, tmp_path / "run")
    (folder / "faults.csv").write_text(rows)
    assert expected in call("run", images, "-o", folder, "--device", "cpu").stdout
    counts = json.loads(call("run", images, "-o", folder, "--device", "cpu", "--json").stdout)
    assert (counts["n_lost"], counts["n_kept"]) == (1, rows.count("kept"))


def test_three_views_are_one_message_and_exit_2(images, run_folder, tmp_path):
    check_fault(
        2, ["embed", str(run_folder), "{images}", "-o", str(tmp_path / "v.csv"), "--views", "3"], "views", images
    )
    assert not (tmp_path / "v.csv").exists()


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """Files of vectors of an unknown model: train, val and test of four classes, and examples of a fifth."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("vectors")
    for name, n_each, classes in (
        ("train", 40, range(4)),
        ("val", 25, range(4)),
        ("test", 20, range(5)),
        ("new", 20, [4]),
    ):
        codes = np.repeat(classes, n_each)
        places = np.eye(5)[codes] * 4 + rng.normal(size=(len(codes), 5))
        ids = [f"{name}{row}" for row in range(len(codes))]
        EmbeddingTable(places, object_id=ids, label=np.array(list("abcde"))[codes]).save(folder / f"{name}.parquet")
    return folder


def test_unknown_images_are_rejected_scored_and_enrolled(vectors, tmp_path):
    train, test = vectors / "train.parquet", vectors / "test.parquet"
    done = call(
        "classify", train, test, "-m", "mlp", "--unknown-rate", 0.05, "-o", tmp_path / "predictions.csv", "--json"
    )
    assert done.exit_code == 0, done.output
    assert f"calibration: {vectors / 'val.parquet'}" in done.stderr
    counts = {row["label"]: row["count"] for row in json.loads(done.stdout)["counts"]}
    assert counts["unknown"] > 10
    assert sum(counts.values()) == 100

    done = call("evaluate", train, test, "-m", "knn", "--unseen", "d", "--refuse-by", "density")
    assert done.exit_code == 0, done.output
    assert "ECE" in done.stdout
    assert "the scores above are without rejection, of the 60 images whose label is in the reference" in done.stdout
    assert "60 images of known classes, 40 of unseen classes" in done.stdout  # e is not in the reference either
    (tmp_path / "unseen.txt").write_text("c\nd\n")
    done = call("evaluate", train, test, "-m", "knn", "--unseen", tmp_path / "unseen.txt")
    assert "40 images of known classes, 60 of unseen classes" in done.stdout
    check_fault(
        1,
        ["evaluate", str(train), str(test), "--unseen", ",".join(["a long name"] * 40)],
        "unseen: expected classes of the reference",
        "",
    )

    done = call("enroll", train, vectors / "new.parquet", "-o", tmp_path / "both.parquet", "--curve", "--draws", 2)
    assert done.exit_code == 0, done.output
    assert "180 vectors of 5 classes" in done.stdout
    assert (tmp_path / "both_curve" / "learning_curve.png").exists()
    check_fault(
        1, ["enroll", str(train), str(train), "-o", str(tmp_path / "x.csv")], "already, such as object_id train0", ""
    )
    both, names = str(tmp_path / "both.parquet"), str(tmp_path / "x.csv")
    arguments = ["classify", both, str(test), "-o", names, "--unknown-rate", "0.1"]
    check_fault(1, arguments, "refusing needs a calibration set", "")


def test_seen_and_unseen_in_one_command(images, quick, tmp_path, monkeypatch):
    monkeypatch.setattr("plankton_embed.workflows.run_steps.save_figure", lambda *_: None)
    monkeypatch.setattr("plankton_embed.workflows.result_folder.save_figure", lambda *_: None)
    settings = ("--settings", quick, "--set", "training.epochs=1", "--unknown-rate", 0.5, "--draws", 1)
    done = call("seen-unseen", images, "-o", tmp_path / "out", "--unseen", "copepod", *settings)
    assert done.exit_code == 0, done.output
    assert "1 unseen classes: copepod" in done.stdout
    assert "AUROC" in done.stdout
    assert "new_only_mean" in done.stdout


def test_compare(images, quick, tmp_path, monkeypatch):
    from plankton_embed.workflows import compare as compare_module
    from plankton_embed.workflows import compare_trial

    monkeypatch.setattr(compare_module, "_measure_apart", compare_trial.measure_system)  # in this process
    options = ("--only", "pixel_mlp", "--budget", 0.02, "--settings", quick)
    done = call("compare", images, "-o", tmp_path / "out", *options, "--seeds", 2)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].split()[:3] == ["pixel_mlp", "scratch", "2"]
    again = call("compare", images, "-o", tmp_path / "out", *options, "--json")
    assert json.loads(again.stdout)["systems"][0]["n_seeds"] == 2  # nothing was measured anew
    refused = call("compare", images, "-o", tmp_path / "out", "--weights", "resnet18")
    assert refused.exit_code == 2
    assert "--weights: expected NAME=VALUE; found 'resnet18'" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere", "-o", "out"], "nowhere does not exist"),
        (["train", "nowhere.csv", "-o", "out"], "nowhere.csv does not exist"),
        (["train", "{images}", "-o", "out", "--resume"], "contains no run to resume"),
        (["run", "{images}", "-o", "out", "--group-by", "cruise"], "no column cruise"),
        (["run", "{images}", "-o", "{images}/out"], "is inside"),
        (["run", "{images}", "-o", "out", "--set", "network.size_inputs=micrometres"], "a column pixel_size"),
        (["embed", "model", "{images}", "-o", "vectors.txt"], "expected a name that ends in .parquet"),
        (["embed", "nowhere/at/all", "{images}", "-o", "v.parquet"], "is not a model"),
        (["index", "nowhere.parquet", "-o", "index"], "do not exist"),
        (["classify", "nowhere.parquet", "nowhere.parquet", "-o", "n.csv"], "do not exist"),
    ],
)
def test_a_fault_is_one_message_and_exit_1(arguments, message, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_fault(1, arguments, message, images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "{images}", "-o", "out", "--set", "training.epoch=3"], "did you mean training.epochs?"),
        (["run", "{images}", "-o", "out", "--set", "training.epochs=0"], "training.epochs"),
        (["run", "{images}", "-o", "out", "--set", "training.epochs"], "expected NAME=VALUE"),
        (["run", "{images}", "-o", "out", "--set", "network.trunk=resnet19"], "resnet19"),
        (["run", "{images}", "-o", "out", "--device", "gpu7"], "gpu7"),
        (["run", "{images}", "-o", "out", "--set", "embedding.views=3"], "embedding.views"),
        (["run", "{images}", "-o", "out", "--set", "network.output=sigmoid"], "go together"),
        (["train", "{images}", "-o", "out", "--set", "training.angular_margin=0.3"], "does not use it"),
        (["train", "{images}", "-o", "out", "--set", "training.memory=5"], "at least a batch"),
        (["train", "{images}", "-o", "out", "--set", "training.objective=center"], "'reference_2019'; found 'center'"),
        (["train", "{images}", "-o", "out", "--resume", "--overwrite"], "use only one of them"),
        (["catalog", "{images}", "-o", "c.csv", "--split", ".5,.5"], "split.fractions"),
        (["catalog", "{images}", "-o", "c.csv", "--split", "half"], "expected three numbers"),
        (["catalog", "{images}", "-o", "c.csv", "--split", ".6,.2,.2", "--drop-duplicates"], "drop_duplicates"),
        (["catalog", "{images}", "-o", "c.csv", "--exclude", "whale"], "whale"),
        (["catalog", "{images}", "-o", "c.csv", "--group-by", "sample_id"], "--fractions"),
        (["catalog", "{images}", "-o", "c.csv", "--set", "training.epochs=2"], "preparation settings only"),
        (["catalog", "{images}", "-o", "c.csv", "--preset", "gpu"], "--preview only"),
        (["classify", "a.parquet", "b.parquet", "-o", "n.csv", "-k", "5"], "--method knn"),
    ],
)
def test_a_wrong_setting_is_one_message_and_exit_2(arguments, message, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_fault(2, arguments, message, images)


def check_fault(code, arguments, message, images):
    done = call(*[a.format(images=images) for a in arguments])
    assert done.exit_code == code
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments", [["run"], ["fly"], ["index", "v", "-o", "i", "--kind", "tree"], ["run", "--sed", "1"]]
)
def test_wrong_usage_is_exit_2(arguments):
    assert call(*arguments).exit_code == 2


@pytest.mark.parametrize("arguments", [["--only", "pixels", "--only", "random"], ["-o", "a", "--output", "b"]])
def test_an_option_given_twice_is_refused(arguments):
    done = call("compare", "catalog.csv", "-o", "runs", *arguments)
    assert done.exit_code == 2
    assert "times; give it once" in done.stderr


def test_a_repeatable_option_and_a_flag_may_stand_twice():
    twice = ["--set", "training.epochs=2", "--set", "training.epoch=3", "--json", "--json"]
    done = call("train", "catalog.csv", "-o", "runs", *twice)
    assert done.exit_code == 2
    assert "did you mean training.epochs?" in done.stderr


def test_a_table_is_not_overwritten_without_the_option(run_folder, images, tmp_path):
    target = tmp_path / "v.csv"
    target.write_text("mine")
    assert call("embed", run_folder, images, "-o", target).exit_code == 1
    assert target.read_text() == "mine"
    assert call("embed", run_folder, images, "-o", target, "--overwrite").exit_code == 0
    assert target.read_text().startswith("object_id")


def test_ctrl_c_is_exit_130_and_the_way_on_is_said(images, quick, tmp_path):
    # a job in the background of a shell ignores Ctrl-C; this one does not
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from plankton_embed.cli import main; main()"
    command = [sys.executable, "-c", code, "run", str(images), "-o", str(tmp_path / "run")]
    command += ["--settings", str(quick), "--set", "training.epochs=500"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ) as process:
        for _ in range(600):
            if list((tmp_path / "run" / "checkpoints").glob("state-*.pt")):
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"resumes from the last state" in stderr
    assert b"Traceback" not in stderr
    states = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("state-*"))
    assert 1 <= len(states) <= 3  # the two that are kept, and one that Ctrl-C left no time to drop
    assert states[-1].endswith("-0000000.pt")
    assert not (tmp_path / "run" / "model").exists()


def test_the_space_is_explored(run_folder, tmp_path):
    tree = call("dendrogram", run_folder, "-o", tmp_path / "tree", "--leaves", 5, "--branches", 3, "--json")
    assert (json.loads(tree.stdout)["n_leaves"], json.loads(tree.stdout)["n_branches"]) == (5, 3)
    groups = call("clusters", run_folder, "-o", tmp_path / "groups", "--groups", 4, "--reference", run_folder, "--json")
    assert json.loads(groups.stdout)["n_groups"] == 4
    assert "nearest_class" in pd.read_csv(tmp_path / "groups" / "cluster_names.csv")
    related = call("relations", run_folder, "-o", tmp_path / "related", "--epsilon", 0.3, "--shuffles", 2, "--json")
    assert json.loads(related.stdout)["epsilon"] == 0.3
    done = call("relations", run_folder, "--query", "copepod", "medusa", "fish_egg", "-k", 2, "--json")
    assert len(json.loads(done.stdout)["images"]) == 2
    doubted = call("suspects", run_folder, "-o", tmp_path / "doubted", "--folds", 0, "--corrections", 3)
    assert "apply-corrections" in doubted.stdout
    assert "why_no_groups             8 classes of at least 20" in doubted.stdout
    corrections = pd.read_csv(tmp_path / "doubted" / "corrections.csv").assign(action=["relabel", "delete", "keep"])
    corrections.to_csv(tmp_path / "doubted" / "corrections.csv", index=False)
    catalog, path = run_folder / "catalog.csv", tmp_path / "doubted" / "corrections.csv"
    dry = call("apply-corrections", catalog, path)
    assert "1 relabelled, 1 left out, 1 kept;" in dry.stdout
    assert re.search(r"object_id +label +action +new_label +reason", dry.stdout)
    assert "not written: give --output" in dry.stdout
    done = json.loads(call("apply-corrections", catalog, path, "-o", tmp_path / "c2.csv", "--json").stdout)
    assert (done["n_relabelled"], done["n_deleted"], done["n_images"]) == (1, 1, len(pd.read_csv(catalog)) - 1)
    undone = call(
        "apply-corrections", tmp_path / "c2.csv", tmp_path / "c2_changes.csv", "--undo", "-o", tmp_path / "c3.csv"
    )
    assert undone.exit_code == 0
    assert pd.read_csv(tmp_path / "c3.csv").equals(pd.read_csv(catalog))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["relations", "RUN"], "Missing option '--output'"),
        (["analogy", "RUN", "copepod", "medusa", "whale"], "whale is neither"),
        (["relations", "RUN", "--query", "copepod", "medusa", "whale"], "whale is neither"),
        (["relations", "RUN", "-o", "OUT", "-k", "3"], "No such option: -k"),
        (["analogy", "RUN", "copepod", "medusa", "fish_egg", "--epsilon", "9"], "No such option: --epsilon"),
        (["dendrogram", "RUN", "-o", "OUT", "--leaves", "1"], "leaves: expected at least 2"),
        (["dendrogram", "RUN", "-o", "OUT", "--of", "classes", "--leaves", "1"], "leaves: expected at least 2"),
        (["suspects", "RUN", "-o", "OUT", "--corrections", "-3"], "corrections: expected 0 rows or more"),
        (["enroll", "RUN", "RUN/vectors/test.parquet", "-o", "OUT.csv", "--seed", "5"], "for the learning curve"),
        (["clusters", "RUN", "-o", "OUT", "--min-size", "5"], "hdbscan"),
        (["suspects", "RUN", "-o", "OUT", "--folds", "1"], "folds"),
        (["pca", "RUN", "-o", "OUT", "--device", "cpu"], "No such option: --device"),
        (["film", "RUN", "-o", "OUT.gif", "--components", "2"], "No such option: --components"),
    ],
)
def test_explorations_that_cannot_be_made(run_folder, tmp_path, arguments, message):
    places = {"RUN": str(run_folder), "OUT": str(tmp_path / "out")}
    done = call(*(word.replace("RUN", places["RUN"]).replace("OUT", places["OUT"]) for word in arguments))
    assert done.exit_code in (1, 2)
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_threads_of_a_command_do_not_wait_in_a_loop(monkeypatch, given):
    monkeypatch.setattr(cli, "app", lambda **_: None)
    with mock.patch.dict(os.environ, {} if given is None else {"OMP_WAIT_POLICY": given}):
        cli.main()
        assert os.environ["OMP_WAIT_POLICY"] == (given or "PASSIVE")


@pytest.mark.parametrize("is_found", [True, False])
def test_a_command_is_imported_without_garbage_collection_and_runs_with_it(monkeypatch, is_found):
    collects = []

    def load(name):
        collects.append(gc.isenabled())
        return {"classify": lambda: collects.append(gc.isenabled())}[name]

    monkeypatch.delattr(pe, "classify", raising=False)
    monkeypatch.setattr(pe, "__getattr__", load)
    with nullcontext() if is_found else pytest.raises(KeyError):
        cli._import("classify" if is_found else "missing")()
    assert collects == ([False, True] if is_found else [False])
    assert gc.isenabled()
