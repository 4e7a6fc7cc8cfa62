"""What the tests of the commands share: drawn images, small runs of them, and vectors of an unknown model.

Every process trains these runs once, so no test may change them: one that must, copies the folder first.
"""

import numpy as np
import pytest
from PIL import Image

import plankton_embed as pe
from plankton_embed.images.drawn import draw_set
from plankton_embed.network import pretrained
from plankton_embed.run_folder import RunFolder


@pytest.fixture
def no_pictures(monkeypatch):
    """Write no pictures, which are half the time of a small run; they are drawn all the same."""
    monkeypatch.setattr("plankton_embed.workflows.run_steps.save_figure", lambda *_: None)
    monkeypatch.setattr("plankton_embed.workflows.result_folder.save_figure", lambda *_: None)


# --- images and runs


@pytest.fixture(scope="session")
def quick():
    """Settings of a run of seconds."""
    return {
        "preparation.target_size": 32,
        "network.trunk": "shufflenet_v2_x0_5",
        "network.frozen": False,
        "network.size_inputs": "none",
        "embedding.views": 1,
        "network.dimension": 16,
        "training.epochs": 2,
        "training.images_per_class": 16,
        "training.classes_per_batch": 2,  # many small batches, so that batch norm comes to know its means
        "training.batch_images_per_class": 2,
        "training.precision": "float32",
    }


@pytest.fixture(scope="session")
def tiny(quick):
    """The same of one short epoch."""
    return {**quick, "training.epochs": 1, "training.images_per_class": 8}


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
def deep_images(images, tmp_path_factory):
    """The drawn images as a camera of 12 bits saves them, in TIFFs of 16."""
    folder = tmp_path_factory.mktemp("deep")
    for path in sorted(images.rglob("*.png")):
        target = folder / path.relative_to(images).with_suffix(".tif")
        target.parent.mkdir(exist_ok=True)
        values = np.rint(np.asarray(Image.open(path)) / 255 * 4095)
        Image.fromarray(values.astype(np.uint16)).save(target)
    return folder


@pytest.fixture(scope="session")
def finished(images, quick, tmp_path_factory):
    """A finished run of the drawn images."""
    return pe.run(images, tmp_path_factory.mktemp("runs") / "run", settings=quick, progress=False)


@pytest.fixture
def frozen(finished, quick):
    """Settings of a run whose trunk is that of another, and frozen."""
    kept = {name: value for name, value in quick.items() if not name.startswith("training.")}
    return {**kept, "network.weights": str(finished.folder.path), "network.frozen": True}


@pytest.fixture
def packaged(finished, tmp_path, monkeypatch):
    """Settings for a package that comes with the model of the finished run."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "pretrained")
    finished.model.save(tmp_path / "pretrained" / "of-run")
    own = finished.model.preparation
    prepared = {f"preparation.{name}": getattr(own, name) for name in ("target_size", "polarity", "scaling")}
    return {"network.trunk": finished.model.network.trunk, **prepared}


@pytest.fixture(scope="session")
def filmed(tmp_path_factory):
    """The folder of a run of three classes that has kept each of its three epochs."""
    drawn = draw_set(tmp_path_factory.mktemp("drawn"), n_per_class=10, classes=("copepod", "medusa", "fish_egg"))
    settings = {
        "preparation.target_size": 32, "network.trunk": "shufflenet_v2_x0_5", "network.dimension": 8,
        "training.epochs": 3, "training.images_per_class": 8, "training.classes_per_batch": 3,
        "training.batch_images_per_class": 2, "training.precision": "float32", "training.keep_every_epoch": True,
    }  # fmt: skip
    return pe.train(drawn, tmp_path_factory.mktemp("runs") / "run", settings=settings, progress=False).folder


# --- vectors


@pytest.fixture(scope="session")
def make_table():
    """Return a function that draws vectors of an unknown model, each class around a point of its own."""

    def make(n_each, seed, classes=("Calanus", "Méduse<Cnidaria", "фиш, egg", "detritus"), **provenance):
        rng = np.random.default_rng(seed)
        codes = np.repeat(np.arange(len(classes)), n_each)
        centres = np.random.default_rng(7).normal(size=(len(classes), 6)) * 1.5
        return pe.EmbeddingTable(
            centres[codes] + rng.normal(size=(len(codes), 6)),
            object_id=[f"{seed}/{row}" for row in range(len(codes))],
            label=np.array(classes, dtype=object)[codes],
            provenance=provenance,
        )

    return make


@pytest.fixture(scope="session")
def reference(make_table):
    """Labelled vectors of the reference."""
    return make_table(60, 0)


@pytest.fixture(scope="session")
def calibration(make_table):
    """Vectors of the calibration set."""
    return make_table(40, 1)


@pytest.fixture(scope="session")
def query(make_table):
    """Vectors to predict."""
    return make_table(100, 2)


known, held, asked = (  # older names
    pytest.fixture(scope="session")(lambda reference: reference),
    pytest.fixture(scope="session")(lambda calibration: calibration),
    pytest.fixture(scope="session")(lambda query: query),
)


@pytest.fixture(scope="session", params=[".parquet", ".npz", ".csv"])
def vector_files(reference, calibration, query, request, tmp_path_factory):
    """Return the files of these vectors."""
    folder = tmp_path_factory.mktemp("vectors")
    tables = {"train": reference, "calibration": calibration, "asked": query}
    return {name: table.save(folder / f"{name}{request.param}") for name, table in tables.items()}


@pytest.fixture
def run_of_three(reference, calibration, query, tmp_path):
    """A run whose k is 3, not 10; its folder, and vectors in it and in `vectors/`."""
    run = RunFolder(tmp_path / "run")
    for name, table in (("train", reference), ("val", calibration), ("test", query)):
        table.save(run.vectors(name))
    reference.save(run.path / "mine.npz")
    pe.Settings.build(overrides={"classification.n_neighbors": 3}).save(run.settings)
    return run


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """Four classes of 15 images that can be opened."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(4), 15)
    vectors = 3 * rng.normal(size=(4, 8))[codes] + rng.normal(size=(60, 8))
    paths = []
    for row, code in enumerate(codes):
        paths.append(str(folder / f"{row}.png"))
        Image.fromarray(rng.integers(0, 60 * (code + 1), size=(20, 30), dtype=np.uint8)).save(paths[-1])
    return pe.EmbeddingTable(
        vectors.astype(np.float32),
        object_id=[f"image {row}" for row in range(60)],
        label=[["copepod", "Méduse", "fish<egg", "salp"][code] for code in codes],
        path=paths,
    )
