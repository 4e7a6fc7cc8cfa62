"""How a run starts or goes on: its folder, its settings, and the model that it trains."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.images.preparation import SHARE_DARK, share_dark
from plankton_embed.images.store import PreparedImages
from plankton_embed.network.device import choose_device
from plankton_embed.network.embedding_net import build_net, check_network
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.network.pretrained import choose_weights, list_pretrained, published_weights, warn_of_folder
from plankton_embed.network.saved_model import (
    EARLIER_CLASSES,
    is_forgetful,
    is_own,
    read_classes,
    read_preparation,
    read_seen,
    read_training,
)
from plankton_embed.network.timm_trunks import resolve_network
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import PreparationSettings, Settings
from plankton_embed.table import UNKNOWN_START
from plankton_embed.training.ranks import Ranks
from plankton_embed.training.tracking import check_tensorboard
from plankton_embed.workflows.inputs import Source, refuse_inside

logger = logging.getLogger(__name__)

POLARITY_IMAGES = 1000  # training images on which the polarity is judged, at most


def open_run(
    source: Source, output: str | Path, chosen: Settings, overwrite: bool, device: str
) -> tuple[RunFolder, Settings]:
    """Check, before any work is done, that a run can be started or continued in the output folder."""
    choose_device(device)
    if chosen.training.tensorboard:
        check_tensorboard()
    refuse_inside(source, output)
    folder = RunFolder(Path(output))
    if not folder.settings.exists():
        if folder.path.exists() and (not folder.path.is_dir() or any(_visible(folder.path))):
            raise OutputError(f"{output} exists already and does not contain a run; choose another folder")
    elif not overwrite:
        chosen = keep_settings(folder, chosen)
    if unused := chosen.list_unused():
        raise SettingError(
            f"network.frozen: the trunk is not trained, so {', '.join(unused)} would not be used; leave them (or "
            "the preset) out, or choose another preset: instant keeps the trunk (other trunks and sizes with "
            "network.trunk and preparation.target_size), quick, cpu and gpu train it"
        )
    chosen = _name_weights(chosen)
    if folder.settings.exists() and not overwrite:  # its starting weights were loaded before, and may be gone
        check_network(chosen.network, chosen.preparation.target_size)
    else:
        build_net(chosen.network, chosen.seed, chosen.preparation.target_size)
    return folder, chosen


def keep_settings(folder: RunFolder, chosen: Settings) -> Settings:
    """Return the settings that an existing run was started with; other values given now are an error."""
    if not folder.settings.exists():
        return chosen
    try:
        own = Settings.load(folder.settings)
    except SettingError as error:
        raise InputError(
            f"{folder.settings} cannot be used: {error}\nA newer release may have written it: use that one, choose "
            "another folder, or replace the run (--overwrite)"
        ) from error
    before, now = own.flat(), chosen.flat()
    if now["network.weights"] == "auto":  # a name that was chosen before stays, even if another would be chosen now
        own_name = before["network.weights"] in list_pretrained()
        network = chosen.network.model_copy(update={"frozen": False})  # without a model for its trunk: `none`, no error
        now["network.weights"] = before["network.weights"] if own_name else choose_weights(network)
    differ = {name: f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]}
    changed = [text for name, text in differ.items() if name in chosen.given]
    if changed:
        raise SettingError(
            f"{folder.path} contains a run with other settings ({'; '.join(changed)}); to continue that run, leave "
            "them (or the preset) out; or choose another folder, or replace the run (--overwrite)"
        )
    if differ:
        logger.info("%s continues with its own settings, not the defaults: %s", folder.path, "; ".join(differ.values()))
    return own


def _name_weights(settings: Settings) -> Settings:
    """Replace the starting weights `auto` by what they stand for; warn where that is nothing."""
    network, name = settings.network, choose_weights(settings.network)
    if network.weights == "auto" and name == "none":
        logger.warning(
            "no model with the trunk %s comes with the package, so its training starts from random weights; to start "
            "from others, set network.weights=%s (downloaded) or a file; to start from random weights without this "
            "warning, set network.weights=none",
            *(network.trunk, published_weights(network.trunk)),
        )
    return settings.with_weights(name)


def _visible(folder: Path) -> list[Path]:
    """List a folder without hidden files, such as those that a killed process was writing."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def start_model(
    folder: RunFolder,
    prepared: PreparedImages,
    hashes: Iterable[str],
    preparation: PreparationSettings,
    classes: list[str],
    settings: Settings,
    ranks: Ranks,
) -> EmbeddingModel:
    """Return the model to train, with the facts about its start.

    If a training goes on, these are read from the run: there may be another model at `network.weights` by now, or none.

    Args:
        prepared: the labelled training images.
        hashes: their content hashes.
        preparation: how they were prepared.
        classes: their classes.
    """
    network, origin = settings.network, folder.checkpoints
    if ranks.share(is_own(origin) and any(origin.glob("state-*.pt"))):  # the states have the weights
        empty = network.model_copy(update={"weights": "none"})
        model = EmbeddingModel.build(empty, preparation, settings.seed)
        model.views, model.classes, model.network = settings.embedding.views, classes, resolve_network(network)
        model.training, model.seen = read_training(origin), read_seen(origin)
        return model
    _check_start(settings)
    logger.info("start: %s", "random weights" if network.weights == "none" else f"weights {network.weights}")
    model = EmbeddingModel.build(network, preparation, settings.seed)
    model.views, model.classes = settings.embedding.views, classes
    model.training = {"settings": settings.flat(), "n_images": len(prepared)}
    if earlier := sorted(set(read_classes(network.weights)) - set(classes)):
        model.training[EARLIER_CLASSES] = earlier
    if is_forgetful(network):
        model.training[UNKNOWN_START] = True
    if preparation.background == "border":
        some = np.random.default_rng(0).permutation(len(prepared))[:POLARITY_IMAGES]
        model.training[SHARE_DARK] = round(share_dark(*prepared.batch(np.sort(some))), 3)
    model.remember(hashes)
    if ranks.is_first and not network.frozen:
        model.save_origin(origin)
    return model


def _check_start(settings: Settings) -> None:
    """Warn if the starting model was trained on images prepared in another way, or on images that are not known."""
    warn_of_folder(settings.network.weights)
    if is_forgetful(settings.network):
        logger.warning(
            "%s: it is not known which images these weights were trained on (a model of this package has them in "
            "training_images.npy), so those among the scored images are not counted (n_seen); if there are any, the "
            "scores are too high",
            settings.network.weights,
        )
    start = read_preparation(settings.network.weights)
    if start is None:
        return
    names = ["polarity", "scaling", "background", "color"]
    if settings.network.frozen or settings.preparation.target_size < start.target_size:
        names.append("target_size")
    was, now = ({name: getattr(part, name) for name in names} for part in (start, settings.preparation))
    differ = [name for name in names if was[name] != now[name]]
    if differ:
        logger.warning(
            "%s was trained on images that were prepared in another way (%s), so its features separate these images "
            "less well; add %s",
            settings.network.weights,
            ", ".join(f"{name} {was[name]}, now {now[name]}" for name in differ),
            " ".join(f"--set preparation.{name}={was[name]}" for name in differ),
        )
