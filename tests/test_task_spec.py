"""TaskSpec survives JSON and refuses what no model could use."""

from dataclasses import replace
from pathlib import Path

import pytest

from sightline.task_spec import TaskSpec

SPEC = TaskSpec(("blue", "größe", "日本"), 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", "crop")


def test_a_file_keeps_every_value(tmp_path: Path) -> None:
    SPEC.save(tmp_path / "task_spec.json")
    assert TaskSpec.load(tmp_path / "task_spec.json") == SPEC
    assert TaskSpec.from_dict(SPEC.to_dict()) == SPEC


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ("a", "a")},
        {"image_size": 0},
        {"mean": (0.5, 0.5)},
        {"std": (0.5, 0.5, 0.0)},
        {"interpolation": "best"},
        {"crop": "round"},
    ],
)
def test_nonsense_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        replace(SPEC, **change)
