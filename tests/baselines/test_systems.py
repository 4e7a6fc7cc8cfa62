"""The systems A to D, each from sources of the forms that it had, measured as a comparison measures them."""

import gzip
import io
import json
import zipfile
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import f1_score

from plankton_embed.baselines.convnets import FourConvNet, LeNet, SmallNet
from plankton_embed.baselines.fine_tuned import FineTunedNet
from plankton_embed.baselines.inputs import read_pixels
from plankton_embed.baselines.net_classifier import FIGURES
from plankton_embed.baselines.pixels import PixelMLP
from plankton_embed.baselines.systems import DEFAULT_SYSTEMS, SYSTEMS
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.preparation import open_image
from plankton_embed.images.readers.source import read_source
from plankton_embed.plots.figure import save_figure
from plankton_embed.workflows import compare as compare_module
from plankton_embed.workflows import compare_trial, run_steps
from plankton_embed.workflows.catalog import catalog
from plankton_embed.workflows.compare import compare
from plankton_embed.workflows.compare_trial import measure_system

BUDGET = 0.005  # minutes
CLASSES = ["bar", "cross", "disc", "ring"]
SETTINGS = {"preparation.target_size": 32}
SPLIT = (0.6, 0.2, 0.2)
DRAWN = {"progress": False, "split": SPLIT}


@pytest.fixture
def measure(monkeypatch, tmp_path):
    """Return a function that measures systems in this process; it gives their rows by name. Figures are coarse."""
    monkeypatch.setattr(compare_module, "_measure_apart", measure_system)
    monkeypatch.setattr(run_steps, "draw_catalog", lambda *_: None)
    for module in (compare_module, compare_trial):
        monkeypatch.setattr(module, "save_figure", partial(save_figure, dpi=20))

    def measure(images, only, budget=BUDGET, **options):
        options = {"settings": SETTINGS, "device": "cpu", "progress": False, **options}
        return compare(images, tmp_path / "out", only=only, budget=budget, **options).runs.set_index("name")

    return measure


