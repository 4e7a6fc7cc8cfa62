"""Trunks (backbones): torchvision networks without their last layer, and their starting weights."""

from __future__ import annotations

import http.client
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
import torchvision
from torch import Tensor, nn

from plankton_embed.errors import InputError, SettingError
from plankton_embed.network.pretrained import find_pretrained, list_pretrained
from plankton_embed.network.weight_files import read_safetensors, restore_int8
from plankton_embed.settings import NetworkSettings

WITH_AUXILIARY_HEADS = ("inception_v3", "googlenet")
UNREADABLE = (RuntimeError, ValueError, EOFError, OSError, safetensors.SafetensorError, pickle.UnpicklingError)
# first convolution and its norm in trunks whose ImageNet weights were made for pixels scaled to -1..1
FIRST_LAYERS = {
    "inception_v3": ("Conv2d_1a_3x3.conv.weight", "Conv2d_1a_3x3.bn.running_mean"),
    "googlenet": ("conv1.conv.weight", "conv1.bn.running_mean"),
    "efficientnet_v2_l": ("features.0.0.weight", "features.0.1.running_mean"),
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRUNK_PREFIX = "trunk."  # of the weights of the trunk in a saved EmbeddingModel or FineTunedNet
# in the folder of a saved model, a run, a FineTunedNet, or a repository of the hub
WEIGHT_FILES = (
    "model.safetensors",
    "model/model.safetensors",
    "weights.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)


def build_trunk(settings: NetworkSettings) -> tuple[nn.Module, int]:
    """Return a network that maps (b, 3, T, T) to (b, features), with its starting weights, and the feature count.

    Raises:
        SettingError: the trunk is not a torchvision classification model, or does not end in a linear layer.
        InputError: the weights cannot be fetched or read, or do not fit.
    """
    trunk, n_features = build_empty_trunk(settings.trunk)
    start_trunk(trunk, settings)
    return trunk, n_features


def start_trunk(trunk: nn.Module, settings: NetworkSettings) -> None:
    """Load the starting weights into an empty trunk; with `none` it keeps its random ones.

    Raises:
        InputError: as `build_trunk`.
    """
    if settings.weights == "imagenet":
        load_weights(trunk, _imagenet_weights(settings.trunk), f"ImageNet weights of {settings.trunk}")
    elif settings.weights != "none":
        path = find_pretrained(settings.weights) or Path(settings.weights)
        weights: Mapping[str, Tensor] = read_weights(path)
        _check_normalization(weights, settings)
        if path.name == Path(torchvision.models.get_model_weights(settings.trunk).DEFAULT.url).name:
            weights = fold_pixel_scale(weights, settings.trunk)  # the ImageNet weights, downloaded by hand
        load_weights(trunk, weights, settings.weights)


def _check_normalization(weights: Mapping[str, Tensor], settings: NetworkSettings) -> None:
    """Raise an InputError if the weights of a saved model with a trunk of timm expect other pixels than torchvision."""
    expected = (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD))
    found = [weights[name].float().flatten().cpu() / 255 for name, _ in expected if name in weights]
    wanted = [torch.tensor(values) for _, values in expected]
    if found and not all(torch.allclose(*pair, atol=1e-3) for pair in zip(found, wanted, strict=True)):
        raise InputError(
            f"network.weights: {settings.weights} was trained on pixels of another normalisation (mean "
            f"{found[0].tolist()}, standard deviation {found[1].tolist()}) than network.trunk={settings.trunk} takes; "
            f"set network.trunk=timm:{settings.trunk}"
        )


def check_trunk(name: str) -> None:
    """Raise SettingError unless torchvision has a classification model of that name."""
    available = torchvision.models.list_models(module=torchvision.models)
    if name not in available:
        raise SettingError(
            f"network.trunk: {name!r} is not a torchvision model; available: {', '.join(available)}; "
            "network.trunk also takes networks of timm, as timm:NAME"
        )


def build_empty_trunk(name: str) -> tuple[nn.Module, int]:
    """Return the trunk of that name with random weights and without its last linear layer."""
    check_trunk(name)
    # the starting weights of these two are so large that the kernels hardly change at first
    options = {"aux_logits": False, "init_weights": False} if name in WITH_AUXILIARY_HEADS else {}
    network = torchvision.models.get_model(name, weights=None, **options)
    linear = [(path, layer) for path, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise SettingError(
            f"network.trunk: {name} does not end in a linear layer, so it cannot be a trunk; choose another"
        )
    path, last = linear[-1]
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    before = list(network.get_submodule(parent).named_children())
    position = [child for child, _ in before].index(attribute)
    if position > 0 and isinstance(before[position - 1][1], nn.Dropout):
        setattr(network.get_submodule(parent), before[position - 1][0], nn.Identity())  # the head has its own
    return network, last.in_features


def load_weights(trunk: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights into a trunk; layers that the trunk does not have (the classifier, auxiliary heads) are ignored.

    Accepts the names of torchvision, and those of a saved EmbeddingModel or FineTunedNet.

    Raises:
        InputError: a layer is missing, has another shape, is not finite, or has whole numbers without their scale.
    """
    found = strip_names(weights)
    wanted = trunk.state_dict()
    for name, value in wanted.items():
        if name.endswith("num_batches_tracked"):  # older files lack these counts, which are not used
            found.setdefault(name, value)
    missing = [name for name in wanted if name not in found]
    misfits = [f"{n} {tuple(found[n].shape)} for {tuple(w.shape)}" for n, w in wanted.items()
               if n in found and found[n].shape != w.shape]  # fmt: skip
    whole = [f"{n} {found[n].dtype}" for n, w in wanted.items()
             if n in found and w.is_floating_point() and not found[n].is_floating_point()]  # fmt: skip
    broken = [n for n in wanted if n in found and not found[n].isfinite().all()]
    if missing or misfits or whole or broken:
        faults = [f"{len(missing)} missing, such as {missing[0]}"] if missing else []
        faults += [f"{len(misfits)} of another shape, such as {misfits[0]}"] if misfits else []
        faults += [f"{len(whole)} are whole numbers without a scale, such as {whole[0]}"] if whole else []
        faults += [f"{len(broken)} have values that are not finite, such as {broken[0]}"] if broken else []
        raise InputError(
            f"{source}: does not fit the trunk ({'; '.join(faults)}). Were they made for another network.trunk?"
        )
    trunk.load_state_dict({name: found[name] for name in wanted})


def strip_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a trunk under its own names, without the prefixes of a saved net or of DataParallel."""
    found = {_current_name(name): value for name, value in weights.items()}
    if any(name.startswith(TRUNK_PREFIX) for name in found):
        return {n.removeprefix(TRUNK_PREFIX): v for n, v in found.items() if n.startswith(TRUNK_PREFIX)}
    return found


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read weights from a .safetensors file, a .pt/.pth state dict, or the folder of a saved model or FineTunedNet."""
    if path.is_dir():
        inside = [path / name for name in WEIGHT_FILES]
        path = next((p for p in inside if p.exists()), inside[0])
    if not path.is_file():
        names = ", ".join(["imagenet", "hub (timm)", "none", *list_pretrained()])
        raise InputError(f"network.weights: {path} does not exist; expected {names}, a file, or a model or run folder")
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise InputError(f"network.weights: {path} cannot be read as weights: {error}") from error
    for key in ("state_dict", "model"):  # of a training state
        weights = weights.get(key, weights) if isinstance(weights, dict) else weights
    entries = weights.items() if isinstance(weights, dict) else [(None, weights)]
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in entries):
        raise InputError(f"network.weights: {path}: expected a dictionary of tensors, found {type(weights).__name__}")
    return restore_int8(weights)


def _imagenet_weights(name: str) -> Mapping[str, Tensor]:
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        found = weights.get_state_dict(progress=True, check_hash=True)
    except (*UNREADABLE, http.client.HTTPException) as error:
        raise InputError(
            f"ImageNet weights of {name} cannot be fetched from {weights.url} ({error}). What to "
            "do: download that file on another computer and give its path (--set network.weights=FILE; in compare "
            f"--weights {name}=FILE); put it into "
            f"{Path(torch.hub.get_dir()) / 'checkpoints'}; or train from scratch (--set network.weights=none)."
        ) from error
    return fold_pixel_scale(found, name)


def fold_pixel_scale(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Convert ImageNet weights that were made for pixels scaled to -1..1 to ImageNet-normalised pixels.

    The scale goes into the first convolution, the offset into the mean of its norm; torchvision does the same with the
    pixels (`transform_input`). Weights of other trunks are returned unchanged.
    """
    convolution, norm = FIRST_LAYERS.get(name, ("", ""))
    if convolution not in weights or norm not in weights:
        return dict(weights)  # `load_weights` reports what is missing
    kernel, mean, std = weights[convolution], torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    offset = (kernel.sum(dim=(2, 3)) * (2 * mean - 1)).sum(dim=1)
    return {**weights, convolution: kernel * (2 * std)[:, None, None], norm: weights[norm] - offset}


def _current_name(name: str) -> str:
    """Return a layer's name without the prefix of DataParallel, and as torchvision's DenseNet has it today."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name.removeprefix("module."))
