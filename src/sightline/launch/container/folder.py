"""The folders of a training container as SageMaker lays them out below /opt/ml; `checkpoints` is the run folder."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from sightline.runs.files import read_json

OPT_ML = Path("/opt/ml")
RUN_CHANNEL = "run_folder"
"""The channel that is the run folder where nothing is mounted at `checkpoints`, which is so in AWS's own local mode."""
NOT_IN_THE_DATA = ("model", "checkpoints", "tensorboard")
"""What of a run folder does not go into output/data: the model and TensorBoard's files have folders of their own."""


@dataclass(frozen=True)
class ContainerFolder:
    """Where a job reads and writes. The run folder is `checkpoints`, which survives a change of machine."""

    base: Path = OPT_ML
    mounted_run: Path | None = None

    @property
    def config(self) -> Path:
        return self.base / "input" / "config"

    @property
    def inputs(self) -> Path:
        """Holds a folder for each channel; nothing is written here."""
        return self.base / "input" / "data"

    @property
    def run(self) -> Path:
        return self.mounted_run or self.base / "checkpoints"

    @property
    def model(self) -> Path:
        return self.base / "model"

    @property
    def output_data(self) -> Path:
        return self.base / "output" / "data"

    @property
    def tensorboard(self) -> Path:
        return self.base / "output" / "tensorboard"

    @property
    def failure(self) -> Path:
        return self.base / "output" / "failure"

    def with_mounted_run(self, *, is_first: bool) -> "ContainerFolder":
        """The same with the channel `run_folder` as the run folder, if there is one; other hosts begin with a copy."""
        mounted = self.inputs / RUN_CHANNEL
        if not mounted.is_dir():
            return self
        if is_first:
            return replace(self, mounted_run=mounted)
        shutil.copytree(mounted, self.run, dirs_exist_ok=True)
        return self

    def begin(self) -> None:
        """Make what is missing, and forget how an earlier start failed."""
        for path in (self.run, self.model, self.output_data, self.tensorboard):
            path.mkdir(parents=True, exist_ok=True)
        self.failure.unlink(missing_ok=True)
        self._seed()
        if read_json(self.run / "run.json").get("task", "train") != "train":
            empty(self.run)  # only training goes on

    def _seed(self) -> None:
        """Copy a run from the channel `resume`, which is read-only, to go on here."""
        given = self.inputs / "resume"
        if given.is_dir() and not any(self.run.iterdir()):
            is_run = (given / "run.json").is_file() or (given / "checkpoints").is_dir()
            shutil.copytree(given, self.run if is_run else self.run / "checkpoints", dirs_exist_ok=True)

    @property
    def is_finished(self) -> bool:
        """Whether a run ended well here, and only its results were not handed over."""
        return read_json(self.run / "run.json").get("status") == "finished"

    def publish(self) -> None:
        """Copy what the run folder holds to where results are collected."""
        for name, target in (("model", self.model), ("tensorboard", self.tensorboard)):
            if (self.run / name).is_dir():
                shutil.copytree(self.run / name, target, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        shutil.copytree(
            self.run,
            self.output_data,
            dirs_exist_ok=True,
            ignore_dangling_symlinks=True,
            ignore=lambda folder, names: NOT_IN_THE_DATA if Path(folder) == self.run else (),
        )

    def mirror_tensorboard(self) -> None:
        """Copy files of TensorBoard that have grown to where the service collects them."""
        source = self.run / "tensorboard"
        for file in source.rglob("*"):
            copy = self.tensorboard / file.relative_to(source)
            if file.is_file() and (not copy.is_file() or copy.stat().st_size != file.stat().st_size):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)


def empty(folder: Path) -> None:
    """Remove what is in a folder, which may itself be a mount."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