def check_files(place, row):
    """Compute the scores of a row anew from the names that were given, and look whether all the files are there."""
    names = pd.read_csv(place / "predictions.csv", dtype={"label": str, "true_label": str})
    assert row["accuracy"] == pytest.approx((names["label"] == names["true_label"]).mean())
    wanted = f1_score(names["true_label"], names["label"], average="macro", zero_division=0)
    assert row["f1_macro"] == pytest.approx(wanted)
    assert names["probability"].between(0, 1).all()
    scores = row[["f1_macro", "accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "worst_class_f1"]]
    assert scores.between(0, 1).all()
    costs = row[["loss", "training_minutes", "images_per_second", "size_mb", "peak_memory_mb"]].astype(float)
    assert np.isfinite(costs).all() and (costs > 0).all()
    for name in ("per_class.csv", "confusion.png", "highest_losses.csv", "highest_losses.png"):
        assert (place / name).stat().st_size > 0
    return names


def check_net(place, row, kind, images, n_parameters):
    """Check a net's files, and that the saved net, loaded anew, gives the names of the table."""
    names = check_files(place, row)
    net = kind.load(place / "model", device="cpu")
    layers, history = pd.read_csv(place / "layers.csv"), pd.read_csv(place / "history.csv")
    assert layers["parameters"].sum() == n_parameters == net.n_parameters_
    assert n_parameters == sum(p.numel() for p in net.net_.parameters() if p.requires_grad)
    figures = [*FIGURES, *(f"val_{name}" for name in FIGURES)]
    assert np.isfinite(history[figures]).all(axis=None)
    assert history[[name for name in figures if "loss" not in name]].stack().between(0, 1).all()
    assert Image.open(place / "curves.png").size > (100, 50)
    config = json.loads((place / "model" / "config.json").read_text())
    assert config["settings"]["seconds"] == 60 * BUDGET
    assert net.predict(images).tolist() == names["label"].tolist()


def folder(tmp_path, name):
    return tmp_path / "out" / "systems" / name / "seed_0"


def write_flowcam(place, pictures, areas):
    """Write a list, a collage of the pictures one below the other, and a mask that leaves their left column out."""
    place.mkdir()
    n, height, width = pictures.shape
    fields = ["id", "image_x", "image_y", "image_w", "image_h"]
    heads = [*(f"{name}|int32" for name in fields), "abd_area|double", "abd_volume|double", "collage_file|string"]
    rows = [f"{k + 1}|0|{height * k}|{width}|{height}|{areas[k]}|{areas[k] % 7}|run.tif" for k in range(n)]
    (place / "run.lst").write_text("\n".join(["017", f"num-fields|{len(heads)}", *heads, *rows]) + "\n")
    collage = pictures.reshape(-1, width)
    mask = np.full_like(collage, 255)
    mask[:, 0] = 0
    Image.fromarray(collage).save(place / "run.tif")
    Image.fromarray(mask).save(place / "run_bin.tif")


def test_a_from_a_flowcam_run(measure, draw_shapes, tmp_path):
    pictures, labels = draw_shapes(80, 40, 30)
    write_flowcam(tmp_path / "run", pictures, np.arange(80) + 1000 * (np.arange(80) % 4))
    run = catalog(tmp_path / "run", masks=True, progress=False)
    named = ImageCatalog(run.frame.assign(label=labels))
    images = catalog(named, tmp_path / "images.csv", **DRAWN)
    assert (np.asarray(open_image(images.paths[5]))[:, 0] == 255).all()  # the masks are in use
    systems = {name: system for name, system in SYSTEMS.items() if system.origin == "A"}
    assert len(systems) == 5
    found = measure(tmp_path / "images.csv", [*systems, "boosted_trees"])
    test = read_pixels(images.split("test"), 64, 48)
    n_mlp, n_conv = 64 * 48 * 100 + 100 + 101 * 4, 3_238_277 - 33 * 257  # FACTS: for 37 classes
    n_deep = 64 * 48 * 60 + 60 + 61 * 40 + 41 * 4
    parameters = {"pixel_mlp_60_40": n_deep, "four_conv": n_conv, "four_conv_grown": n_conv}
    for name in systems:
        kind = FourConvNet if "conv" in name else PixelMLP
        check_net(folder(tmp_path, name), found.loc[name], kind, test, parameters.get(name, n_mlp))
    assert set(found["start"]) == {"scratch"}
    assert found.loc["pixel_mlp", "f1_macro"] > 0.4  # by chance .25
    trees = check_files(folder(tmp_path, "boosted_trees"), found.loc["boosted_trees"])
    assert len(trees) == 16 and found.loc["boosted_trees", "f1_macro"] > 0.5  # by the areas of the run
    assert not (tmp_path / "out" / "features.csv").exists()


def test_b_from_an_array_and_names_for_an_unlabelled_one(measure, draw_shapes, tmp_path):
    pictures, labels = draw_shapes(320, 64)
    shares = {"disc": 80, "bar": 20, "ring": 6}
    rows = np.concatenate([np.flatnonzero(labels == name)[:n] for name, n in shares.items()])
    rows = np.random.default_rng(0).permutation(rows)
    np.save(tmp_path / "birds.npy", pictures[rows])
    pd.Series(labels[rows], name="class").to_csv(tmp_path / "classes.csv")  # an index column and a class column
    images = catalog(tmp_path / "birds.npy", tmp_path / "images.csv", labels=tmp_path / "classes.csv", **DRAWN)
    systems = {name: system for name, system in SYSTEMS.items() if system.origin == "B"}
    assert len(systems) == 10
    found = measure(tmp_path / "images.csv", list(systems))
    test = read_pixels(images.split("test"), 64, 64)
    parameters = {"small_net_6": 1_968_707, "small_net_4": 92_579}
    for name in systems:
        place = folder(tmp_path, name)
        check_net(place, found.loc[name], SmallNet, test, parameters.get(name, 3_705_475))
        assert set(pd.read_csv(place / "per_class.csv")["label"]) == set(shares)
    net = SmallNet.load(folder(tmp_path, "small_net_4") / "model")
    np.save(tmp_path / "new.npy", pictures[:50])
    new = read_source(tmp_path / "new.npy")
    assert new.labels == [None] * 50
    given = net.predict(np.load(tmp_path / "new.npy"))
    assert given.tolist() == net.predict(read_pixels(new, 64, 64)).tolist()
    assert set(given) <= set(shares) and len(set(given)) > 1


def write_folders(place, pictures, labels):
    for number, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        (place / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / label / f"{number:03}.png")


def test_c_from_class_folders(measure, draw_shapes, tmp_path):
    pictures, labels = draw_shapes(80, 48)
    write_folders(tmp_path / "photos", pictures, labels)
    knows = FineTunedNet(weights="none", head_epochs=0, body_share=1.0, epochs=1, device="cpu")
    knows.fit(pictures[:16], labels[:16]).save(tmp_path / "knows")
    images = catalog(tmp_path / "photos", tmp_path / "images.csv", **DRAWN)
    found = measure(tmp_path / "images.csv", ["fine_tuned"], weights={"resnet18": str(tmp_path / "knows")})
    assert found.loc["fine_tuned", "start"] == f"resnet18: {tmp_path / 'knows'}"
    place = folder(tmp_path, "fine_tuned")
    n_trunk = 11_689_512 - 1000 * 513  # torchvision's ResNet-18 but for its last layer
    names = check_files(place, found.loc["fine_tuned"])
    net = FineTunedNet.load(place / "model", device="cpu")
    assert pd.read_csv(place / "layers.csv")["parameters"].sum() == n_trunk + 4 * 513 == net.n_parameters_
    assert (net.head_epochs, net.body_share) == (1, 0.1)
    losses = pd.read_csv(place / "highest_losses.csv")
    assert losses["loss"].is_monotonic_decreasing and set(losses["action"]) == {"keep"}
    truth = images.frame.set_index("object_id")["label"]
    assert losses["true_label"].tolist() == truth[losses["object_id"]].tolist()
    assert names["object_id"].tolist() == images.split("test").frame["object_id"].tolist()


def test_a_trunk_that_knows_nothing_learns_as_a_whole(measure, draw_shapes, tmp_path):
    pictures, labels = draw_shapes(40, 32)
    write_folders(tmp_path / "photos", pictures, labels)
    found = measure(tmp_path / "photos", ["fine_tuned"], weights={"resnet18": "none"})
    assert found.loc["fine_tuned", "start"] == "scratch"
    net = FineTunedNet.load(folder(tmp_path, "fine_tuned") / "model", device="cpu")
    assert (net.weights, net.head_epochs, net.body_share) == ("none", 0, 1.0)


def write_challenge(place, pictures, labels, gap=13):
    """Write a FlowCam set: imgs.zip, meta.csv, and features, two of which are copies and one has gaps."""
    place.mkdir()
    with zipfile.ZipFile(place / "imgs.zip", "w") as archive:
        for number, pixels in enumerate(pictures):
            out = io.BytesIO()
            Image.fromarray(pixels).save(out, "png")
            archive.writestr(f"imgs/{1000 + number}.png", out.getvalue())
    rows = [f"{1000 + k},V,living>{label},{label},{label}" for k, label in enumerate(labels)]
    (place / "meta.csv").write_text("\n".join(["objid,status,lineage,level1,level2", *rows]))
    codes = np.unique(labels, return_inverse=True)[1]
    noise = np.random.default_rng(0).normal(scale=0.4, size=len(labels))
    cells = [
        f"{1000 + k},{code + x},{2 * (code + x)},{'' if k % gap == 0 else code**2 + x}"
        for k, (code, x) in enumerate(zip(codes, noise, strict=True))
    ]
    (place / "features_native.csv.gz").write_bytes(gzip.compress("\n".join(["objid,area,area2,mean", *cells]).encode()))


@pytest.fixture
def small_vgg(monkeypatch):
    """A trunk of 2.5 million parameters in VGG-19's place, which has 140 million."""

    def build(weights):
        return FineTunedNet(trunk="mobilenet_v3_small", weights="none", frozen=True)

    monkeypatch.setitem(SYSTEMS, "vgg19_frozen", replace(SYSTEMS["vgg19_frozen"], build=build))


def test_d_from_a_flowcam_set_with_features(measure, draw_shapes, small_vgg, tmp_path):
    pytest.importorskip("lightgbm", reason="LightGBM is not installed (extra tabular)")
    pictures, labels = draw_shapes(240, 40)
    write_challenge(tmp_path / "set", pictures, labels)
    images = catalog(tmp_path / "set", tmp_path / "images.csv", **DRAWN)
    assert list(images.features) == ["area", "area2", "mean"]
    systems = {name: system for name, system in SYSTEMS.items() if system.origin == "D"}
    assert len(systems) == 5
    found = measure(tmp_path / "images.csv", list(systems), weights={"vgg19": "none"})
    test = read_pixels(images.split("test"), 64, 64, "three")
    for name in ("lenet", "lenet_weighted"):
        check_net(folder(tmp_path, name), found.loc[name], LeNet, test, 226_908 - 36 * 101)  # FACTS: for 40 classes
    check_net(folder(tmp_path, "vgg19_frozen"), found.loc["vgg19_frozen"], FineTunedNet, test, 4 * (1024 + 1))
    for name in ("boosted_trees", "boosted_trees_lightgbm"):
        check_files(folder(tmp_path, name), found.loc[name])
        assert found.loc[name, "f1_macro"] > 0.6
    assert not (tmp_path / "out" / "features.csv").exists()  # those of the catalog were taken


def test_d_measures_features_where_there_are_none(measure, draw_shapes, tmp_path, monkeypatch):
    pytest.importorskip("skimage", reason="scikit-image is not installed (extra features)")
    pictures, labels = draw_shapes(160, 40)
    write_folders(tmp_path / "photos", pictures, labels)
    found = measure(tmp_path / "photos", ["boosted_trees"])
    check_files(folder(tmp_path, "boosted_trees"), found.loc["boosted_trees"])
    assert found.loc["boosted_trees", "f1_macro"] > 0.9  # a disc, a ring, a cross and a bar differ in area alone
    shared = pd.read_csv(tmp_path / "out" / "features.csv")
    n_learned = (pd.read_csv(tmp_path / "out" / "catalog.csv")["split"] != "test").sum()
    assert found.loc["boosted_trees", "training_minutes"] > shared["seconds"][0] * n_learned / 60
    assert len(shared) == 160 and "area" in shared and shared["seconds"].nunique() == 1
    monkeypatch.setattr(compare_trial, "measure_shapes", None)  # never called again
    again = measure(tmp_path / "photos", ["boosted_trees"], seeds=2)
    assert again["seed"].tolist() == [0, 1]
    assert (again["images_per_second"] < 1 / shared["seconds"][0]).all()  # measuring counts in both


@pytest.mark.slow
def test_d_freezes_vgg_19(measure, draw_shapes, tmp_path):
    pictures, labels = draw_shapes(40, 32)
    write_folders(tmp_path / "photos", pictures, labels)
    images = catalog(tmp_path / "photos", tmp_path / "images.csv", **DRAWN)
    found = measure(tmp_path / "images.csv", ["vgg19_frozen"], weights={"vgg19": "none"})
    test = read_pixels(images.split("test"), 64, 64, "three")
    check_net(folder(tmp_path, "vgg19_frozen"), found.loc["vgg19_frozen"], FineTunedNet, test, 4 * (4096 + 1))


def test_every_kind_is_among_the_defaults():
    assert set(DEFAULT_SYSTEMS) <= set(SYSTEMS)
    assert {SYSTEMS[name].origin for name in DEFAULT_SYSTEMS} == {"A", "B", "C", "D", "ours"}
    assert {SYSTEMS[name].kind for name in DEFAULT_SYSTEMS} == {"net", "trees", "embedding", "softmax"}
