"""The base of the comparison nets: training from pixels with early stopping, layer table, prediction, saving."""

from __future__ import annotations

import copy
import json
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import precision_recall_fscore_support
from sklearn.utils.validation import check_is_fitted

from plankton_embed.classifiers.calibrated import LEFT_OUT_SHARE, hold_out, keep_classes
from plankton_embed.errors import InputError, SettingError
from plankton_embed.output import progress_bar, refuse_overwrite, write_folder_atomically, write_json

if TYPE_CHECKING:
    import torch
    from torch import nn
from plankton_embed.baselines.net_batches import (
    BLOCK,
    Codes,
    Pixels,
    Sampling,
    balance_weights,
    draw_epoch,
)
from plankton_embed.images.views import turn_images

WEIGHTS_FILE, CONFIG_FILE = "weights.safetensors", "config.json"
FIGURES = ("loss", "accuracy", "f1_macro", "precision_macro", "recall_macro")  # columns of the history
Optimizer = Literal["adam", "rmsprop", "adadelta", "sgd"]
Scaling = Literal["standard", "raw", "imagenet"]
Watch = Literal["f1_macro", "loss"]
Precision = Literal["auto", "bfloat16", "float32"]
CHOICES: dict[str, tuple[Any, ...]] = {
    "optimizer": get_args(Optimizer),
    "scaling": get_args(Scaling),
    "class_weight": (None, "balanced"),
    "sampling": get_args(Sampling),
    "watch": (None, *get_args(Watch)),
    "precision": get_args(Precision),
}


