"""What evaluation, explanation and prediction may change about the data of a finished run."""

from dataclasses import dataclass, field

from sightline.config.constraints import key
from sightline.config.schema.tables import ColumnsConfig, TableFormatConfig, TablePathsConfig, refuse_table_keys

RUN = (
    "latest: the newest training; or a run folder, its model/ folder, a checkpoint, a path below paths.runs, or "
    "registry:NAME[/VERSION|/production|/staging]"
)
IMAGES = "a folder, searched through, a file, a pattern like 'new/*.png', or several of them in brackets"


@dataclass
class PicturesConfig:
    """What prediction may change about how a finished run reads pictures."""

    max_pixels: int | None = key(None, "of a picture; null: what the run allowed", minimum=1)


@dataclass
class RunDataConfig(PicturesConfig):
    """What evaluation may change about the data of a finished run; null keeps what the run used, or was told."""

    root: str | None = key(None, "other images, with test/<class>/…", path="path")
    version: str | None = key(None, "of data_versions.py, in place of root: the test images of NAME/3")
    tables: list[str] = key([], "where root is a folder of images: their tables in it; []: found")
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    table_paths: TablePathsConfig = field(default_factory=TablePathsConfig)
    table_format: TableFormatConfig = field(default_factory=TableFormatConfig)
    own_root: str | None = key(None, "where the run's own images lie now; null: where they lay", path="path")
    batch_size: int | None = key(None, "images at a time", minimum=1)
    num_workers: int | None = key(None, "processes that decode images", minimum=0)

    def check(self) -> None:
        if self.root is None and self.version is None:
            refuse_table_keys(self, "data.root names none")
