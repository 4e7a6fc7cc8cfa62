"""`run` and `train`: the whole job on a small drawn set, how it goes on, and what it refuses."""

import json
import os
import shutil
import stat

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import plankton_embed as pe
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.settings import Settings
from plankton_embed.training.checkpoints import Checkpoints
from plankton_embed.workflows import run_steps


@pytest.fixture(scope="session")
def reference(images, tmp_path_factory, tiny):
    """A run of the recipe of 2019, cut short."""
    settings = {
        **tiny,
        "training.objective": "reference_2019",
        "network.weights": "none",
        "training.classes_per_batch": 4,
        "training.batch_images_per_class": 3,
        "training.steps_per_epoch": 8,
    }
    return pe.run(images, tmp_path_factory.mktemp("runs") / "run", settings=settings, progress=False)


def test_a_run_leaves_every_file(finished):
    folder = finished.folder
    for path in (folder.catalog, folder.faults, folder.settings, folder.model / "model.safetensors",
                 folder.training_state(2, 0), folder.training_state(3, 0), folder.history,
                 folder.vectors("train"), folder.vectors("val"), folder.vectors("test"),
                 folder.index / "index.faiss", folder.scores, folder.report,
                 folder.predictions, folder.figures / "curves.png", folder.figures / "neighbors.png",
                 folder.figures / "knn" / "confusion.png", folder.figures / "preview.png",
                 folder.figures / "knn" / "reliability.png", folder.figures / "mlp" / "head_curves.png",
                 folder.analysis("evaluate") / "mlp" / "classifier" / "weights.safetensors",
                 folder.analysis("evaluate") / "centroid" / "centroid_distances.csv"):  # fmt: skip
        assert path.is_file(), path
    history = pd.read_csv(folder.history)
    assert history["epoch"].tolist() == [1, 2]
    assert history.notna().all(axis=None)
    for column in ("seconds", "images_per_second", "loss", "within_distance", "between_distance"):
        assert (history[column] > 0).all()
    assert history["active_share"].between(0, 1).all()
    assert history["n_never_predicted"].between(0, 4).all()
    assert history["effective_rank"].between(1, 16).all()
    assert history["n_broken_steps"].tolist() == [0, 0]
    best = finished.model.training["best_epoch"]
    assert list(folder.checkpoints.glob("epoch-*")) == [folder.epoch_weights(best)]


