"""Gates and tags of a pipeline as they are typed."""

import pytest

from sightline.config import PipelineConfig, validate_task
from sightline.errors import BadInput
from tests.conftest import compose_task


def settings_of(*words: str) -> PipelineConfig:
    return validate_task(compose_task("pipeline", *words), PipelineConfig)


def test_gates_and_tags_are_typed_by_name() -> None:
    cfg = settings_of("pipeline.gates={test/ece:0.05,test/macro_f1:0.9}", "pipeline.tags={team:vision}")
    assert cfg.pipeline.bounds() == {"test/accuracy_low": 0.9, "test/ece": 0.05, "test/macro_f1": 0.9}
    assert cfg.pipeline.tags == {"team": "vision"}
    assert settings_of("pipeline.min_accuracy=null").pipeline.bounds() == {}


@pytest.mark.parametrize("typed", ["pipeline.gates={test/ece:low}", "pipeline.gates=[0.9]", "pipeline.gates=0.9"])
def test_a_bound_that_is_no_number_is_refused(typed: str) -> None:
    cfg = settings_of(typed)
    with pytest.raises(BadInput, match=r"pipeline\.gates=.*: must be numbers by metric"):
        cfg.pipeline.bounds()


def test_tags_without_keys_are_refused() -> None:
    with pytest.raises(BadInput, match=r"pipeline\.tags=\['vision'\]: must be texts by key"):
        settings_of("pipeline.tags=[vision]")
