"""EmbeddingModel: a trained net with the preparation of its images; save, load, publish, and embed images in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCard, ModelHubMixin
from numpy.typing import NDArray
from safetensors import SafetensorError

from plankton_embed.errors import InputError, OutputError, PlanktonEmbedError, SettingError
from plankton_embed.images.preparation import WHITE_LEVEL, ImageSource
from plankton_embed.images.store import PreparedImages
from plankton_embed.network.batches import Batch, prepare_list, read_ahead
from plankton_embed.network.device import choose_device
from plankton_embed.network.embedding_net import EmbeddingNet, build_net
from plankton_embed.network.inference import check_options, choose_batch_size, embed_batches, embed_features
from plankton_embed.network.model_card import CARD_FILE, CONFIG_FILE, build_model_card
from plankton_embed.network.pretrained import choose_weights, find_pretrained, list_pretrained, warn_of_folder
from plankton_embed.network.saved_model import SEEN_FILE, WEIGHTS_FILE, is_own, is_seen, read_seen, shorten_hashes
from plankton_embed.network.timm_trunks import resolve_network
from plankton_embed.network.weight_files import read_safetensors, write_weights
from plankton_embed.notebook import Shown
from plankton_embed.output import refuse_overwrite, write_atomically, write_folder_atomically
from plankton_embed.settings import Compile, NetworkSettings, Precision, PreparationSettings
from plankton_embed.table import UNKNOWN_START

FORMAT_VERSION = 2
HUB_OPTIONS = ("revision", "token", "cache_dir", "force_download", "local_files_only")


@dataclass(eq=False, repr=False)
class EmbeddingModel(Shown, ModelHubMixin):
    """Maps images to vectors of `network.dimension` numbers, of length 1 unless `network.output` is sigmoid.

    `net` is the network, `network` and `preparation` the settings it was built with, `classes` the classes it was
    trained on, `training` facts about its training (plain values), `card` the text of its model card, `views` the
    number of views of an image that are averaged (1, 2, 4 or 8). `seen` (uint64, sorted) has the first half of the
    content hash of every image that it was trained on, those of the model that it started from included.
    """

    net: EmbeddingNet
    network: NetworkSettings
    preparation: PreparationSettings
    classes: list[str] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    card: str = ""
    views: int = 1
    seen: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))

    def __post_init__(self) -> None:
        if self.preparation.white_level_16bit == "auto":  # later images need a number
            self.preparation = self.preparation.model_copy(update={"white_level_16bit": WHITE_LEVEL})

    @classmethod
    def build(cls, network: NetworkSettings, preparation: PreparationSettings, seed: int = 0) -> EmbeddingModel:
        """Return an untrained model with the starting weights of `network.weights`."""
        network = resolve_network(network.model_copy(update={"weights": choose_weights(network)}))
        net = build_net(network, seed, preparation.target_size)
        return cls(net, network, preparation, seen=read_seen(network.weights))

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
        """What an EmbeddingTable records about the origin of its vectors."""
        return {"model_hash": self.hash, "preparation_hash": self.preparation.hash()}

    def embed(
        self,
        images: Sequence[ImageSource] | NDArray[Any],
        *,
        pixel_size: float | NDArray[np.floating] | None = None,
        views: int | None = None,
        batch_size: int | None = None,
        precision: Precision = "auto",
        compile: Compile = "auto",
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Embed images.

        Args:
            images: paths, the bytes of image files, PIL images, or arrays (height, width[, 1 or 3]) of uint8, uint16,
                bool, or float in 0-1; also one array of images (n, height, width[, channels]).
            pixel_size: µm per pixel, of all images or of each; needed by a model with size inputs in µm.
            views: test-time augmentation, the views of each image to average: 1, 2 (half turns), 4 (quarter turns) or 8
                (mirrored too); by default those of the model.
            batch_size: images at a time; by default chosen by their size and the device. Fewer images are filled up to
                it, so that copies of an image have equal vectors in all calls; to embed single images fast, pass 1.
            precision: `auto` (bfloat16 if the device computes fast with it) or `float32`.
            compile: compile the network first: `on`, `off`, or `auto` (from 300,000 images on).
            progress: show a bar.

        Returns:
            float32 (n, d).

        Raises:
            InputError: an image cannot be read (the message has its number), a single image is not in a list, or the
                model needs a pixel size and has none.
        """
        self.check_options(views, precision, compile)
        size = self.choose_batch_size(batch_size)
        batches = prepare_list(images, self.preparation, self.network.size_inputs, pixel_size, size)
        return self.embed_batches(batches, len(images), size, views, precision, compile, progress)

    encode = embed  # its name in sentence-transformers and others

    def has_seen(self, hashes: Iterable[str]) -> NDArray[np.bool_]:
        """Return for each content hash (see `catalog.content_hashes`) whether its image was trained on, bool (n,)."""
        return is_seen(hashes, self.seen)

    def remember(self, hashes: Iterable[str]) -> None:
        """Add the content hashes of training images to `seen`."""
        self.seen = np.union1d(self.seen, shorten_hashes(hashes))

    def embed_prepared(
        self,
        images: PreparedImages,
        *,
        views: int | None = None,
        batch_size: int | None = None,
        precision: Precision = "auto",
        compile: Compile = "auto",
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Embed prepared images: float32 (n, d); the options are those of `embed`."""
        size = self.choose_batch_size(batch_size)
        return self.embed_batches(
            self._read_batches(images, size), len(images), size, views, precision, compile, progress
        )

    def extract_features(self, images: PreparedImages, progress: bool = False) -> NDArray[np.float32]:
        """Return the input of the head for prepared images, float32 (n, views, features), with the model's views."""
        size = self.choose_batch_size()
        batches = self._read_batches(images, size)
        return embed_batches(self.net, batches, len(images), size, self.views, progress=progress, features=True)

    def embed_features(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors of prepared images from their features, as `embed_prepared` would: float32 (n, d)."""
        return embed_features(self.net, features, self.choose_batch_size())

    def _read_batches(self, images: PreparedImages, batch_size: int) -> Iterator[Batch]:
        """Yield the batches of prepared images, with the log side lengths that the network takes."""
        sides = images.log_sides(self.network.size_inputs)
        return read_ahead(lambda at: (images.batch(at)[0], sides[at]), len(images), batch_size)

    def choose_batch_size(self, given: int | None = None) -> int:
        """Return how many images are embedded at a time on this device (see `inference.choose_batch_size`)."""
        return choose_batch_size(self.preparation.target_size, self.device, given)

    def embed_batches(
        self,
        batches: Iterable[Batch],
        n: int,
        batch_size: int,
        views: int | None = None,
        precision: Precision = "auto",
        compile: Compile = "auto",
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Embed n images in batches (see `inference.embed_batches`); the options are those of `embed`."""
        self.check_options(views, precision, compile)
        n_views = self.views if views is None else views
        return embed_batches(self.net, batches, n, batch_size, n_views, precision, compile, progress)

    def check_options(self, views: int | None, precision: Precision, compile: Compile) -> None:
        """Raise a SettingError if one of these options of `embed` is unknown."""
        check_options(self.views if views is None else views, precision, compile)

    def embed_pixels(
        self,
        pixels: NDArray[np.uint8],
        sides: NDArray[np.float32],
        *,
        precision: Precision = "auto",
        views: int | None = None,
    ) -> NDArray[np.float32]:
        """Embed prepared pixels, uint8 (n, T, T, channels), with their `log_sides`, float32 (n, 2): float32 (n, d)."""
        size = self.choose_batch_size()
        batches = read_ahead(lambda at: (pixels[at], sides[at]), len(pixels), size)
        return self.embed_batches(batches, len(pixels), size, views, precision)

    def save(self, folder: str | Path, card: str | None = None) -> Path:
        """Write weights, `config.json`, `training_images.npy` and `README.md`, the model card; return the folder.

        A folder of that name is replaced, whole or not at all.

        Args:
            folder: where to write.
            card: text of the model card; by default the model's `card`, else one made from its settings and training.

        Raises:
            OutputError: a file or another folder is there.
            SettingError: the weights are not float32.
        """
        if other := {value.dtype for value in self.net.parameters()} - {torch.float32}:
            raise SettingError(f"{folder}: expected weights in float32, found {other}; call model.net.float() first")
        refuse_overwrite(folder, overwrite=True, made_of=CONFIG_FILE)
        if (Path(folder) / CONFIG_FILE).is_file() and not is_own(Path(folder)):  # many programs write a config.json
            raise OutputError(
                f"{folder} exists already, and its {CONFIG_FILE} is not of plankton_embed; choose another"
            )
        text = card if card is not None else self.card or str(self.generate_model_card())
        with write_folder_atomically(folder) as temporary:
            write_weights(self.net.state_dict(), temporary / WEIGHTS_FILE)
            config = json.dumps(self._config(), indent=2, ensure_ascii=False)
            (temporary / CONFIG_FILE).write_text(config + "\n", encoding="utf-8")
            (temporary / CARD_FILE).write_text(text, encoding="utf-8")
            np.save(temporary / SEEN_FILE, self.seen)
        return Path(folder)

    def save_origin(self, folder: Path) -> None:
        """Write `config.json` and `training_images.npy` alone: what a training that was stopped must know to go on."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / SEEN_FILE, self.seen)
        config = json.dumps(self._config(), indent=2, ensure_ascii=False)
        with write_atomically(folder / CONFIG_FILE) as temporary:
            temporary.write_text(config + "\n", encoding="utf-8")

    def save_pretrained(
        self, save_directory: str | Path, *, push_to_hub: bool = False, repo_id: str | None = None, **options: Any
    ) -> str | None:
        """Write the model into a folder, as `save` does, and publish it on the Hugging Face hub if wanted.

        Args:
            save_directory: where to write; a model there is replaced.
            push_to_hub: publish it.
            repo_id: `owner/name`; by default the name of the folder, under your own.
            **options: those of the method `push_to_hub`.

        Returns:
            The address of the commit; None where nothing is published.

        Raises:
            OutputError: a file or another folder is there.
            SettingError: options of publishing without `push_to_hub`.
        """
        unexpected = [name for name, value in {"repo_id": repo_id, **options}.items() if value is not None]
        if unexpected and not push_to_hub:
            raise SettingError(f"save_pretrained: {', '.join(unexpected)} can only be used with push_to_hub=True")
        folder = self.save(save_directory)
        return self.push_to_hub(repo_id or folder.name, **options) if push_to_hub else None

    def _config(self) -> dict[str, Any]:
        return {
            "library": "plankton_embed",
            "format_version": FORMAT_VERSION,
            "model_hash": self.hash,
            "network": self.network.model_dump(mode="json"),
            "preparation": self.preparation.model_dump(mode="json"),
            "classes": self.classes,
            "views": self.views,
            "training": self.training,
        }

    def generate_model_card(self, *args: Any, **options: Any) -> ModelCard:
        """Return a model card made from the settings and the training; see `build_model_card` for the options."""
        return build_model_card(self._config(), *args, **options)

    @classmethod
    def load(cls, name: str | Path, device: str = "auto", **options: Any) -> EmbeddingModel:
        """Load a model: of a folder written by `save`, of a run, of the package, or of the Hugging Face hub.

        Args:
            name: `runs/demo/model`, `runs/demo`, the name of a model that comes with the package (see `pe.models`), or
                a hub name such as `owner/name`.
            device: `auto`, `cpu`, `cuda`, `mps`.
            **options: for a hub name: `revision` (a branch, tag or commit; by default the newest), `token` (by default
                that of `hf auth login`), `cache_dir`, `force_download`, `local_files_only`.

        Raises:
            InputError: there is no model, or its files do not fit together.
            SettingError: an option is unknown, or `revision` is given for a folder.
        """
        folder = _find_folder(name, options)
        try:
            config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            if not isinstance(config, dict):
                raise InputError(f"{folder / CONFIG_FILE}: expected settings and values, found {type(config).__name__}")
            if not {"format_version", "network", "preparation"} & set(config):
                raise InputError(f"{folder} is not a model: its {CONFIG_FILE} is not of a model of plankton_embed")
            if config.get("format_version") != FORMAT_VERSION:
                raise InputError(
                    f"{folder}: expected format_version {FORMAT_VERSION}, found {config.get('format_version')}; "
                    "it was written by another release of plankton_embed"
                )
            network = NetworkSettings.from_saved(config["network"])
            preparation = PreparationSettings.from_saved(config["preparation"])
            net = build_net(network, 0, preparation.target_size, empty=True)
            net.load_state_dict(read_safetensors(folder / WEIGHTS_FILE))
            seen, expected_hash = read_seen(folder.absolute()), config["model_hash"]  # not one of the package
        except PlanktonEmbedError:
            raise
        except (OSError, LookupError, TypeError, AttributeError, ValueError, RuntimeError, SafetensorError) as error:
            raise InputError(f"{folder} is not a complete model: {error}") from error
        model = cls(net, network, preparation, config.get("classes", []), config.get("training", {}))
        model.views, model.seen = config.get("views", 1), seen
        if not (folder / SEEN_FILE).is_file():
            model.training[UNKNOWN_START] = True
        if (folder / CARD_FILE).is_file():
            model.card = (folder / CARD_FILE).read_text(encoding="utf-8")
        if model.hash != expected_hash:
            raise InputError(
                f"{folder}: expected model {expected_hash}, as in config.json; found {model.hash} by its weights and "
                "settings: one of its files was changed; save or copy the model again"
            )
        return model.to(device)

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str = "auto", **options: Any) -> EmbeddingModel:  # type: ignore[override]
        """Load a model by its name on the Hugging Face hub, or from a folder; the same as `load`."""
        return cls.load(name, device, **options)

    def push_to_hub(  # type: ignore[override]
        self, repo_id: str, *, card: str | None = None, private: bool = False, token: str | None = None, **options: Any
    ) -> str:
        """Publish on the Hugging Face hub.

        Args:
            repo_id: `owner/name`.
            card: text of the model card; by default as `save` writes it.
            private: make a new repository private.
            token: by default that of `hf auth login`.
            **options: `commit_message`, `branch`, `create_pr` and others of `huggingface_hub.ModelHubMixin`.

        Returns:
            The address of the commit.

        Raises:
            SettingError: `config` or `model_card_kwargs`, which the model makes itself.
        """
        if own := [name for name in ("config", "model_card_kwargs") if options.get(name) is not None]:
            raise SettingError(f"push_to_hub: the model makes {' and '.join(own)} itself; change the text with card=")
        model = self if card is None else replace(self, card=card)
        return str(ModelHubMixin.push_to_hub(model, repo_id, private=private, token=token, **options))

    def _describe(self) -> str:
        side = self.preparation.target_size
        return (
            f"{self.network.trunk}, {side} px, {self.dimension} dimensions, {len(self.classes)} classes, {self.device}"
        )


def _find_folder(name: str | Path, options: dict[str, Any]) -> Path:
    unexpected = sorted(set(options) - set(HUB_OPTIONS))
    if unexpected:
        raise SettingError(f"expected options of {', '.join(HUB_OPTIONS)}; found {', '.join(unexpected)}")
    warn_of_folder(name)
    folders = (folder for folder in (Path(name), Path(name) / "model") if (folder / CONFIG_FILE).is_file())
    if folder := find_pretrained(name) or next(folders, None):
        if options.get("revision") is not None:
            raise SettingError(f"revision: {folder} is a folder; only a name on the hub, owner/name, has revisions")
        return folder
    if Path(name).exists() or str(name).count("/") != 1:
        raise InputError(
            f"{name} is not a model: expected a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, a run, a name on the hub "
            f"(owner/name), or the name of a model that comes with the package ({', '.join(list_pretrained())})"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    files = [WEIGHTS_FILE, CONFIG_FILE, CARD_FILE, SEEN_FILE]
    try:
        return Path(snapshot_download(str(name), allow_patterns=files, **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"{name} is not a folder here, and cannot be loaded from the Hugging Face hub: {error}"
        ) from error