def test_scores_agree_with_scikit_learn_on_the_written_predictions(finished):
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

    scores = json.loads(finished.folder.scores.read_text())
    for method in ("centroid", "knn", "mlp"):
        tables = finished.folder.analysis("evaluate") / method
        names = pd.read_csv(tables / "predictions.csv")
        truth, guess = names["true_label"], names["label"]
        assert scores[method]["accuracy"] == pytest.approx(accuracy_score(truth, guess))
        assert scores[method]["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, guess))
        assert scores[method]["f1_macro"] == pytest.approx(f1_score(truth, guess, average="macro"))
        confusion = pd.read_csv(tables / "confusion.csv", index_col=0)
        expected = confusion_matrix(truth, guess, labels=confusion.index)
        assert (confusion.to_numpy() == expected).all()


def test_hard_class_names_survive_from_folder_to_predictions(finished):
    expected = {"Calanus finmarchicus", "Méduse<Cnidaria", "фиш, egg", "detritus"}
    assert set(finished.model.classes) == expected
    assert set(pd.read_csv(finished.folder.predictions)["true_label"]) == expected


def test_split_holds_every_image_once_and_every_class(finished):
    catalog = pe.ImageCatalog.load(finished.folder.catalog)
    assert len(catalog) == 48
    counts = catalog.frame.groupby(["label", "split"]).size().unstack()
    assert counts.to_numpy().min() >= 1
    ids = np.concatenate(
        [pe.EmbeddingTable.load(finished.folder.vectors(s)).object_id for s in ("train", "val", "test")]
    )
    assert sorted(ids) == sorted(catalog.frame["object_id"])


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_every_file_of_a_run_has_the_rights_that_the_umask_leaves(images, tmp_path, monkeypatch, umask, tiny):
    monkeypatch.setenv("PLANKTON_EMBED_CACHE", str(tmp_path / "cache"))
    before = os.umask(umask)
    try:
        pe.run(images, tmp_path / "runs" / "run", settings=tiny, progress=False)
    finally:
        os.umask(before)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert len(found) > 40
    assert found == {path: (0o777 if path.is_dir() else 0o666) & ~umask for path in found}


def test_finished_steps_are_skipped(finished, images, quick):
    weights = finished.folder.model / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = pe.run(images, finished.folder.path, settings=quick, progress=False)
    assert again.scores == json.loads(finished.folder.scores.read_text())
    assert weights.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("due", "expected"),
    [([False] * 16, [(2, 0), (3, 0)]), ([False] * 4 + [True], [(1, 5), (2, 0), (3, 0)])],
    ids=["after an epoch", "within an epoch"],
)
def test_a_stopped_run_ends_as_one_never_stopped(
    finished, images, tmp_path, monkeypatch, no_pictures, due, expected, quick
):
    real, states, looks = Checkpoints.save_state, [], iter(due)

    def stop_after_first(self, epoch, step, state):
        real(self, epoch, step, state)
        states.append((epoch, step))
        if len(states) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save_state", stop_after_first)
    monkeypatch.setattr(Checkpoints, "is_due", lambda self: next(looks, False))
    with pytest.raises(KeyboardInterrupt):
        pe.train(images, tmp_path / "run", settings=quick, progress=False)
    with pytest.raises(OutputError, match="--resume"):
        pe.train(images, tmp_path / "run", settings=quick, progress=False)
    resumed = pe.train(images, tmp_path / "run", settings=quick, resume=True, progress=False)
    assert states == expected
    assert resumed.model.hash == finished.model.hash
    assert not resumed.folder.index.exists()
    history, wanted = pd.read_csv(resumed.folder.history), pd.read_csv(finished.folder.history)
    timings = ["seconds", "images_per_second"]
    pd.testing.assert_frame_equal(history.drop(columns=timings), wanted.drop(columns=timings), check_exact=True)
    assert (history[timings] > 0).all(axis=None)


@pytest.mark.parametrize("now", [None, {"training.epochs": 2}], ids=["nothing asked", "the same asked"])
def test_a_stopped_run_of_an_older_release_goes_on_with_its_own_settings(
    finished, images, tmp_path, monkeypatch, no_pictures, caplog, now, quick
):
    real = Checkpoints.save_state

    def stop(self, *state):
        real(self, *state)
        raise KeyboardInterrupt

    folder = finished.folder.__class__(tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "save_state", stop)
        old = {f"{group}.{name}": old for group, part in Settings.old_behaviour().items() for name, old in part.items()}
        pe.train(images, folder.path, settings={**quick, **old}, progress=False)
    saved = yaml.safe_load(folder.settings.read_text())
    for group, part in Settings.old_behaviour().items():  # which that release did not have
        for name in part:
            del saved[group][name]
    folder.settings.write_text(yaml.safe_dump(saved))
    catalog = pd.read_csv(folder.catalog)
    side = catalog["split"].map({"train": "train", "val": "test", "test": "val"})  # another way to split
    catalog.assign(split=side).to_csv(folder.catalog, index=False)
    with pytest.raises(SettingError, match=r"remove_marks was off, is auto\).*to continue that run"):
        pe.run(images, folder.path, settings={"preparation.remove_marks": "auto"}, progress=False)
    with caplog.at_level("INFO", logger="plankton_embed"):
        done = pe.run(images, folder.path, settings=now, progress=False)
    assert (
        "continues with its own settings, not the defaults: split.keep_contradictions was True, is False" in caplog.text
    )
    assert "preparation.target_size was 32, is 96" in caplog.text
    assert done.model.preparation.remove_marks == "off"
    assert done.scores["n_images"] == (catalog["split"] == "val").sum() != (catalog["split"] == "test").sum()
    history, wanted = pd.read_csv(folder.history), pd.read_csv(finished.folder.history)
    of_training = ["epoch", "loss", "active_share", "learning_rate", "within_distance"]
    pd.testing.assert_frame_equal(history[of_training], wanted[of_training], check_exact=True)


