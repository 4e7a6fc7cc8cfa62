"""Where every artefact of a run lives: a frozen layout, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The files of one run below `path`."""

    path: Path

    @property
    def catalog(self) -> Path:
        """The images of the run, one row each, with their split."""
        return self.path / "catalog.csv"

    @property
    def faults(self) -> Path:
        """What was wrong in the source and its images, with what was lost or kept."""
        return self.path / "faults.csv"

    @property
    def settings(self) -> Path:
        """Every setting of the run."""
        return self.path / "settings.yaml"

    @property
    def model(self) -> Path:
        """The folder of the finished model."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        """The folder of training states."""
        return self.path / "checkpoints"

    def training_state(self, epoch: int, step: int) -> Path:
        """All that training needs to go on with that step of that epoch; the names sort by age."""
        return self.checkpoints / f"state-{epoch:05d}-{step:07d}.pt"

    def epoch_weights(self, epoch: int) -> Path:
        """The weights after an epoch: those of the best are always kept, the others when asked for."""
        return self.checkpoints / f"epoch-{epoch:05d}.safetensors"

    def kept_epochs(self) -> dict[int, Path]:
        """The epochs whose weights are there, rising, and where."""
        paths = sorted(self.checkpoints.glob("epoch-*.safetensors"))
        return {int(path.stem.removeprefix("epoch-")): path for path in paths}

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's log."""
        return self.path / "tensorboard"

    @property
    def history(self) -> Path:
        """One row an epoch."""
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
        """Names given to the test images."""
        return self.path / "predictions.csv"

    def analysis(self, verb: str) -> Path:
        """The folder that one analysis writes, named after its command."""
        return self.path / "analysis" / verb

    @property
    def comparison(self) -> Path:
        """What all trials of a comparison share, where the folder is that of one."""
        return self.path / "comparison.json"

    @property
    def figures(self) -> Path:
        """The folder of pictures."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The page that tells it all."""
        return self.path / "report.html"
