"""Versions of the data in a pipeline: the one that it trains on, and the next one that annotations make."""

import getpass
from collections.abc import Sequence
from pathlib import Path

from sightline.command import compose
from sightline.config import PipelineConfig, validate_task
from sightline.data.versions.checkout import with_data_version
from sightline.data.versions.store import open_versions
from sightline.errors import BadInput
from sightline.pipeline.live import Table
from sightline.pipeline.record import PipelineRecord
from sightline.runs.override_text import key_of, override
from sightline.runs.record import now

TOLD_BY_THE_VERSION = ("data.version", "data.root", "data.name")


class NothingNew(Exception):
    """The annotations change nothing of the newest version."""


def with_version(
    cfg: PipelineConfig, typed: Sequence[str], version: str | None = None
) -> tuple[PipelineConfig, list[str]]:
    """The configuration, and what is typed for it, with the folder of the version that it names as the data's root.

    `version` stands for the one that `data.version` names. Without either nothing is changed.
    """
    version = version or cfg.data.version
    if version is None:
        return cfg, list(typed)
    named = _composed([*(each for each in typed if key_of(each) != "data.version"), override("data.version", version)])
    root = with_data_version(named).data.root
    kept = [each for each in typed if key_of(each) not in TOLD_BY_THE_VERSION]
    typed = [*kept, override("data.root", root), override("data.name", cfg.data.name)]
    return _composed(typed), typed


def _composed(typed: Sequence[str]) -> PipelineConfig:
    return validate_task(compose("pipeline", typed), PipelineConfig)


def check_annotations(cfg: PipelineConfig) -> None:
    """Raises: BadInput for annotations that belong to no version of data, or are not here."""
    place = cfg.pipeline.annotations
    if place is None:
        return
    if cfg.data.version is None:
        raise BadInput(f"pipeline.annotations={place}: into which data? name their versions with data.version=NAME")
    if "/" in cfg.data.version:
        raise BadInput(
            f"pipeline.annotations={place} data.version={cfg.data.version}: annotations make the next version of the "
            f"newest; name the data alone, with data.version={cfg.data.version.partition('/')[0]}"
        )
    if "://" not in place and not Path(place).expanduser().exists():
        raise BadInput(f"pipeline.annotations={place}: no such file or folder; name one, or an s3:// address")


def merge(cfg: PipelineConfig, record: PipelineRecord, table: Table) -> str | None:
    """Make the next version of the data from annotations, once for a run; None where there are none.

    Raises: NothingNew where they change nothing; BadInput where they cannot be merged.
    """
    step, place = record.step("merge"), cfg.pipeline.annotations
    if place is None:
        step.status = "skipped"
        return None
    assert cfg.data.version is not None
    if step.status == "finished":
        return str(step.numbers["version"])
    from sightline.data.versions.merging import merge_annotations

    versions, name = open_versions(cfg.paths.data_versions, Path(cfg.paths.cache)), cfg.data.version
    if step.status != "running":  # one that was killed may have made its version already
        step.status, step.started, step.numbers = "running", now(), {"before": versions.load(name).number}
        record.save()
    table.tell(step)
    merged = merge_annotations(
        versions, name, place, by=getpass.getuser(), allow_test_changes=cfg.pipeline.allow_test_changes
    )
    newest = versions.load(name)
    if not merged.is_new and newest.number == step.numbers["before"]:
        raise NothingNew(merged.sentence)
    step.status, step.finished, step.numbers = "finished", now(), {"version": newest.spelled()}
    step.reason = merged.sentence if merged.is_new else None
    record.save()
    table.tell(step)
    return newest.spelled()
