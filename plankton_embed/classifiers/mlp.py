"""The MLP head: fully connected layers from a vector to its class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from plankton_embed.classifiers.calibrated import CalibratedClassifier, Labelled, hold_out
from plankton_embed.classifiers.calibration import fit_temperature
from plankton_embed.errors import InputError, SettingError
from plankton_embed.output import progress_bar, refuse_overwrite, write_folder_atomically, write_json

if TYPE_CHECKING:
    import torch
    from torch import nn

    from plankton_embed.settings import Precision

SMALL_BATCH = 64  # up to which further threads gain little, and lose much time beside other programs
WEIGHTS_FILE, CONFIG_FILE = "weights.safetensors", "config.json"
Layers = list[tuple[NDArray[np.float32], NDArray[np.float32]]]  # weight (in, out) and bias (out,)
BLOCK = 8192  # vectors at a time
MANY = 4096  # images; from this number on, a few epochs of large batches predict as well as the report's recipe


class Recipe(NamedTuple):
    """The settings of the training that follow the number of images."""

    epochs: int
    patience: int
    batch_size: int
    learning_rate: float


REPORT = Recipe(epochs=100, patience=10, batch_size=64, learning_rate=1e-4)


class MLPClassifier(CalibratedClassifier):
    """Classify by fully connected layers with ReLU and a softmax, trained with AdamW and stopped early.

    The default shape is that of Eidsvik's report on triplet embeddings of ZooScan images: three layers of 512. Of the
    settings below, those that are None follow the number of images to learn from (without `calibration`, nine tenths of
    those given to `fit`). Up to 4,095 images, they are the report's: at most 100 epochs, patience 10, batches of 64,
    learning rate 1e-4. From 4,096 images on, they are about as accurate and several times as fast: at most 15 epochs,
    patience 4, batches of a 64th of the images (64 to 256), learning rate 1e-3.

    Args:
        hidden: widths of the hidden layers.
        epochs: maximum number of epochs.
        patience: epochs without a lower loss on either half of the calibration images before training stops. The best
            epoch for each half is kept, and the logits of the two are averaged.
        batch_size: vectors per step.
        learning_rate: initial rate of AdamW; falls to zero along a half cosine over `epochs`, step by step.
        weight_decay: weight decay of AdamW.
        dropout: share of the hidden values dropped while training.
        random_state: seed of weights, order and dropout.
        progress: show a bar.
        precision: of the products while training: `auto` (bfloat16 where the processor is fast with it), `bfloat16` or
            `float32`. Predictions are computed in float32.

    Attributes:
        classes_: (C,) class names, sorted.
        centroids_: float64 (C, d), class means, used by `distances`.
        history_: one row per epoch: loss, loss and accuracy on the calibration images, and whether it is `kept`.
        nets_: the weights of the best epochs, one for each half of the calibration images.
        temperature_: the logits are divided by it. It is cross-fitted: each half is predicted by the net that the other
            half has stopped, because the images that stopped a net would give too low a temperature.
    """

    _learns_from_all = False
    precision: Precision = "auto"  # of a head pickled by an earlier release

    def __init__(
        self,
        hidden: Sequence[int] = (512, 512, 512),
        epochs: int | None = None,
        patience: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float = 1e-2,
        dropout: float = 0.0,
        random_state: int = 0,
        progress: bool = False,
        precision: Precision = "auto",
    ):
        self.hidden = hidden
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.random_state = random_state
        self.progress = progress
        self.precision = precision

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write `weights.safetensors` and `config.json` atomically."""
        check_is_fitted(self)
        refuse_overwrite(folder, overwrite, made_of=WEIGHTS_FILE)
        arrays = {"centroids": self.centroids_, "mean": self.mean_, "scale": np.array(self.scale_)}
        for net, layers in enumerate(self.nets_):
            for number, (weight, bias) in enumerate(layers):
                arrays |= {f"{_name_layer(net, number)}.weight": weight, f"{_name_layer(net, number)}.bias": bias}
        settings = {name: _to_plain(value) for name, value in self.get_params().items()}
        config = {
            "settings": {**settings, "hidden": [int(width) for width in self.hidden]},
            "classes": self.classes_.tolist(),
            "temperature": self.temperature_,
            "n_nets": len(self.nets_),
            "history": self.history_.to_dict("records"),
        }
        with write_folder_atomically(folder) as temporary:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary / WEIGHTS_FILE)
            write_json(temporary / CONFIG_FILE, config)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: the folder does not contain a complete classifier.
        """
        folder = Path(folder)
        try:
            config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            arrays = load_file(folder / WEIGHTS_FILE)
            settings = config["settings"]
            classifier = cls(**{**settings, "hidden": tuple(settings["hidden"])})
            classifier.classes_ = np.array(config["classes"])
            classifier.temperature_ = float(config["temperature"])
            classifier.history_ = pd.DataFrame(config["history"])
            classifier.nets_ = [  # an earlier release kept one
                [
                    (arrays[f"{_name_layer(net, number)}.weight"], arrays[f"{_name_layer(net, number)}.bias"])
                    for number in range(len(classifier.hidden) + 1)
                ]
                for net in range(config.get("n_nets", 1))
            ]
            classifier.centroids_, classifier.mean_ = arrays["centroids"], arrays["mean"]
            classifier.scale_ = arrays["scale"][()]
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise InputError(f"{folder} does not contain a complete MLP classifier: {error}") from error
        classifier.n_features_in_ = len(classifier.mean_)
        return classifier

    def _check_settings(self, n_images: int) -> None:
        for name, least in {"epochs": 1, "patience": 1, "batch_size": 1, "random_state": 0}.items():
            value = getattr(self, name)
            if not (_is_whole(value, least) or (value is None and name in Recipe._fields)):
                raise SettingError(f"{name}: expected a whole number of at least {least}; found {value!r}")
        least_positive = np.nextafter(0, 1)
        for name, least, limit, expected in (
            ("learning_rate", least_positive, np.inf, "finite number above 0"),
            ("weight_decay", 0, np.inf, "finite number of at least 0"),
            ("dropout", 0, 1, "number from 0 to below 1"),
        ):
            value = getattr(self, name)
            is_in_range = isinstance(value, Real) and least <= float(value) < limit
            if not (is_in_range or (value is None and name in Recipe._fields)):
                raise SettingError(f"{name}: expected a {expected}; found {value!r}")
        if self.precision not in ("auto", "bfloat16", "float32"):
            raise SettingError(f"precision: expected auto, bfloat16 or float32; found {self.precision!r}")
        if not isinstance(self.hidden, Sequence | np.ndarray) or not all(_is_whole(width, 1) for width in self.hidden):
            raise SettingError(f"hidden: expected widths, whole numbers of at least 1; found {self.hidden!r}")

    def _choose_recipe(self, n_images: int) -> Recipe:
        """Return the given settings of the training; those that are None follow the number of images."""
        recipe = REPORT
        if n_images >= MANY:
            recipe = Recipe(epochs=15, patience=4, batch_size=min(n_images // 64, 256), learning_rate=1e-3)
        given = {name: _to_plain(getattr(self, name)) for name in Recipe._fields}
        return recipe._replace(**{name: value for name, value in given.items() if value is not None})

    def _learn(self, images: Labelled, calibration: Labelled | None) -> None:
        import torch

        vectors, _ = images
        self.mean_ = vectors.mean(axis=0)
        self.scale_ = vectors.std() or 1.0  # one for all dimensions, so that distances keep their meaning
        n_threads = 1 if self._choose_recipe(len(vectors)).batch_size <= SMALL_BATCH else None
        with torch.random.fork_rng(devices=()), threadpool_limits(n_threads, "openmp"):
            torch.manual_seed(self.random_state)
            self._train(*self._to_tensors(images), None if calibration is None else self._to_tensors(calibration))

    def _find_temperature(self, calibration: Labelled) -> float:
        vectors, codes = calibration
        others = list(zip(self.nets_, reversed(_halve(codes)), strict=True))
        logits = np.concatenate([self._logits_of(layers, vectors[half]) for layers, half in others])
        return fit_temperature(logits, np.concatenate([codes[half] for _, half in others]))

    def _train(
        self, inputs: torch.Tensor, targets: torch.Tensor, calibration: tuple[torch.Tensor, torch.Tensor] | None
    ) -> None:
        """Fit the layers; keep those of the epoch with the lowest loss on each half of the calibration images."""
        import torch
        from torch.nn.functional import cross_entropy

        from plankton_embed.network.device import autocast

        net = _build_net([inputs.shape[1], *map(int, self.hidden), len(self.classes_)], float(self.dropout))
        recipe = self._choose_recipe(len(inputs))
        optimizer = torch.optim.AdamW(
            net.parameters(), recipe.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        n_steps = recipe.epochs * -(-len(inputs) // recipe.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        records: list[dict[str, float]] = []
        halves = [] if calibration is None else _halve(calibration[1].numpy())
        best_epochs, lowest = np.zeros(len(halves) or 1, dtype=int), np.full(len(halves) or 1, np.inf)
        self.nets_: list[Layers] = [[] for _ in best_epochs]
        for epoch in progress_bar(range(1, recipe.epochs + 1), "MLP", "epoch", shown=self.progress):
            net.train()
            total = torch.zeros(())
            for rows in torch.randperm(len(inputs)).split(recipe.batch_size):  # type: ignore[no-untyped-call]
                with autocast(inputs.device, self.precision):
                    logits = net(inputs[rows])
                loss = cross_entropy(logits.float(), targets[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                total += loss.detach() * len(rows)
            records.append({"epoch": epoch, "loss": total.item() / len(inputs)})
            if not np.isfinite(records[-1]["loss"]):
                raise SettingError(
                    f"the MLP's loss is not finite in epoch {epoch}; lower learning_rate (now {recipe.learning_rate})"
                )
            half_losses = [-np.inf]  # without calibration images the last epoch is kept
            if calibration is not None:
                with torch.inference_mode():
                    logits = net.eval()(calibration[0])
                    losses_each = cross_entropy(logits, calibration[1], reduction="none").numpy()
                records[-1]["calibration_loss"] = float(losses_each.mean())
                records[-1]["calibration_accuracy"] = (logits.argmax(1) == calibration[1]).float().mean().item()
                half_losses = [losses_each[half].mean() for half in halves]
            for half in np.flatnonzero(half_losses <= lowest):
                best_epochs[half], lowest[half] = epoch, half_losses[half]
                self.nets_[half] = _read_layers(net)
            if epoch - best_epochs.max() >= recipe.patience:
                break
        self.history_ = pd.DataFrame(records)
        self.history_["kept"] = self.history_["epoch"].isin(best_epochs)

    def _logits(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(np.mean([self._logits_of(layers, vectors) for layers in self.nets_], axis=0))

    def _logits_of(self, layers: Layers, vectors: NDArray[Any]) -> NDArray[np.float64]:
        logits = np.empty((len(vectors), len(self.classes_)))
        for start in range(0, len(vectors), BLOCK):
            values = self._standardize(vectors[start : start + BLOCK])
            for weight, bias in layers[:-1]:
                values = np.maximum(values @ weight + bias, 0)
            weight, bias = layers[-1]
            logits[start : start + BLOCK] = values @ weight + bias
        return logits

    def _to_tensors(self, images: Labelled) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        return torch.from_numpy(self._standardize(images[0])), torch.from_numpy(images[1])

    def _standardize(self, vectors: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray((vectors - self.mean_) / self.scale_, dtype=np.float32)


def _to_plain(value: Any) -> Any:
    """Return numbers of numpy as Python's, which torch and JSON take."""
    return value.item() if isinstance(value, np.generic) else value


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and int(value) >= least


def _halve(codes: NDArray[np.intp]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the masks of two stratified halves; twice all images if one would be empty."""
    half = hold_out(codes, 0.5)
    return (half, ~half) if half.any() else (~half, ~half)


def _name_layer(net: int, number: int) -> str:
    return f"net_{net}.layer_{number}" if net else f"layer_{number}"


def _build_net(widths: Sequence[int], dropout: float) -> nn.Sequential:
    from torch import nn

    *steps, last = pairwise(widths)
    hidden = [layer for n_in, n_out in steps for layer in (nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(dropout))]
    return nn.Sequential(*hidden, nn.Linear(*last))


def _read_layers(net: nn.Sequential) -> Layers:
    """Return copies of the weights and biases, so that prediction needs no torch."""
    values = [value.detach().numpy().copy() for value in net.parameters()]
    return [(weight.T, bias) for weight, bias in zip(values[::2], values[1::2], strict=True)]
