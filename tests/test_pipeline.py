"""The whole job on a small drawn set, and what must happen when something is wrong."""

import json
import os
import re
import shutil
import stat
import struct
import sys
import zlib

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import plankton_embed as pe
from plankton_embed.errors import DependencyError, InputError, MismatchError, OutputError, SettingError
from plankton_embed.images.drawn import draw_set
from plankton_embed.settings import Settings
from plankton_embed.training.checkpoints import Checkpoints
from plankton_embed.workflows import run_steps
from plankton_embed.workflows import seen_unseen as seen_unseen_module

QUICK = {
    "preparation.target_size": 32,
    "network.trunk": "shufflenet_v2_x0_5",
    "network.dimension": 16,
    "training.epochs": 2,
    "training.images_per_class": 16,
    "training.classes_per_batch": 2,  # many small batches, so that batch norm comes to know its means
    "training.batch_images_per_class": 2,
    "training.precision": "float32",
}
TINY = {**QUICK, "training.epochs": 1, "training.images_per_class": 8}


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Four classes of 12 images, under names that are hard to write."""
    drawn = draw_set(
        tmp_path_factory.mktemp("drawn"), n_per_class=12, classes=("copepod", "medusa", "fish_egg", "detritus")
    )
    for plain, hard in {"copepod": "Calanus finmarchicus", "medusa": "Méduse<Cnidaria", "fish_egg": "фиш, egg"}.items():
        (drawn / plain).rename(drawn / hard)
    return drawn


@pytest.fixture(scope="session")
def finished(images, tmp_path_factory):
    return pe.run(images, tmp_path_factory.mktemp("runs") / "run", settings=QUICK, progress=False)


@pytest.fixture(scope="session")
def reference(images, tmp_path_factory):
    """A run of the recipe of 2019, cut short."""
    settings = {
        **TINY,
        "training.objective": "reference_2019",
        "training.classes_per_batch": 4,
        "training.batch_images_per_class": 3,
        "training.steps_per_epoch": 8,
    }
    return pe.run(images, tmp_path_factory.mktemp("runs") / "run", settings=settings, progress=False)


@pytest.fixture
def no_pictures(monkeypatch):
    """Write no pictures, which are half the time of a small run; they are drawn all the same."""
    monkeypatch.setattr("plankton_embed.workflows.run_steps.save_figure", lambda *_: None)
    monkeypatch.setattr("plankton_embed.workflows.result_folder.save_figure", lambda *_: None)


@pytest.fixture
def stranger(finished, tmp_path):
    """An untrained model of the same shape as the run's."""
    settings = Settings.load(finished.folder.settings)
    model = pe.EmbeddingModel.build(settings.network, settings.preparation, seed=99).to("cpu")
    model.save(tmp_path / "stranger")
    return model


