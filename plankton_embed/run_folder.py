"""The fixed layout of a run's folder: the path of every file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The files of one run in the folder `path`."""

    path: Path

    def exists(self) -> bool:
        """Return whether the folder contains a run whose images are prepared, or a comparison of such runs."""
        return self.settings.is_file() and self.catalog.is_file()

    @property
    def catalog(self) -> Path:
        """The catalog of the run: one row per image, with its split."""
        return self.path / "catalog.csv"

    @property
    def pixels(self) -> Path:
        """The content hash of every image of the catalog, row by row."""
        return self.path / "pixels.npy"

    @property
    def faults(self) -> Path:
        """Faults in the source and its images, and whether each image was kept."""
        return self.path / "faults.csv"

    @property
    def settings(self) -> Path:
        """The settings of the run."""
        return self.path / "settings.yaml"

    @property
    def model(self) -> Path:
        """The folder of the trained model."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    def training_state(self, epoch: int, step: int) -> Path:
        """The state from which training continues at this epoch and step; file names sort by age."""
        return self.checkpoints / f"state-{epoch:05d}-{step:07d}.pt"

    def epoch_weights(self, epoch: int) -> Path:
        """The weights after an epoch: always kept for the best epoch, for others if the settings say so."""
        return self.checkpoints / f"epoch-{epoch:05d}.safetensors"

    def kept_epochs(self) -> dict[int, Path]:
        """The epochs whose weights exist, ascending, with the paths."""
        paths = sorted(self.checkpoints.glob("epoch-*.safetensors"))
        return {int(path.stem.removeprefix("epoch-")): path for path in paths}

    @property
    def tensorboard(self) -> Path:
        """The folder of the TensorBoard log."""
        return self.path / "tensorboard"

    @property
    def history(self) -> Path:
        """The training history: one row per epoch."""
        return self.path / "history.csv"

    def vectors(self, split: str) -> Path:
        """The vectors of one split: `train`, `val` or `test`."""
        return self.path / "vectors" / f"{split}.parquet"

    @property
    def index(self) -> Path:
        """The folder of the similarity index."""
        return self.path / "index"

    @property
    def scores(self) -> Path:
        """The scores of every method on the test split."""
        return self.path / "scores.json"

    @property
    def predictions(self) -> Path:
        """The predictions for the test images."""
        return self.path / "predictions.csv"

    def analysis(self, verb: str) -> Path:
        """The folder of one analysis, named after its command."""
        return self.path / "analysis" / verb

    @property
    def comparison(self) -> Path:
        """The options that all trials share, if the folder is a comparison."""
        return self.path / "comparison.json"

    @property
    def figures(self) -> Path:
        """The folder of figures."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The report page."""
        return self.path / "report.html"
