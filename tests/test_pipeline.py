"""The whole job on a small drawn set, and what must happen when something is wrong."""

import json
import shutil
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import plankton_embed as pe
from plankton_embed.errors import InputError, MismatchError, OutputError, SettingError
from plankton_embed.images.drawn import draw_set

QUICK = {
    "preparation.target_size": 75,
    "network.trunk": "resnet18",
    "network.dimension": 16,
    "training.epochs": 2,
    "training.images_per_class": 16,
    "training.classes_per_batch": 2,  # many small batches, so that batch norm comes to know its means
    "training.batch_images_per_class": 2,
    "training.precision": "float32",
}


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


@pytest.fixture
def stranger(finished, tmp_path):
    """An untrained model of the same shape as the run's."""
    from plankton_embed.settings import Settings

    settings = Settings.load(finished.folder.settings)
    model = pe.EmbeddingModel.build(settings.network, settings.preparation, seed=99).to("cpu")
    model.save(tmp_path / "stranger")
    return model


def test_a_run_leaves_every_file(finished):
    folder = finished.folder
    for path in (folder.catalog, folder.faults, folder.settings, folder.model / "model.safetensors",
                 folder.last_checkpoint, folder.best_weights, folder.vectors("train"), folder.vectors("val"),
                 folder.vectors("test"), folder.index / "index.faiss", folder.history, folder.scores,
                 folder.predictions, folder.figures / "curves.png", folder.figures / "neighbors.png",
                 folder.figures / "knn" / "confusion.png", folder.figures / "preview.png",
                 folder.analysis("evaluate") / "centroid" / "centroid_distances.csv"):  # fmt: skip
        assert path.is_file(), path
    history = pd.read_csv(folder.history)
    assert history["epoch"].tolist() == [1, 2]
    assert (history["seconds"] > 0).all()


def test_scores_agree_with_scikit_learn_on_the_written_predictions(finished):
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

    scores = json.loads(finished.folder.scores.read_text())
    for method in ("centroid", "knn"):
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


def test_a_stopped_run_ends_as_one_never_stopped(finished, images, tmp_path, monkeypatch):
    from plankton_embed.training import trainer

    real, calls = trainer.save_checkpoint, []

    def stop_after_first(path, state):
        real(path, state)
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "save_checkpoint", stop_after_first)
    with pytest.raises(KeyboardInterrupt):
        pe.train(images, tmp_path / "run", settings=QUICK, progress=False)
    with pytest.raises(OutputError, match="--resume"):
        pe.train(images, tmp_path / "run", settings=QUICK, progress=False)
    resumed = pe.train(images, tmp_path / "run", settings=QUICK, resume=True, progress=False)
    assert len(calls) == 2
    assert resumed.model.hash == finished.model.hash
    assert not resumed.folder.index.exists()


def test_other_settings_or_images_in_the_same_folder_are_refused(finished, images, tmp_path):
    with pytest.raises(SettingError, match=r"training\.margin was 0\.2, is 0\.3"):
        pe.run(images, finished.folder.path, settings={**QUICK, "training.margin": 0.3}, progress=False)
    fewer = shutil.copytree(images, tmp_path / "fewer")
    shutil.rmtree(fewer / "detritus")
    with pytest.raises(InputError, match=r"other images \(48, now 36\)"):
        pe.run(fewer, finished.folder.path, settings=QUICK, progress=False)


def test_a_folder_with_other_things_is_refused_and_left_alone(images, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="exists already"):
        pe.run(images, tmp_path, settings=QUICK, progress=False)
    with pytest.raises(OutputError):
        pe.run(images, tmp_path, settings=QUICK, overwrite=True, progress=False)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


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


def test_overwriting_a_run_keeps_what_is_not_of_it(images, tmp_path):
    settings = {**QUICK, "training.epochs": 1}
    pe.train(images, tmp_path / "run", settings=settings, progress=False)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    again = pe.train(images, tmp_path / "run", settings={**settings, "seed": 5}, overwrite=True, progress=False)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert pe.Settings.load(again.folder.settings).seed == 5