@dataclass(kw_only=True, eq=False, repr=False)
class NetClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A net that classifies images by their pixels; `PixelMLP`, `FourConvNet`, … define its layers.

    Args:
        epochs: maximum number of epochs.
        batch_size: images per step, at least 2; a last batch of a single image is left out.
        learning_rate: learning rate of the optimizer.
        optimizer: `adam`, `rmsprop` (decay .9), `adadelta` (decay .95), all with epsilon 1e-7, or `sgd`
            (momentum .9).
        scaling: `standard` subtracts the mean of the training part and divides by its standard deviation, channel by
            channel; `raw` leaves 0-255; `imagenet` uses ImageNet's mean and deviation of red, green and blue, and
            copies grey to three channels.
        class_weight: `balanced` multiplies an image's loss by n / (C · images of its class).
        sampling: `natural` uses every image once an epoch; `balanced` draws as many in all, the same number from every
            class.
        turn: use a random view of every image, turned or mirrored, drawn again each time (8 views of a square image;
            4, without quarter turns, of another).
        grow_rare: use random views of the images of classes with fewer than n / C images. With natural sampling such
            a class is also used more often, until it has n / C images or every view of every image is used.
        watch: what chooses the best epoch, the macro F1 or the loss on validation images. The weights of the best epoch
            are kept, of equal ones the later; with None those of the last epoch.
        patience: stop after so many epochs in a row that are worse than the best; None never stops early.
        plateau_factor: factor of the learning rate when the validation accuracy stops improving; 1: never.
        plateau_patience: epochs in a row without a better accuracy (by more than 1e-4) before that.
        least_rate: lowest learning rate.
        seconds: wall time, with validation, after which training ends even within an epoch; None: no limit.
        device: `auto`, `cuda`, `mps` or `cpu`.
        precision: number format in training: `auto` uses bfloat16 where it is fast; predictions are in float32.
        seed: seed of weights, order, dropout, views, and the choice of validation images.
        progress: show a bar.

    Attributes:
        classes_: (C,) class names, sorted, of the type of y.
        history_: one row for each epoch: epoch, loss, accuracy, f1_macro, precision_macro, recall_macro, the same with
            `val_` on validation images, learning_rate, seconds of the epoch, and kept: whether its weights are those of
            the net. Losses are cross-entropies without class weights, so that both parts can be compared; figures of
            the training images are measured during training, on the views used.
        layers_: one row for each layer: name, kind, output_shape (channels×height×width or values), trained parameters.
        n_parameters_: the sum of them.
        image_shape_: (height, width) or (height, width, 3).
    """

    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    optimizer: Optimizer = "adam"
    scaling: Scaling = "standard"
    class_weight: Literal["balanced"] | None = None
    sampling: Sampling = "natural"
    turn: bool = False
    grow_rare: bool = False
    watch: Watch | None = "f1_macro"
    patience: int | None = None
    plateau_factor: float = 1.0
    plateau_patience: int = 2
    least_rate: float = 1e-5
    seconds: float | None = None
    device: str = "auto"
    precision: Precision = "auto"
    seed: int = 0
    progress: bool = False

    _block: ClassVar[int] = BLOCK

    @abstractmethod
    def _design(self, shape: tuple[int, int, int], n_classes: int) -> Iterable[nn.Module]:
        """Return the layers, in order, for images of shape (channels, height, width)."""

    def fit(self, X: ArrayLike, y: ArrayLike, validation: tuple[ArrayLike, ArrayLike] | None = None) -> Self:
        """Learn from images X, uint8 (n, height, width) or (n, height, width, 3), with class names y (n,).

        Args:
            X: images.
            y: class names: all text, or all numbers; none missing.
            validation: images and class names that choose the best epoch; those of classes not in y are ignored. By
                default, if `watch` or the plateau needs them, a stratified tenth of X is used for this and not for
                training; if X has too few images, the figures of the training images are used.

        Raises:
            InputError: images or labels of a wrong kind or number, or images too small for the net.
            SettingError: a parameter out of its range, or a loss that is not finite.
        """
        import torch

        from plankton_embed.network.device import choose_device

        self._check_settings()
        pixels, labels = check_images(X), check_labels(y)
        if len(pixels) != len(labels):
            raise InputError(f"expected one label for each image; found {len(pixels)} images and {len(labels)} labels")
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"expected at least two classes in y; found {self.classes_.tolist()}")
        self.image_shape_ = pixels.shape[1:]
        watched = None if validation is None else self._take_validation(*validation)
        if validation is None and (self.watch or self.plateau_factor < 1):
            is_val = hold_out(codes, LEFT_OUT_SHARE, self.seed)
            watched = (pixels[is_val], codes[is_val]) if is_val.any() else None
            pixels, codes = pixels[~is_val], codes[~is_val]
        self.mean_, self.scale_ = self._find_scale(pixels)
        device = choose_device(self.device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else ()):
            torch.manual_seed(self.seed)
            self._build(device)
            self._train(pixels, codes, watched)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class name of each image, (n,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of every class for each image, (n, C), in the order of `classes_`.

        Raises:
            InputError: images of another shape than the training images.
        """
        import torch

        check_is_fitted(self, "net_")
        logits = self._logits(self._check_shape(check_images(X)))
        return np.asarray(torch.softmax(logits.double(), dim=1).numpy())

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write `weights.safetensors` and `config.json`, whole or not at all."""
        from safetensors.torch import save_file

        check_is_fitted(self, "net_")
        refuse_overwrite(folder, overwrite, made_of=WEIGHTS_FILE)
        config = {
            "net": type(self).__name__,
            "settings": {name: str(v) if isinstance(v, Path) else v for name, v in self.get_params().items()},
            "classes": self.classes_.tolist(),
            "classes_type": self.classes_.dtype.str,
            "image_shape": list(self.image_shape_),
            "mean": self.mean_.tolist(),
            "scale": self.scale_.tolist(),
            "history": self.history_.to_dict("list"),
        }
        with write_folder_atomically(folder) as temporary:
            weights = self.net_.state_dict()
            save_file({name: value.cpu().contiguous() for name, value in weights.items()}, temporary / WEIGHTS_FILE)
            write_json(temporary / CONFIG_FILE, config)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> Self:
        """Read what `save` of the same class wrote.

        Raises:
            InputError: the folder is not a complete net, or is one of another class.
        """
        from safetensors.torch import load_file

        from plankton_embed.network.device import choose_device

        folder, torch_device = Path(folder), choose_device(device)
        try:
            config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            if config["net"] != cls.__name__:
                raise InputError(f"{folder} is a {config['net']}; read it with {config['net']}.load")
            settings: dict[str, Any] = {
                name: tuple(v) if isinstance(v, list) else v for name, v in config["settings"].items()
            }
            net = cls(**{**settings, "device": device})
            net.classes_ = np.array(config["classes"], dtype=config["classes_type"])
            net.image_shape_ = tuple(config["image_shape"])
            net.mean_, net.scale_ = np.array(config["mean"]), np.array(config["scale"])
            net.history_ = pd.DataFrame(config["history"])
            net._build(torch_device, empty=True)
            net.net_.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except InputError:
            raise
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError, SafetensorError) as error:
            raise InputError(f"{folder} is not a complete {cls.__name__}: {error}") from error
        return net

    def _check_settings(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise SettingError(f"{name}: expected one of {choices}; found {getattr(self, name)!r}")
        wholes = {"epochs": 1, "batch_size": 2, "plateau_patience": 1, "patience": 1}
        for name, least in {**wholes, "learning_rate": 0, "least_rate": 0}.items():
            value = getattr(self, name)
            if name == "patience" and value is None:
                continue
            is_number = isinstance(value, Integral if name in wholes else Real)
            if not is_number or not value >= least:
                kind = "a whole number" if name in wholes else "a number"
                raise SettingError(f"{name}: expected {kind} of at least {least}; found {value!r}")
        if self.seconds is not None and not self.seconds > 0:
            raise SettingError(f"seconds: expected a number above 0, or None; found {self.seconds!r}")
        if not 0 < self.plateau_factor <= 1:
            raise SettingError(f"plateau_factor: expected above 0, at most 1; found {self.plateau_factor!r}")
        defaults = NetClassifier.plateau_patience, NetClassifier.least_rate
        if self.plateau_factor == 1 and (self.plateau_patience, self.least_rate) != defaults:
            raise SettingError(
                "plateau_patience and least_rate: with a plateau_factor of 1 the rate never falls; leave them out"
            )
        if self.patience is not None and self.watch is None:
            raise SettingError("patience needs something to watch: set watch to f1_macro or loss, or patience to None")

    def _check_shape(self, pixels: Pixels) -> Pixels:
        if pixels.shape[1:] != self.image_shape_:
            raise InputError(
                f"expected images of shape {self.image_shape_}, as in training; found {pixels.shape[1:]}. "
                "Read them with the same height, width and channels"
            )
        return pixels

    def _take_validation(self, X: ArrayLike, y: ArrayLike) -> tuple[Pixels, Codes]:
        pixels, labels = self._check_shape(check_images(X)), check_labels(y)
        return keep_classes(pixels, labels, self.classes_, "validation", "image")

    def _find_scale(self, pixels: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what is subtracted from each channel, and what it is divided by."""
        if self.scaling == "imagenet":
            from plankton_embed.network.trunks import IMAGENET_MEAN, IMAGENET_STD

            return 255 * np.array(IMAGENET_MEAN), 255 * np.array(IMAGENET_STD)
        return channel_moments(pixels) if self.scaling == "standard" else (np.zeros(1), np.ones(1))

    def _build(self, device: torch.device, *, empty: bool = False) -> None:
        """Build the net and its layer table, with first weights, or random ones (`empty`) where others are loaded."""
        import torch

        height, width, channels = (*self.image_shape_, len(self.mean_))[:3]
        shape = (channels, height, width)
        net = name_layers(self._design(shape, len(self.classes_)))
        self.layers_ = self._list_layers(net, shape)
        self.n_parameters_ = int(self.layers_["parameters"].sum())
        if not empty:
            self._start_weights(net)
        self.net_ = net.to(device).to(memory_format=torch.channels_last)

    def _list_layers(self, net: nn.Sequential, shape: tuple[int, int, int]) -> pd.DataFrame:
        return list_layers(net, shape)

    def _start_weights(self, net: nn.Sequential) -> None:
        """Set the first weights as Keras does: Glorot uniform, and biases of 0."""
        from torch import nn

        for layer in net:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def _begin_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """Prepare the net and its learning rate for an epoch, counted from 1."""
        self.net_.train()

    @property
    def _turns(self) -> bool:
        return self.turn

    def _train(
        self,
        pixels: NDArray[Any],
        codes: Codes,
        watched: tuple[NDArray[Any], Codes] | None,
        started: float | None = None,
    ) -> None:
        """Fit the weights; keep those of the best epoch. `seconds` count from `started`, by default from now."""
        import torch

        from plankton_embed.network.device import autocast

        device, rng = self._device, np.random.default_rng(self.seed)
        started = time.perf_counter() if started is None else started
        optimizer = self._build_optimizer()
        plateau = None if self.plateau_factor == 1 else torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "max", self.plateau_factor, self.plateau_patience - 1,
            threshold=1e-4, threshold_mode="abs", min_lr=self.least_rate,
        )  # fmt: skip
        weights = torch.ones(len(self.classes_))
        if self.class_weight == "balanced":
            weights = torch.from_numpy(balance_weights(codes, len(self.classes_))).float()
        weights, out_of_time = weights.to(device), False
        best, best_epoch, kept = -np.inf, 0, self.net_.state_dict()
        records: list[dict[str, float]] = []
        bar = progress_bar(range(1, self.epochs + 1), type(self).__name__, "epoch", shown=self.progress)
        for epoch in bar:
            began = time.perf_counter() if records else started
            self._begin_epoch(epoch, optimizer)
            rate = optimizer.param_groups[0]["lr"]
            rows, views = draw_epoch(codes, self.image_shape_, self.sampling, self._turns, self.grow_rare, rng)

            # learn
            outputs = []
            for start in range(0, len(rows), self.batch_size):
                here = slice(start, start + self.batch_size)
                if len(rows[here]) < 2:  # batch normalisation needs two images
                    break
                targets = torch.from_numpy(codes[rows[here]]).to(device)
                inputs = self._to_inputs(turn_images(pixels[rows[here]], views[here]))
                with autocast(device, self.precision):
                    logits = self.net_(inputs)
                logits = logits.float()
                optimizer.zero_grad()
                weigh_loss(logits, targets, weights).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                outputs.append(logits.detach())
                out_of_time = self.seconds is not None and time.perf_counter() - started >= self.seconds
                if out_of_time:
                    break

            # measure
            shown = torch.cat(outputs).cpu()
            record = {"epoch": epoch, **measure(shown, codes[rows[: len(shown)]])}
            if not np.isfinite(record["loss"]):
                raise SettingError(
                    f"the loss of {type(self).__name__} is not finite in epoch {epoch}; lower learning_rate "
                    f"(now {self.learning_rate})"
                )
            if watched is not None:
                figures = measure(self._logits(watched[0]), watched[1])
                record |= {f"val_{name}": value for name, value in figures.items()}
            records.append({**record, "learning_rate": rate, "seconds": time.perf_counter() - began})
            bar.set_postfix(
                loss=f"{record['loss']:.3f}", f1=f"{record.get('val_f1_macro', record['f1_macro']):.3f}", refresh=False
            )

            # keep the best, and stop
            value = record.get(f"val_{self.watch}", record.get(str(self.watch), 0.0))
            value = -value if self.watch == "loss" else value
            if value >= best or self.watch is None:
                best, best_epoch, kept = value, epoch, copy.deepcopy(self.net_.state_dict())
            if out_of_time or (self.patience is not None and epoch - best_epoch >= self.patience):
                break
            if plateau is not None:
                plateau.step(record.get("val_accuracy", record["accuracy"]))
        self.net_.load_state_dict(kept)
        self.history_ = pd.DataFrame(records)
        self.history_["kept"] = self.history_["epoch"] == best_epoch

    @property
    def _device(self) -> torch.device:
        return next(self.net_.parameters()).device

    def _build_optimizer(self) -> torch.optim.Optimizer:
        from torch import optim

        parameters, rate = self.net_.parameters(), self.learning_rate
        if self.optimizer == "adam":
            return optim.Adam(parameters, rate, eps=1e-7)
        if self.optimizer == "rmsprop":
            return optim.RMSprop(parameters, rate, alpha=0.9, eps=1e-7)
        if self.optimizer == "adadelta":
            return optim.Adadelta(parameters, rate, rho=0.95, eps=1e-7)
        return optim.SGD(parameters, rate, momentum=0.9)

    def _to_inputs(self, pixels: NDArray[Any]) -> torch.Tensor:
        """Return scaled float32 (n, channels, height, width) on the device of the net."""
        import torch

        device = self._device
        values = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).float()
        values = values[:, None] if values.ndim == 3 else values.permute(0, 3, 1, 2)
        mean, scale = (torch.from_numpy(v).float().to(device)[:, None, None] for v in (self.mean_, self.scale_))
        return (values - mean) / scale

    def _logits(self, pixels: NDArray[Any]) -> torch.Tensor:
        """Return (n, C), on the CPU."""
        import torch

        logits = torch.empty(len(pixels), len(self.classes_))
        self.net_.eval()
        with torch.inference_mode():
            for start in range(0, len(pixels), self._block):
                here = slice(start, start + self._block)
                logits[here] = self.net_(self._to_inputs(pixels[here])).cpu()
        return logits


