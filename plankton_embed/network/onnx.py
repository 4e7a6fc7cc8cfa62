"""A model as one ONNX file: written with torch, and used by onnxruntime without it (extra: onnx)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.errors import InputError, PlanktonEmbedError, SettingError, needs_extra
from plankton_embed.images.preparation import ImageSource
from plankton_embed.images.views import VIEWS, check_views, turn_images
from plankton_embed.images.workers import count_cores
from plankton_embed.network.batches import Batch, choose_cpu_batch_size, fill_up, prepare_list, read_ahead
from plankton_embed.notebook import Shown
from plankton_embed.output import progress_bar, refuse_overwrite, write_atomically
from plankton_embed.settings import NetworkSettings, PreparationSettings

if TYPE_CHECKING:
    from plankton_embed.network.model import EmbeddingModel

SUFFIXES = (".onnx",)
FORMAT_VERSION = 1  # of the inputs, the output and the metadata of the file
OPSET = 18  # of onnxruntime 1.14 and later
METADATA = "plankton_embed"  # key of the settings, as JSON, in the metadata of the file
MOST_BYTES = 1536 * 2**20  # of weights in one file; torch writes more into a second one
N_CHECKED = 3  # random images whose vectors are compared after an export
TOLERANCE = 1e-4  # of the numbers of their vectors
LEAST_LENGTH = 1e-12  # a vector is divided by no less, as in `torch.nn.functional.normalize`


def export_onnx(model: EmbeddingModel, path: str | Path, overwrite: bool = False) -> Path:
    """Write a model as one ONNX file, and check it; return its path.

    See `workflows.export_model` for the inputs, the output and the metadata of the file, and the errors.
    """
    refuse_overwrite(path, overwrite, SUFFIXES)
    with needs_extra("ONNX", "onnx"):
        import onnx
        import onnxruntime  # noqa: F401  (to check the file)
        import onnxscript  # noqa: F401  (needed by torch)
    import torch

    class PixelNet(torch.nn.Module):
        """The network, with prepared pixels as its input."""

        def __init__(self) -> None:
            super().__init__()
            self.net = deepcopy(model.net).cpu().float()  # the model keeps its own mode and device

        def forward(self, pixels: torch.Tensor, sides: torch.Tensor | None = None) -> torch.Tensor:
            vectors: torch.Tensor = self.net(pixels.permute(0, 3, 1, 2), sides)
            return vectors

    trunk, net = model.network.trunk, PixelNet().eval()
    n_bytes = sum(value.nbytes for value in net.state_dict().values())
    if n_bytes > MOST_BYTES:
        raise PlanktonEmbedError(
            f"{trunk} has {n_bytes / 2**30:.1f} GiB of weights: expected at most {MOST_BYTES / 2**30:.1f} GiB in one "
            "ONNX file; choose a smaller network.trunk"
        )
    inputs = _draw_inputs(model)
    dynamic = [{0: "n"}, {0: torch.export.Dim.DYNAMIC}]  # the second is found to be equal to the first
    tensors = tuple(torch.from_numpy(array) for array in inputs.values())
    try:
        program = torch.onnx.export(
            net,
            tuple(tensor[:-1] for tensor in tensors),  # another number of images than in the check
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=["vectors"],
            dynamic_shapes=tuple(dynamic[: len(inputs)]),
            external_data=False,
            verbose=False,
        )
        with write_atomically(path) as temporary:
            program.model.metadata_props[METADATA] = json.dumps(_describe(model), ensure_ascii=False)  # type: ignore[union-attr]
            program.save(temporary, external_data=False)  # type: ignore[union-attr]
            onnx.checker.check_model(str(temporary), full_check=True)
            with torch.inference_mode():
                wanted = net(*tensors).numpy()
            _check_vectors(OnnxEmbedder(temporary, threads=1)._run(inputs), wanted)
    except (torch.onnx.OnnxExporterError, onnx.checker.ValidationError) as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise PlanktonEmbedError(
            f"{trunk} cannot be written as ONNX ({reason}); choose another network.trunk"
        ) from error
    return Path(path)


class OnnxEmbedder(Shown):
    """A model from an ONNX file that embeds images without torch: onnxruntime on the CPU, in float32.

    Its vectors are those of `EmbeddingModel.embed(images, precision="float32")`, to 1e-4.

    Args:
        path: a file written by `pe.export_model`, or the command `export-model`.
        threads: threads of the network; by default one for each core that the process may use.

    Attributes:
        network: settings of the network.
        preparation: settings by which images are prepared.
        classes: classes that the model was trained on.
        model_hash: hash of the model, as in the provenance of an `EmbeddingTable`.
        views: number of views of an image that are averaged by default.

    Raises:
        DependencyError: the extra onnx is not installed.
        InputError: the file does not exist, cannot be read, or was not written by `export_model`.
        SettingError: less than one thread.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise SettingError(f"threads: expected at least 1; found {threads}")
        self._session = _open_session(Path(path), threads or count_cores())
        config = _read_metadata(self._session, Path(path))
        try:
            self.network = NetworkSettings.from_saved(config["network"])
            self.preparation = PreparationSettings.from_saved(config["preparation"])
            self.classes: list[str] = config["classes"]
            self.model_hash: str = config["model_hash"]
            self.views: int = config["views"]
        except (LookupError, TypeError, AttributeError) as error:
            raise _broken(Path(path), error) from error

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self.network.dimension

    def embed(
        self,
        images: Sequence[ImageSource] | NDArray[Any],
        *,
        pixel_size: float | NDArray[np.floating] | None = None,
        views: int | None = None,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Embed images.

        Args:
            images: paths, the bytes of image files, PIL images, or arrays (height, width[, 1 or 3]) of uint8, uint16,
                bool, or float in 0-1; also one array of images (n, height, width[, channels]).
            pixel_size: µm per pixel, of all images or of each; needed by a model with size inputs in µm.
            views: test-time augmentation, the views of each image to average: 1, 2 (half turns), 4 (quarter turns) or 8
                (mirrored too); by default those of the model.
            batch_size: images at a time; by default chosen by their size. Fewer images are filled up to it; to embed
                single images fast, pass 1.
            progress: show a bar.

        Returns:
            float32 (n, d).

        Raises:
            InputError: an image cannot be read (the message has its number), a single image is not in a list, or the
                model needs a pixel size and has none.
        """
        n_views, size = self._choose(views, batch_size)
        batches = prepare_list(images, self.preparation, self.network.size_inputs, pixel_size, size)
        return self._embed_batches(batches, len(images), size, n_views, progress)

    def embed_pixels(
        self,
        pixels: NDArray[np.uint8],
        sides: NDArray[np.float32],
        *,
        views: int | None = None,
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """Embed prepared pixels, uint8 (n, T, T, channels), with their `log_sides`, float32 (n, 2): float32 (n, d)."""
        n_views, size = self._choose(views, batch_size)
        batches = read_ahead(lambda at: (pixels[at], sides[at]), len(pixels), size)
        return self._embed_batches(batches, len(pixels), size, n_views)

    def _choose(self, views: int | None, batch_size: int | None) -> tuple[int, int]:
        """Return the number of views and of images at a time."""
        n_views = self.views if views is None else views
        check_views(n_views)
        return n_views, choose_cpu_batch_size(self.preparation.target_size, batch_size)

    def _embed_batches(
        self, batches: Iterable[Batch], n: int, batch_size: int, n_views: int, progress: bool = False
    ) -> NDArray[np.float32]:
        """Embed n images in batches, as `inference.embed_batches` does."""
        vectors = np.empty((n, self.dimension), dtype=np.float32)
        with progress_bar(n, "embedding", "image", shown=progress) as bar:
            at = 0
            for pixels, sides in batches:
                images = fill_up(pixels, batch_size)
                others = {} if self.network.size_inputs == "none" else {"sides": fill_up(sides, batch_size)}
                turned = (turn_images(images, np.full(batch_size, view)) for view in VIEWS[n_views])
                seen = np.stack([self._run({"pixels": view, **others}) for view in turned]).mean(axis=0)
                if self.network.output == "unit":
                    seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), LEAST_LENGTH)
                vectors[at : at + len(pixels)] = seen[: len(pixels)]
                at += len(pixels)
                bar.update(len(pixels))
        return vectors

    def _run(self, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the vectors (b, d) of the inputs by name, as the file gives them."""
        vectors: NDArray[np.float32] = self._session.run(["vectors"], inputs)[0]
        return vectors

    def _describe(self) -> str:
        side = self.preparation.target_size
        return f"{self.network.trunk}, {side} px, {self.dimension} dimensions, {len(self.classes)} classes"


def _describe(model: EmbeddingModel) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "model_hash": model.hash,
        "network": model.network.model_dump(mode="json"),
        "preparation": model.preparation.model_dump(mode="json"),
        "classes": model.classes,
        "views": model.views,
    }


