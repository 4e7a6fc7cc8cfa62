"""Trunks: torchvision networks without their last layer, and the weights they start from."""

from __future__ import annotations

import pickle
import urllib.error
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from plankton_embed.errors import InputError, SettingError
from plankton_embed.settings import NetworkSettings

WITH_AUXILIARY_HEADS = ("inception_v3", "googlenet")
TRUNK_PREFIX = "trunk."  # of the trunk's weights in a saved EmbeddingModel


def build_trunk(settings: NetworkSettings) -> tuple[nn.Module, int]:
    """Return a network that maps (b, 3, T, T) to (b, features), with its starting weights, and the feature count.

    Raises:
        SettingError: the trunk is no torchvision classification model, or has no last linear layer.
        InputError: the weights cannot be had or do not fit.
    """
    trunk, n_features = build_empty_trunk(settings.trunk)
    if settings.weights == "imagenet":
        load_weights(trunk, _imagenet_weights(settings.trunk), f"ImageNet weights of {settings.trunk}")
    elif settings.weights != "none":
        load_weights(trunk, read_weights(Path(settings.weights)), settings.weights)
    return trunk, n_features


def build_empty_trunk(name: str) -> tuple[nn.Module, int]:
    """Return the trunk of that name with random weights and without its last linear layer."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise SettingError(f"network.trunk: {name!r} is no torchvision model; known: {', '.join(known)}")
    options = {"aux_logits": False, "init_weights": True} if name in WITH_AUXILIARY_HEADS else {}
    network = torchvision.models.get_model(name, weights=None, **options)
    linear = [(path, layer) for path, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise SettingError(f"network.trunk: {name} ends in no linear layer, so it cannot serve as a trunk")
    path, last = linear[-1]
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    if isinstance(getattr(network, "dropout", None), nn.Dropout):
        network.dropout = nn.Identity()  # the head has its own
    return network, last.in_features


def load_weights(trunk: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights into a trunk; layers the trunk does not have (the classifier, auxiliary heads) are left aside.

    Accepts the names of torchvision, and those of a saved EmbeddingModel.

    Raises:
        InputError: a layer is missing or has another shape.
    """
    found = {name.removeprefix("module."): value for name, value in weights.items()}
    if any(name.startswith(TRUNK_PREFIX) for name in found):
        found = {n.removeprefix(TRUNK_PREFIX): v for n, v in found.items() if n.startswith(TRUNK_PREFIX)}
    wanted = trunk.state_dict()
    missing = [name for name in wanted if name not in found]
    misfits = [f"{n} {tuple(found[n].shape)} for {tuple(w.shape)}" for n, w in wanted.items()
               if n in found and found[n].shape != w.shape]  # fmt: skip
    if missing or misfits:
        faults = [f"{len(missing)} missing, such as {missing[0]}"] if missing else []
        faults += [f"{len(misfits)} of another shape, such as {misfits[0]}"] if misfits else []
        raise InputError(
            f"{source}: does not fit the trunk ({'; '.join(faults)}). Were they made for another network.trunk?"
        )
    trunk.load_state_dict({name: found[name] for name in wanted})


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read weights from a .safetensors file, a .pt/.pth state dict, or the folder of a saved EmbeddingModel."""
    if path.is_dir():
        inside = [path / "model.safetensors", path / "model" / "model.safetensors"]
        path = next((p for p in inside if p.exists()), inside[0])
    if not path.is_file():
        raise InputError(f"network.weights: {path} does not exist; expected imagenet, none, or a file")
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, safetensors.SafetensorError, pickle.UnpicklingError) as error:
        raise InputError(f"network.weights: {path} cannot be read as weights: {error}") from error
    weights = weights.get("state_dict", weights) if isinstance(weights, dict) else weights
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"network.weights: {path}: expected a dictionary of tensors, found {type(weights).__name__}")
    return weights


def _imagenet_weights(name: str) -> Mapping[str, Tensor]:
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        return weights.get_state_dict(progress=True, check_hash=True)  # type: ignore[no-any-return]
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise InputError(
            f"ImageNet weights of {name} cannot be fetched from {weights.url} ({error}). Ways out: "
            f"download that file elsewhere and name it (--set network.weights=FILE); put it into "
            f"{Path(torch.hub.get_dir()) / 'checkpoints'}; or train from scratch (--set network.weights=none)."
        ) from error
