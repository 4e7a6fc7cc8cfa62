"""Trunks of timm: their architecture, their starting weights, and the normalisation that they expect (extra: timm)."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from plankton_embed.errors import InputError, SettingError, needs_extra
from plankton_embed.network.pretrained import HUB, find_pretrained
from plankton_embed.network.trunks import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TRUNK_PREFIX,
    UNREADABLE,
    WEIGHT_FILES,
    load_weights,
    read_weights,
    strip_names,
)
from plankton_embed.settings import NetworkSettings

PREFIX, LOCAL = "timm:", "local-dir:"
CONFIG_FILES = ("config.json", "open_clip_config.json")
SET_HERE = ("img_size", "in_chans", "num_classes")  # arguments of timm's function that are not the user's
DOES_NOT_FIT = (AssertionError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
MOST_TRIED = 6  # sides in each direction, to find one that works

Normalization = tuple[tuple[float, ...], tuple[float, ...]]


class TimmTrunk(NamedTuple):
    """A trunk, the number of its features, and the mean and standard deviation (of pixels 0-1) that it expects."""

    trunk: nn.Module
    n_features: int
    normalization: Normalization


def is_timm(name: str) -> bool:
    """Return whether a trunk is of timm."""
    return name.startswith(PREFIX)


def resolve_network(settings: NetworkSettings) -> NetworkSettings:
    """Replace the name of a hub repository or a folder by the architecture in its `config.json`.

    The model can then be loaded without the hub. Arguments of the architecture are added to its name as JSON:
    `timm:vit_base_patch16_224 {"reg_tokens":4}`.

    Raises:
        InputError: the repository cannot be fetched, or its `config.json` does not contain an architecture.
        SettingError: the network does not take three channels.
    """
    name = settings.trunk.removeprefix(PREFIX)
    if not is_timm(settings.trunk) or not name.startswith((HUB, LOCAL)):
        return settings
    folder = _fetch_repository(name) if name.startswith(HUB) else Path(name.removeprefix(LOCAL))
    config = _read_json(folder / CONFIG_FILES[0])
    if not isinstance(config.get("architecture"), str):
        raise InputError(
            f"network.trunk={settings.trunk}: no {CONFIG_FILES[0]} with the name of an architecture of timm is in "
            f"{folder}. What to do: set the architecture as network.trunk=timm:NAME, and the repository, the folder or "
            "the file as network.weights"
        )
    options = dict(config.get("model_args") or {})
    size = config.get("pretrained_cfg", config).get("input_size") or (3,)
    _check_channels(settings.trunk, options.get("in_chans", size[0]))
    options = {name: value for name, value in options.items() if name not in SET_HERE}
    text = " " + json.dumps(options, separators=(",", ":")) if options else ""
    start = (name if name.startswith(HUB) else str(folder)) if settings.weights == "hub" else settings.weights
    return settings.model_copy(update={"trunk": f"{PREFIX}{config['architecture']}{text}", "weights": start})


def build_timm_trunk(settings: NetworkSettings, side: int | None = None, *, empty: bool = False) -> TimmTrunk:
    """Return a trunk that maps (b, 3, side, side) to (b, features), with its starting weights.

    Args:
        settings: `trunk` is `timm:NAME`, also with a name of timm's such as `hf-hub:owner/name@revision`.
        side: of the images, pixels; networks with a fixed input size are built for it. None: that of its weights.
        empty: keep the random weights.

    Raises:
        DependencyError: timm is not installed.
        SettingError: no such network, it cannot be a trunk, or not for images of this size.
        InputError: the weights cannot be fetched or read, or do not fit.
    """
    with needs_extra(f"network.trunk={settings.trunk}", "timm"):
        import timm  # noqa: F401
    settings = resolve_network(settings)
    name, options = _split_name(settings.trunk)
    config = _find_config(name)
    side = side or config.input_size[-1]
    trunk, n_features = _build_for(name, options, side)
    normalization, start = (tuple(config.mean), tuple(config.std)), "none" if empty else settings.weights
    if start == "hub":
        trunk = _load_own_weights(name, options, side)
    elif start != "none":
        is_repository = start.startswith(HUB)
        path = _fetch_repository(start, WEIGHT_FILES) if is_repository else find_pretrained(start) or Path(start)
        weights = read_weights(path)
        _check_activation(name, path, start)
        normalization = _find_normalization(weights, path) or normalization
        load_weights(trunk, _convert(weights, trunk, name, start), start)
    return TimmTrunk(trunk, n_features, normalization)


def _split_name(trunk: str) -> tuple[str, dict[str, Any]]:
    """Return the name of the network in timm, and the arguments that follow it as JSON."""
    name, _, text = trunk.removeprefix(PREFIX).partition(" ")
    try:
        options = json.loads(text or "{}")
    except ValueError as error:
        raise SettingError(f"network.trunk={trunk}: expected JSON after the name, found {text!r}") from error
    if not isinstance(options, dict) or set(options) & set(SET_HERE):
        raise SettingError(
            f'network.trunk={trunk}: expected arguments such as {{"global_pool":"avg"}} after the name; '
            f"{', '.join(SET_HERE)} are set by this package"
        )
    return name, options


def _find_config(name: str) -> Any:
    """Return timm's configuration of a network: normalisation, input size, whether that is fixed."""
    import timm
    from timm.models import PretrainedCfg

    architecture = name.partition(".")[0]
    if not timm.is_model(architecture) or "/" in name:
        nearest = difflib.get_close_matches(architecture, timm.list_models(), cutoff=0.5)
        suggested = f"; did you mean {' or '.join(f'{PREFIX}{other}' for other in nearest)}?" if nearest else "."
        raise SettingError(
            f"network.trunk: {PREFIX}{name} is not a network of timm {timm.__version__}{suggested} For a repository on "
            f"the Hugging Face hub write {PREFIX}{HUB}owner/name"
        )
    try:
        config = timm.get_pretrained_cfg(name) or PretrainedCfg()
    except RuntimeError as error:
        known = ", ".join(timm.list_pretrained(f"{architecture}.*")) or f"{architecture}, without weights"
        raise SettingError(f"network.trunk: timm has no weights {name}; expected {known}") from error
    _check_channels(f"{PREFIX}{name}", config.input_size[0])
    return config


