"""The configuration of data_versions.py."""

from dataclasses import dataclass, field
from typing import Any

from sightline.config.constraints import key
from sightline.config.schema.data import DataConfig, PathsConfig
from sightline.errors import BadInput


@dataclass
class DataVersionsConfig:
    """Data sets by name and version."""

    data: DataConfig = field(default_factory=DataConfig)
    run: str | None = key(None, "of create, in place of data: the images that this run was trained on", path="run")
    annotations: str | None = key(
        None, "of merge: a file, a folder or s3://… of Label Studio's JSON or CSV", path="path"
    )
    control: str | None = key(
        None, "of merge: the labelling control (`from_name`) that holds the class, where there are several"
    )
    new_classes: bool = key(False, "of merge: true lets annotations bring in classes that there are not yet")
    allow_test_changes: bool = key(False, "of create and merge: true lets images of val and test change")
    by: str | None = key(None, "who makes the version; null: the user of this machine")
    why: str | None = key(None, "kept with the version")
    into: str | None = key(None, "of checkout: a new folder", path="stays")
    link: bool = key(False, "of checkout: hard links save the room; editing a file would damage the stored one")
    report: str | None = key(None, "of diff: an HTML file, with pictures", path="stays")
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = key({}, "where the task is started; empty where it runs")

    def check(self) -> None:
        if self.data.version is not None:
            raise BadInput(
                f"data.version={self.data.version}: name a version behind the verb, like show {self.data.version}"
            )
        if self.data.num_folds is not None:
            raise BadInput(f"data.num_folds={self.data.num_folds}: a version has one split, which stays; drop it")
