"""The steps of a run: images left out, copies, sizes, validation, bit depth and logs."""

import json
import shutil
import struct
import sys
import zlib

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import plankton_embed as pe
from plankton_embed.errors import DependencyError, InputError, SettingError
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows import run_steps


def write_huge_png(path, side=30_000):
    """A grey PNG of side × side black pixels, a few kB on disk."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_broken_images_are_listed_with_their_reason_and_left_out(images, tmp_path, no_pictures, tiny):
    folder = shutil.copytree(images, tmp_path / "images")
    target = folder / "detritus"
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((90, 70), 40).save(whole)
    (target / "a_truncated.jpg").write_bytes(whole.read_bytes()[:900])
    (target / "b_empty.png").write_bytes(b"")
    (target / "c_text.jpg").write_text("this is no image")
    Image.new("L", (1, 1)).save(target / "d_tiny.png")
    write_huge_png(target / "e_huge.png")
    done = pe.train(folder, tmp_path / "run", settings=tiny, progress=False)
    faults = pd.read_csv(done.folder.faults)
    broken = ("a_truncated.jpg", "b_empty.png", "c_text.jpg", "d_tiny.png", "e_huge.png")
    assert faults.columns.tolist() == ["file", "row", "column", "expected", "found", "outcome"]
    assert faults["file"].tolist() == [str(target / name) for name in broken]
    assert faults["outcome"].tolist() == ["lost"] * 5
    for word, reason in zip(("truncated", "empty", "not an image", "1×1", "pixels"), faults["found"], strict=True):
        assert word in reason
    assert len(pe.ImageCatalog.load(done.folder.catalog)) == 48


def test_a_test_split_of_new_classes_only_still_ends_well(images, tmp_path, tiny):
    catalog = pe.catalog(images, split=(0.6, 0.2, 0.2), progress=False)
    frame = catalog.frame.copy()
    frame.loc[frame["label"] == "detritus", "split"] = "test"
    frame = frame[(frame["label"] == "detritus") | (frame["split"] != "test")].reset_index(drop=True)
    done = pe.train(pe.ImageCatalog(frame), tmp_path / "run", settings=tiny, progress=False)
    assert done.scores["knn"]["accuracy"] == 0
    assert done.scores["retrieval"] == {}


def test_a_split_of_its_own_that_tears_samples_is_refused(images, tmp_path, quick):
    catalog = pe.catalog(images, split=(0.6, 0.2, 0.2), progress=False)
    torn = pe.ImageCatalog(catalog.frame.assign(sample_id="one"))
    with pytest.raises(InputError, match=r"1 values of sample_id are in several splits.*such as one"):
        pe.train(torn, tmp_path / "run", settings={**quick, "split.group_by": "sample_id"}, progress=False)


def test_a_class_with_one_image_is_trained_on(images, tmp_path, caplog, no_pictures, tiny):
    lone = shutil.copytree(images, tmp_path / "lone")
    for path in sorted((lone / "detritus").glob("*.png"))[1:]:
        path.unlink()
    done = pe.train(lone, tmp_path / "run", settings=tiny, progress=False)
    assert "detritus" in done.model.classes
    assert "single training image: ['detritus']" in caplog.text


def test_identical_images_on_two_sides_are_an_error_or_dropped(images, tmp_path, tiny, quick):
    catalog = pe.catalog(images, split=(0.6, 0.2, 0.2), progress=False)
    frame = catalog.frame.copy()
    first_test = frame.index[frame["split"] == "test"][0]
    twin = frame.index[frame["split"] == "train"][0]
    copied = tmp_path / "copy.png"
    shutil.copy(frame.loc[first_test, "path"], copied)
    frame.loc[twin, "path"] = str(copied)
    leaky = pe.ImageCatalog(frame)
    with pytest.raises(InputError, match=r"(?s)1 images have copies in another split.*copy\.png"):
        pe.train(leaky, tmp_path / "run", settings=quick, progress=False)
    settings = {**tiny, "split.drop_duplicates": True}
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


def test_copies_with_two_labels_are_told_at_once_and_not_learned_from(
    contradicting, tmp_path, caplog, no_pictures, tiny
):
    catalog, (in_train, in_test) = contradicting
    pe.catalog(catalog, tmp_path / "c.csv", progress=False)
    listed = pd.read_csv(tmp_path / "c_faults.csv")
    assert len(listed) == 4 and listed["outcome"].eq("kept").all()
    assert "again_train.bmp: 'Calanus finmarchicus' here, 'detritus' in " in caplog.text
    assert in_train in caplog.text
    assert "contradicts" not in pe.ImageCatalog.load(tmp_path / "c.csv").frame
    caplog.clear()
    done = pe.train(tmp_path / "c.csv", tmp_path / "run", settings=tiny, progress=False)
    assert "4 images have a copy (equal pixels) with another label" in caplog.text
    assert "2 in train and val are not used for training" in caplog.text
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


def test_contradictions_are_learned_from_when_asked(contradicting, tmp_path, no_pictures, tiny):
    settings = {**tiny, "split.keep_contradictions": True}
    done = pe.train(contradicting[0], tmp_path / "run", settings=settings, progress=False)
    assert contradicting[1][0] in pe.EmbeddingTable.load(done.folder.vectors("train")).object_id
    assert pd.read_csv(done.folder.faults)["outcome"].tolist() == ["kept"] * 4


def test_near_copies_in_two_splits_are_told_after_embedding(images, tmp_path, caplog, no_pictures, tiny):
    catalog = pe.catalog(images, split=(0.6, 0.2, 0.2), progress=False)
    frame = catalog.frame.copy()
    row = frame.index[frame["split"] == "test"][0]
    other = Image.open(frame.loc[frame.index[frame["split"] == "train"][0], "path"]).convert("L")
    other.putpixel((1, 1), other.getpixel((1, 1)) ^ 1)  # pixels that differ, though nobody sees it
    other.save(tmp_path / "other.png")
    frame.loc[row, "path"] = str(tmp_path / "other.png")
    done = pe.train(pe.ImageCatalog(frame), tmp_path / "run", settings=tiny, progress=False)
    listed = pd.read_csv(done.folder.analysis("near_copies") / "near_copies.csv")
    assert frame.loc[row, "object_id"] in set(listed["object_id"])
    assert (listed["cosine"] > 0.999).all()
    assert (listed["split"] != listed["copy_split"]).all()
    assert f"{len(listed)} of " in caplog.text and "near-copy in another split" in caplog.text


def test_labels_with_a_slash_come_through_a_csv(images, tmp_path, no_pictures, tiny):
    catalog = pe.ImageCatalog.load(pe.catalog(images, progress=False).save(tmp_path / "c.csv"))
    renamed = catalog.with_classes(class_map={"detritus": "detritus/fibre <dark>"})
    renamed.save(tmp_path / "c.csv")
    done = pe.train(tmp_path / "c.csv", tmp_path / "run", settings=tiny, progress=False)
    assert "detritus/fibre <dark>" in done.model.classes


def test_a_catalog_without_test_is_scored_on_val(images, tmp_path, no_pictures, tiny):
    settings = {**tiny, "split.fractions": (0.8, 0.2, 0.0)}
    assert pe.train(images, tmp_path / "run", settings=settings, progress=False).scores["split"] == "val"


def test_without_validation_images_the_space_is_looked_at_all_the_same(images, tmp_path, no_pictures, tiny):
    settings = {**tiny, "training.epochs": 2, "split.fractions": (0.8, 0.0, 0.2)}
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
    images, tmp_path, monkeypatch, no_pictures, tiny
):
    named = []
    monkeypatch.setattr(run_steps, "MOST_VALIDATION_IMAGES", 5)
    monkeypatch.setattr(run_steps, "count_never_predicted", lambda truth, *_: named.append(list(truth)) or 0)
    settings = {**tiny, "training.epochs": 2, "split.fractions": (0.5, 0.3, 0.2)}
    done = pe.train(images, tmp_path / "run", settings=settings, progress=False)
    assert [len(truth) for truth in named] == [5, 5]
    assert named[0] == named[1]
    accuracies = pd.read_csv(done.folder.history)[["centroid_accuracy", "knn_accuracy"]].to_numpy()
    np.testing.assert_allclose(accuracies * 5, np.round(accuracies * 5), atol=1e-9)
    assert len(pe.EmbeddingTable.load(done.folder.vectors("val"))) > 5


def test_the_space_is_looked_at_in_one_view_and_embedded_in_the_models_own(images, tmp_path, no_pictures, tiny):
    done = pe.train(images, tmp_path / "run", settings={**tiny, "embedding.views": 8}, progress=False)
    model = done.model
    assert model.views == 8
    table = pe.EmbeddingTable.load(done.folder.vectors("train"))
    paths = list(table.path)
    np.testing.assert_allclose(table.vectors, model.embed(paths, views=8), atol=1e-5)
    one = model.embed(paths, views=1, precision="float32").astype(float)
    distances = np.linalg.norm(one[:, None] - one, axis=2)
    same = table.label[:, None] == table.label
    history = pd.read_csv(done.folder.history)
    assert history["between_distance"].tolist() == pytest.approx([distances[~same].mean()], rel=1e-4)
    assert history["within_distance"].tolist() == pytest.approx([distances[same].sum() / (same.sum() - 36)], rel=1e-4)


# --- size inputs


@pytest.fixture
def sized_in_pixels(tiny):
    return {**tiny, "network.size_inputs": "pixels"}


@pytest.fixture
def sized_in_micrometres(tiny):
    return {**tiny, "network.size_inputs": "micrometres"}


@pytest.fixture
def scaled(images):
    """A catalog with a pixel size of each image."""
    frame = pe.catalog(images, split=(0.6, 0.2, 0.2), progress=False).frame
    return pe.ImageCatalog(frame.assign(pixel_size=np.linspace(0.5, 3, len(frame))))


def with_pixel_size(catalog, object_id, value):
    """The catalog with another pixel size of one image."""
    frame = catalog.frame
    return pe.ImageCatalog(frame.assign(pixel_size=frame["pixel_size"].where(frame["object_id"] != object_id, value)))


def test_sizes_in_pixels_do_the_whole_job(images, tmp_path, no_pictures, sized_in_pixels):
    gently = {**sized_in_pixels, "training.learning_rate": 1e-3}  # one epoch at the full rate leaves hardly any space
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
    assert pe.search(done.folder.path, images / "detritus", n_results=1, progress=False)["rank"].eq(1).all()


def test_sizes_in_micrometres_do_the_whole_job(images, scaled, tmp_path, no_pictures, sized_in_micrometres):
    done = pe.run(scaled.save(tmp_path / "c.csv"), tmp_path / "run", settings=sized_in_micrometres, progress=False)
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


def test_micrometres_without_pixel_sizes_are_refused(images, scaled, tmp_path, no_pictures, sized_in_micrometres):
    with pytest.raises(InputError, match=r"expected a column pixel_size .*found none"):
        pe.run(images, tmp_path / "one", settings=sized_in_micrometres, progress=False)
    gap = with_pixel_size(scaled, scaled.frame["object_id"][7], np.nan)
    with pytest.raises(InputError, match=r"expected a column pixel_size .*found none for 1 of"):
        pe.run(gap, tmp_path / "two", settings=sized_in_micrometres, progress=False)
    words = pe.ImageCatalog(scaled.frame.assign(pixel_size="fine"))
    with pytest.raises(InputError, match=r"column pixel_size: expected µm per pixel; .*'fine'"):
        pe.run(words, tmp_path / "three", settings=sized_in_micrometres, progress=False)
    assert not (tmp_path / "three").exists()


def test_micrometres_without_pixel_sizes_leave_no_run(images, tmp_path, no_pictures, sized_in_micrometres):
    with pytest.raises(InputError, match="column pixel_size"):
        pe.run(images, tmp_path / "run", settings=sized_in_micrometres, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_by_one_that_lacks_pixel_sizes(
    finished, images, tmp_path, no_pictures, sized_in_micrometres
):
    copied = shutil.copytree(finished.folder.path, tmp_path / "run")
    with pytest.raises(InputError, match="column pixel_size"):
        pe.run(images, copied, settings=sized_in_micrometres, overwrite=True, progress=False)
    assert (copied / "model" / "model.safetensors").exists()


def test_a_broken_image_needs_no_pixel_size(scaled, tmp_path, no_pictures, sized_in_micrometres):
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    frame = scaled.frame.copy()
    frame.loc[3, ["path", "pixel_size"]] = [str(broken), np.nan]
    done = pe.train(pe.ImageCatalog(frame), tmp_path / "run", settings=sized_in_micrometres, progress=False)
    assert len(pe.ImageCatalog.load(done.folder.catalog)) == 47


def test_a_run_in_pixels_looks_at_no_pixel_size(scaled, tmp_path, no_pictures, sized_in_pixels):
    gap = with_pixel_size(scaled, scaled.frame["object_id"][7], np.nan)
    done = pe.train(gap, tmp_path / "run", settings=sized_in_pixels, progress=False)
    assert pd.read_csv(done.folder.history)["n_broken_steps"].tolist() == [0]
    table = pe.EmbeddingTable.load(done.folder.vectors("train"))
    np.testing.assert_allclose(done.model.embed(list(table.path)), table.vectors, atol=1e-6)
    plain = pe.ImageCatalog(scaled.frame.drop(columns="pixel_size"))
    assert pe.train(plain, tmp_path / "plain", settings=sized_in_pixels, progress=False).model.hash == done.model.hash


# --- tensorboard


@pytest.fixture
def logged(tiny):
    return {**tiny, "training.tensorboard": True}


def test_training_is_logged_for_tensorboard_and_the_space_put_into_its_projector(
    images, tmp_path, no_pictures, tiny, logged
):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {**logged, "training.epochs": 2}
    done = pe.train(images, tmp_path / "run", settings=settings, progress=False)
    written = EventAccumulator(str(done.folder.tensorboard)).Reload()
    history = pd.read_csv(done.folder.history)
    for name in ("loss", "within_distance", "knn_accuracy", "learning_rate"):
        points = written.Scalars(name)
        assert [point.step for point in points] == [1, 2]
        assert [point.value for point in points] == pytest.approx(history[name].tolist(), rel=1e-5)
    (labels,) = done.folder.tensorboard.rglob("metadata.tsv")
    val = pe.EmbeddingTable.load(done.folder.vectors("val"))
    assert labels.read_text(encoding="utf-8").splitlines() == val.label.tolist()
    (vectors,) = done.folder.tensorboard.rglob("tensors.tsv")
    np.testing.assert_allclose(np.loadtxt(vectors, delimiter="\t"), val.vectors, atol=1e-5)
    assert list(done.folder.tensorboard.rglob("sprite.png"))
    pe.train(images, tmp_path / "run", settings=tiny, overwrite=True, progress=False)
    assert not done.folder.tensorboard.exists()


def test_no_log_is_written_unless_asked_for(finished):
    assert not finished.folder.tensorboard.exists()


def test_a_log_without_tensorboard_says_what_to_install(images, tmp_path, monkeypatch, no_pictures, logged):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DependencyError, match=r"training\.tensorboard needs .*pip install 'plankton_embed\[track\]'"):
        pe.train(images, tmp_path / "run", settings=logged, progress=False)


def test_a_run_is_not_overwritten_by_one_that_lacks_tensorboard(
    finished, images, tmp_path, monkeypatch, no_pictures, logged
):
    copied = shutil.copytree(finished.folder.path, tmp_path / "run")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DependencyError):
        pe.train(images, copied, settings=logged, overwrite=True, progress=False)
    assert (copied / "model" / "model.safetensors").exists()


# --- calibration and bit depth


def test_validation_images_without_labels_calibrate_nothing(images, tmp_path, no_pictures, caplog, tiny):
    frame = pe.catalog(images, split=(0.5, 0.25, 0.25), progress=False).frame
    frame.loc[frame["split"] == "val", "label"] = None
    done = pe.run(pe.ImageCatalog(frame), tmp_path / "run", settings=tiny, progress=False)
    assert "calibration" not in done.scores["knn"]
    assert "no calibration set (labelled images" in caplog.text


def test_12_bit_images_do_the_whole_job_as_8_bit_ones_do(deep_images, tmp_path, no_pictures, caplog, tiny):
    with caplog.at_level("INFO"):
        deep = pe.run(deep_images, tmp_path / "deep", settings=tiny, progress=False)
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
    pe.run(deep_images, tmp_path / "deep", settings=tiny, progress=False)  # finished: all is skipped
    assert deep.folder.scores.stat().st_mtime_ns == before


def test_a_run_keeps_the_white_level_that_it_began_with(deep_images, tmp_path, no_pictures, monkeypatch, caplog, tiny):
    fixed = {**tiny, "preparation.white_level_16bit": 65535}  # as every run of earlier releases has it
    with monkeypatch.context() as stopped:
        stopped.setattr(run_steps, "train_model", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pe.run(deep_images, tmp_path / "run", settings=fixed, progress=False)
    result = pe.train(deep_images, tmp_path / "run", settings=tiny, resume=True, progress=False)
    assert result.model.preparation.white_level_16bit == 65535
    assert "far below preparation.white_level_16bit 65535" in caplog.text
    with pytest.raises(SettingError, match="white_level_16bit was 65535, is 4095"):
        pe.run(deep_images, tmp_path / "run", settings={**tiny, "preparation.white_level_16bit": 4095})


def test_steps_hand_on_the_model_and_the_vectors_and_a_resumed_run_reads_them(images, tmp_path, tiny, monkeypatch):
    read = []
    for kind in (pe.EmbeddingModel, EmbeddingTable):
        inner = kind.load
        monkeypatch.setattr(kind, "load", lambda path, *more, _inner=inner: read.append(path) or _inner(path, *more))
    done = pe.run(images, tmp_path / "run", settings=tiny, progress=False)
    assert read == []
    folder = done.folder
    again = pe.run(images, tmp_path / "run", settings=tiny, progress=False)
    assert read == [folder.model, *(folder.vectors(name) for name in ("train", "val", "test"))]
    assert again.scores == done.scores
    assert again.model.card == done.model.card
    for name, table in done.vectors.items():
        pd.testing.assert_frame_equal(again.vectors[name].to_frame(), table.to_frame())