def test_a_run_with_a_setting_that_is_not_known_is_refused_by_the_name_of_its_file(finished, images, tmp_path):
    copied = shutil.copytree(finished.folder.path, tmp_path / "run")
    with (copied / "settings.yaml").open("a") as file:
        file.write("newer: 1\n")
    with pytest.raises(InputError, match=r"settings\.yaml cannot be used: setting newer is not known.*\n.*newer rel"):
        pe.run(images, copied, progress=False)


def test_a_folder_that_holds_only_what_a_killed_process_left_is_free(images, tmp_path, no_pictures, tiny):
    scratch = tmp_path / "run" / ".settings.yaml.x1y2"
    scratch.mkdir(parents=True)
    (scratch / "settings.yaml").write_text("see")
    assert pe.train(images, tmp_path / "run", settings=tiny, progress=False).folder.scores.exists()


@pytest.mark.parametrize("wrong", [{"network.trunk": "resnet81"}, {"split.group_by": "cruise"}])
def test_a_run_is_not_overwritten_by_one_that_cannot_be(finished, images, wrong, quick):
    weights = (finished.folder.model / "model.safetensors").stat().st_mtime_ns
    with pytest.raises((SettingError, InputError)):
        pe.run(images, finished.folder.path, settings={**quick, **wrong}, overwrite=True, progress=False)
    with pytest.raises(InputError, match="nowhere does not exist"):
        pe.run("nowhere", finished.folder.path, settings=quick, overwrite=True, progress=False)
    assert (finished.folder.model / "model.safetensors").stat().st_mtime_ns == weights


def test_a_run_is_not_overwritten_by_an_index_or_an_evaluation(finished):
    with pytest.raises(OutputError, match=r"contains no index\.faiss"):
        pe.index(finished.folder.path, finished.folder.path, overwrite=True)
    with pytest.raises(OutputError, match="is a run"):
        pe.evaluate(finished.folder.path, finished.folder.path, output=finished.folder.path, overwrite=True)
    with pytest.raises(OutputError, match=r"contains no config\.json"):
        finished.model.save(finished.folder.path)
    assert finished.folder.scores.exists()


def test_overwriting_a_run_keeps_what_is_not_of_it(images, tmp_path, no_pictures, tiny):
    first = pe.train(images, tmp_path / "run", settings={**tiny, "training.keep_every_epoch": True}, progress=False)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    first.folder.tensorboard.mkdir()
    (first.folder.tensorboard / "events.old").write_text("curves")
    again = pe.train(images, tmp_path / "run", settings={**tiny, "seed": 5}, overwrite=True, progress=False)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert pe.Settings.load(again.folder.settings).seed == 5
    assert not again.folder.tensorboard.exists()
    assert len(pd.read_csv(again.folder.history)) == 1


def test_the_card_travels_with_the_model(finished, tmp_path):
    card = finished.model.card
    assert "| knn |" in card
    assert pe.EmbeddingModel.load(finished.model.save(tmp_path / "copy")).card == card