def write_huge_png(path, side=30_000):
    """A grey PNG of side × side black pixels, a few kB on disk."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_broken_images_are_listed_with_their_reason_and_left_out(images, tmp_path):
    folder = shutil.copytree(images, tmp_path / "images")
    target = folder / "detritus"
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((90, 70), 40).save(whole)
    (target / "a_truncated.jpg").write_bytes(whole.read_bytes()[:900])
    (target / "b_empty.png").write_bytes(b"")
    (target / "c_text.jpg").write_text("this is no image")
    Image.new("L", (1, 1)).save(target / "d_tiny.png")
    write_huge_png(target / "e_huge.png")
    done = pe.train(folder, tmp_path / "run", settings={**QUICK, "training.epochs": 1}, progress=False)
    faults = pd.read_csv(done.folder.faults).set_index("object_id")["reason"]
    broken = ("a_truncated.jpg", "b_empty.png", "c_text.jpg", "d_tiny.png", "e_huge.png")
    assert faults.index.tolist() == [f"detritus/{name}" for name in broken]
    for word, reason in zip(("truncated", "empty", "no image", "1×1", "pixels"), faults, strict=True):
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
    done = pe.train(pe.ImageCatalog(frame), tmp_path / "run", settings={**QUICK, "training.epochs": 1}, progress=False)
    assert done.scores["knn"]["accuracy"] == 0
    assert done.scores["retrieval"] == {}


def test_a_split_of_its_own_that_tears_samples_is_refused(images, tmp_path):
    catalog = pe.catalog(images, split=(0.6, 0.2, 0.2), progress=False)
    torn = pe.ImageCatalog(catalog.frame.assign(sample_id="one"))
    with pytest.raises(InputError, match=r"1 values of sample_id lie on several sides.*such as one"):
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


def test_a_class_with_one_image_is_trained_on(images, tmp_path, caplog):
    lone = shutil.copytree(images, tmp_path / "lone")
    for path in sorted((lone / "detritus").glob("*.png"))[1:]:
        path.unlink()
    done = pe.train(lone, tmp_path / "run", settings={**QUICK, "training.epochs": 1}, progress=False)
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
    with pytest.raises(InputError, match=r"(?s)1 images lie on two sides.*copy\.png"):
        pe.train(leaky, tmp_path / "run", settings=QUICK, progress=False)
    settings = {**QUICK, "training.epochs": 1, "split.drop_duplicates": True}
    done = pe.train(leaky, tmp_path / "run", settings=settings, progress=False)
    assert len(pe.ImageCatalog.load(done.folder.catalog)) == 47


def test_labels_with_a_slash_come_through_a_csv(images, tmp_path):
    catalog = pe.ImageCatalog.load(pe.catalog(images, progress=False).save(tmp_path / "c.csv"))
    renamed = catalog.with_classes(class_map={"detritus": "detritus/fibre <dark>"})
    renamed.save(tmp_path / "c.csv")
    done = pe.train(tmp_path / "c.csv", tmp_path / "run", settings={**QUICK, "training.epochs": 1}, progress=False)
    assert "detritus/fibre <dark>" in done.model.classes


def test_a_catalog_without_test_is_scored_on_val(images, tmp_path):
    settings = {**QUICK, "training.epochs": 1, "split.fractions": (0.8, 0.2, 0.0)}
    assert pe.train(images, tmp_path / "run", settings=settings, progress=False).scores["split"] == "val"


def test_catalog_merges_splits_and_draws(images, tmp_path):
    made = pe.catalog(images, tmp_path / "c.csv", class_map={"detritus": "other", "фиш, egg": "other"},
                      split=(0.5, 0.25, 0.25), preview=True, progress=False)  # fmt: skip
    assert made.classes == ["Calanus finmarchicus", "Méduse<Cnidaria", "other"]
    loaded = pe.ImageCatalog.load(tmp_path / "c.csv")
    assert loaded.frame["path"].tolist() == made.frame["path"].tolist()
    pictures = {path.name for path in (tmp_path / "c_preview").iterdir()}
    assert pictures >= {"preview.png", "examples.png", "class_sizes.png", "image_sizes.png"}