def _check_channels(trunk: str, found: int) -> None:
    if found != 3:
        raise SettingError(f"network.trunk={trunk}: expected a network for 3 channels, found {found}; choose another")


def _create(name: str, options: Mapping[str, Any], side: int, pretrained: bool = False) -> nn.Module:
    import timm

    fixed = {"img_size": side} if _find_config(name).fixed_input_size else {}
    network: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0, **options, **fixed)
    return network


def _build_for(name: str, options: Mapping[str, Any], side: int) -> tuple[nn.Module, int]:
    """Return a network with random weights and the number of its features, after a trial on an empty image."""
    try:
        return _try_side(name, options, side)
    except DOES_NOT_FIT as error:
        fault = error
    try:
        _try_side(name, options, own := _find_config(name).input_size[-1])
    except DOES_NOT_FIT as error:
        raise SettingError(f"network.trunk: {PREFIX}{name} cannot be a trunk: {error}") from error
    patch = _find_patch(_create(name, options, own))
    step = patch if patch > 1 else 32
    below, above = side // step * step, side // step * step + step
    sides = [_find_side(name, options, range(below, 31, -step)), _find_side(name, options, range(above, 1025, step))]
    found = " and ".join(f"{near}" for near in sides if near) or f"{own}"
    raise SettingError(
        f"preparation.target_size: {PREFIX}{name} cannot be built for images of {side} pixels ({fault}); the nearest "
        f"sizes that work are {found}; its weights are for {own}"
    )


def _try_side(name: str, options: Mapping[str, Any], side: int) -> tuple[nn.Module, int]:
    trunk = _create(name, options, side)
    patch = _find_patch(trunk)
    if side % patch:
        raise ValueError(f"expected a multiple of its patches, {patch} pixels")
    with torch.inference_mode():
        features = trunk.eval()(torch.zeros(1, 3, side, side))
    if not isinstance(features, Tensor) or features.ndim != 2:
        found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"expected features (b, n), found {found}")
    places = [value.data_ptr() for value in trunk.state_dict().values() if value.numel()]
    if len(set(places)) < len(places):
        raise ValueError("some of its layers share their weights, which cannot be saved")
    return trunk.train(), features.shape[1]


def _find_patch(trunk: nn.Module) -> int:
    """Return the side of the patches of a transformer, pixels; 1 for other networks."""
    patch = getattr(getattr(trunk, "patch_embed", None), "patch_size", 1)
    return int(patch) if isinstance(patch, int) else max(patch)


