"""EmbeddingModel: a trained net with the preparation it was trained on; save, load, and embed images in memory."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch.nn import functional

from plankton_embed.errors import InputError, PlanktonEmbedError, SettingError
from plankton_embed.images.grey_levels import find_grey_levels
from plankton_embed.images.preparation import WHITE_LEVEL, ImageSource, prepare_image
from plankton_embed.images.store import PreparedImages, log_sides
from plankton_embed.images.views import VIEWS, turn_view
from plankton_embed.network.device import Precision, autocast, choose_device
from plankton_embed.network.embedding_net import EmbeddingNet, build_net
from plankton_embed.notebook import Shown
from plankton_embed.output import progress_bar, refuse_overwrite, write_folder_atomically
from plankton_embed.settings import NetworkSettings, PreparationSettings

FORMAT_VERSION = 2
WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"
BATCH_SIZE = 64


@dataclass(eq=False, repr=False)
class EmbeddingModel(Shown):
    """Maps images to vectors of `network.dimension` numbers, of length 1 unless `network.output` says otherwise.

    `net` is the network, `network` and `preparation` the settings it was built with, `classes` the names it was
    trained on, `training` whatever is worth knowing of how it was trained (plain values), `card` the text of its model
    card, `views` how many views of an image it averages (1, 2, 4 or 8).
    """

    net: EmbeddingNet
    network: NetworkSettings
    preparation: PreparationSettings
    classes: list[str] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    card: str = ""
    views: int = 1

    def __post_init__(self) -> None:
        if self.preparation.white_level_16bit == "auto":  # of no source: what is embedded later needs a number
            self.preparation = self.preparation.model_copy(update={"white_level_16bit": WHITE_LEVEL})

    @classmethod
    def build(cls, network: NetworkSettings, preparation: PreparationSettings, seed: int = 0) -> EmbeddingModel:
        """Return an untrained model with the starting weights that `network.weights` names."""
        return cls(build_net(network, seed), network, preparation)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.net.head.weight.device

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self.network.dimension

    def to(self, device: str | torch.device) -> EmbeddingModel:
        """Move to a device (`auto` chooses); return self."""
        self.net.to(device if isinstance(device, torch.device) else choose_device(device))
        return self

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that change with any weight, the architecture, or the preparation."""
        network = self.network
        built = (network.trunk, network.dimension, network.output, network.size_inputs, self.preparation.hash())
        digest = hashlib.sha256(" ".join(map(str, built)).encode())
        for name, value in sorted(self.net.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def provenance(self) -> dict[str, str]:
        """What an EmbeddingTable records of where its vectors come from."""
        return {"model_hash": self.hash, "preparation_hash": self.preparation.hash()}

    def embed(
        self,
        images: Sequence[ImageSource] | NDArray[Any],
        *,
        pixel_size: float | NDArray[np.floating] | None = None,
        views: int | None = None,
        batch_size: int = BATCH_SIZE,
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Embed images.

        Args:
            images: paths, the bytes of image files, PIL images, or arrays (height, width[, 1 or 3]) of uint8, uint16,
                bool, or float in 0-1; also one array of images (n, height, width[, channels]).
            pixel_size: µm per pixel, of all images or of each; needed by a model with size inputs in µm.
            views: views of each image to average: 1, 2 (half turns), 4 (quarter turns) or 8 (with the mirror
                image's); by default the model's own.
            batch_size: images at a time.
            progress: show a bar.

        Returns:
            float32 (n, d).

        Raises:
            InputError: an image cannot be read; its number is named. A single image must come in a list. Or no pixel
                size, where the model needs one.
        """
        one_array = isinstance(images, np.ndarray) and (images.ndim < 3 or (images.ndim == 3 and images.shape[2] <= 3))
        if one_array or isinstance(images, str | bytes | Path) or not hasattr(images, "__len__"):
            raise InputError(f"expected a list of images, found one {type(images).__name__}; pass [image]")

        scale = None if pixel_size is None else np.asarray(pixel_size, dtype=float)
        if scale is not None and scale.shape not in ((), (len(images),)):
            raise InputError(f"pixel_size: expected one number, or {len(images)}; found shape {scale.shape}")
        scale = None if scale is None else np.broadcast_to(scale, len(images))
        if not isinstance(images, np.ndarray) or images.dtype == np.uint16:
            find_grey_levels([*images], progress=False, with_colour=False).report_for_model(self.preparation)

        def prepare(at: slice) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
            squares, sizes = [], []
            for number in range(at.start, at.stop):
                try:
                    square, _, size = prepare_image(images[number], self.preparation)
                except InputError as error:
                    raise InputError(f"image {number}: {error}") from error
                squares.append(square)
                sizes.append(size)
            known = None if scale is None else scale[at]
            return np.stack(squares), log_sides(np.array(sizes), self.network.size_inputs, known)

        return self._embed_batches(prepare, len(images), batch_size, progress, "float32", views)

    encode = embed  # as sentence-transformers and others call it

    def embed_prepared(
        self,
        images: PreparedImages,
        *,
        batch_size: int = BATCH_SIZE,
        progress: bool = False,
        precision: Precision = "float32",
        views: int | None = None,
    ) -> NDArray[np.float32]:
        """Embed prepared images: float32 (n, d). `precision` is float32, bfloat16, or auto (the faster)."""
        sides = images.log_sides(self.network.size_inputs)
        return self._embed_batches(
            lambda at: (images.batch(at)[0], sides[at]), len(images), batch_size, progress, precision, views
        )

    def embed_pixels(
        self,
        pixels: NDArray[np.uint8],
        sides: NDArray[np.float32],
        *,
        precision: Precision = "float32",
        views: int | None = None,
    ) -> NDArray[np.float32]:
        """Embed one batch of prepared pixels, uint8 (b, T, T, channels), with their `log_sides`: float32 (b, d)."""
        n_views = self.views if views is None else views
        if n_views not in VIEWS:
            raise SettingError(f"views: expected one of {', '.join(map(str, VIEWS))}; found {n_views}")
        self.net.eval()
        with torch.inference_mode(), autocast(self.device, precision):
            batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
            shown_sides = torch.from_numpy(sides).to(self.device)
            vectors = torch.stack([self.net(turn_view(batch, view), shown_sides) for view in VIEWS[n_views]]).mean(0)
            if self.net.output == "unit":
                vectors = functional.normalize(vectors, dim=1)
            return vectors.cpu().numpy()

    def _embed_batches(
        self,
        read: Callable[[slice], tuple[NDArray[np.uint8], NDArray[np.float32]]],
        n: int,
        batch_size: int,
        progress: bool,
        precision: Precision,
        views: int | None,
    ) -> NDArray[np.float32]:
        vectors = np.empty((n, self.dimension), dtype=np.float32)
        with progress_bar(n, "embedding", "image", shown=progress) as bar:
            for start in range(0, n, batch_size):
                batch = slice(start, min(start + batch_size, n))
                pixels, sides = read(batch)
                vectors[batch] = self.embed_pixels(pixels, sides, precision=precision, views=views)
                bar.update(batch.stop - start)
        return vectors

    def save(self, folder: str | Path, card: str | None = None) -> Path:
        """Write `model.safetensors`, `config.json` and, as `README.md`, the text of a model card.

        A folder of that name is replaced, whole or not at all.
        """
        config = {
            "library": "plankton_embed",
            "format_version": FORMAT_VERSION,
            "model_hash": self.hash,
            "network": self.network.model_dump(mode="json"),
            "preparation": self.preparation.model_dump(mode="json"),
            "classes": self.classes,
            "views": self.views,
            "training": self.training,
        }
        refuse_overwrite(folder, overwrite=True, made_of=CONFIG_FILE)
        with write_folder_atomically(folder) as temporary:
            weights = {name: value.cpu().contiguous() for name, value in self.net.state_dict().items()}
            safetensors.torch.save_file(weights, temporary / WEIGHTS_FILE)
            text = json.dumps(config, indent=2, ensure_ascii=False)
            (temporary / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
            (temporary / CARD_FILE).write_text(self.card if card is None else card, encoding="utf-8")
        return Path(folder)

    @classmethod
    def load(cls, name: str | Path, device: str = "auto") -> EmbeddingModel:
        """Load from a folder written by `save`, from the folder of a run, or from the Hugging Face hub.

        Args:
            name: `runs/demo/model`, `runs/demo`, or a hub name such as `owner/name`.
            device: `auto`, `cpu`, `cuda`, `mps`.

        Raises:
            InputError: there is no model, or its files do not fit together.
        """
        folder = _find_folder(name)
        try:
            config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            if not isinstance(config, dict):
                raise InputError(f"{folder / CONFIG_FILE}: expected names and values, found {type(config).__name__}")
            if config.get("format_version") != FORMAT_VERSION:
                raise InputError(
                    f"{folder}: expected format_version {FORMAT_VERSION}, found {config.get('format_version')}; "
                    "it was written by another release of plankton_embed"
                )
            network = NetworkSettings.from_saved(config["network"])
            preparation = PreparationSettings.from_saved(config["preparation"])
            net = build_net(network, seed=0, empty=True)
            net.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS_FILE))
            wanted_hash = config["model_hash"]
        except PlanktonEmbedError:
            raise
        except (OSError, KeyError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
            raise InputError(f"{folder} holds no whole model: {error}") from error
        model = cls(net, network, preparation, config.get("classes", []), config.get("training", {}))
        model.views = config.get("views", 1)
        if (folder / CARD_FILE).is_file():
            model.card = (folder / CARD_FILE).read_text(encoding="utf-8")
        if model.hash != wanted_hash:
            raise InputError(
                f"{folder}: expected model {wanted_hash}, as config.json has it; found {model.hash} by its weights and "
                "settings; one of its files was changed: save or copy the model again"
            )
        return model.to(device)

    @classmethod
    def from_pretrained(cls, name: str, device: str = "auto") -> EmbeddingModel:
        """Load a model by its name on the Hugging Face hub, or from a folder; the same as `load`."""
        return cls.load(name, device)

    def push_to_hub(
        self, repo_id: str, *, card: str | None = None, private: bool = False, token: str | None = None
    ) -> str:
        """Upload to the Hugging Face hub as `owner/name`; return the address of the commit."""
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            saved = self.save(Path(folder) / "model", card)
            return str(api.upload_folder(repo_id=repo_id, folder_path=saved))

    def _describe(self) -> str:
        side = self.preparation.target_size
        return (
            f"{self.network.trunk}, {side} px, {self.dimension} dimensions, {len(self.classes)} classes, {self.device}"
        )


def _find_folder(name: str | Path) -> Path:
    for folder in (Path(name), Path(name) / "model"):
        if (folder / CONFIG_FILE).is_file():
            return folder
    if Path(name).exists() or str(name).count("/") != 1:
        raise InputError(f"{name} is not a model: expected a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, or a run")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(name), allow_patterns=[WEIGHTS_FILE, CONFIG_FILE, CARD_FILE]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"{name} is not a folder here, and cannot be loaded from the Hugging Face hub: {error}"
        ) from error
