"""Every setting with its default; presets; YAML files."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeGuard, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from plankton_embed.errors import SettingError
from plankton_embed.nested_values import flatten, merge, parse_overrides, read_yaml
from plankton_embed.output import write_atomically

SizeInputs = Literal["none", "pixels", "micrometres"]
Precision = Literal["auto", "bfloat16", "float32"]
Compile = Literal["auto", "on", "off"]
Miner = Literal["semihard", "hard", "all"]

SMALLEST = {"inception_v3": 75, "alexnet": 63}  # smallest side of images for a trunk, if more than 32


@dataclass(frozen=True)
class ObjectiveRecord:
    """A loss: the settings that only some losses use, and the defaults that it changes.

    `kind`: `pairs` (or triplets of a batch), `proxies` (one learned point for each class), or its `own`.
    """

    kind: Literal["pairs", "proxies", "own"]
    settings: frozenset[str]
    defaults: dict[str, Any] = field(default_factory=dict)


OBJECTIVES: dict[str, ObjectiveRecord] = {  # built by `training.objectives.build_objective`
    # from scratch, pairs and triplets learn better at lower rates than proxies (NDSB-40, val)
    "triplet": ObjectiveRecord("pairs", frozenset({"margin", "miner", "memory"}), {"training.learning_rate": 5e-4}),
    "multi_similarity": ObjectiveRecord("pairs", frozenset({"memory"})),
    "arcface": ObjectiveRecord("proxies", frozenset({"temperature", "angular_margin", "proxy_rate"})),
    "proxy_anchor": ObjectiveRecord("proxies", frozenset({"proxy_rate"})),
    "normalized_softmax": ObjectiveRecord("proxies", frozenset({"temperature", "proxy_rate"})),
    "supcon": ObjectiveRecord("pairs", frozenset({"temperature", "memory"}), {"training.learning_rate": 1e-3}),
    "scheduled": ObjectiveRecord(  # and the settings of its proxies
        "own", frozenset({"proxy_objective", "proxy_share", "margin", "miner", "memory"})
    ),
    "reference_2019": ObjectiveRecord(  # exactly the recipe of plankton-siamese (2019)
        "own",
        frozenset({"form", "margin"}),
        {
            "network.trunk": "inception_v3",
            "network.output": "sigmoid",
            "preparation.polarity": "as_is",
            "preparation.scaling": "report",
            "training.sampling": "random_triplets",
            "training.classes_per_batch": 20,
            "training.batch_images_per_class": 3,
            "training.steps_per_epoch": 1000,
            "training.margin": 5.0,
            "training.optimizer": "sgd",
            "training.learning_rate": 0.01,
            "training.pretrained_rate": 1.0,
            "training.weight_decay": 0.0,
            "training.warmup": 0.0,
            "training.schedule": "rounds",
            "augmentation.flip": False,
            "augmentation.rotation": 0.0,
            "augmentation.zoom": 0.0,
            "augmentation.stretch": 0.0,
            "augmentation.shift": 0.0,
            "augmentation.brightness": 0.0,
        },
    ),
}
if TYPE_CHECKING:
    ObjectiveName = str
    ProxyName = str
else:
    ObjectiveName = Literal[tuple(OBJECTIVES)]
    ProxyName = Literal[tuple(name for name, record in OBJECTIVES.items() if record.kind == "proxies")]


_NO_VALUE = object()


class _Part(BaseModel):
    """A frozen group of settings that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    # settings missing in older models and runs, with the value that gives the behaviour before the setting existed
    OLD_BEHAVIOUR: ClassVar[dict[str, Any]] = {}

    def hash(self) -> str:
        """Return 16 hexadecimal digits that change when any setting of this group changes.

        A setting with its value of `OLD_BEHAVIOUR` does not change the hash.
        """
        values = self.model_dump(mode="json")
        kept = {name: value for name, value in values.items() if value != self.OLD_BEHAVIOUR.get(name, _NO_VALUE)}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]

    def _list_given(self) -> Iterator[str]:
        for name in self.model_fields_set:
            value = getattr(self, name)
            yield from (f"{name}.{inner}" for inner in value._list_given()) if isinstance(value, _Part) else [name]

    def _mark_given(self, given: Mapping[str, Any]) -> Self:
        """Return the same settings; only those in `given` count as given."""
        values: dict[str, Any] = dict(self)
        for name, value in values.items():
            values[name] = value._mark_given(given.get(name, {})) if isinstance(value, _Part) else value
        return cast(Self, type(self).model_construct(set(given), **values))

    @classmethod
    def old_behaviour(cls) -> dict[str, Any]:
        """Return the values of settings that a saved file may lack, also in nested groups."""
        groups = {name: field.annotation for name, field in cls.model_fields.items() if _is_part(field.annotation)}
        return {**{name: group.old_behaviour() for name, group in groups.items()}, **cls.OLD_BEHAVIOUR}

    @classmethod
    def from_saved(cls, values: Mapping[str, Any]) -> Self:
        """Build from values that an earlier release may have saved: a missing setting means the old behaviour."""
        return cls.validate_or_explain(merge(cls.old_behaviour(), values))

    @classmethod
    def validate_or_explain(cls, values: Mapping[str, Any]) -> Self:
        """Build from nested values; raise one SettingError with a line for each fault."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingError("\n".join(line for fault in error.errors() for line in _explain(fault))) from error


def _is_part(annotation: Any) -> TypeGuard[type[_Part]]:
    return isinstance(annotation, type) and issubclass(annotation, _Part)


class PreparationSettings(_Part):
    """How images become the input of the network; saved with the model and applied to every image it embeds."""

    OLD_BEHAVIOUR = {"remove_marks": "off", "scaling_16bit": "image", "polarity": "as_is", "scaling": "report"}

    target_size: int = Field(96, ge=32, le=1024, description="side of the square input, pixels")
    background: Literal["white", "black", "border"] = Field(
        "border", description="padding: white, black, or the median of the image's own border"
    )
    color: Literal["grey", "color"] = Field("grey", description="grey: one channel; color: three channels")
    white_level_16bit: Literal["auto"] | int = Field(
        "auto",
        description="value that becomes 255 in images of more than 8 bits, 255 to 65535; auto: 255, 1023, 4095, 16383 "
        "or 65535, detected from all images of the source and saved with the model",
    )
    scaling_16bit: Literal["source", "image"] = Field(
        "source",
        description="images of more than 8 bits: source: one scale for all, inverted if 0 is white in a TIFF; "
        "image: as in models of earlier releases",
    )
    remove_marks: Literal["auto", "off"] = Field(
        "auto", description="fill scale bars, their text and corner marks burnt into the image with the background"
    )
    polarity: Literal["dark_on_light", "light_on_dark", "as_is"] = Field(
        "as_is",
        description="dark_on_light: images with a dark background, such as those of dark-field cameras, are inverted; "
        "light_on_dark: those with a light background; as_is: none",
    )
    scaling: Literal["report", "fill"] = Field(
        "report", description="report: small images are enlarged 2 or 4 times; fill: all are scaled to fill the square"
    )

    @field_validator("remove_marks", mode="before")
    @classmethod
    def _read_off(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads `off` without quotes as False

    @field_validator("white_level_16bit", mode="before")
    @classmethod
    def _white_level_in_range(cls, value: Any) -> Any:
        is_whole = isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
        if value != "auto" and not (is_whole and 255 <= value <= 65535):
            raise ValueError("expected auto, or a whole number from 255 to 65535")
        return value

    @property
    def n_channels(self) -> int:
        """Channels stored per pixel: 1 for grey, 3 for colour."""
        return 1 if self.color == "grey" else 3


class SplitSettings(_Part):
    """How a catalog without a `split` column is split, and which images are left out of training."""

    OLD_BEHAVIOUR = {"keep_contradictions": True}

    fractions: tuple[float, float, float] = Field((0.7, 0.1, 0.2), description="train, val, test; they sum to 1")
    group_by: str | None = Field(
        None, description="catalog column; images with the same value, such as sample_id, stay in one split"
    )
    drop_duplicates: bool = Field(
        False, description="drop duplicate images (equal pixels) found in more than one split"
    )
    keep_contradictions: bool = Field(
        False, description="train and calibrate also on images that have a copy (equal pixels) with another label"
    )

    @field_validator("fractions")
    @classmethod
    def _fractions_sum_to_one(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) < 0 or value[0] == 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError("fractions must be three numbers >= 0 that sum to 1, the first above 0")
        return value


class NetworkSettings(_Part):
    """Trunk (backbone), its initial weights, and the size of the vectors."""

    OLD_BEHAVIOUR = {"frozen": False}

    trunk: str = Field("inception_v3", description="a torchvision classification model, or timm:NAME")
    weights: str = Field(
        "none",
        description="starting weights: auto: those of the model for this trunk that comes with the package, else none "
        "(reference_2019: imagenet; seen-unseen and compare: none); none: random; imagenet; hub (timm); a name of "
        "`models`, a folder of a model or run, or a file",
    )
    frozen: bool = Field(
        False, description="keep the starting weights of the trunk; compute the head by linear discriminant analysis"
    )
    dimension: int = Field(64, ge=2, le=4096, description="length of the vectors")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the head, in training only")
    output: Literal["unit", "sigmoid"] = Field(
        "unit", description="unit: vectors of length 1; sigmoid: numbers from 0 to 1, as in the 2019 recipe"
    )
    size_inputs: SizeInputs = Field(
        "none",
        description="true size as input of the head: log side lengths in pixels, or in µm by the catalog's pixel_size",
    )


class AugmentationSettings(_Part):
    """Random changes of training images, drawn anew each time an image is used."""

    flip: bool = Field(True, description="mirror half of the images")
    rotation: float = Field(180.0, ge=0, le=180, description="largest rotation in either direction, degrees")
    zoom: float = Field(0.2, ge=0, lt=1, description="scale between 1-zoom and 1+zoom")
    stretch: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="one side longer and the other shorter by a factor up to 1+stretch; the area stays",
    )
    shift: float = Field(0.08, ge=0, le=0.5, description="largest shift, share of the side")
    brightness: float = Field(0.2, ge=0, lt=1, description="largest change of contrast and brightness, share")


class TrainingSettings(_Part):
    """How the network is trained: objective, batches, optimizer, length, and checkpoints."""

    OLD_BEHAVIOUR = {"choose_by": "accuracy", "pretrained_rate": 1.0}

    objective: ObjectiveName = Field("scheduled", description="the loss, by name")
    margin: float = Field(0.2, gt=0, le=10, description="triplet margin, in squared Euclidean distance")
    miner: Miner = Field(
        "semihard",
        description="triplets of a batch that are used: all that violate the margin, or only its semihard or hard ones",
    )
    proxy_objective: ProxyName = Field("normalized_softmax", description="scheduled: the first objective")
    proxy_share: float = Field(0.8, gt=0, lt=1, description="scheduled: share of the epochs with the first objective")
    temperature: float = Field(0.05, gt=0, description="normalized_softmax, arcface, supcon: divides the similarity")
    angular_margin: float = Field(0.2, ge=0, lt=1.5, description="arcface: margin, radians")
    memory: int = Field(
        0, ge=0, description="cross-batch memory, after warmup: number of earlier vectors to compare with; 0: none"
    )
    form: Literal["standard", "geometric", "alternative"] = Field(
        "standard", description="reference_2019: form of its loss"
    )

    epochs: int = Field(50, ge=1, description="number of epochs, each of images_per_class images of every class")
    minutes: float = Field(
        0.0, ge=0, description="wall time of training with validation; the schedule is fitted to it; 0: no limit"
    )
    images_per_class: int = Field(
        120, ge=2, description="images of each class in an epoch; larger classes are capped, smaller ones are augmented"
    )
    steps_per_epoch: int = Field(
        0, ge=0, description="approximate number of batches in an epoch; 0: by images_per_class"
    )
    sampling: Literal["balanced", "square_root", "natural", "random_triplets"] = Field(
        "balanced",
        description="images of a class: the same for all, by the square root of its size, by its size; "
        "random_triplets: anchor, positive and negative drawn class by class",
    )
    classes_per_batch: int = Field(16, ge=2, description="P of the P x K batch; triplets of a random_triplets batch")
    batch_images_per_class: int = Field(4, ge=2, description="K of the P x K batch; 3 for random_triplets")

    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="adamw, or sgd with momentum 0.9")
    learning_rate: float = Field(3e-3, gt=0, description="highest learning rate")
    pretrained_rate: float = Field(
        1 / 3, gt=0, description="with starting weights (network.weights), learning_rate is multiplied by this"
    )
    proxy_rate: float = Field(1.0, gt=0, description="rate of the class proxies, as a multiple of learning_rate")
    weight_decay: float = Field(5e-2, ge=0, description="weight decay")
    warmup: float = Field(
        0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises to its peak"
    )
    schedule: Literal["cosine", "rounds"] = Field(
        "cosine", description="cosine: half a cosine to 0; rounds: multiplied by 0.9 after every 5 epochs"
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the exponential moving average of the weights, which is kept; 0: none"
    )
    precision: Precision = Field("auto", description="auto: bfloat16 if the device computes fast with it")
    compile: Compile = Field(
        "auto",
        description="compile the trunk first, which can take minutes; auto: on a GPU, from 5,000 steps on",
    )

    validate_every: int = Field(
        1,
        ge=1,
        description="epochs from one validation to the next; only the epochs validated, and the last, can be kept",
    )
    validation_images_per_class: int = Field(
        30, ge=1, description="training images of each class used as the reference for the validation images"
    )
    choose_by: Literal["balanced_accuracy", "accuracy"] = Field(
        "balanced_accuracy",
        description="score of the validation images that chooses the best epoch: balanced_accuracy gives every class "
        "the same weight, accuracy every image",
    )
    stop_on_collapse: bool = Field(False, description="stop training when the embedding space collapses")
    keep_checkpoints: int = Field(2, ge=1, description="number of training states to keep, the newest")
    keep_every_epoch: bool = Field(False, description="keep the weights of every epoch, for a film")
    checkpoint_minutes: float = Field(10.0, ge=0, description="minutes between two training states within an epoch")
    tensorboard: bool = Field(False, description="log for TensorBoard, with the projector (extra: track)")

    @field_validator("compile", mode="before")
    @classmethod
    def _read_on_and_off(cls, value: Any) -> Any:
        # YAML reads `on` and `off` without quotes as True and False, which also are the values of earlier releases
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    def objective_at(self, progress: float) -> ObjectiveName:
        """The name of the objective at a share 0-1 of the training."""
        if self.objective != "scheduled":
            return self.objective
        return self.proxy_objective if progress < self.proxy_share else "triplet"

    @property
    def objective_settings(self) -> frozenset[str]:
        """The settings of the objective that only some objectives use."""
        own = OBJECTIVES[self.objective].settings
        return own | OBJECTIVES[self.proxy_objective].settings if self.objective == "scheduled" else own


class ClassificationSettings(_Part):
    """How vectors are classified."""

    n_neighbors: int = Field(10, ge=1, description="k of kNN")


class EmbeddingSettings(_Part):
    """How images are embedded by the trained model."""

    views: Literal[1, 2, 4, 8] = Field(
        1, description="test-time augmentation, views averaged: 1; 2: half turns; 4: quarter turns; 8: also mirrored"
    )


class Settings(_Part):
    """All settings of a run; `Settings.build()` returns those of the `cpu` preset."""

    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of every random draw")
    split: SplitSettings = SplitSettings()
    preparation: PreparationSettings = PreparationSettings()
    network: NetworkSettings = NetworkSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    training: TrainingSettings = TrainingSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    classification: ClassificationSettings = ClassificationSettings()

    @model_validator(mode="after")
    def _parts_fit(self) -> Settings:
        """Refuse settings that do not go together."""
        training = self.training
        smallest = SMALLEST.get(self.network.trunk, 0)
        if self.preparation.target_size < smallest:
            raise ValueError(
                f"preparation.target_size: {self.network.trunk} needs images of at least {smallest} pixels; found "
                f"{self.preparation.target_size}; make them larger, or choose another network.trunk"
            )
        recipe_2019 = (training.objective == "reference_2019", training.sampling == "random_triplets")
        if recipe_2019[0] != recipe_2019[1] or recipe_2019[0] != (self.network.output == "sigmoid"):
            raise ValueError(
                "training.objective=reference_2019, training.sampling=random_triplets and network.output=sigmoid go "
                f"together; found {training.objective}, {training.sampling} and {self.network.output}; set only the "
                "objective, and Settings.build sets the other two"
            )
        if recipe_2019[0] and training.batch_images_per_class != 3:
            raise ValueError(
                "training.batch_images_per_class must be 3 for random_triplets: anchor, positive, negative"
            )
        if self.network.frozen and (self.network.weights == "none" or self.network.output == "sigmoid"):
            raise ValueError(
                "network.frozen: expected starting weights and output=unit; found "
                f"{self.network.weights}, {self.network.output}; to train the trunk, choose --preset quick or cpu"
            )
        batch_size = training.classes_per_batch * training.batch_images_per_class
        for name in (
            frozenset[str]().union(*(record.settings for record in OBJECTIVES.values())) - training.objective_settings
        ):
            if getattr(training, name) != TrainingSettings.model_fields[name].default:
                users = ", ".join(objective for objective, record in OBJECTIVES.items() if name in record.settings)
                raise ValueError(f"training.{name} is for {users}; {training.objective} does not use it: leave it out")
        if 0 < training.memory < batch_size:
            raise ValueError(
                f"training.memory: expected 0, or at least a batch ({batch_size}); found {training.memory}"
            )
        return self

    def list_unused(self) -> list[str]:
        """List the settings other than the defaults that a run does not use because its trunk is frozen."""
        if not self.network.frozen:
            return []
        values, defaults = self.flat(), Settings.model_construct().flat()
        of_training = (name for name in values if name.startswith(("training.", "augmentation.", "network.dropout")))
        return [name for name in of_training if values[name] != defaults[name] and name != "training.tensorboard"]

    def with_weights(self, name: str) -> Settings:
        """Return the same settings with other starting weights, which do not count as given."""
        own, of_network = self.model_fields_set, self.network.model_fields_set
        network = NetworkSettings.model_construct(of_network, **{**dict(self.network), "weights": name})
        return Settings.model_construct(own, **{**dict(self), "network": network})

    @classmethod
    def build(
        cls,
        preset: str | None = None,
        file: str | Path | None = None,
        overrides: Mapping[str, Any] | Iterable[str] = (),
        *,
        default: str = "cpu",
    ) -> Settings:
        """Combine a preset, a YAML file and `group.name=value` overrides; later ones win.

        An objective may have defaults of its own (`OBJECTIVES`); they replace those of the preset.

        Args:
            preset: `instant` (the frozen ResNet-18 that comes with the package; only the head is computed, in a
                minute), `quick` (that trunk is trained, ten minutes), `cpu` (an hour or so), or `gpu` (the
                Inception-v3 that comes with the package is trained, 299 px, long).
            file: YAML with the settings to change.
            overrides: `{"training.epochs": 20}` or `["training.epochs=20"]`; text values are read as YAML.
            default: the preset if none is given.

        Raises:
            SettingError: an unknown preset or name (the message suggests the nearest one), or a value out of range.
            InputError: the file is missing or is not YAML.
        """
        if isinstance(file, Mapping):
            raise SettingError(f"file: expected the path of a YAML file; found a dict: pass overrides={file!r}")
        if preset not in (None, *PRESETS):
            raise SettingError(f"preset: expected one of {', '.join(PRESETS)}; found {preset!r}")
        given = merge({} if file is None else read_yaml(Path(file)), *({n: v} for n, v in parse_overrides(overrides)))
        built = cls.validate_or_explain(merge(*_defaults(preset or default, given), given))
        names = () if preset is None else set().union(*PRESETS.values())
        return built._mark_given(merge(dict.fromkeys(names), given))

    @classmethod
    def load(cls, path: str | Path) -> Settings:
        """Read a file of `save`. A setting that an earlier release did not have means the old behaviour.

        For a file of your own, with some settings only, use `build(file=…)`.
        """
        saved = merge(read_yaml(Path(path)))
        return cls.validate_or_explain(merge(*_defaults("cpu", saved), cls.old_behaviour(), saved))

    @property
    def given(self) -> set[str]:
        """Names of the settings that were given in a file, as overrides or as arguments; the others are defaults.

        Choosing a preset gives every setting in which presets differ.
        """
        return set(self._list_given())

    def save(self, path: str | Path) -> None:
        """Write every setting, defaults included, as YAML."""
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        with write_atomically(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def flat(self) -> dict[str, Any]:
        """Return `{"group.name": value}` for every setting."""
        return dict(flatten(self.model_dump(mode="json")))


FROM_SHIPPED = {  # the models that come with the package, and how their images were prepared
    "network.weights": "auto",
    "preparation.polarity": "dark_on_light",
    "preparation.scaling": "fill",
}
SHIPPED = {"network.trunk": "resnet18", **FROM_SHIPPED}
PRESETS: dict[str, dict[str, Any]] = {
    "instant": {**SHIPPED, "network.frozen": True, "network.size_inputs": "pixels", "embedding.views": 2},
    "quick": {  # in minutes, weak augmentation is better from scratch (val); docs/measurements.md on the rate
        **SHIPPED,
        "training.minutes": 10.0,
        "training.pretrained_rate": 0.1,
        "augmentation.zoom": 0.1,
        "augmentation.stretch": 0.1,
        "augmentation.shift": 0.04,
        "augmentation.brightness": 0.1,
    },
    "cpu": SHIPPED,  # from scratch at 96 px better than Inception-v3, and faster
    "gpu": {
        **FROM_SHIPPED,
        "preparation.target_size": 299,
        "training.epochs": 100,
        "training.classes_per_batch": 32,
        "training.images_per_class": 200,
    },
}


def _defaults(preset: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the defaults of the preset, and those of the objective."""
    training = given.get("training")
    objective = str(training.get("objective")) if isinstance(training, dict) else ""
    return PRESETS[preset], OBJECTIVES[objective].defaults if objective in OBJECTIVES else {}


def _explain(fault: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for a fault; for an unknown group, one for each name in it."""
    name = ".".join(str(part) for part in fault["loc"])
    if not name:  # two settings that do not go together
        yield fault["msg"].removeprefix("Value error, ")
        return
    if fault["type"] == "extra_forbidden" and name == "preset":
        chosen = fault["input"]
        yield f'preset is not a setting; choose it with --preset {chosen}, in Python Settings.build("{chosen}")'
    elif fault["type"] == "extra_forbidden":
        unknown = [inner for inner, _ in flatten({name: fault["input"]})] or [name]
        yield from (f"setting {inner} is not known; did you mean {_find_nearest(inner)}?" for inner in unknown)
    else:
        yield f"setting {name}: {fault['msg'].removeprefix('Value error, ')}; found {fault['input']!r}"


def _find_nearest(name: str) -> str:
    """Return the setting whose name, with or without its group, is most similar to a name."""

    def similarity(setting: str) -> float:
        pairs = ((name, setting), (name.rpartition(".")[2], setting.rpartition(".")[2]))
        return max(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    return max(Settings().flat(), key=similarity)
