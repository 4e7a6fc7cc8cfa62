"""`seen-unseen`: classes left out of training, rejected and enrolled."""

import json
import shutil

import pandas as pd
import pytest
from PIL import Image, ImageOps

import plankton_embed as pe
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.workflows import run_steps
from plankton_embed.workflows import seen_unseen as seen_unseen_module


def test_unseen_classes_are_refused_and_enrolled(images, tmp_path, no_pictures, monkeypatch, tiny):
    frame = pe.catalog(images, split=(0.5, 0.25, 0.25), progress=False).frame
    catalog = pe.ImageCatalog(frame)
    out = tmp_path / "out"
    arguments = {"unseen": ["detritus"], "settings": tiny, "unknown_rate": 0.2, "n_draws": 2, "progress": False}
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


def test_unseen_classes_that_cannot_be_left_out_are_named_before_training(images, tmp_path, tiny):
    for arguments, message in (
        ({"unseen": ["whale"]}, "whale"),
        ({"n_unseen": 1}, "0 have at least 20 training images"),
        ({"unseen": ["detritus"], "n_unseen": 1}, "use only one of them"),
        ({"unseen": ["detritus"], "unknown_rate": 5}, "unknown rate"),
        ({"unseen": ["detritus"], "unknown_rate": 0.05}, "at least 19 labelled images in val"),
        ({"unseen": ["detritus"], "n_draws": 0}, "draws"),
        ({"unseen": ["detritus"], "refuse_by": "nonsense"}, "nonsense"),
    ):
        with pytest.raises((InputError, SettingError), match=message):
            pe.seen_unseen(images, tmp_path / "out", settings=tiny, progress=False, **arguments)
        assert not (tmp_path / "out").exists()


def test_a_start_that_knows_an_unseen_class_is_refused(images, finished, tmp_path, tiny):
    settings = {**tiny, "network.weights": str(finished.folder.path)}
    rest = {"settings": settings, "unknown_rate": 0.4, "progress": False}
    with pytest.raises(InputError, match="was trained on 1 of these classes, such as detritus"):
        pe.seen_unseen(images, tmp_path / "out", unseen=["detritus"], **rest)
    frame = pe.catalog(images, split=(0.5, 0.25, 0.25), progress=False).frame
    spelled = pe.ImageCatalog(frame.replace({"label": {"detritus": "Detri-tus"}}))
    with pytest.raises(InputError, match="was trained on 1 of these classes, such as Detri-tus"):
        pe.seen_unseen(spelled, tmp_path / "out", unseen=["Detri-tus"], **rest)
    renamed = pe.ImageCatalog(frame.replace({"label": {"detritus": "marine snow"}}))
    with pytest.raises(InputError, match=r"was trained on \d+ images of these classes"):
        pe.seen_unseen(renamed, tmp_path / "out", unseen=["marine snow"], **rest)
    bare = shutil.copy(finished.folder.model / "model.safetensors", tmp_path / "weights.safetensors")
    rest["settings"] = {**tiny, "network.weights": str(bare)}
    with pytest.raises(InputError, match=r"it is not known which images .*weights\.safetensors was trained on"):
        pe.seen_unseen(images, tmp_path / "out", unseen=["detritus"], **rest)
    assert not (tmp_path / "out").exists()


def test_a_start_remembers_the_classes_of_the_model_that_it_started_from(images, finished, tmp_path, tiny, no_pictures):
    catalog = pe.catalog(images, split=(0.5, 0.25, 0.25), progress=False)
    settings = {**tiny, "network.weights": str(finished.folder.path)}
    start = pe.run(catalog.with_classes(exclude=["detritus"]), tmp_path / "start", settings=settings, progress=False)
    assert "detritus" not in start.model.classes
    for number, path in enumerate((images / "detritus").iterdir()):  # other images of that class
        ImageOps.invert(Image.open(path).convert("L")).save(tmp_path / f"{number}.png")
    others = pe.catalog([str(path) for path in tmp_path.glob("*.png")], progress=False).frame.assign(label="detritus")
    frame = pd.concat([catalog.with_classes(exclude=["detritus"]).frame.drop(columns="split"), others])
    settings["network.weights"] = str(start.folder.path)
    with pytest.raises(InputError, match="was trained on 1 of these classes, such as detritus"):
        pe.seen_unseen(
            pe.ImageCatalog.from_frame(frame.drop(columns="split", errors="ignore")),
            tmp_path / "out",
            unseen=["detritus"],
            settings=settings,
            unknown_rate=0.4,
            progress=False,
        )


def test_unseen_classes_are_left_out_of_no_run_and_beside_the_images(images, finished):
    for output, message in ((images / "out", "is inside"), (finished.folder.path, "is a run")):
        with pytest.raises(OutputError, match=message):
            pe.seen_unseen(images, output, unseen=["detritus"], overwrite=True, progress=False)


def test_a_begin_anew_that_was_stopped_is_gone_on_with(images, tmp_path, no_pictures, monkeypatch, tiny):
    arguments = {"unseen": ["detritus"], "settings": tiny, "unknown_rate": 0.4, "n_draws": 1, "progress": False}
    pe.seen_unseen(images, tmp_path / "out", **arguments)
    with monkeypatch.context() as stopped:
        stopped.setattr(run_steps, "train_model", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pe.seen_unseen(images, tmp_path / "out", overwrite=True, **arguments)
    pe.seen_unseen(images, tmp_path / "out", **arguments)
    assert (tmp_path / "out" / "scores.json").exists()


def test_classes_drawn_as_unseen_have_images_to_enroll(images):
    catalog = pe.catalog(images, split=(0.8, 0.1, 0.1), progress=False)
    copies = [catalog.frame.assign(object_id=catalog.frame["object_id"] + str(n)) for n in range(3)]
    many = pe.ImageCatalog(pd.concat(copies, ignore_index=True))
    drawn = {tuple(seen_unseen_module._draw_unseen(many, 2, seed)) for seed in range(8)}
    assert len(drawn) > 1
    assert all(len(set(names)) == 2 for names in drawn)
    assert len(seen_unseen_module._draw_unseen(many, None, 0)) == 1
    with pytest.raises(InputError, match="2 must remain"):
        seen_unseen_module._draw_unseen(many, 3, 0)
