"""`compare`: what is measured, gathered, gone on with, reported and refused."""

import json
import os
import shutil
import stat
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import plankton_embed
from plankton_embed.baselines import growing
from plankton_embed.baselines.fine_tuned import FineTunedNet
from plankton_embed.baselines.systems import SYSTEMS
from plankton_embed.errors import DependencyError, InputError, OutputError, PlanktonEmbedError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.plots.figure import save_figure
from plankton_embed.settings import Settings, TrainingSettings
from plankton_embed.workflows import compare as compare_module
from plankton_embed.workflows import compare_trial, run_steps
from plankton_embed.workflows import run as run_module
from plankton_embed.workflows.compare import MEASURED, compare

CLASSES = ["egg|round", "NA", "Méduse", "salp"]
SETTINGS = {
    "preparation.target_size": 32,
    "network.dimension": 8,
    "training.epochs": 1,
    "training.images_per_class": 4,
    "training.classes_per_batch": 4,
    "training.batch_images_per_class": 2,
    "training.validation_images_per_class": 2,
    "training.precision": "float32",
}
BUDGET = 0.005  # minutes
QUIET = {"device": "cpu", "progress": False, "settings": SETTINGS}


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Pictures of four classes, each of another grey, with two features; divided 25, 2 and 5 a class."""
    place, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    labels = np.tile(CLASSES, 32)
    for number in range(128):
        pixels = rng.normal(50 + 50 * (number % 4), 12, (18, 24)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    rows = {
        "path": [f"{number}.png" for number in range(128)],
        "label": labels,
        "split": np.repeat(["train", "val", "test"], [100, 8, 20]),
        "feature_area": rng.normal(np.arange(128) % 4, 0.1),
        "feature_seconds": rng.normal(size=128),
    }
    return ImageCatalog.from_rows(rows, root=place)


@pytest.fixture
def in_process(monkeypatch):
    """Measure in this process, without the figures of systems; return the list of the trials."""
    trials = []

    def measure(trial):
        trials.append(f"{trial.name} {trial.seed}")
        trial.fault.unlink(missing_ok=True)
        try:
            compare_trial.measure_system(trial)
        except PlanktonEmbedError as error:
            trial.note_fault(str(error))

    monkeypatch.setattr(compare_module, "_measure_apart", measure)
    monkeypatch.setattr(run_steps, "draw_catalog", lambda *_: None)
    monkeypatch.setattr(run_steps, "evaluate_step", lambda *_: {})
    monkeypatch.setattr(run_module, "evaluate_step", lambda *_: {})
    monkeypatch.setattr(compare_module, "save_figure", partial(save_figure, dpi=20))
    for name in ("save_figure", "draw_confusion", "draw_sheet", "draw_net_curves"):
        monkeypatch.setattr(compare_trial, name, lambda *_, **__: None)
    return trials


@pytest.fixture
def do(images, tmp_path):
    """Return a function that compares the images in a folder of the test."""

    def do(only=("boosted_trees",), source=images, output=None, **options):
        return compare(source, output or tmp_path / "out", only=only, **{**QUIET, **options})

    return do


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def doubted_splits(folder):
    """Return the splits of the images that stand in the tables of highest losses."""
    splits = pd.read_csv(folder / "catalog.csv").set_index("object_id")["split"]
    return {split for path in folder.rglob("highest_losses.csv") for split in splits[pd.read_csv(path)["object_id"]]}


def rows_of(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")] for line in lines]


# --- in processes of their own


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    """Two systems and two seeds, the first measured as a user would have it, in processes of their own."""
    folder = tmp_path_factory.mktemp("comparisons") / "out"
    options = {"only": ["pixel_mlp", "boosted_trees"], "budget": BUDGET, **QUIET}
    compare(images, folder, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_module, "_measure_apart", compare_trial.measure_system)
        return compare(images, folder, seeds=2, **options), folder


def test_the_tables_hold_the_means_and_spreads_of_the_runs(finished):
    found, folder = finished
    assert not found.faults
    runs, table = (
        pd.read_csv(folder / name, keep_default_na=False, na_values=[""]) for name in ("runs.csv", "comparison.csv")
    )
    assert sorted(zip(runs["name"], runs["seed"], strict=True)) == [
        ("boosted_trees", 0), ("boosted_trees", 1), ("pixel_mlp", 0), ("pixel_mlp", 1)
    ]  # fmt: skip
    for row in table.to_dict("records"):
        own = runs[runs["name"] == row["name"]]
        first, second = own.to_dict("records")
        assert (row["origin"], row["start"], row["n_seeds"]) == (first["origin"], "scratch", 2)
        for name in MEASURED:
            assert row[name] == pytest.approx((first[name] + second[name]) / 2)
            assert row[f"{name}_sd"] == pytest.approx(abs(first[name] - second[name]) / 2**0.5)
    assert table["f1_macro"].is_monotonic_decreasing
    pd.testing.assert_frame_equal(found.summary, table, check_dtype=False)
    runs = runs.set_index(["name", "seed"])
    for seed in (0, 1):
        names = pd.read_csv(folder / f"systems/pixel_mlp/seed_{seed}/predictions.csv", keep_default_na=False)
        right = names["label"] == names["true_label"]
        assert len(names) == 20 and runs.loc[("pixel_mlp", seed), "accuracy"] == right.mean()
    assert (runs.loc["boosted_trees", "f1_macro"] == 1).all()  # by the areas


def test_every_two_classifiers_of_a_seed_are_tested(finished):
    found, folder = finished
    tests = pd.read_csv(folder / "mcnemar.csv")
    pd.testing.assert_frame_equal(tests, found.tests, check_dtype=False)
    assert tests["seed"].tolist() == [0, 1] and (tests["p_holm"] == tests["p"]).all()  # one pair a seed
    for row in tests.to_dict("records"):
        right = []
        for name in (row["name"], row["other"]):
            path = folder / f"systems/{name}/seed_{row['seed']}/predictions.csv"
            names = pd.read_csv(path, keep_default_na=False).set_index("object_id").sort_index()
            right.append(names["label"] == names["true_label"])
        assert row["only_name_right"] == (right[0] & ~right[1]).sum()
        assert row["only_other_right"] == (right[1] & ~right[0]).sum()
        line = f"- {row['name']} and {row['other']}, seed {row['seed']}: {row['only_name_right']} and"
        assert line in (folder / "comparison.md").read_text()


def test_starts_that_may_have_seen_the_test_images_are_noted(finished):
    found, _ = finished
    assert "starting weights" not in found.to_markdown()
    runs = found.runs.assign(
        n_seen=pd.array([None if name == "pixel_mlp" else 3 for name in found.runs["name"]], "Int64")
    )
    text = replace(found, runs=runs).to_markdown()
    assert "\npixel_mlp: it is not known which images its starting weights were trained on; if test images" in text
    assert text.count("its starting weights were trained on 3 of the test images, so its scores are too high.") == 1


def test_markdown_and_figure(finished):
    found, folder = finished
    text = (folder / "comparison.md").read_text()
    assert text == found.to_markdown()
    titles, line, *rows = rows_of(text)
    assert len(rows) == 2 and {len(row) for row in (titles, line, *rows)} == {4 + len(MEASURED) + 1}
    first = dict(zip(titles, rows[0], strict=True))
    best = found.summary.iloc[0]
    assert first["macro F1"] == f"{best['f1_macro']:.3f} ({best['f1_macro_sd']:.3f})"
    assert first["worst class"] == best["worst_class"].replace("|", "¦") and first["seeds"] == "2"
    with Image.open(folder / "comparison.png") as picture:
        assert min(picture.size) > 200


def test_every_process_reports_its_own_memory(finished):
    found, _ = finished
    memory = found.runs[found.runs["seed"] == 0].set_index("name")["peak_memory_mb"]
    assert memory.between(100, 3000).all()  # MB; PyTorch alone is some hundreds
    assert memory["boosted_trees"] < 600  # this process, where PyTorch is loaded, has more
    assert memory["pixel_mlp"] > memory["boosted_trees"]


def test_what_is_measured_is_not_measured_again(finished, images, in_process, tmp_path):
    found, folder = finished
    folder = shutil.copytree(folder, tmp_path / "out", copy_function=shutil.copy2)
    before = snapshot(folder / "systems")
    again = compare(images, folder, only=["boosted_trees"], budget=BUDGET, **QUIET)
    assert in_process == [] and snapshot(folder / "systems") == before
    pd.testing.assert_frame_equal(again.runs, found.runs)  # all that was measured, not what was asked for alone

    (folder / "systems/boosted_trees/seed_1/measures.json").unlink()  # stopped there
    compare(images, folder, only=["boosted_trees", "pixel_mlp_60_40"], seeds=3, budget=BUDGET, **QUIET)
    assert in_process == [
        "pixel_mlp_60_40 0", "boosted_trees 1", "pixel_mlp_60_40 1", "boosted_trees 2", "pixel_mlp_60_40 2"
    ]  # fmt: skip
    table = pd.read_csv(folder / "comparison.csv").set_index("name")
    assert table["n_seeds"].to_dict() == {"boosted_trees": 3, "pixel_mlp": 2, "pixel_mlp_60_40": 3}
    after = snapshot(folder / "systems")
    assert all(after[path] == time for path, time in before.items() if "boosted_trees/seed_1" not in str(path))

    in_process.clear()
    anew = compare(images, folder, only=["boosted_trees"], overwrite=True, **QUIET)
    assert in_process == ["boosted_trees 0"] and anew.runs["name"].tolist() == ["boosted_trees"]
    assert [path.name for path in (folder / "systems").iterdir()] == ["boosted_trees"]


def write_child(folder, monkeypatch, words):
    """Let a shell script stand for Python."""
    script = folder / "child"
    script.write_text(f"#!/bin/sh\n{words}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(compare_module.sys, "executable", str(script))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_process_is_reported_with_its_code_and_the_others_stand(do, in_process, monkeypatch, tmp_path):
    inside = compare_module._measure_apart
    do(["boosted_trees"])
    monkeypatch.undo()
    write_child(tmp_path, monkeypatch, "kill -9 $$")
    found = do(["pixel_mlp", "boosted_trees"])
    assert found.faults == {"pixel_mlp, seed_0": "its process ended with code -9"}
    assert found.runs["name"].tolist() == ["boosted_trees"]
    monkeypatch.setattr(compare_module, "_measure_apart", inside)
    found = do(["pixel_mlp", "boosted_trees"], budget=None)
    assert found.faults == {} and len(found.runs) == 2
    assert "Not measured" not in (tmp_path / "out" / "comparison.md").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="a script of POSIX")
def test_nothing_measured_is_an_error_that_says_why(do, in_process, monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(run_steps, "draw_catalog", lambda *_: None)
    write_child(tmp_path, monkeypatch, f'echo "$4 $5" >> {tmp_path}/asked; exit 3')
    with pytest.raises(PlanktonEmbedError, match="no system could be measured; boosted_trees, seed_0: its process"):
        do(["pixel_mlp", "boosted_trees"])
    assert (tmp_path / "asked").read_text().splitlines() == ["pixel_mlp 0", "boosted_trees 0"]  # after a fault, too


def test_a_fault_of_the_system_comes_back_from_its_process(do, in_process, monkeypatch, tmp_path):
    do(["boosted_trees"])
    monkeypatch.undo()
    (tmp_path / "other.pth").write_bytes(b"no weights")
    weights = {"resnet18": str(tmp_path / "other.pth")}
    found = do(["fine_tuned", "boosted_trees"], weights=weights)
    assert found.runs["name"].tolist() == ["boosted_trees"]
    ((name, fault),) = found.faults.items()
    assert name == "fine_tuned, seed_0"
    assert "other.pth cannot be read as weights" in fault
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert f"Not measured: {name}: {fault}" in text
    assert [len(row) for row in rows_of(text)] == [16] * 3


# --- gone on with, in this process


def test_weights_may_be_mended_until_they_are_measured(do, in_process, tmp_path, monkeypatch):
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    pixels, names = np.random.default_rng(0).integers(0, 256, (16, 32, 32), dtype=np.uint8), np.tile(["a", "b"], 8)
    net = FineTunedNet(weights="none", head_epochs=0, body_share=1.0, epochs=1, device="cpu").fit(pixels, names)
    net.save(tmp_path / "one")
    net.save(tmp_path / "two")
    systems = ["boosted_trees", "fine_tuned", "embedding_pretrained"]
    found = do(systems, budget=BUDGET, weights={"resnet18": str(tmp_path / "broken.pth")})
    assert set(found.faults) == {"fine_tuned, seed_0", "embedding_pretrained, seed_0"}
    assert not (tmp_path / "out/systems/embedding_pretrained/seed_0/run/settings.yaml").exists()

    monkeypatch.chdir(tmp_path)
    found = do(systems, budget=BUDGET, weights={"resnet18": "one"})
    assert found.faults == {}
    started = found.runs.set_index("system")["start"]
    assert set(started.drop("boosted_trees")) == {f"resnet18: {tmp_path / 'one'}"}
    assert started["boosted_trees"] == "scratch"
    settings = Settings.load(tmp_path / "out/systems/embedding_pretrained/seed_0/run/settings.yaml")
    assert settings.network.weights == str(tmp_path / "one")
    assert settings.training.pretrained_rate == pytest.approx(1 / 3)
    history = pd.read_csv(tmp_path / "out/systems/embedding_pretrained/seed_0/run/history.csv")
    assert history["learning_rate"].max() <= TrainingSettings().learning_rate / 3

    before = snapshot(tmp_path / "out")
    for weights in ({"resnet18": "two"}, {"resnet18": "imagenet"}):
        with pytest.raises(SettingError, match=r"other weights of resnet18 \(.*one\); choose another"):
            do(systems, budget=BUDGET, weights=weights)
    assert snapshot(tmp_path / "out") == before
    in_process.clear()
    again = do(systems, budget=BUDGET, weights={"vgg19": "two"})  # of a further trunk
    assert in_process == [] and len(again.runs) == len(found.runs)
    assert json.loads((tmp_path / "out/comparison.json").read_text())["weights"] == {
        "resnet18": str(tmp_path / "one"), "vgg19": str(tmp_path / "two")
    }  # fmt: skip


def test_the_default_weights_count_as_given(do, in_process, monkeypatch, tmp_path):
    build = partial(FineTunedNet, weights="none", head_epochs=0, body_share=1.0)
    monkeypatch.setitem(SYSTEMS, "fine_tuned", replace(SYSTEMS["fine_tuned"], build=lambda weights: build()))
    found = do(["fine_tuned"], budget=BUDGET)
    assert found.runs["start"].tolist() == ["resnet18: imagenet"]
    with pytest.raises(SettingError, match=r"other weights of resnet18 \(imagenet\)"):
        do(["fine_tuned"], budget=BUDGET, weights={"resnet18": str(tmp_path)}, seeds=2)


def test_a_trunk_of_timm_starts_from_the_hub(do, in_process, monkeypatch):
    timm = pytest.importorskip("timm")
    start = timm.create_model("test_vit").state_dict()
    fetched = mock.Mock(side_effect=lambda *_, **__: dict(start))
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fetched)
    settings = {**SETTINGS, "network.trunk": "timm:test_vit"}
    with pytest.raises(SettingError, match="imagenet is for trunks of torchvision; for timm:test_vit set hub"):
        do(["embedding_pretrained"], settings=settings, weights={"timm:test_vit": "imagenet"})
    found = do(["embedding_pretrained", "softmax_pretrained"], budget=BUDGET, settings=settings)
    assert fetched.call_count == 3  # that of the embedding also before its images are prepared
    assert set(found.runs["start"]) == {"timm:test_vit: hub"}
    assert {"embedding_pretrained_centroid", "softmax_pretrained"} <= set(found.runs["name"])
    with pytest.raises(SettingError, match=r"other weights of timm:test_vit \(hub\)"):
        do(["embedding_pretrained"], budget=BUDGET, settings=settings, weights={"timm:test_vit": "none"})


def test_a_frozen_trunk_is_refused(do):
    with pytest.raises(SettingError, match=r"network\.frozen: compare trains every network"):
        do(["embedding"], settings=Settings.build("instant"))


def test_softmax_has_the_trunk_the_recipe_and_the_budget_of_the_embedding(do, in_process, tmp_path, monkeypatch):
    from plankton_embed.baselines import softmax

    trained, train_model = [], softmax.train_model
    monkeypatch.setattr(
        softmax, "train_model", lambda model, *a, **o: trained.append(model) or train_model(model, *a, **o)
    )
    settings = {**SETTINGS, "seed": 5, "training.epochs": 2, "embedding.views": 2, "training.objective": "triplet"}
    found = do(["softmax", "embedding"], budget=2, settings=settings)
    assert found.faults == {}
    place = tmp_path / "out" / "systems"
    own, ours = (
        Settings.load(place / path / "settings.yaml") for path in ("softmax/seed_5/training", "embedding/seed_5/run")
    )
    assert own == ours and own.training.minutes == 2
    row = found.runs.set_index("name").loc["softmax"]
    assert (row["start"], row["seed"]) == ("scratch", 5)
    names = pd.read_csv(place / "softmax/seed_5/predictions.csv", keep_default_na=False)
    assert len(names) == 20 and names["probability"].between(0.25, 1).all()
    assert row["accuracy"] == pytest.approx((names["label"] == names["true_label"]).mean())

    (model,) = trained
    from plankton_embed.network.embedding_net import build_net

    start, ours = build_net(model.network, 5, kind=softmax.SoftmaxNet), build_net(own.network, 5)
    for name, value in ours.trunk.state_dict().items():
        assert (start.trunk.state_dict()[name] == value).all()  # the same first weights
    assert (model.views, model.net.head.out_features) == (2, 4)
    scores = model.embed_pixels(np.full((1, 32, 32, 1), 99, np.uint8), np.zeros((1, 2), np.float32))
    assert not np.isclose(np.linalg.norm(scores), 1)  # scores, not unit vectors
    history = pd.read_csv(place / "softmax/seed_5/training/history.csv")
    assert len(history) == 2 and row["training_minutes"] >= history["seconds"].sum() / 60
    assert history["score"].between(0, 1).all()  # what chooses the epoch, as of the embedding


def test_the_budget_reaches_every_kind_and_an_embedding_goes_on(do, in_process, monkeypatch, tmp_path):
    from plankton_embed.training.checkpoints import Checkpoints

    settings = {**SETTINGS, "seed": 5, "training.epochs": 3}
    save_state = Checkpoints.save_state

    def stop(self, epoch, step, state):
        save_state(self, epoch, step, state)
        if epoch == 3:
            raise KeyboardInterrupt

    place = tmp_path / "out" / "systems" / "embedding" / "seed_5"
    with monkeypatch.context() as stopped:
        stopped.setattr(Checkpoints, "save_state", stop)
        with pytest.raises(KeyboardInterrupt):
            do(["embedding", "pixel_mlp"], budget=2, settings=settings)
    before = pd.read_csv(place / "run" / "history.csv")
    assert len(before) == 2 and not (place / "measures.json").exists()

    monkeypatch.setattr(compare_trial, "_clock", lambda work, *args, **options: (work(*args, **options), 30.0))
    found = do(["embedding", "pixel_mlp"], budget=2, settings=settings)
    history = pd.read_csv(place / "run" / "history.csv")
    assert len(history) == 3
    pd.testing.assert_frame_equal(history.iloc[:2], before)
    own = Settings.load(place / "run" / "settings.yaml")
    assert (own.training.minutes, own.seed, own.network.weights) == (2, 5, "none")
    net = json.loads((tmp_path / "out/systems/pixel_mlp/seed_5/model/config.json").read_text())["settings"]
    assert (net["seconds"], net["seed"]) == (120, 5) and set(found.runs["seed"]) == {5}

    runs = found.runs.set_index("name")
    methods = {f"embedding_{name}" for name in ("centroid", "knn", "mlp", "and_features")}
    assert set(runs.index) == {*methods, "pixel_mlp"}
    rows = runs.loc[[*methods]]
    assert set(rows["system"]) == {"embedding"} and rows["peak_memory_mb"].nunique() == 1
    to_embed = 30 / 20 * 108  # each clocked step took 30 s, such as to embed the 20 test images
    minutes = (history["seconds"].sum() + to_embed + 30) / 60
    assert rows["training_minutes"].tolist() == pytest.approx([minutes] * 4)
    assert (rows["size_mb"] > 44).all()  # ResNet-18
    assert runs.loc["embedding_and_features", "f1_macro"] == 1  # by the areas
    assert doubted_splits(tmp_path / "out") == {"val"}
    for name in methods:
        names = pd.read_csv(place / name.removeprefix("embedding_") / "predictions.csv", keep_default_na=False)
        assert runs.loc[name, "accuracy"] == pytest.approx((names["label"] == names["true_label"]).mean())


# --- catalogs as they come


def change(images, **columns):
    return ImageCatalog(images.frame.assign(**columns))


def test_unlabelled_images_and_classes_of_one_split_do_no_harm(do, in_process, images, caplog):
    label, split = images.frame["label"].to_numpy(object), images.frame["split"].to_numpy(object)
    label[[0, 100, 108]] = None
    label[[109, 110]] = "in test only"
    label[101] = "in val only"
    label[4] = "a single one"
    found = do(["boosted_trees", "pixel_mlp", "embedding"], change(images, label=label, split=split), budget=BUDGET)
    assert found.faults == {}
    for row in found.runs.to_dict("records"):
        assert np.isfinite(row["loss"]) and row["accuracy"] <= 17 / 19 and row["worst_class_f1"] == 0
    trees = found.runs.set_index("name").loc["boosted_trees"]
    assert trees["accuracy"] == 17 / 19 and trees["worst_class"] == "in test only"
    assert trees["loss"] < 0.1  # of the images of classes that can be named
    assert "cannot be predicted: ['in test only', 'in val only']" in caplog.text


def test_a_catalog_without_val(do, in_process, images, monkeypatch, tmp_path):
    seen, grow = [], growing.grow_classes
    monkeypatch.setattr(
        growing, "grow_classes", lambda pixels, names, _: seen.append(len(names)) or grow(pixels, names, 30)
    )
    without_val = change(images, split=images.frame["split"].replace("val", "train"))
    found = do(["boosted_trees", "pixel_mlp_grown", "embedding"], without_val, budget=BUDGET)
    assert found.faults == {} and len(found.runs) == 6
    assert seen == [108 - 11]  # a tenth is divided off before the classes grow, and so has no twins
    assert doubted_splits(tmp_path / "out") == {"train"}


def test_a_catalog_without_splits_from_another_folder(do, in_process, images, monkeypatch, tmp_path):
    frame = images.frame.drop(columns="split").assign(path=images.frame["object_id"])
    frame.to_csv(tmp_path / "list.csv", index=False)
    monkeypatch.chdir(tmp_path)
    root = os.path.relpath(Path(images.paths[0]).parent, tmp_path)
    found = do(["pixel_mlp", "boosted_trees"], Path("list.csv"), output=Path("here"), root=root, budget=BUDGET)
    assert found.faults == {}
    saved = ImageCatalog.load("here/catalog.csv")
    assert saved.frame["split"].value_counts().to_dict() == {"train": 92, "test": 24, "val": 12}
    names = pd.read_csv("here/systems/pixel_mlp/seed_0/predictions.csv")
    assert names["object_id"].tolist() == saved.split("test").frame["object_id"].tolist()


def test_features_of_no_use_cost_no_other_row_and_true_sizes_reach_an_embedding(do, in_process, images):
    useless = change(images, feature_area=1.0, feature_seconds=np.nan, pixel_size=10.6)
    settings = {**SETTINGS, "network.size_inputs": "micrometres"}
    found = do(["boosted_trees", "embedding"], useless, settings=settings)
    assert found.runs["name"].tolist() == ["embedding_centroid", "embedding_knn", "embedding_mlp"]
    assert [*found.faults] == ["boosted_trees, seed_0", "embedding, seed_0"]
    assert "none of the 2 columns" in found.faults["boosted_trees, seed_0"]
    assert found.faults["embedding, seed_0"].startswith("no row with features: ")


def test_a_row_that_lacked_a_package_comes_with_it(do, in_process, images, monkeypatch, tmp_path):
    plain = ImageCatalog(images.frame.drop(columns=["feature_area", "feature_seconds"]))

    def lacking(*_, **__):
        raise DependencyError("features need scikit-image")

    with monkeypatch.context() as lacks:
        lacks.setattr(compare_trial, "measure_shapes", lacking)
        found = do(["embedding"], plain, budget=BUDGET)
    assert len(found.runs) == 3 and found.faults == {
        "embedding, seed_0": "no row with features: features need scikit-image"
    }
    assert "no row with features" in (tmp_path / "out/comparison.md").read_text()
    before = pd.read_csv(tmp_path / "out/systems/embedding/seed_0/run/history.csv")
    found = do(["embedding"], plain, budget=BUDGET)
    assert len(found.runs) == 4 and found.faults == {}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out/systems/embedding/seed_0/run/history.csv"), before)


def test_all_systems_have_the_white_level_of_the_whole_source(do, in_process, images, monkeypatch, tmp_path):
    frame = images.frame.drop(columns=["feature_area", "feature_seconds"])
    paths = [str(tmp_path / f"{row}.tif") for row in range(len(frame))]
    for row, (old, new) in enumerate(zip(frame["path"], paths, strict=True)):  # only the unlabelled one has 12 bits
        grey = np.asarray(Image.open(old)) / 255 * (1000 if row else 8000)
        Image.fromarray(grey.astype(np.uint16)).save(new)
    frame = frame.assign(path=paths, label=frame["label"].where(np.arange(len(frame)) > 0))
    spies = [mock.Mock(wraps=getattr(compare_trial, name)) for name in ("measure_shapes", "read_pixels")]
    monkeypatch.setattr(compare_trial, "measure_shapes", spies[0])
    monkeypatch.setattr(compare_trial, "read_pixels", spies[1])
    found = do(["boosted_trees", "small_net_6"], ImageCatalog(frame), budget=BUDGET)
    assert found.faults == {}
    assert {call.kwargs["white_level"] for spy in spies for call in spy.call_args_list} == {4095}


# --- refused, and nothing lost


@pytest.mark.parametrize(
    ("options", "where", "error", "message"),
    [
        ({"only": ["pixel_mpl"]}, "", SettingError, "only: unknown systems pixel_mpl; expected some of pixel_mlp, "),
        ({"budget": 0}, "", SettingError, "budget: expected minutes above 0; found 0"),
        ({"budget": float("nan")}, "", SettingError, "budget: expected minutes above 0; found nan"),
        ({"seeds": 0}, "", SettingError, "seeds: expected a whole number of at least 1; found 0"),
        ({"seeds": 1.5}, "", SettingError, "seeds: expected a whole number of at least 1; found 1.5"),
        (
            {"weights": {"resnet19": "none"}},
            "",
            SettingError,
            "no system uses the trunk 'resnet19'; expected one of resn",
        ),
        ({"weights": {"resnet50": "none"}}, "", SettingError, "no system uses the trunk 'resnet50'"),
        ({"weights": {"vgg19": "gone.pth"}}, "", InputError, "weights of vgg19: gone.pth does not exist"),
        ({"settings": {**SETTINGS, "network.weights": "imagenet"}}, "new", SettingError, "set network.weights to none"),
        ({"settings": {**SETTINGS, "seed": 3}}, "old", SettingError, "other settings .seed was 0, is 3"),
        ({"budget": 1}, "old", SettingError, "another budget: expected 0.005; found 1; use the same"),
        ({"budget": None}, "old", SettingError, "another budget: expected 0.005; found none"),
        ({"device": "gpu"}, "", SettingError, "device"),
    ],
)
def test_wrong_options_are_reported_and_nothing_is_lost(
    finished, images, in_process, tmp_path, options, where, error, message
):
    _, folder = finished
    before = snapshot(folder)
    for place in {"old": [folder], "new": [tmp_path / "new"], "": [folder, tmp_path / "new"]}[where]:
        with pytest.raises(error, match=message):
            compare(images, place, **{"only": ["pixel_mlp"], "budget": BUDGET, **QUIET, **options})
    assert snapshot(folder) == before and in_process == [] and not (tmp_path / "new").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_test_images_are_reported_and_nothing_is_lost(finished, images, in_process, overwrite, tmp_path):
    _, folder = finished
    before = snapshot(folder)
    split = images.frame["split"].to_numpy(object)
    for catalog in (
        change(images, split=np.where(split == "test", "val", split)),
        change(images, label=images.frame["label"].where(split != "test")),
    ):
        for place in (folder, tmp_path / "new"):
            with pytest.raises(InputError, match="needs labelled test images; split the catalog into train, val and"):
                compare(catalog, place, only=["pixel_mlp"], budget=BUDGET, overwrite=overwrite, **QUIET)
    assert snapshot(folder) == before and not (tmp_path / "new").exists()


def test_too_few_images_to_divide_are_reported_and_the_folder_may_be_used_again(do, in_process, images):
    few = images.select(np.arange(8))
    with pytest.raises(InputError, match="needs labelled test images"):
        do(["boosted_trees"], ImageCatalog(few.frame.drop(columns="split")))
    assert do(["boosted_trees"], overwrite=True).runs["name"].tolist() == ["boosted_trees"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_is_no_place_for_a_comparison(do, in_process, images, overwrite, tmp_path):
    plankton_embed.train(images, tmp_path / "out", **QUIET)
    before = snapshot(tmp_path / "out")
    with pytest.raises(OutputError, match="contains a run, not a comparison; choose another folder"):
        do(["boosted_trees"], overwrite=overwrite)
    assert snapshot(tmp_path / "out") == before


def test_a_stop_before_the_first_system_can_be_gone_on_with(do, monkeypatch, in_process, tmp_path):
    with monkeypatch.context() as stopped:
        stopped.setattr(run_steps, "draw_catalog", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            do(["boosted_trees"])
    assert (tmp_path / "out" / "settings.yaml").exists()
    assert do(["boosted_trees"]).runs["name"].tolist() == ["boosted_trees"]


def test_a_begin_anew_that_was_stopped_keeps_nothing_measured(do, monkeypatch, in_process, tmp_path):
    do(["boosted_trees", "pixel_mlp_60_40"], budget=BUDGET)
    with monkeypatch.context() as stopped:
        stopped.setattr(run_steps, "draw_catalog", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            do(["boosted_trees"], budget=BUDGET, overwrite=True)
    in_process.clear()
    assert do(["boosted_trees"], budget=BUDGET).runs["name"].tolist() == ["boosted_trees"]
    assert in_process == ["boosted_trees 0"]


def test_a_begin_anew_without_a_measure_leaves_no_old_table(do, monkeypatch, in_process, tmp_path):
    do(["boosted_trees"])
    monkeypatch.setattr(compare_module, "_measure_apart", lambda trial: trial.note_fault("no luck"))
    with pytest.raises(PlanktonEmbedError, match="no system could be measured; boosted_trees, seed_0: no luck"):
        do(["boosted_trees"], overwrite=True)
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.stem in ("comparison", "runs") and
                path.suffix != ".json"]  # fmt: skip


def test_what_a_person_filled_in_is_not_replaced(finished, images, in_process, tmp_path):
    _, folder = finished
    folder = shutil.copytree(folder, tmp_path / "out", copy_function=shutil.copy2)
    sheet = folder / "systems/pixel_mlp/seed_1/highest_losses.csv"
    sheet.write_text(sheet.read_text().replace("keep", "delete", 1))
    before = snapshot(folder)
    with pytest.raises(OutputError, match=r"highest_losses\.csv was filled in, so it is not replaced"):
        compare(images, folder, only=["pixel_mlp"], budget=BUDGET, overwrite=True, **QUIET)
    assert snapshot(folder) == before


def test_another_device_is_refused(finished, images, in_process, tmp_path):
    _, folder = finished
    folder = shutil.copytree(folder, tmp_path / "out", copy_function=shutil.copy2)
    options = json.loads((folder / "comparison.json").read_text())
    assert options["device"] == "cpu"
    (folder / "comparison.json").write_text(json.dumps({**options, "device": "cuda"}))
    with pytest.raises(SettingError, match="another device: expected cuda; found cpu; use the same"):
        compare(images, folder, only=["pixel_mlp"], seeds=3, budget=BUDGET, **QUIET)
    assert in_process == []


def test_other_images_are_refused(finished, images, in_process):
    _, folder = finished
    with pytest.raises(InputError, match="contains a run of other images"):
        compare(images.select(np.arange(1, 128)), folder, only=["pixel_mlp"], budget=BUDGET, **QUIET)
    assert in_process == []


def test_null_measures_and_names_with_bars_are_gathered(tmp_path):
    """Where the system reports no memory, JSON has null."""
    row = {"name": "a", "system": "a", "origin": "A", "start": "resnet18: runs|1", "worst_class": "egg|round"}
    row |= {**dict.fromkeys(MEASURED, 0.5), "peak_memory_mb": None}
    for seed in (0, 10):
        place = tmp_path / "systems" / "a" / f"seed_{seed}"
        place.mkdir(parents=True)
        (place / "measures.json").write_text(json.dumps([{**row, "seed": seed, "f1_macro": seed / 10}]))
    found = compare_module._gather(tmp_path)
    assert pd.read_csv(tmp_path / "runs.csv")["peak_memory_mb"].isna().all()
    titles, _, cells = rows_of(found.to_markdown())
    reported = dict(zip(titles, cells, strict=True))
    assert reported["macro F1"] == "0.500 (0.707)" and reported["peak memory, MB"] == "nan"
    assert (reported["start"], reported["worst class"]) == ("resnet18: runs¦1", "egg¦round")