def check_images(images: ArrayLike) -> Pixels:
    """Return images as uint8 (n, height, width) or (n, height, width, 3).

    Raises:
        InputError: another type or shape.
    """
    try:
        pixels: NDArray[Any] = np.asarray(images)
    except ValueError as error:  # a list of arrays of several shapes
        raise InputError(f"expected images of one shape; {error}. read_pixels returns such images") from error
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] != 3):
        raise InputError(
            f"expected images as uint8 (n, height, width) or (n, height, width, 3); found {pixels.dtype} "
            f"{pixels.shape}. read_pixels returns such images"
        )
    return pixels


def check_labels(labels: ArrayLike) -> NDArray[Any]:
    """Return labels (n,), all text or all numbers.

    Raises:
        InputError: labels are missing or mixed, or not a list.
    """
    names: NDArray[Any] = np.asarray(labels)
    if names.ndim != 1:
        raise InputError(f"expected a list of class names (n,); found shape {names.shape}")
    missing = np.flatnonzero(pd.isna(names))
    if len(missing):
        raise InputError(f"{len(missing)} labels are missing, the first in row {missing[0]}; drop such images first")
    if names.dtype == object:
        kinds = sorted({"text" if isinstance(name, str) else type(name).__name__ for name in names})
        if len(kinds) > 1:
            raise InputError(f"expected labels of one kind; found {', '.join(kinds)}. Convert all of them to text")
        names = np.array(names.tolist())
    return names


