"""ONNX files: the vectors of the model, without torch; what the file has; what is reported if something is wrong."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from plankton_embed.errors import DependencyError, InputError, OutputError, PlanktonEmbedError, SettingError
from plankton_embed.images.drawn import draw_plankton
from plankton_embed.images.views import VIEWS
from plankton_embed.network import onnx as ours
from plankton_embed.network.embedding_net import EmbeddingNet
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.network.onnx import OnnxEmbedder, export_onnx
from plankton_embed.settings import NetworkSettings, PreparationSettings

SIDE = 48
GREY, COLOR = (
    PreparationSettings(target_size=SIDE, color=color, white_level_16bit=65535) for color in ("grey", "color")
)


def build_small(preparation=GREY, trunk=None, **network):
    """A model with a trunk of two layers, which is exported fast; in training mode, with batch norm and dropout."""
    settings = NetworkSettings(trunk="resnet18", dimension=8, dropout=0.5, **network)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(3, 16, 7, 3), torch.nn.BatchNorm2d(16), torch.nn.ReLU()]
        trunk = trunk or torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
        return EmbeddingModel(EmbeddingNet(trunk, 64, settings).train(), settings, preparation, ["a b", "é<ж"], views=2)


@pytest.fixture(scope="module")
def pictures():
    """Grey and coloured, high and wide."""
    rng = np.random.default_rng(0)
    grey = [draw_plankton(label, rng) for label in ("copepod", "medusa", "fish_egg")]
    pixels = rng.integers(0, 256, (60, 40, 3), dtype=np.uint8)
    return [*grey, Image.fromarray(pixels), Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)]


@pytest.fixture(scope="module")
def files(pictures, tmp_path_factory):
    paths = [tmp_path_factory.mktemp("pictures") / f"{number} é.png" for number in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    return paths


@pytest.fixture(scope="module")
def small():
    return build_small()


@pytest.fixture(scope="module")
def file(small, tmp_path_factory):
    return export_onnx(small, tmp_path_factory.mktemp("small") / "model é.onnx")


@pytest.fixture(scope="module")
def embedder(file):
    return OnnxEmbedder(file, threads=1)


def assert_same(found, wanted):
    assert (found.shape, found.dtype) == (wanted.shape, np.float32)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


# --- the vectors


@pytest.mark.parametrize(
    ("trunk", "preparation"),
    [
        ("resnet18", GREY),
        pytest.param("inception_v3", PreparationSettings(target_size=75), marks=pytest.mark.slow),
    ],
)
def test_a_network_of_torchvision_gives_the_same_vectors(trunk, preparation, files, tmp_path):
    model = EmbeddingModel.build(NetworkSettings(trunk=trunk, dimension=8), preparation).to("cpu")
    embedder = OnnxEmbedder(export_onnx(model, tmp_path / "model.onnx"))
    for views in (1, 8):
        assert_same(embedder.embed(files, views=views), model.embed(files, views=views, precision="float32"))


@pytest.mark.parametrize("preparation", [GREY, COLOR], ids=["grey", "color"])
@pytest.mark.parametrize("output", ["unit", "sigmoid"])
@pytest.mark.parametrize("size_inputs", ["none", "pixels", "micrometres"])
def test_every_kind_of_model_gives_the_same_vectors(preparation, output, size_inputs, pictures, files, tmp_path):
    model = build_small(preparation, output=output, size_inputs=size_inputs)
    embedder = OnnxEmbedder(export_onnx(model, tmp_path / "model.onnx"))
    for pixel_size in (5.3, np.array([1, 2, 3, 4, 5])):
        for views in VIEWS:
            wanted = model.embed(pictures, pixel_size=pixel_size, views=views, precision="float32")
            assert_same(embedder.embed(pictures, pixel_size=pixel_size, views=views), wanted)
    assert_same(embedder.embed(files, pixel_size=2), model.embed(files, pixel_size=2, precision="float32"))
    other = model.embed(pictures[::-1], pixel_size=2, precision="float32")
    assert np.abs(other - model.embed(pictures, pixel_size=2, precision="float32")).max() > 1e-3  # all differ


def test_every_form_of_an_image_gives_the_same_vector(small, embedder, pictures, files):
    wanted = small.embed(files, precision="float32")
    for images in (pictures, [str(f) for f in files], [f.read_bytes() for f in files], list(map(np.asarray, pictures))):
        assert_same(embedder.embed(images), wanted)
    deep = np.random.default_rng(0).integers(0, 65535, (4, 40, 50), dtype=np.uint16)
    assert_same(embedder.embed(deep), small.embed(deep, precision="float32"))


def test_the_batch_size_changes_rounding_at_most(embedder, pictures):
    wanted = embedder.embed(pictures)
    for size in (1, 2, 7):
        np.testing.assert_allclose(embedder.embed(pictures, batch_size=size), wanted, atol=1e-5)
    assert embedder.embed([]).shape == (0, 8)


def test_prepared_pixels_give_the_vectors_of_the_model(small, embedder):
    pixels = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 1), dtype=np.uint8)
    sides = np.zeros((5, 2), dtype=np.float32)
    for views in (None, 4):
        wanted = small.embed_pixels(pixels, sides, views=views, precision="float32")
        assert_same(embedder.embed_pixels(pixels, sides, views=views, batch_size=2), wanted)


def test_torch_is_not_loaded(small, file, files, tmp_path):
    code = (
        "import sys, numpy as np, plankton_embed as pe\n"
        "embedder = pe.OnnxEmbedder(sys.argv[1], threads=1)\n"
        "np.save(sys.argv[2], embedder.embed(sys.argv[3:], views=8))\n"
        "embedder._repr_html_()\n"
        "sys.exit('torch was loaded' if 'torch' in sys.modules else 0)\n"
    )
    saved = tmp_path / "vectors.npy"
    done = subprocess.run(
        [sys.executable, "-c", code, file, saved, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_same(np.load(saved), small.embed(files, views=8, precision="float32"))


# --- the file


def test_the_file_has_what_the_model_was_built_from(small, file, embedder):
    assert (embedder.network, embedder.preparation) == (small.network, small.preparation)
    assert (embedder.classes, embedder.views) == (["a b", "é<ж"], 2)
    assert (embedder.model_hash, embedder.dimension) == (small.hash, 8)
    assert repr(embedder) == "OnnxEmbedder(resnet18, 48 px, 8 dimensions, 2 classes)"
    assert [path.name for path in file.parent.iterdir()] == [file.name]  # all weights are in one file


def test_any_program_can_read_the_inputs_and_the_output(file, tmp_path):
    def list_values(session):
        return [(v.name, v.shape, v.type) for v in (*session.get_inputs(), *session.get_outputs())]

    pixels = ("pixels", ["n", SIDE, SIDE, 1], "tensor(uint8)")
    vectors = ("vectors", ["n", 8], "tensor(float)")
    assert list_values(onnxruntime.InferenceSession(file)) == [pixels, vectors]
    sized = export_onnx(build_small(size_inputs="pixels"), tmp_path / "sized.onnx")
    session = onnxruntime.InferenceSession(sized)
    assert list_values(session) == [pixels, ("sides", ["n", 2], "tensor(float)"), vectors]
    found = session.run(None, {"pixels": np.zeros((1, SIDE, SIDE, 1), np.uint8), "sides": np.zeros((1, 2), np.float32)})
    np.testing.assert_allclose(np.linalg.norm(found[0], axis=1), 1, rtol=1e-5)
    opsets = [(opset.domain, opset.version) for opset in onnx.load(file).opset_import]
    assert opsets == [("", 18)]


def test_the_model_keeps_its_mode(tmp_path):
    model = build_small()
    for mode in (True, False):
        model.net.train(mode)
        export_onnx(model, tmp_path / "model.onnx", overwrite=True)
        assert {part.training for part in model.net.modules()} == {mode}


# --- errors


def test_a_file_is_replaced_only_if_wanted(small, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        export_onnx(small, path)
    assert path.read_text() == "mine"
    with pytest.raises(OutputError, match=r"expected a name that ends in \.onnx"):
        export_onnx(small, tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("constant", "value", "message"),
    [
        ("TOLERANCE", -1.0, r"the vectors of the ONNX file differ from those of the model by .*no file was written"),
        ("MOST_BYTES", 1000, r"resnet18 has .* GiB of weights: expected at most .*choose a smaller network\.trunk"),
    ],
)
def test_what_is_wrong_with_a_network_is_an_error_and_nothing_is_written(
    constant, value, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(ours, constant, value)
    with pytest.raises(PlanktonEmbedError, match=message):
        export_onnx(build_small(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_onnx_cannot_express_is_an_error(tmp_path):
    class Choosing(torch.nn.Module):
        def forward(self, images):
            return images.mean((2, 3)).repeat(1, 22)[:, :64] * (2 if images.sum() > 0 else 1)

    with pytest.raises(
        PlanktonEmbedError, match=r"resnet18 cannot be written as ONNX \(Could not guard .*\); choose another"
    ):
        export_onnx(build_small(trunk=Choosing()), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["onnx", "onnxruntime", "onnxscript"])
def test_without_the_extra_the_error_has_the_command_that_installs_it(library, small, file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DependencyError, match=r"ONNX needs the extra onnx: pip install 'plankton_embed\[onnx\]'"):
        export_onnx(small, tmp_path / "model.onnx")
    if library == "onnxruntime":
        with pytest.raises(DependencyError, match=r"pip install 'plankton_embed\[onnx\]'"):
            OnnxEmbedder(file)


def write_other(path, metadata):
    """Write an ONNX file of another program, with some metadata."""
    values = [onnx.helper.make_tensor_value_info(name, 1, [2]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "does not exist: expected an ONNX file; write it with plankton-embed export-model"),
        (lambda path: path.mkdir(), "is a folder: expected an ONNX file"),
        (lambda path: path.write_bytes(b""), "cannot be read as an ONNX file; write it again"),
        (lambda path: path.write_text("hello, world"), "cannot be read as an ONNX file; write it again"),
        (lambda path: write_other(path, {"author": "me"}), "was not written by plankton_embed: .*export-model"),
        (
            lambda path: write_other(path, {"plankton_embed": '{"format_version": 9}'}),
            "expected format_version 1, found 9",
        ),
        (lambda path: write_other(path, {"plankton_embed": "{"}), "metadata .* is broken: .*; write it again"),
        (lambda path: write_other(path, {"plankton_embed": "[]"}), "metadata .* is broken: .*found list"),
        (
            lambda path: write_other(path, {"plankton_embed": '{"format_version": 1}'}),
            "metadata .* is broken: .*network",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_with_what_to_do(write, message, tmp_path):
    path = tmp_path / "model.onnx"
    write(path)
    with pytest.raises(InputError, match=message):
        OnnxEmbedder(path)


def test_a_cut_file_is_an_error(file, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"cut.onnx cannot be read as an ONNX file"):
        OnnxEmbedder(tmp_path / "cut.onnx")


def test_at_least_one_thread_is_needed(file):
    with pytest.raises(SettingError, match="threads: expected at least 1; found 0"):
        OnnxEmbedder(file, threads=0)


@pytest.mark.parametrize(
    ("images", "options"),
    [
        (np.zeros((40, 50), np.uint8), {}),
        ("one.png", {}),
        (iter([]), {}),
        ([np.zeros((40, 50), np.uint8), b"broken"], {}),
        ([np.zeros((40, 50), np.uint8)], {"views": 3}),
        ([np.zeros((40, 50), np.uint8)], {"batch_size": 0}),
        ([np.zeros((40, 50), np.uint8)], {"pixel_size": [1, 2]}),
        ([np.zeros((40, 50), np.uint8)], {"pixel_size": np.nan}),
        ([np.zeros((40, 50), np.uint8)], {}),
    ],
)
def test_errors_are_those_of_the_model(images, options, in_micrometres_both):
    messages = []
    for embedder in in_micrometres_both:
        with pytest.raises(PlanktonEmbedError) as caught:
            embedder.embed(images, **options)
        messages.append((caught.type, str(caught.value)))
    assert messages[0] == messages[1]


@pytest.fixture(scope="module")
def in_micrometres_both(tmp_path_factory):
    """A model that needs pixel sizes, and its file."""
    model = build_small(size_inputs="micrometres")
    return model, OnnxEmbedder(export_onnx(model, tmp_path_factory.mktemp("sized") / "model.onnx"))