def _draw_inputs(model: EmbeddingModel) -> dict[str, NDArray[Any]]:
    """Return random inputs of an exported network, by name."""
    rng, side = np.random.default_rng(0), model.preparation.target_size
    shape = (N_CHECKED, side, side, model.preparation.n_channels)
    inputs: dict[str, NDArray[Any]] = {"pixels": rng.integers(0, 256, shape, dtype=np.uint8)}
    if model.network.size_inputs != "none":
        inputs["sides"] = rng.standard_normal((N_CHECKED, 2), dtype=np.float32)
    return inputs


def _check_vectors(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    """Raise an error unless the vectors of a file are the wanted ones."""
    difference = float(np.abs(found - wanted).max())
    if not difference <= TOLERANCE:
        raise PlanktonEmbedError(
            f"the vectors of the ONNX file differ from those of the model by {difference:.2g}: expected at most "
            f"{TOLERANCE:g}; no file was written. Choose another network.trunk, or another version of onnxruntime"
        )


def _open_session(path: Path, threads: int) -> Any:
    """Return the onnxruntime session of a file."""
    with needs_extra("ONNX", "onnx"):
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as faults

    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {what}: expected an ONNX file; write it with plankton-embed export-model")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (
        faults.Fail,
        faults.InvalidArgument,
        faults.InvalidGraph,
        faults.InvalidProtobuf,
        faults.NoModel,
        faults.NotImplemented,
        faults.RuntimeException,
    ) as error:
        raise InputError(
            f"{path} cannot be read as an ONNX file; write it again with plankton-embed export-model: {error}"
        ) from error


def _read_metadata(session: Any, path: Path) -> dict[str, Any]:
    """Return the settings in an ONNX file; an InputError if it is not ours."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    if text is None:
        raise InputError(
            f"{path} was not written by plankton_embed: expected {METADATA} in its metadata; write the file with "
            "plankton-embed export-model"
        )
    try:
        config = json.loads(text)
        if not isinstance(config, dict):
            raise TypeError(f"expected settings and values, found {type(config).__name__}")
    except (ValueError, TypeError) as error:
        raise _broken(path, error) from error
    if config.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path}: expected format_version {FORMAT_VERSION}, found {config.get('format_version')}; it was "
            "written by another release of plankton_embed; write it again with plankton-embed export-model"
        )
    return config


def _broken(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: its metadata ({METADATA}) is broken: {error}; write it again")