def test_a_run_leaves_every_file(finished):
    folder = finished.folder
    for path in (folder.catalog, folder.faults, folder.settings, folder.model / "model.safetensors",
                 folder.training_state(2, 0), folder.training_state(3, 0), folder.history,
                 folder.vectors("train"), folder.vectors("val"), folder.vectors("test"),
                 folder.index / "index.faiss", folder.scores,
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
def test_every_file_of_a_run_has_the_rights_that_the_umask_leaves(images, tmp_path, monkeypatch, umask):
    monkeypatch.setenv("PLANKTON_EMBED_CACHE", str(tmp_path / "cache"))
    before = os.umask(umask)
    try:
        pe.run(images, tmp_path / "runs" / "run", settings=TINY, progress=False)
    finally:
        os.umask(before)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert len(found) > 40
    assert found == {path: (0o777 if path.is_dir() else 0o666) & ~umask for path in found}


def test_finished_steps_are_skipped(finished, images):
    weights = finished.folder.model / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = pe.run(images, finished.folder.path, settings=QUICK, progress=False)
    assert again.scores == json.loads(finished.folder.scores.read_text())
    assert weights.stat().st_mtime_ns == before


def test_the_saved_model_embeds_as_the_run_did(finished):
    table = pe.EmbeddingTable.load(finished.folder.vectors("test"))
    again = pe.embed(finished.folder.path, pe.ImageCatalog.load(finished.folder.catalog).split("test"), progress=False)
    assert again.model_hash == table.model_hash == finished.scores["model_hash"]
    assert (again.vectors == table.vectors).all()


@pytest.mark.parametrize(
    ("due", "expected"),
    [([False] * 16, [(2, 0), (3, 0)]), ([False] * 4 + [True], [(1, 5), (2, 0), (3, 0)])],
    ids=["after an epoch", "within an epoch"],
)
def test_a_stopped_run_ends_as_one_never_stopped(finished, images, tmp_path, monkeypatch, no_pictures, due, expected):
    real, states, looks = Checkpoints.save_state, [], iter(due)

    def stop_after_first(self, epoch, step, state):
        real(self, epoch, step, state)
        states.append((epoch, step))
        if len(states) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save_state", stop_after_first)
    monkeypatch.setattr(Checkpoints, "is_due", lambda self: next(looks, False))
    with pytest.raises(KeyboardInterrupt):
        pe.train(images, tmp_path / "run", settings=QUICK, progress=False)
    with pytest.raises(OutputError, match="--resume"):
        pe.train(images, tmp_path / "run", settings=QUICK, progress=False)
    resumed = pe.train(images, tmp_path / "run", settings=QUICK, resume=True, progress=False)
    assert states == expected
    assert resumed.model.hash == finished.model.hash
    assert not resumed.folder.index.exists()
    history, wanted = pd.read_csv(resumed.folder.history), pd.read_csv(finished.folder.history)
    timings = ["seconds", "images_per_second"]
    pd.testing.assert_frame_equal(history.drop(columns=timings), wanted.drop(columns=timings), check_exact=True)
    assert (history[timings] > 0).all(axis=None)


@pytest.mark.parametrize("now", [None, {"training.epochs": 2}], ids=["nothing asked", "the same asked"])
def test_a_stopped_run_of_an_older_release_goes_on_with_its_own_settings(
    finished, images, tmp_path, monkeypatch, no_pictures, caplog, now
):
    real = Checkpoints.save_state

    def stop(self, *state):
        real(self, *state)
        raise KeyboardInterrupt

    folder = finished.folder.__class__(tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "save_state", stop)
        old = {f"{group}.{name}": old for group, part in Settings.old_behaviour().items() for name, old in part.items()}
        pe.train(images, folder.path, settings={**QUICK, **old}, progress=False)
    saved = yaml.safe_load(folder.settings.read_text())
    for group, part in Settings.old_behaviour().items():  # which that release did not have
        for name in part:
            del saved[group][name]
    folder.settings.write_text(yaml.safe_dump(saved))
    catalog = pd.read_csv(folder.catalog)
    side = catalog["split"].map({"train": "train", "val": "test", "test": "val"})  # another way to split
    catalog.assign(split=side).to_csv(folder.catalog, index=False)
    with pytest.raises(SettingError, match=r"remove_marks was off, is auto\).*go on with that run"):
        pe.run(images, folder.path, settings={"preparation.remove_marks": "auto"}, progress=False)
    with caplog.at_level("INFO", logger="plankton_embed"):
        done = pe.run(images, folder.path, settings=now, progress=False)
    assert (
        "goes on with its own settings, not the defaults: split.keep_contradictions was True, is False" in caplog.text
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


def test_other_settings_or_images_in_the_same_folder_are_refused(finished, images, tmp_path):
    with pytest.raises(SettingError, match=r"training\.margin was 0\.2, is 0\.3"):
        pe.run(images, finished.folder.path, settings={**QUICK, "training.margin": 0.3}, progress=False)
    fewer = shutil.copytree(images, tmp_path / "fewer")
    shutil.rmtree(fewer / "detritus")
    with pytest.raises(InputError, match=r"other images \(48, now 36\)"):
        pe.run(fewer, finished.folder.path, settings=QUICK, progress=False)
    frame = pe.ImageCatalog.load(finished.folder.catalog).frame
    moved = pe.ImageCatalog(frame.assign(label=["detritus", *frame["label"][1:]]))
    with pytest.raises(
        InputError, match=f"object_id {frame['object_id'][0]} was .* in {frame['split'][0]}, is detritus"
    ):
        pe.run(moved, finished.folder.path, settings=QUICK, progress=False)


def test_a_folder_with_other_things_is_refused_and_left_alone(images, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="exists already"):
        pe.run(images, tmp_path, settings=QUICK, progress=False)
    with pytest.raises(OutputError):
        pe.run(images, tmp_path, settings=QUICK, overwrite=True, progress=False)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_folder_that_holds_only_what_a_killed_process_left_is_free(images, tmp_path, no_pictures):
    scratch = tmp_path / "run" / ".settings.yaml.x1y2"
    scratch.mkdir(parents=True)
    (scratch / "settings.yaml").write_text("see")
    assert pe.train(images, tmp_path / "run", settings=TINY, progress=False).folder.scores.exists()


@pytest.mark.parametrize("wrong", [{"network.trunk": "resnet81"}, {"split.group_by": "cruise"}])
def test_a_run_is_not_overwritten_by_one_that_cannot_be(finished, images, wrong):
    weights = (finished.folder.model / "model.safetensors").stat().st_mtime_ns
    with pytest.raises((SettingError, InputError)):
        pe.run(images, finished.folder.path, settings={**QUICK, **wrong}, overwrite=True, progress=False)
    with pytest.raises(InputError, match="nowhere does not exist"):
        pe.run("nowhere", finished.folder.path, settings=QUICK, overwrite=True, progress=False)
    assert (finished.folder.model / "model.safetensors").stat().st_mtime_ns == weights


def test_a_run_is_not_overwritten_by_an_index_or_an_evaluation(finished):
    with pytest.raises(OutputError, match=r"holds no index\.faiss"):
        pe.index(finished.folder.path, finished.folder.path, overwrite=True)
    with pytest.raises(OutputError, match="is a run"):
        pe.evaluate(finished.folder.path, finished.folder.path, output=finished.folder.path, overwrite=True)
    with pytest.raises(OutputError, match=r"holds no config\.json"):
        finished.model.save(finished.folder.path)
    assert finished.folder.scores.exists()


def test_overwriting_a_run_keeps_what_is_not_of_it(images, tmp_path, no_pictures):
    first = pe.train(images, tmp_path / "run", settings={**TINY, "training.keep_every_epoch": True}, progress=False)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    first.folder.tensorboard.mkdir()
    (first.folder.tensorboard / "events.old").write_text("curves")
    again = pe.train(images, tmp_path / "run", settings={**TINY, "seed": 5}, overwrite=True, progress=False)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert pe.Settings.load(again.folder.settings).seed == 5
    assert not again.folder.tensorboard.exists()
    assert len(pd.read_csv(again.folder.history)) == 1


def write_huge_png(path, side=30_000):
    """A grey PNG of side × side black pixels, a few kB on disk."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_broken_images_are_listed_with_their_reason_and_left_out(images, tmp_path, no_pictures):
    folder = shutil.copytree(images, tmp_path / "images")
    target = folder / "detritus"
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((90, 70), 40).save(whole)
    (target / "a_truncated.jpg").write_bytes(whole.read_bytes()[:900])
    (target / "b_empty.png").write_bytes(b"")
    (target / "c_text.jpg").write_text("this is no image")
    Image.new("L", (1, 1)).save(target / "d_tiny.png")
    write_huge_png(target / "e_huge.png")
    done = pe.train(folder, tmp_path / "run", settings=TINY, progress=False)
    faults = pd.read_csv(done.folder.faults)
    broken = ("a_truncated.jpg", "b_empty.png", "c_text.jpg", "d_tiny.png", "e_huge.png")
    assert faults.columns.tolist() == ["file", "row", "column", "expected", "found", "outcome"]
    assert faults["file"].tolist() == [str(target / name) for name in broken]
    assert faults["outcome"].tolist() == ["lost"] * 5
    for word, reason in zip(("truncated", "empty", "no image", "1×1", "pixels"), faults["found"], strict=True):
        assert word in reason
    assert len(pe.ImageCatalog.load(done.folder.catalog)) == 48


def test_vectors_of_another_model_are_refused_and_both_hashes_named(finished, stranger, images, tmp_path):
    mine, other = finished.model.hash, stranger.hash
    files = sorted((images / "detritus").glob("*.png"))[:2]
    with pytest.raises(MismatchError, match=f"(?s){mine}.*{other}"):
        pe.search(finished.folder.path, stranger, files, progress=False)
    query = pe.embed(stranger, files, progress=False)
    with pytest.raises(MismatchError, match=f"(?s){mine}.*{other}"):
        pe.classify(finished.folder.path, query)
    query.save(tmp_path / "query.parquet")
    with pytest.raises(MismatchError, match=f"(?s){mine}.*{other}"):
        pe.evaluate(finished.folder.vectors("train"), tmp_path / "query.parquet")


def test_search_finds_an_indexed_image_first_at_distance_zero(finished, tmp_path):
    train = pe.EmbeddingTable.load(finished.folder.vectors("train"))
    found = pe.search(finished.folder.path, finished.folder.path, list(train.path[:3]), k=4, sheet=tmp_path / "s.png")
    first = found[found["rank"] == 1]
    assert first["object_id"].tolist() == train.object_id[:3].tolist()
    assert first["distance"].to_numpy() == pytest.approx(0, abs=1e-5)
    assert found.groupby("query")["distance"].apply(lambda d: d.is_monotonic_increasing).all()
    assert Image.open(tmp_path / "s.png").width > 300


def test_classify_takes_a_run_and_a_folder_of_images(finished, images, tmp_path):
    names = pe.classify(finished.folder.path, images / "detritus", "knn", tmp_path / "names.csv", progress=False)
    assert len(names) == 12
    written = pd.read_csv(tmp_path / "names.csv")
    assert written["label"].tolist() == names["label"].tolist()
    with pytest.raises(OutputError, match="overwrite"):
        pe.classify(finished.folder.path, images / "detritus", "knn", tmp_path / "names.csv", progress=False)


def test_classify_tells_vectors_from_a_catalog_whatever_the_file(finished, images, tmp_path):
    table = pe.embed(finished.folder.path, images / "detritus", progress=False)
    catalog = pe.catalog(images / "detritus", progress=False)
    sources = [table.save(tmp_path / "v.csv"), table.save(tmp_path / "v.npz"), table.save(tmp_path / "v.parquet")]
    sources += [catalog.save(tmp_path / "c.csv"), catalog.save(tmp_path / "c.parquet")]
    expected = pe.classify(finished.folder.path, table)["label"].tolist()
    for source in sources:
        assert pe.classify(finished.folder.path, source, progress=False)["label"].tolist() == expected, source


def test_scoring_images_of_the_reference_is_said(finished, images, caplog):
    pe.evaluate(finished.folder.path, images, progress=False)
    assert "in the reference too" in caplog.text


def test_evaluate_replaces_its_own_folder_whole(finished, tmp_path):
    pe.evaluate(finished.folder.path, finished.folder.path, "centroid", tmp_path / "e")
    assert (tmp_path / "e" / "centroid_distances.csv").exists()
    pe.evaluate(finished.folder.path, finished.folder.path, "knn", tmp_path / "e", overwrite=True)
    assert not (tmp_path / "e" / "centroid_distances.csv").exists()


def test_the_card_travels_with_the_model(finished, tmp_path):
    card = finished.model.card
    assert "| knn |" in card
    assert pe.EmbeddingModel.load(finished.model.save(tmp_path / "copy")).card == card


def test_a_test_split_of_new_classes_only_still_ends_well(images, tmp_path):
    catalog = pe.catalog(images, split=(0.6, 0.2, 0.2), progress=False)
    frame = catalog.frame.copy()
    frame.loc[frame["label"] == "detritus", "split"] = "test"
    frame = frame[(frame["label"] == "detritus") | (frame["split"] != "test")].reset_index(drop=True)
    done = pe.train(pe.ImageCatalog(frame), tmp_path / "run", settings=TINY, progress=False)
    assert done.scores["knn"]["accuracy"] == 0
    assert done.scores["retrieval"] == {}


def test_a_split_of_its_own_that_tears_samples_is_refused(images, tmp_path):
    catalog = pe.catalog(images, split=(0.6, 0.2, 0.2), progress=False)
    torn = pe.ImageCatalog(catalog.frame.assign(sample_id="one"))
    with pytest.raises(InputError, match=r"1 values of sample_id are in several splits.*such as one"):
        pe.train(torn, tmp_path / "run", settings={**QUICK, "split.group_by": "sample_id"}, progress=False)


def test_evaluate_without_labels_says_so(finished, images):
    unlabelled = pe.embed(finished.folder.path, sorted((images / "detritus").glob("*.png")), progress=False)
    with pytest.raises(InputError, match="no labels"):
        pe.evaluate(finished.folder.path, unlabelled)


def test_one_class_only_is_an_error_that_leaves_no_run(images, tmp_path):
    one = tmp_path / "one"
    shutil.copytree(images / "detritus", one / "detritus")
    with pytest.raises(InputError, match="at least 2 classes"):
        pe.run(one, tmp_path / "run", settings=QUICK, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_class_with_one_image_is_trained_on(images, tmp_path, caplog, no_pictures):
    lone = shutil.copytree(images, tmp_path / "lone")
    for path in sorted((lone / "detritus").glob("*.png"))[1:]:
        path.unlink()
    done = pe.train(lone, tmp_path / "run", settings=TINY, progress=False)
    assert "detritus" in done.model.classes
    assert "single training image: ['detritus']" in caplog.text


def test_identical_images_on_two_sides_are_an_error_or_dropped(images, tmp_path):
    catalog = pe.catalog(images, split=(0.6, 0.2, 0.2), progress=False)
    frame = catalog.frame.copy()
    first_test = frame.index[frame["split"] == "test"][0]
    twin = frame.index[frame["split"] == "train"][0]
    copied = tmp_path / "copy.png"
    shutil.copy(frame.loc[first_test, "path"], copied)
    frame.loc[twin, "path"] = str(copied)
    leaky = pe.ImageCatalog(frame)
    with pytest.raises(InputError, match=r"(?s)1 images have copies in another split.*copy\.png"):
        pe.train(leaky, tmp_path / "run", settings=QUICK, progress=False)
    settings = {**TINY, "split.drop_duplicates": True}
    done = pe.train(leaky, tmp_path / "run", settings=settings, progress=False)
    assert len(pe.ImageCatalog.load(done.folder.catalog)) == 47
    (row,) = pd.read_csv(done.folder.faults).to_dict("records")
    assert (row["column"], row["outcome"]) == ("split", "lost")
    assert "train here, test in" in row["found"]


@pytest.fixture
def contradicting(images, tmp_path):
    """The images with two of one class saved again, in another format, as another class; all with splits."""
    folder = shutil.copytree(images, tmp_path / "contradicting")
    catalog = pe.catalog(images, split=(0.6, 0.2, 0.2), progress=False)
    frame = catalog.frame[catalog.frame["label"] == "detritus"]
    rows = [frame[frame["split"] == split].iloc[0] for split in ("train", "test")]
    for row in rows:
        Image.open(row["path"]).convert("RGB").save(folder / "Calanus finmarchicus" / f"again_{row['split']}.bmp")
    moved = pe.catalog(folder, progress=False).frame
    split = dict(zip(catalog.frame["object_id"], catalog.frame["split"], strict=True))
    split |= {f"Calanus finmarchicus/again_{row['split']}.bmp": row["split"] for row in rows}
    return pe.ImageCatalog(moved.assign(split=moved["object_id"].map(split))), [row["object_id"] for row in rows]


def test_copies_with_two_labels_are_told_at_once_and_not_learned_from(contradicting, tmp_path, caplog, no_pictures):
    catalog, (in_train, in_test) = contradicting
    pe.catalog(catalog, tmp_path / "c.csv", progress=False)
    listed = pd.read_csv(tmp_path / "c_faults.csv")
    assert len(listed) == 4 and listed["outcome"].eq("kept").all()
    assert "again_train.bmp: 'Calanus finmarchicus' here, 'detritus' in " in caplog.text
    assert in_train in caplog.text
    assert "contradicts" not in pe.ImageCatalog.load(tmp_path / "c.csv").frame
    caplog.clear()
    done = pe.train(tmp_path / "c.csv", tmp_path / "run", settings=TINY, progress=False)
    assert "4 images have a copy (equal pixels) with another label" in caplog.text
    assert "2 of train and val are not learned from" in caplog.text
    faults = pd.read_csv(done.folder.faults)
    assert sorted(faults["outcome"]) == ["kept", "kept", "lost", "lost"]
    assert len(pe.ImageCatalog.load(done.folder.catalog)) == 50  # to be corrected there
    learned = pe.EmbeddingTable.load(done.folder.vectors("train")).object_id
    assert in_train not in learned
    assert "Calanus finmarchicus/again_train.bmp" not in learned
    assert in_test in pe.EmbeddingTable.load(done.folder.vectors("test")).object_id
    found = pe.suspects(done.folder.path, tmp_path / "doubts", n_folds=0, progress=False)
    assert len(found.contradictions) == 4
    corrections = pd.read_csv(tmp_path / "doubts" / "corrections.csv")
    assert {in_train, in_test} <= set(corrections["object_id"][:4])
    assert corrections["label"][:4].isin(["detritus", "Calanus finmarchicus"]).all()
    corrections["action"] = np.where(corrections["object_id"].str.contains("again"), "delete", "keep")
    mended = pe.apply_corrections(done.folder.catalog, corrections, tmp_path / "c2.csv").catalog
    caplog.clear()
    pe.catalog(mended, tmp_path / "c3.csv", progress=False)
    assert not (tmp_path / "c3_faults.csv").exists()
    assert "label" not in caplog.text


def test_contradictions_are_learned_from_when_asked(contradicting, tmp_path, no_pictures):
    settings = {**TINY, "split.keep_contradictions": True}
    done = pe.train(contradicting[0], tmp_path / "run", settings=settings, progress=False)
    assert contradicting[1][0] in pe.EmbeddingTable.load(done.folder.vectors("train")).object_id
    assert pd.read_csv(done.folder.faults)["outcome"].tolist() == ["kept"] * 4


def test_one_picture_in_two_formats_stays_in_one_split(tmp_path):
    for label in ("copepod", "medusa"):
        for number in range(6):
            picture = Image.effect_noise((20 + number, 25), 40 + number)
            (tmp_path / label).mkdir(exist_ok=True)
            picture.save(tmp_path / label / f"{number}.png")
            picture.save(tmp_path / label / f"{number}_again.bmp")
    for seed in range(5):
        frame = pe.catalog(tmp_path, split=(0.5, 0.25, 0.25), seed=seed, progress=False).frame
        pair = frame["object_id"].str.replace(r"(_again)?\.\w+$", "", regex=True)
        assert (frame.groupby(pair)["split"].nunique() == 1).all()
        assert (frame.groupby(pair).size() == 2).all()


def test_catalog_tells_of_copies_in_two_splits_and_of_images_that_cannot_be_read(tmp_path, caplog):
    for name in ("train/a/1.png", "train/b/2.png", "test/a/3.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((20, 20), 40).save(tmp_path / "images" / name)
    Image.open(tmp_path / "images/train/a/1.png").save(tmp_path / "images/test/a/again.bmp")
    (tmp_path / "images/test/a/cut.png").write_bytes((tmp_path / "images/test/a/3.png").read_bytes()[:99])
    made = pe.catalog(tmp_path / "images", tmp_path / "c.csv", progress=False)
    assert len(made) == 5
    assert "1 images have copies (equal pixels) in another split" in caplog.text
    row, copy = pd.read_csv(tmp_path / "c_faults.csv").to_dict("records")
    assert row["file"].endswith("cut.png") and row["outcome"] == "kept"
    assert row["found"].startswith("the image cannot be decoded")
    assert copy["file"].endswith("1.png") and copy["outcome"] == "kept"
    assert re.fullmatch(r"train here, test in .*again\.bmp, whose pixels are equal", copy["found"])
    caplog.clear()
    made = pe.catalog(tmp_path / "images", tmp_path / "c.csv", drop_duplicates=True, overwrite=True, progress=False)
    assert len(made) == 4
    assert "1 images have copies" in caplog.text and "they are left out" in caplog.text
    assert pd.read_csv(tmp_path / "c_faults.csv")["outcome"].tolist() == ["kept", "lost"]


def test_a_table_of_another_kind_is_not_replaced_by_faults(images, tmp_path):
    (tmp_path / "c_faults.csv").write_text("engine,fault\n2,oil\n")
    with pytest.raises(OutputError, match=r"c_faults\.csv exists already and is not a table of faults"):
        pe.catalog(images, tmp_path / "c.csv", overwrite=True, progress=False)
    assert (tmp_path / "c_faults.csv").read_text().startswith("engine")
    (tmp_path / "c_faults.csv").write_text("file;row;column;expected;found;outcome\n", encoding="utf-8-sig")
    pe.catalog(images, tmp_path / "c.csv", progress=False)
    assert not (tmp_path / "c_faults.csv").exists()


@pytest.mark.parametrize("name", ["unknown", "Unknown", "UNKNOWN "])
def test_a_class_called_unknown_is_refused_at_once_with_the_class_map(images, tmp_path, name):
    folder = shutil.copytree(images, tmp_path / "images")
    (folder / "detritus").rename(folder / name)
    message = rf"found the class '{name.strip()}'.*{name.strip()},unidentified.*--class-map"
    for verb in (pe.catalog, pe.train, pe.run, pe.seen_unseen):
        with pytest.raises(InputError, match=message):
            verb(folder, tmp_path / ("c.csv" if verb is pe.catalog else "run"), progress=False)
    assert "unidentified" in pe.catalog(folder, class_map={name: "unidentified"}, progress=False).classes
    assert len(pe.catalog(folder, exclude=[name], progress=False)) == 36
    with pytest.raises(InputError, match="other than unknown"):
        pe.catalog(images, class_map={"detritus": name}, progress=False)
    near = {"detritus": "unknown_unclassified"}
    assert "unknown_unclassified" in pe.catalog(images, class_map=near, progress=False).classes


def test_near_copies_in_two_splits_are_told_after_embedding(images, tmp_path, caplog, no_pictures):
    catalog = pe.catalog(images, split=(0.6, 0.2, 0.2), progress=False)
    frame = catalog.frame.copy()
    row = frame.index[frame["split"] == "test"][0]
    other = Image.open(frame.loc[frame.index[frame["split"] == "train"][0], "path"]).convert("L")
    other.putpixel((1, 1), other.getpixel((1, 1)) ^ 1)  # pixels that differ, though nobody sees it
    other.save(tmp_path / "other.png")
    frame.loc[row, "path"] = str(tmp_path / "other.png")
    done = pe.train(pe.ImageCatalog(frame), tmp_path / "run", settings=TINY, progress=False)
    listed = pd.read_csv(done.folder.analysis("near_copies") / "near_copies.csv")
    assert frame.loc[row, "object_id"] in set(listed["object_id"])
    assert (listed["cosine"] > 0.999).all()
    assert (listed["split"] != listed["copy_split"]).all()
    assert f"{len(listed)} of " in caplog.text and "near-copy in another split" in caplog.text


def test_labels_with_a_slash_come_through_a_csv(images, tmp_path, no_pictures):
    catalog = pe.ImageCatalog.load(pe.catalog(images, progress=False).save(tmp_path / "c.csv"))
    renamed = catalog.with_classes(class_map={"detritus": "detritus/fibre <dark>"})
    renamed.save(tmp_path / "c.csv")
    done = pe.train(tmp_path / "c.csv", tmp_path / "run", settings=TINY, progress=False)
    assert "detritus/fibre <dark>" in done.model.classes


def test_a_catalog_without_test_is_scored_on_val(images, tmp_path, no_pictures):
    settings = {**TINY, "split.fractions": (0.8, 0.2, 0.0)}
    assert pe.train(images, tmp_path / "run", settings=settings, progress=False).scores["split"] == "val"


def test_catalog_merges_splits_and_draws(images, tmp_path):
    made = pe.catalog(images, tmp_path / "c.csv", class_map={"detritus": "other", "фиш, egg": "other"},
                      split=(0.5, 0.25, 0.25), preview=True, progress=False)  # fmt: skip
    assert made.classes == ["Calanus finmarchicus", "Méduse<Cnidaria", "other"]
    loaded = pe.ImageCatalog.load(tmp_path / "c.csv")
    assert loaded.frame["path"].tolist() == made.frame["path"].tolist()
    pictures = {path.name for path in (tmp_path / "c_preview").iterdir()}
    assert pictures >= {"preview.png", "examples.png", "class_sizes.png", "image_sizes.png"}


def test_classes_whose_names_differ_in_capitals_are_told_by_catalog_and_run(images, tmp_path, no_pictures, caplog):
    frame = pe.catalog(images, progress=False).frame
    mixed = pe.ImageCatalog.from_rows(frame.assign(label=frame["label"].where(frame.index != 0, "DETRITUS")))
    pe.catalog(mixed, progress=False)
    assert caplog.text.count("differ only in capitals") == 1
    pe.run(mixed, tmp_path / "run", settings=TINY, progress=False)
    assert caplog.text.count("differ only in capitals") == 2
    assert "DETRITUS,detritus" in caplog.text


# --- objectives


@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        ("triplet", {"training.ema": 0.9}),
        ("multi_similarity", {"training.memory": 16}),
        ("arcface", {"training.sampling": "square_root", "training.optimizer": "sgd"}),
        ("supcon", {"training.sampling": "natural", "training.schedule": "rounds"}),
    ],
)
def test_every_objective_does_the_whole_job(images, tmp_path, no_pictures, objective, settings):
    settings = {**TINY, **settings, "training.objective": objective}
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
    found = pe.search(folder, folder, list(train.path[:2]), k=3, progress=False)
    first = found[found["rank"] == 1]
    assert first["object_id"].tolist() == train.object_id[:2].tolist()
    assert first["distance"].to_numpy() == pytest.approx(0, abs=1e-5)
    nearest = np.sort(np.linalg.norm(train.vectors - train.vectors[0], axis=1))[:3]
    np.testing.assert_allclose(found["distance"][:3], nearest, atol=1e-5)
    for method in ("centroid", "knn"):
        assert len(pe.classify(folder, images / "detritus", method, progress=False)) == 12
        scored = pe.evaluate(folder, folder, method, tmp_path / method)
        assert scored.to_dict()["accuracy"] == reference.scores[method]["accuracy"]


def test_settings_that_cannot_go_together_leave_no_run(images, tmp_path):
    with pytest.raises(SettingError, match=r"^training\.angular_margin is for arcface"):
        pe.run(images, tmp_path / "run", settings={**TINY, "training.angular_margin": 0.3}, progress=False)
    assert not (tmp_path / "run").exists()


def test_without_validation_images_the_space_is_looked_at_all_the_same(images, tmp_path, no_pictures):
    settings = {**TINY, "training.epochs": 2, "split.fractions": (0.8, 0.0, 0.2)}
    done = pe.train(images, tmp_path / "run", settings=settings, progress=False)
    assert not done.folder.vectors("val").exists()
    history = pd.read_csv(done.folder.history)
    assert history[["centroid_accuracy", "knn_accuracy"]].isna().all(axis=None)
    space = history[["within_distance", "between_distance", "effective_rank"]]
    assert (space > 0).all(axis=None)
    assert (space[["within_distance", "between_distance"]] <= 2).all(axis=None)
    assert done.model.training["best_epoch"] == 2  # the last, where none is better
    assert done.scores["split"] == "test"


def test_of_very_many_validation_images_the_same_few_are_named_after_every_epoch(
    images, tmp_path, monkeypatch, no_pictures
):
    named = []
    monkeypatch.setattr(run_steps, "MOST_VALIDATION_IMAGES", 5)
    monkeypatch.setattr(run_steps, "count_never_predicted", lambda truth, *_: named.append(list(truth)) or 0)
    settings = {**TINY, "training.epochs": 2, "split.fractions": (0.5, 0.3, 0.2)}
    done = pe.train(images, tmp_path / "run", settings=settings, progress=False)
    assert [len(truth) for truth in named] == [5, 5]
    assert named[0] == named[1]
    accuracies = pd.read_csv(done.folder.history)[["centroid_accuracy", "knn_accuracy"]].to_numpy()
    np.testing.assert_allclose(accuracies * 5, np.round(accuracies * 5), atol=1e-9)
    assert len(pe.EmbeddingTable.load(done.folder.vectors("val"))) > 5


def test_the_space_is_looked_at_in_one_view_and_embedded_in_the_models_own(images, tmp_path, no_pictures):
    done = pe.train(images, tmp_path / "run", settings={**TINY, "embedding.views": 8}, progress=False)
    model = done.model
    assert model.views == 8
    table = pe.EmbeddingTable.load(done.folder.vectors("train"))
    paths = list(table.path)
    np.testing.assert_allclose(table.vectors, model.embed(paths, views=8), atol=1e-5)
    one = model.embed(paths, views=1).astype(float)
    distances = np.linalg.norm(one[:, None] - one, axis=2)
    same = table.label[:, None] == table.label
    history = pd.read_csv(done.folder.history)
    assert history["between_distance"].tolist() == pytest.approx([distances[~same].mean()], rel=1e-4)
    assert history["within_distance"].tolist() == pytest.approx([distances[same].sum() / (same.sum() - 36)], rel=1e-4)


# --- size inputs


IN_PIXELS = {**TINY, "network.size_inputs": "pixels"}
IN_MICROMETRES = {**TINY, "network.size_inputs": "micrometres"}


@pytest.fixture
def scaled(images):
    """A catalog with a pixel size of each image."""
    frame = pe.catalog(images, split=(0.6, 0.2, 0.2), progress=False).frame
    return pe.ImageCatalog(frame.assign(pixel_size=np.linspace(0.5, 3, len(frame))))


def with_pixel_size(catalog, object_id, value):
    """The catalog with another pixel size of one image."""
    frame = catalog.frame
    return pe.ImageCatalog(frame.assign(pixel_size=frame["pixel_size"].where(frame["object_id"] != object_id, value)))


def test_sizes_in_pixels_do_the_whole_job(images, tmp_path, no_pictures):
    gently = {**IN_PIXELS, "training.learning_rate": 1e-3}  # one epoch at the full rate leaves hardly any space
    done = pe.run(images, tmp_path / "run", settings=gently, progress=False)
    assert json.loads((done.folder.model / "config.json").read_text())["network"]["size_inputs"] == "pixels"
    table = pe.EmbeddingTable.load(done.folder.vectors("test"))
    again = pe.embed(done.folder.path, pe.ImageCatalog.load(done.folder.catalog).split("test"), progress=False)
    assert again.model_hash == table.model_hash
    np.testing.assert_allclose(again.vectors, table.vectors, atol=1e-6)
    np.testing.assert_allclose(done.model.embed(list(table.path)), table.vectors, atol=1e-6)
    smaller = [Image.open(path).reduce(2) for path in table.path]
    assert np.abs(done.model.embed(smaller) - table.vectors).max() > 1e-2
    assert len(pe.classify(done.folder.path, images / "detritus", progress=False)) == 12
    assert pe.search(done.folder.path, done.folder.path, images / "detritus", k=1, progress=False)["rank"].eq(1).all()


def test_sizes_in_micrometres_do_the_whole_job(images, scaled, tmp_path, no_pictures):
    done = pe.run(scaled.save(tmp_path / "c.csv"), tmp_path / "run", settings=IN_MICROMETRES, progress=False)
    assert np.isfinite(pd.read_csv(done.folder.history)).all(axis=None)
    table = pe.EmbeddingTable.load(done.folder.vectors("test"))
    kept = pe.ImageCatalog.load(done.folder.catalog).split("test")
    np.testing.assert_allclose(kept.pixel_size, scaled.split("test").pixel_size)
    np.testing.assert_allclose(pe.embed(done.folder.path, kept, progress=False).vectors, table.vectors, atol=1e-6)
    np.testing.assert_allclose(done.model.embed(list(table.path), pixel_size=kept.pixel_size), table.vectors, atol=1e-6)
    names = pe.classify(done.folder.path, tmp_path / "c.csv", progress=False)
    assert len(names) == 48
    with pytest.raises(InputError, match="expected a column pixel_size"):
        pe.classify(done.folder.path, images / "detritus", progress=False)


def test_micrometres_without_pixel_sizes_are_refused(images, scaled, tmp_path, no_pictures):
    with pytest.raises(InputError, match=r"expected a column pixel_size .*found none"):
        pe.run(images, tmp_path / "one", settings=IN_MICROMETRES, progress=False)
    gap = with_pixel_size(scaled, scaled.frame["object_id"][7], np.nan)
    with pytest.raises(InputError, match=r"expected a column pixel_size .*found none for 1 of"):
        pe.run(gap, tmp_path / "two", settings=IN_MICROMETRES, progress=False)
    words = pe.ImageCatalog(scaled.frame.assign(pixel_size="fine"))
    with pytest.raises(InputError, match=r"column pixel_size: expected µm per pixel; .*'fine'"):
        pe.run(words, tmp_path / "three", settings=IN_MICROMETRES, progress=False)
    assert not (tmp_path / "three").exists()


def test_micrometres_without_pixel_sizes_leave_no_run(images, tmp_path, no_pictures):
    with pytest.raises(InputError, match="column pixel_size"):
        pe.run(images, tmp_path / "run", settings=IN_MICROMETRES, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_by_one_that_lacks_pixel_sizes(finished, images, tmp_path, no_pictures):
    copied = shutil.copytree(finished.folder.path, tmp_path / "run")
    with pytest.raises(InputError, match="column pixel_size"):
        pe.run(images, copied, settings=IN_MICROMETRES, overwrite=True, progress=False)
    assert (copied / "model" / "model.safetensors").exists()


def test_a_broken_image_needs_no_pixel_size(scaled, tmp_path, no_pictures):
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    frame = scaled.frame.copy()
    frame.loc[3, ["path", "pixel_size"]] = [str(broken), np.nan]
    done = pe.train(pe.ImageCatalog(frame), tmp_path / "run", settings=IN_MICROMETRES, progress=False)
    assert len(pe.ImageCatalog.load(done.folder.catalog)) == 47


def test_a_run_in_pixels_looks_at_no_pixel_size(scaled, tmp_path, no_pictures):
    gap = with_pixel_size(scaled, scaled.frame["object_id"][7], np.nan)
    done = pe.train(gap, tmp_path / "run", settings=IN_PIXELS, progress=False)
    assert pd.read_csv(done.folder.history)["n_broken_steps"].tolist() == [0]
    table = pe.EmbeddingTable.load(done.folder.vectors("train"))
    np.testing.assert_allclose(done.model.embed(list(table.path)), table.vectors, atol=1e-6)
    plain = pe.ImageCatalog(scaled.frame.drop(columns="pixel_size"))
    assert pe.train(plain, tmp_path / "plain", settings=IN_PIXELS, progress=False).model.hash == done.model.hash


# --- tensorboard


def test_training_is_logged_for_tensorboard_and_the_space_put_into_its_projector(images, tmp_path, no_pictures):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {**TINY, "training.epochs": 2, "training.tensorboard": True}
    done = pe.train(images, tmp_path / "run", settings=settings, progress=False)
    logged = EventAccumulator(str(done.folder.tensorboard)).Reload()
    history = pd.read_csv(done.folder.history)
    for name in ("loss", "within_distance", "knn_accuracy", "learning_rate"):
        points = logged.Scalars(name)
        assert [point.step for point in points] == [1, 2]
        assert [point.value for point in points] == pytest.approx(history[name].tolist(), rel=1e-5)
    (labels,) = done.folder.tensorboard.rglob("metadata.tsv")
    val = pe.EmbeddingTable.load(done.folder.vectors("val"))
    assert labels.read_text(encoding="utf-8").splitlines() == val.label.tolist()
    (vectors,) = done.folder.tensorboard.rglob("tensors.tsv")
    np.testing.assert_allclose(np.loadtxt(vectors, delimiter="\t"), val.vectors, atol=1e-5)
    assert list(done.folder.tensorboard.rglob("sprite.png"))
    pe.train(images, tmp_path / "run", settings=TINY, overwrite=True, progress=False)
    assert not done.folder.tensorboard.exists()


def test_no_log_is_written_unless_asked_for(finished):
    assert not finished.folder.tensorboard.exists()


LOGGED = {**TINY, "training.tensorboard": True}


def test_a_log_without_tensorboard_says_what_to_install(images, tmp_path, monkeypatch, no_pictures):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DependencyError, match=r"training\.tensorboard needs .*pip install 'plankton_embed\[track\]'"):
        pe.train(images, tmp_path / "run", settings=LOGGED, progress=False)


def test_a_run_is_not_overwritten_by_one_that_lacks_tensorboard(finished, images, tmp_path, monkeypatch, no_pictures):
    copied = shutil.copytree(finished.folder.path, tmp_path / "run")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DependencyError):
        pe.train(images, copied, settings=LOGGED, overwrite=True, progress=False)
    assert (copied / "model" / "model.safetensors").exists()


# --- seen and unseen classes


def test_unseen_classes_are_refused_and_enrolled(images, tmp_path, no_pictures, monkeypatch):
    frame = pe.catalog(images, split=(0.5, 0.25, 0.25), progress=False).frame
    catalog = pe.ImageCatalog(frame)
    out = tmp_path / "out"
    arguments = {"unseen": ["detritus"], "settings": TINY, "unknown_rate": 0.2, "n_draws": 2, "progress": False}
    found = pe.seen_unseen(catalog, out, **arguments)
    assert found.unseen == ["detritus"]
    assert "detritus" not in found.run.model.classes
    assert "detritus" not in set(pd.read_csv(found.run.folder.catalog)["label"])
    test = pe.EmbeddingTable.load(out / "vectors" / "test.parquet")
    assert sorted(test.object_id) == sorted(frame.loc[frame["split"] == "test", "object_id"])
    examples = pe.EmbeddingTable.load(out / "vectors" / "unseen_train.parquet")
    assert set(examples.label) == {"detritus"}
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert scores["open_set"]["n_unseen"] == 3
    assert scores["n_images"] == 9
    assert scores["unseen"] == ["detritus"]
    assert {row["n_examples"] for row in scores["enrolled"]} == {1, 2, 5}  # the class has 6 training images
    assert found.draws["new_only"].eq(1).all()  # one new class among itself
    for name in ("predictions.csv", "counts.csv", "thresholds.csv", "draws.csv", "learning_curve.csv"):
        assert (out / name).exists(), name
    with pytest.raises(OutputError, match="finished scores"):
        pe.seen_unseen(catalog, out, **arguments)
    # scores that are missing are made anew from the finished run
    (out / "scores.json").unlink()
    monkeypatch.setattr(run_steps, "train_model", None)
    again = pe.seen_unseen(catalog, out, **arguments)
    assert again.draws.equals(found.draws)


def test_unseen_classes_that_cannot_be_left_out_are_named_before_training(images, tmp_path):
    for arguments, message in (
        ({"unseen": ["whale"]}, "whale"),
        ({"n_unseen": 1}, "0 have at least 20 training images"),
        ({"unseen": ["detritus"], "n_unseen": 1}, "give one of them"),
        ({"unseen": ["detritus"], "unknown_rate": 5}, "unknown rate"),
        ({"unseen": ["detritus"], "unknown_rate": 0.05}, "at least 19 labelled images in val"),
        ({"unseen": ["detritus"], "n_draws": 0}, "draws"),
        ({"unseen": ["detritus"], "refuse_by": "nonsense"}, "nonsense"),
    ):
        with pytest.raises((InputError, SettingError), match=message):
            pe.seen_unseen(images, tmp_path / "out", settings=TINY, progress=False, **arguments)
        assert not (tmp_path / "out").exists()


def test_unseen_classes_are_left_out_of_no_run_and_beside_the_images(images, finished):
    for output, message in ((images / "out", "is inside"), (finished.folder.path, "is a run")):
        with pytest.raises(OutputError, match=message):
            pe.seen_unseen(images, output, unseen=["detritus"], overwrite=True, progress=False)


def test_a_begin_anew_that_was_stopped_is_gone_on_with(images, tmp_path, no_pictures, monkeypatch):
    arguments = {"unseen": ["detritus"], "settings": TINY, "unknown_rate": 0.4, "n_draws": 1, "progress": False}
    pe.seen_unseen(images, tmp_path / "out", **arguments)
    with monkeypatch.context() as stopped:
        stopped.setattr(run_steps, "train_model", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pe.seen_unseen(images, tmp_path / "out", overwrite=True, **arguments)
    pe.seen_unseen(images, tmp_path / "out", **arguments)
    assert (tmp_path / "out" / "scores.json").exists()


def test_validation_images_without_labels_calibrate_nothing(images, tmp_path, no_pictures, caplog):
    frame = pe.catalog(images, split=(0.5, 0.25, 0.25), progress=False).frame
    frame.loc[frame["split"] == "val", "label"] = None
    done = pe.run(pe.ImageCatalog(frame), tmp_path / "run", settings=TINY, progress=False)
    assert "calibration" not in done.scores["knn"]
    assert "no images to calibrate on" in caplog.text


def test_classes_drawn_as_unseen_have_images_to_enroll(images):
    catalog = pe.catalog(images, split=(0.8, 0.1, 0.1), progress=False)
    copies = [catalog.frame.assign(object_id=catalog.frame["object_id"] + str(n)) for n in range(3)]
    many = pe.ImageCatalog(pd.concat(copies, ignore_index=True))
    drawn = {tuple(seen_unseen_module._draw_unseen(many, 2, seed)) for seed in range(8)}
    assert len(drawn) > 1
    assert all(len(set(names)) == 2 for names in drawn)
    assert len(seen_unseen_module._draw_unseen(many, None, 0)) == 1
    with pytest.raises(InputError, match="2 must stay"):
        seen_unseen_module._draw_unseen(many, 3, 0)


@pytest.fixture(scope="session")
def deep_images(images, tmp_path_factory):
    """The drawn images as a camera of 12 bits saves them, in TIFFs of 16."""
    folder = tmp_path_factory.mktemp("deep")
    for path in sorted(images.rglob("*.png")):
        target = folder / path.relative_to(images).with_suffix(".tif")
        target.parent.mkdir(exist_ok=True)
        values = np.rint(np.asarray(Image.open(path)) / 255 * 4095)
        Image.fromarray(values.astype(np.uint16)).save(target)
    return folder


def test_12_bit_images_do_the_whole_job_as_8_bit_ones_do(images, deep_images, tmp_path, no_pictures, caplog):
    with caplog.at_level("INFO"):
        deep = pe.run(deep_images, tmp_path / "deep", settings=TINY, progress=False)
    assert "12 bits, white is 4095" in caplog.text
    assert yaml.safe_load(deep.folder.settings.read_text())["preparation"]["white_level_16bit"] == "auto"
    assert deep.model.preparation.white_level_16bit == 4095
    summary = json.loads((deep.folder.figures / "catalog_summary.json").read_text())
    assert (summary["grey_levels"]["white_level"], summary["grey_levels"]["bits"]) == (4095, 12)
    dark = np.full((30, 30), 300, np.uint16)  # a later image has the model's white level, not its own
    Image.fromarray(dark).save(tmp_path / "dark.tif")
    caplog.clear()
    later = pe.embed(deep.model, [tmp_path / "dark.tif"], progress=False)
    grey = np.full((30, 30), round(300 / 4095 * 255), np.uint8)
    np.testing.assert_allclose(later.vectors, deep.model.embed([grey]), atol=1e-6)
    assert "white level" not in caplog.text
    deep.model.embed([dark * 200])
    assert (
        "1 of 1 images, such as image 0, have values above the model's white level 4095 (up to 60,000)" in caplog.text
    )
    before = deep.folder.scores.stat().st_mtime_ns
    pe.run(deep_images, tmp_path / "deep", settings=TINY, progress=False)  # finished: all is skipped
    assert deep.folder.scores.stat().st_mtime_ns == before


def test_a_run_keeps_the_white_level_that_it_began_with(deep_images, tmp_path, no_pictures, monkeypatch, caplog):
    fixed = {**TINY, "preparation.white_level_16bit": 65535}  # as every run of earlier releases has it
    with monkeypatch.context() as stopped:
        stopped.setattr(run_steps, "train_model", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pe.run(deep_images, tmp_path / "run", settings=fixed, progress=False)
    result = pe.train(deep_images, tmp_path / "run", settings=TINY, resume=True, progress=False)
    assert result.model.preparation.white_level_16bit == 65535
    assert "far below preparation.white_level_16bit 65535" in caplog.text
    with pytest.raises(SettingError, match="white_level_16bit was 65535, is 4095"):
        pe.run(deep_images, tmp_path / "run", settings={**TINY, "preparation.white_level_16bit": 4095})


def test_catalog_says_the_bit_depth_and_shows_it(deep_images, tmp_path, caplog):
    with caplog.at_level("INFO"):
        pe.catalog(deep_images, tmp_path / "deep.csv", preview=True, progress=False)
    assert "48 of 48 images have more than 8 bits" in caplog.text
    summary = json.loads((tmp_path / "deep_preview" / "catalog_summary.json").read_text())
    assert summary["grey_levels"]["white_level"] == 4095


def test_names_that_nobody_has_validated_are_labels_where_they_are_wanted(tmp_path):
    lines = ["img_file_name\tobject_id\tobject_annotation_category\tobject_annotation_status"]
    for number in range(8):
        Image.new("L", (9, 9), 20 * number).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png\to{number}\t{('egg', 'mysid')[number % 2]}\tpredicted")
    (tmp_path / "ecotaxa_a.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(
        InputError, match=r"8 images have names that no person has validated; --status validated,predicted"
    ):
        pe.train(tmp_path, tmp_path.with_name("run"), progress=False)
    assert pe.catalog(tmp_path, progress=False).classes == []
    assert pe.catalog(tmp_path, status="predicted", progress=False).classes == ["egg", "mysid"]
    with pytest.raises(SettingError, match="dilution: it goes with volumes of a PlanktoScope"):
        pe.catalog(tmp_path, dilution="multiply", progress=False)
