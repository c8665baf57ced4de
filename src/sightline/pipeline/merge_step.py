"""The step `merge`: annotations become the next version of the data, and the steps after it train on that."""

from collections.abc import Sequence

from sightline.config import PipelineConfig
from sightline.pipeline.checks import Checked
from sightline.pipeline.live import Table
from sightline.pipeline.record import PipelineRecord


class NothingNew(Exception):
    """The annotations change nothing of the newest version."""


def merge(
    cfg: PipelineConfig, checked: Checked, typed: Sequence[str], record: PipelineRecord, table: Table
) -> tuple[PipelineConfig, Checked]:
    """The configuration and the steps with the version that the annotations made; as they are without annotations.

    Raises: NothingNew where there is none.
    """
    step = record.step("merge")
    if cfg.pipeline.annotations is None:
        step.status = "skipped"
        return cfg, checked
    raise NotImplementedError
