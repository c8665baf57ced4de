"""The page of a pipeline's run."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.pipeline.record import PipelineRecord


def write_page(record: "PipelineRecord") -> None:
    pass
