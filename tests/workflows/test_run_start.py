"""How a run starts or goes on: its folder, its settings, and the weights that it starts from."""

import shutil

import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.network.pretrained import choose_weights
from plankton_embed.network.saved_model import read_classes, read_seen
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.training.checkpoints import Checkpoints
from plankton_embed.workflows import run_steps
from plankton_embed.workflows.run_start import _check_start, keep_settings, open_run


def test_other_settings_or_images_in_the_same_folder_are_refused(finished, images, tmp_path, quick):
    with pytest.raises(SettingError, match=r"training\.margin was 0\.2, is 0\.3"):
        pe.run(images, finished.folder.path, settings={**quick, "training.margin": 0.3}, progress=False)
    fewer = shutil.copytree(images, tmp_path / "fewer")
    shutil.rmtree(fewer / "detritus")
    with pytest.raises(InputError, match=r"other images \(48, now 36\)"):
        pe.run(fewer, finished.folder.path, settings=quick, progress=False)
    frame = pe.ImageCatalog.load(finished.folder.catalog).frame
    moved = pe.ImageCatalog(frame.assign(label=["detritus", *frame["label"][1:]]))
    with pytest.raises(
        InputError, match=f"object_id {frame['object_id'][0]} was .* in {frame['split'][0]}, is detritus"
    ):
        pe.run(moved, finished.folder.path, settings=quick, progress=False)


def test_images_whose_pixels_have_changed_are_other_images(images, tmp_path, frozen):
    changed = shutil.copytree(images, tmp_path / "images")
    pe.run(changed, tmp_path / "run", settings=frozen, progress=False)
    again = shutil.move(changed, tmp_path / "moved") and pe.ImageCatalog.load(tmp_path / "run" / "catalog.csv")
    frame = again.frame.assign(path=again.frame["path"].str.replace("/images/", "/moved/"))
    pe.run(pe.ImageCatalog(frame), tmp_path / "run", settings=frozen, progress=False)  # the same pixels
    first, second = sorted((tmp_path / "moved" / "detritus").iterdir())[:2]
    shutil.copy(second, first)
    with pytest.raises(InputError, match=rf"other images \(1 of 48 have other pixels, such as .*{first.stem}"):
        pe.run(pe.ImageCatalog(frame), tmp_path / "run", settings=frozen, progress=False)


def test_weights_that_cannot_be_used_are_noticed_before_anything_is_written(images, tmp_path, quick):
    for weights, error in (("nosuch", "nosuch does not exist"), ("isiis-resnet18", "does not fit the trunk")):
        with pytest.raises(InputError, match=error):
            pe.run(images, tmp_path / "run", settings={**quick, "network.weights": weights}, progress=False)
        assert not (tmp_path / "run").exists()


def test_a_folder_with_other_things_is_refused_and_left_alone(images, tmp_path, quick):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="exists already"):
        pe.run(images, tmp_path, settings=quick, progress=False)
    with pytest.raises(OutputError):
        pe.run(images, tmp_path, settings=quick, overwrite=True, progress=False)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_model_knows_how_many_of_its_images_were_dark(finished):
    assert finished.model.preparation.polarity == "dark_on_light"
    assert finished.model.training["share_dark"] == 0


def test_test_images_that_the_starting_model_has_seen_are_counted_and_warned_of(
    finished, images, tmp_path, tiny, caplog
):
    trained_on = set(finished.vectors["train"].object_id)
    assert finished.scores["n_seen"] == 0
    starts = [finished.folder.path, finished.folder.model, finished.folder.model / "model.safetensors"]
    for number, start in enumerate(starts):
        settings = {**tiny, "network.weights": str(start), "seed": 5}
        again = pe.run(images, tmp_path / str(number), settings=settings, progress=False)
        n_seen = len(trained_on & set(again.vectors["test"].object_id))
        assert again.scores["n_seen"] == n_seen > 0
        assert f"{n_seen} of the {again.scores['n_images']} scored images were training images" in caplog.text
        assert again.vectors["test"].columns["seen"].sum() == n_seen
        caplog.clear()
    loaded = pe.EmbeddingModel.load(again.folder.path)
    assert len(loaded.seen) == len(trained_on | set(again.vectors["train"].object_id))


