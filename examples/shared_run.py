"""The small run that all examples use: six drawn classes, three epochs, made once (about a minute)."""

from pathlib import Path

import plankton_embed as pe
from plankton_embed.images.drawn import draw_set

FOLDER = Path("runs/examples")
CLASSES = ("copepod", "medusa", "chaetognath", "diatom_chain", "radiolarian", "fish_egg")
SETTINGS = {
    "preparation.target_size": 48,
    "network.trunk": "resnet18",
    "network.dimension": 32,
    "training.epochs": 3,
    "training.images_per_class": 60,
    "training.classes_per_batch": 6,
    "training.learning_rate": 2e-3,
    "training.keep_every_epoch": True,
}


def shared_run() -> Path:
    """Return the folder of the run; a finished one is used again."""
    images = draw_set(FOLDER.with_name("images"), n_per_class=60, classes=CLASSES, progress=False)
    settings = pe.Settings.build("cpu", overrides=SETTINGS)
    return pe.run(images, FOLDER, settings=settings, progress=False).folder.path


def new_images(name: str = "new", n_per_class: int = 15, classes: tuple[str, ...] = CLASSES) -> Path:
    """Return a folder of drawn images that the run has not seen."""
    return draw_set(FOLDER.with_name(name), n_per_class=n_per_class, seed=1, classes=classes, progress=False).absolute()
