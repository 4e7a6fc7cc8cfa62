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
from tqdm import tqdm

from plankton_embed.errors import InputError, PlanktonEmbedError
from plankton_embed.images.preparation import ImageSource, prepare_image
from plankton_embed.images.store import PreparedImages
from plankton_embed.network.device import Precision, autocast, choose_device
from plankton_embed.network.embedding_net import EmbeddingNet, build_net
from plankton_embed.output import refuse_overwrite, write_folder_atomically
from plankton_embed.settings import NetworkSettings, PreparationSettings

FORMAT_VERSION = 1
WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"
BATCH_SIZE = 64


@dataclass(eq=False)
class EmbeddingModel:
    """Maps images to unit vectors of `network.dimension` numbers.

    `net` is the network, `network` and `preparation` the settings it was built with, `classes` the names it was
    trained on, `training` whatever is worth knowing of how (plain values), `card` the text of its model card.
    """

    net: EmbeddingNet
    network: NetworkSettings
    preparation: PreparationSettings
    classes: list[str] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    card: str = ""

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
        digest = hashlib.sha256(f"{self.network.trunk} {self.dimension} {self.preparation.hash()}".encode())
        for name, value in sorted(self.net.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def provenance(self) -> dict[str, str]:
        """What an EmbeddingTable records of where its vectors come from."""
        return {"model_hash": self.hash, "preparation_hash": self.preparation.hash()}

    def embed(
        self, images: Sequence[ImageSource] | NDArray[Any], *, batch_size: int = BATCH_SIZE, progress: bool = False
    ) -> NDArray[np.float32]:
        """Embed images.

        Args:
            images: paths, the bytes of image files, PIL images, or arrays (height, width[, 1 or 3]) of uint8, uint16,
                bool, or float in 0-1; also one array of images (n, height, width[, channels]).
            batch_size: images at a time.
            progress: show a bar.

        Returns:
            float32 (n, d), unit vectors.

        Raises:
            InputError: an image cannot be read; its number is named. A single image must come in a list.
        """
        one_array = isinstance(images, np.ndarray) and (images.ndim < 3 or (images.ndim == 3 and images.shape[2] <= 3))
        if one_array or isinstance(images, str | bytes | Path) or not hasattr(images, "__len__"):
            raise InputError(f"expected a list of images, found one {type(images).__name__}; pass [image]")

        def prepare(positions: slice) -> NDArray[np.uint8]:
            squares = []
            for number in range(positions.start, positions.stop):
                try:
                    squares.append(prepare_image(images[number], self.preparation)[0])
                except InputError as error:
                    raise InputError(f"image {number}: {error}") from error
            return np.stack(squares)

        return self._embed_batches(prepare, len(images), batch_size, progress, "float32")

    def embed_prepared(
        self,
        images: PreparedImages,
        *,
        batch_size: int = BATCH_SIZE,
        progress: bool = False,
        precision: Precision = "float32",
    ) -> NDArray[np.float32]:
        """Embed prepared images: float32 (n, d). `precision` is float32, bfloat16, or auto (the faster)."""
        return self._embed_batches(lambda at: images.batch(at)[0], len(images), batch_size, progress, precision)

    def embed_pixels(self, pixels: NDArray[np.uint8], precision: Precision = "float32") -> NDArray[np.float32]:
        """Embed one batch of prepared pixels, uint8 (b, T, T, channels): float32 (b, d)."""
        self.net.eval()
        with torch.inference_mode(), autocast(self.device, precision):
            batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
            return self.net(batch).float().cpu().numpy()  # type: ignore[no-any-return]

    def _embed_batches(
        self,
        get_pixels: Callable[[slice], NDArray[np.uint8]],
        n: int,
        batch_size: int,
        progress: bool,
        precision: Precision,
    ) -> NDArray[np.float32]:
        vectors = np.empty((n, self.dimension), dtype=np.float32)
        with tqdm(desc="embedding", total=n, unit="image", disable=not progress, leave=False, delay=1) as bar:
            for start in range(0, n, batch_size):
                batch = slice(start, min(start + batch_size, n))
                vectors[batch] = self.embed_pixels(get_pixels(batch), precision)
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
            network = NetworkSettings.validate_or_explain(config["network"])
            preparation = PreparationSettings.validate_or_explain(config["preparation"])
            net = build_net(network, seed=0, empty=True)
            net.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS_FILE))
            wanted_hash = config["model_hash"]
        except PlanktonEmbedError:
            raise
        except (OSError, KeyError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
            raise InputError(f"{folder} holds no whole model: {error}") from error
        model = cls(net, network, preparation, config.get("classes", []), config.get("training", {}))
        if (folder / CARD_FILE).is_file():
            model.card = (folder / CARD_FILE).read_text(encoding="utf-8")
        if model.hash != wanted_hash:
            raise InputError(f"{folder}: config.json says model {wanted_hash}, the weights are {model.hash}")
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


def _find_folder(name: str | Path) -> Path:
    for folder in (Path(name), Path(name) / "model"):
        if (folder / CONFIG_FILE).is_file():
            return folder
    if Path(name).exists() or str(name).count("/") != 1:
        raise InputError(f"{name} is no model: expected a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, or a run")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(name), allow_patterns=[WEIGHTS_FILE, CONFIG_FILE, CARD_FILE]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"{name} is no folder here, and the hub does not give it: {error}") from error