def test_an_unfinished_run_keeps_its_starting_weights(finished, images, tmp_path, quick, packaged, monkeypatch):
    settings = {**quick, "network.weights": "auto", **packaged}
    with monkeypatch.context() as stopped:
        stopped.setattr(run_steps, "train_model", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pe.run(images, tmp_path / "run", settings=settings, progress=False)
    finished.model.save(tmp_path / "pretrained" / "a-newer")  # of a later release
    assert choose_weights(Settings.build(overrides=settings).network) == "a-newer"
    done = pe.run(images, tmp_path / "run", settings=Settings.build("cpu", overrides=settings), progress=False)
    assert done.model.network.weights == "of-run"


@pytest.mark.parametrize(("preset", "weights"), [("quick", "none"), ("instant", "imagenet")])
def test_a_run_of_a_trunk_without_a_model_goes_on_with_the_default_preset(tmp_path, preset, weights):
    own = Settings.build(preset, overrides={"network.trunk": "resnet34", "network.weights": weights})
    folder = RunFolder(tmp_path)
    own.save(folder.settings)
    now = Settings.build(overrides={"network.trunk": "resnet34"}, default="instant")
    assert keep_settings(folder, now) == own
    other = Settings.build("cpu" if preset == "quick" else "quick", overrides={"network.trunk": "resnet34"})
    with pytest.raises(SettingError, match=r"a run with other settings \(.*to continue that run, leave them"):
        keep_settings(folder, other)


def test_random_weights_that_nobody_asked_for_are_warned_of(images, tmp_path, packaged, caplog):
    chosen = {}
    for trunk, weights in (("mnasnet0_5", "auto"), ("mnasnet0_5", "none"), ("shufflenet_v2_x0_5", "auto")):
        settings = {"network.trunk": trunk, "network.weights": weights, "preparation.target_size": 32}
        _, built = open_run(images, tmp_path / "run", Settings.build(overrides=settings), False, "cpu")
        chosen[trunk, weights] = (built.network.weights, "no model with the trunk mnasnet0_5" in caplog.text)
        caplog.clear()
    assert list(chosen.values()) == [("none", True), ("none", False), ("of-run", False)]


def test_a_start_that_does_not_remember_its_training_images_is_warned_of(finished, images, tmp_path, frozen, caplog):
    model = shutil.copytree(finished.folder.model, tmp_path / "model")
    pe.run(images, tmp_path / "new", settings={**frozen, "network.weights": str(model)}, progress=False)
    assert "it is not known" not in caplog.text
    (model / "training_images.npy").unlink()  # as in a model of an earlier release
    shutil.copy(model / "model.safetensors", tmp_path / "weights.safetensors")  # or of any program
    for number, start in enumerate((model, tmp_path / "weights.safetensors", tmp_path / "0")):
        settings = {**frozen, "network.weights": str(start)}
        done = pe.run(images, tmp_path / str(number), settings=settings, progress=False)
        assert f"{start}: it is not known which images these weights were trained on" in caplog.text
        assert done.scores["n_seen"] is None
        assert "it is not known which images the model, or the model that it started from" in caplog.text
        assert pe.evaluate(done.folder.path, done.folder.path, progress=False).n_seen is None
        pe.embed(done.folder.path, images, tmp_path / f"{number}.csv", progress=False)
        assert pe.evaluate(done.folder.path, tmp_path / f"{number}.csv", progress=False).n_seen is None
        caplog.clear()


def test_a_stopped_run_remembers_its_start_and_is_itself_a_start_that_remembers(
    finished, images, tmp_path, tiny, monkeypatch, no_pictures
):
    real, start = Checkpoints.save_state, shutil.copytree(finished.folder.model, tmp_path / "start")

    def stop(self, *state):
        real(self, *state)
        raise KeyboardInterrupt

    catalog = finished.folder.catalog
    settings = {**tiny, "training.epochs": 2, "network.weights": str(start), "training.keep_every_epoch": True}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "save_state", stop)
        pe.train(catalog, tmp_path / "run", settings=settings, progress=False)
    epoch = str(tmp_path / "run" / "checkpoints" / "epoch-00001.safetensors")
    assert read_seen(epoch).tolist() == finished.model.seen.tolist()
    assert read_classes(epoch) == finished.model.classes
    shutil.rmtree(start)  # or another model has that name now
    frame = pd.read_csv(catalog)
    swapped = tmp_path / "swapped.csv"
    frame.assign(split=frame["split"].map({"train": "test", "test": "train", "val": "val"})).to_csv(
        swapped, index=False
    )
    done = pe.train(catalog, tmp_path / "run", resume=True, progress=False)
    assert done.model.network.weights == str(start)
    assert done.model.seen.tolist() == finished.model.seen.tolist()
    again = pe.run(swapped, tmp_path / "other", settings={**tiny, "network.weights": epoch}, progress=False)
    assert again.scores["n_seen"] == again.scores["n_images"] > 0


def test_a_run_of_another_start_is_not_shown_as_one_of_the_default(finished, images, tmp_path, packaged, caplog):
    other = str(finished.folder.path)
    done = pe.run(images, tmp_path / "run", settings={**packaged, "network.weights": other}, progress=False)
    with caplog.at_level("INFO", logger="plankton_embed"):
        pe.run(images, done.folder.path, settings=packaged, progress=False)
    assert f"with its own settings, not the defaults: network.weights was {other}, is of-run" in caplog.text
    with pytest.raises(SettingError, match=r"network\.weights was .*, is of-run"):
        pe.run(images, done.folder.path, settings={**packaged, "network.weights": "auto"}, progress=False)


def test_a_start_from_images_prepared_in_another_way_is_warned_of(images, tmp_path, frozen, caplog):
    pe.run(images, tmp_path / "same", settings=frozen, progress=False)
    assert "prepared in another way" not in caplog.text
    changed = {"preparation.polarity": "light_on_dark", "preparation.target_size": 40}
    pe.run(images, tmp_path / "other", settings={**frozen, **changed}, progress=False)
    assert "polarity dark_on_light, now light_on_dark, target_size 32, now 40" in caplog.text
    assert "add --set preparation.polarity=dark_on_light --set preparation.target_size=32" in caplog.text


@pytest.mark.parametrize(("side", "warned"), [(96, False), (139, False), (64, True)])
def test_training_at_smaller_images_than_those_of_the_start_is_warned_of(caplog, side, warned):
    changes = {"network.weights": "isiis-resnet18", "preparation.target_size": side}
    _check_start(Settings.build("quick", overrides=changes))
    assert ("target_size 96, now 64" in caplog.text) == warned