def _find_side(name: str, options: Mapping[str, Any], sides: Iterable[int]) -> int | None:
    """Return the first of these sides that the network takes."""
    for side in list(sides)[:MOST_TRIED]:
        try:
            _try_side(name, options, side)
        except DOES_NOT_FIT:
            continue
        return side
    return None


def _load_own_weights(name: str, options: Mapping[str, Any], side: int) -> nn.Module:
    """Return a network with the pretrained weights that its name stands for in timm."""
    try:
        return _create(name, options, side, pretrained=True)
    except UNREADABLE as error:
        repository = _find_config(name).hf_hub_id
        raise InputError(_explain_fetching(f"{PREFIX}{name}", repository or f"timm/{name}", error)) from error


def _fetch_repository(name: str, files: Iterable[str] = ()) -> Path:
    """Return the local copy of `hf-hub:owner/name[@revision]`: its configuration, and the first of these files."""
    from huggingface_hub import snapshot_download

    repository, _, revision = name.removeprefix(HUB).partition("@")
    wanted = list(files)
    for file in wanted or CONFIG_FILES[:1]:
        try:
            folder = Path(
                snapshot_download(repository, revision=revision or None, allow_patterns=[*CONFIG_FILES, file])
            )
        except UNREADABLE as error:
            raise InputError(_explain_fetching(name, repository, error)) from error
        if not wanted or (folder / file).is_file():
            return folder
    raise InputError(f"{name}: expected one of {', '.join(wanted)} in this repository; found none of them")


def _explain_fetching(what: str, repository: str, error: Exception) -> str:
    return (
        f"{what} cannot be fetched from the Hugging Face hub ({' '.join(str(error).split())}). What to do: check the "
        f"name and the network; or, on another computer, download https://huggingface.co/{repository} (hf download "
        f"{repository} --local-dir FOLDER), and set network.weights=FOLDER, with network.trunk=timm:NAME"
    )


def _read_json(path: Path) -> dict[str, Any]:
    """Return the content of a configuration file; empty if it does not exist or is something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_activation(name: str, path: Path, source: str) -> None:
    """Raise a SettingError if open_clip's configuration names QuickGELU and the network does not have it.

    An activation has no weights, so they would be loaded without an error.
    """
    config = _read_json(_find_beside(path) / CONFIG_FILES[1]).get("model_cfg")
    if isinstance(config, dict) and config.get("quick_gelu") and "quickgelu" not in name:
        raise SettingError(
            f"network.trunk: {source} was trained with quick_gelu ({CONFIG_FILES[1]}), {PREFIX}{name} has another "
            "activation; choose the network of timm with quickgelu in its name, such as "
            "timm:vit_base_patch16_clip_quickgelu_224"
        )


def _find_beside(path: Path) -> Path:
    """Return the folder of weights, given as a folder or a file."""
    return path if path.is_dir() else path.parent


def _find_normalization(weights: Mapping[str, Tensor], path: Path) -> Normalization | None:
    """Return the normalisation of weights: of a saved model, or in a configuration of timm or open_clip beside them.

    A saved model without one has a trunk of torchvision, for which it is that of ImageNet.
    """
    if "mean" in weights and "std" in weights:  # of an EmbeddingModel, for pixels 0-255
        mean, std = ((weights[name].float().flatten() / 255).tolist() for name in ("mean", "std"))
        return tuple(mean), tuple(std)
    if any(name.startswith(TRUNK_PREFIX) for name in weights):
        return IMAGENET_MEAN, IMAGENET_STD
    for config in map(_read_json, (_find_beside(path) / name for name in CONFIG_FILES)):
        for part in (config.get("pretrained_cfg"), config.get("preprocess_cfg"), config):
            if isinstance(part, dict) and "mean" in part and "std" in part:
                return tuple(part["mean"]), tuple(part["std"])
    return None


def _convert(weights: Mapping[str, Tensor], trunk: nn.Module, name: str, source: str) -> Mapping[str, Tensor]:
    """Convert weights to this network as timm does: layers are renamed, position embeddings resampled to its side."""
    import timm

    module = sys.modules[timm.model_entrypoint(name.partition(".")[0]).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    own = {n: value.float() if value.is_floating_point() else value for n, value in strip_names(weights).items()}
    try:
        return own if convert is None else convert(own, trunk)
    except DOES_NOT_FIT as error:
        raise InputError(
            f"{source}: does not fit {PREFIX}{name} ({type(error).__name__}: {error}). Were they made for another "
            "network.trunk?"
        ) from error
