"""`export-model`: write a model as one ONNX file."""

from __future__ import annotations

from pathlib import Path

from plankton_embed.network.model import EmbeddingModel
from plankton_embed.network.onnx import SUFFIXES, export_onnx
from plankton_embed.output import refuse_overwrite


def export_model(model: EmbeddingModel | str | Path, output: str | Path, overwrite: bool = False) -> Path:
    """Write a model as one ONNX file, which `OnnxEmbedder` uses without torch (extra `onnx`); return its path.

    The inputs are `pixels`, uint8 (n, T, T, channels), of prepared images and, only with `network.size_inputs`,
    `sides`, float32 (n, 2), the logarithms of both sides divided by 100, the longer first. The output is `vectors`,
    float32 (n, d), of one view, scaled to unit length or by the sigmoid. The metadata has, as JSON under
    `plankton_embed`, the network, preparation, classes, views and hash of the model. The written file is checked: its
    vectors of random images are those of the model in float32, to 1e-4.

    Args:
        model: a model, or its folder, its run, its name in `models`, or its name on the Hugging Face hub.
        output: file to write, `.onnx`.
        overwrite: replace the file.

    Raises:
        DependencyError: the extra onnx is not installed.
        InputError: there is no such model.
        OutputError: the file exists or cannot be written.
        PlanktonEmbedError: the network cannot be written as ONNX, is too large for one file (1.5 GiB), or the written
            file gives other vectors.
    """
    refuse_overwrite(output, overwrite, SUFFIXES)  # before the model is loaded
    loaded = model if isinstance(model, EmbeddingModel) else EmbeddingModel.load(model, "cpu")
    return export_onnx(loaded, output, overwrite)