def test_one_class_only_is_an_error_that_leaves_no_run(images, tmp_path, quick):
    one = tmp_path / "one"
    shutil.copytree(images / "detritus", one / "detritus")
    with pytest.raises(InputError, match="at least 2 classes"):
        pe.run(one, tmp_path / "run", settings=quick, progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        ("triplet", {"training.ema": 0.9}),
        ("multi_similarity", {"training.memory": 16}),
        ("arcface", {"training.sampling": "square_root", "training.optimizer": "sgd"}),
        ("supcon", {"training.sampling": "natural", "training.schedule": "rounds"}),
    ],
)
def test_every_objective_does_the_whole_job(images, tmp_path, no_pictures, objective, settings, tiny):
    settings = {**tiny, **settings, "training.objective": objective}
    done = pe.run(images, tmp_path / "run", settings=settings, progress=False)
    history = pd.read_csv(done.folder.history)
    assert np.isfinite(history).all(axis=None)
    assert history["n_broken_steps"].tolist() == [0]
    for split in ("train", "val", "test"):
        vectors = pe.EmbeddingTable.load(done.folder.vectors(split)).vectors
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, rel=1e-5)
    assert 0 <= done.scores["knn"]["accuracy"] <= 1
    assert done.model.training["settings"]["training.objective"] == objective


def test_the_recipe_of_2019_does_the_whole_job(reference):
    assert reference.model.network.output == "sigmoid"
    assert np.isfinite(pd.read_csv(reference.folder.history)).all(axis=None)
    for split in ("train", "val", "test"):
        vectors = pe.EmbeddingTable.load(reference.folder.vectors(split)).vectors
        assert 0 <= vectors.min() < vectors.max() <= 1
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).min() > 0.1
    for method in ("centroid", "knn"):
        assert 0 <= reference.scores[method]["accuracy"] <= 1
    assert (reference.folder.figures / "curves.png").is_file()
    assert (reference.folder.figures / "centroid" / "centroid_distances.png").is_file()


def test_vectors_in_0_to_1_are_embedded_searched_named_and_scored(reference, images, tmp_path):
    folder = reference.folder.path
    table = pe.EmbeddingTable.load(reference.folder.vectors("test"))
    again = pe.embed(folder, pe.ImageCatalog.load(reference.folder.catalog).split("test"), progress=False)
    assert again.model_hash == table.model_hash
    np.testing.assert_allclose(again.vectors, table.vectors, atol=1e-6)
    train = pe.EmbeddingTable.load(reference.folder.vectors("train"))
    found = pe.search(folder, list(train.path[:2]), n_results=3, progress=False)
    first = found[found["rank"] == 1]
    assert first["object_id"].tolist() == train.object_id[:2].tolist()
    assert first["distance"].to_numpy() == pytest.approx(0, abs=1e-5)
    nearest = np.sort(np.linalg.norm(train.vectors - train.vectors[0], axis=1))[:3]
    np.testing.assert_allclose(found["distance"][:3], nearest, atol=1e-5)
    for method in ("centroid", "knn"):
        assert len(pe.classify(folder, images / "detritus", method, progress=False)) == 12
        scored = pe.evaluate(folder, folder, method, tmp_path / method)
        assert scored.to_dict()["accuracy"] == reference.scores[method]["accuracy"]


def test_settings_that_cannot_go_together_leave_no_run(images, tmp_path, tiny):
    with pytest.raises(SettingError, match=r"^training\.angular_margin is for arcface"):
        pe.run(images, tmp_path / "run", settings={**tiny, "training.angular_margin": 0.3}, progress=False)
    assert not (tmp_path / "run").exists()


def test_the_model_card_of_a_run_has_its_scores(finished):
    text = (finished.folder.model / "README.md").read_text(encoding="utf-8")
    scores = finished.scores
    assert f"Scores on the {scores['n_images']} labelled images of the test split:" in text
    assert f"| knn | {scores['knn']['accuracy']:.3f} |" in text
    assert finished.model.card == text


def test_a_frozen_trunk_keeps_its_weights_and_gets_a_head(finished, images, tmp_path, frozen):
    made = pe.run(images, tmp_path / "run", settings=frozen, progress=False)
    was, now = (dict(model.net.trunk.named_parameters()) for model in (finished.model, made.model))
    assert all((now[name] == value).all() for name, value in was.items())
    train = made.vectors["train"]
    assert not made.folder.history.exists()
    assert "linear discriminant analysis" in made.model.card
    # in the plane of the discriminants, every training image is nearest to the mean of its class
    found = pe.classify(train, train, "centroid", progress=False)
    assert (found["label"].to_numpy() == train.label).mean() >= finished.scores["self_centroid_accuracy"]
    again = pe.run(images, made.folder.path, settings=frozen, progress=False)
    assert again.model.hash == made.model.hash


