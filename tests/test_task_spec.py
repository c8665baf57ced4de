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


def test_a_file_from_before_deep_greys_is_one_of_8_bits(tmp_path: Path) -> None:
    values = SPEC.to_dict()
    del values["value_range"]
    assert TaskSpec.from_dict(values).value_range is None
    deep = replace(SPEC, value_range=(-1024, 3071))
    deep.save(tmp_path / "task_spec.json")
    assert TaskSpec.load(tmp_path / "task_spec.json") == deep


def test_bands_of_16_bits_survive_a_file(tmp_path: Path) -> None:
    bands = replace(
        SPEC, channels=5, bit_depth=16, mean=(0.5,) * 5, std=(0.25,) * 5, display_bands=(3, 2, 1), kind="multilabel"
    )
    bands.save(tmp_path / "task_spec.json")
    assert TaskSpec.load(tmp_path / "task_spec.json") == bands
    assert (bands.dtype, bands.max_level) == ("uint16", 65535)
    assert (SPEC.dtype, SPEC.max_level) == ("uint8", 255)


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ("a", "a")},
        {"image_size": 0},
        {"mean": (0.5, 0.5)},
        {"std": (0.5, 0.5, 0.0)},
        {"interpolation": "best"},
        {"crop": "round"},
        {"value_range": (5, 5)},
        {"value_range": (0, float("inf"))},
        {"value_range": (0, 1, 2)},
        {"value_range": (0, 1e-320)},
        {"value_range": (-1e308, 1e308)},
        {"channels": 5},
        {"channels": 0, "mean": (), "std": ()},
        {"bit_depth": 12},
        {"display_bands": (0, 1)},
        {"display_bands": (1, 2, 3)},
        {"kind": "several"},
    ],
)
def test_nonsense_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        replace(SPEC, **change)