def channel_moments(pixels: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each channel (1 or 3 values); a deviation of 0 is returned as 1."""
    channels = np.atleast_3d(pixels) if pixels.ndim == 2 else pixels.reshape(*pixels.shape[:3], -1)
    counts = np.zeros((channels.shape[-1], 256))
    for start in range(0, len(channels), BLOCK):
        block = channels[start : start + BLOCK]
        counts += [np.bincount(block[..., c].ravel(), minlength=256) for c in range(block.shape[-1])]
    values, total = np.arange(256), counts.sum(axis=1)
    mean = counts @ values / total
    deviation = np.sqrt(np.maximum(counts @ values**2 / total - mean**2, 0))
    return mean, np.where(deviation > 0, deviation, 1.0)


def weigh_loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the mean over images of cross-entropy times the weight of the image's class (C,), as Keras weighs it."""
    from torch.nn.functional import cross_entropy

    return (weights[targets] * cross_entropy(logits, targets, reduction="none")).mean()


def measure(logits: torch.Tensor, codes: Codes) -> dict[str, float]:
    """Return loss, accuracy, and macro F1, precision and recall over the classes among true or predicted ones."""
    import torch
    from torch.nn.functional import cross_entropy

    guesses = logits.argmax(dim=1).numpy()
    precision, recall, f1, _ = precision_recall_fscore_support(codes, guesses, average="macro", zero_division=0)
    loss = cross_entropy(logits, torch.from_numpy(codes)).item()
    values = (loss, (guesses == codes).mean(), f1, precision, recall)
    return {name: float(value) for name, value in zip(FIGURES, values, strict=True)}


def name_layers(layers: Iterable[nn.Module]) -> nn.Sequential:
    """Chain layers under the names of their kind and number: conv2d_1, relu_1, …; a `Sequential` keeps its names."""
    from torch import nn

    if isinstance(layers, nn.Sequential):
        return layers
    net, numbers = nn.Sequential(), Counter[str]()
    for layer in layers:
        kind = type(layer).__name__.lower()
        numbers[kind] += 1
        net.add_module(f"{kind}_{numbers[kind]}", layer)
    return net


def list_layers(net: nn.Sequential, shape: tuple[int, int, int]) -> pd.DataFrame:
    """Return the layer table of a net on the CPU: name, kind, output_shape, parameters (trained ones)."""
    import torch

    rows, was_training = [], net.training
    net.eval()
    values = torch.zeros(1, *shape)
    with torch.inference_mode():
        for name, layer in net.named_children():
            values = layer(values)
            rows.append((name, type(layer).__name__, "×".join(map(str, values.shape[1:])), count_trained(layer)))
    net.train(was_training)
    return pd.DataFrame(rows, columns=["name", "kind", "output_shape", "parameters"])


def count_trained(layer: nn.Module) -> int:
    """Return the number of parameters of a layer that learn."""
    return sum(parameter.numel() for parameter in layer.parameters() if parameter.requires_grad)


def count_outputs(layers: Sequence[nn.Module], shape: tuple[int, int, int], net: str) -> int:
    """Return the number of output values of the layers for an image of shape (channels, height, width).

    Raises:
        InputError: the image is too small for the layers of `net`.
    """
    try:
        table = list_layers(name_layers(layers), shape)
    except RuntimeError as error:
        raise InputError(
            f"images of {shape[1]}×{shape[2]} pixels are too small for {net}; read them in a larger size ({error})"
        ) from error
    return int(np.prod([int(side) for side in table["output_shape"].iloc[-1].split("×")]))