def test_training_from_a_model_starts_from_the_head_of_a_frozen_trunk(finished, images, tmp_path, quick, frozen):
    slow = {"training.learning_rate": 1e-9, "training.epochs": 1, "network.weights": str(finished.folder.path)}
    trained, computed = (
        pe.run(images, tmp_path / str(number), settings=settings, progress=False).model.net.head.weight
        for number, settings in enumerate([{**quick, **slow}, frozen])
    )
    torch.testing.assert_close(trained, computed, atol=1e-6, rtol=1e-4)


def test_training_vectors_of_a_frozen_trunk_are_those_of_its_saved_model(images, tmp_path, frozen):
    frame = pe.catalog(images, progress=False).frame
    some = pe.ImageCatalog(frame.assign(label=frame["label"].mask(frame.index % 5 == 0)))
    made = pe.run(some, tmp_path / "run", settings=frozen, progress=False)
    train = made.vectors["train"]
    assert 0 < train.is_labelled.sum() < len(train)
    made.folder.vectors("train").unlink()
    again = pe.run(some, made.folder.path, settings=frozen, progress=False).vectors["train"]
    np.testing.assert_array_equal(again.vectors, train.vectors)
    assert again.provenance == train.provenance
    assert again.columns.keys() == train.columns.keys()


@pytest.mark.parametrize("change", [{"network.weights": "none"}, {"training.objective": "reference_2019"}])
def test_a_trunk_of_random_weights_or_of_sigmoids_is_not_frozen(change):
    with pytest.raises(SettingError, match=r"network\.frozen: expected starting weights"):
        Settings.build(overrides={"network.weights": "imagenet", "network.frozen": True, **change})


def test_a_run_without_settings_freezes_the_trunk_of_the_package(finished, images, tmp_path, packaged, caplog):
    with caplog.at_level("INFO"):
        done = pe.run(images, tmp_path / "run", settings=packaged, progress=False)
    own = Settings.load(done.folder.settings)
    assert (own.network.frozen, own.network.weights) == (True, "of-run")
    assert "prepared in another way" not in caplog.text
    assert "--preset quick takes ten minutes" in caplog.text
    was, now = (dict(model.net.trunk.named_parameters()) for model in (finished.model, done.model))
    assert all((now[name] == value).all() for name, value in was.items())
    for settings in (packaged, Settings.build("instant", overrides=packaged)):  # with the preset given too
        again = pe.run(images, done.folder.path, settings=settings, progress=False)
        assert again.model.hash == done.model.hash


def test_settings_of_training_are_refused_where_the_trunk_is_frozen(images, tmp_path, packaged):
    with pytest.raises(SettingError, match=r"so training\.epochs would not be used.*quick, cpu and gpu train it"):
        pe.run(images, tmp_path / "run", settings={**packaged, "training.epochs": 3}, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_loss_of_ones_own_is_refused_where_the_trunk_is_frozen(images, tmp_path, packaged):
    settings = Settings.build("instant", overrides=packaged)
    with pytest.raises(SettingError, match=r"objective: with network\.frozen"):
        pe.train(images, tmp_path / "run", settings=settings, objective=lambda vectors, codes: 0, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_loss_of_ones_own_is_refused_where_the_continued_run_is_frozen(images, tmp_path, frozen, monkeypatch):
    with monkeypatch.context() as stopped:
        stopped.setattr(run_steps, "fit_head", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pe.train(images, tmp_path / "run", settings=frozen, progress=False)
    with pytest.raises(SettingError, match="the head is computed without an objective"):
        pe.train(images, tmp_path / "run", resume=True, objective=lambda vectors, codes: 0, progress=False)
