"""The real data sets, where SIGHTLINE_DATA names a folder that holds them; skipped elsewhere."""

import os
from pathlib import Path

import pytest
from tests.conftest import compose_config

from sightline.data.splitting import SplitRule, make_manifest
from sightline.data.transforms import load_rgb, prepare
from sightline.task_spec import TaskSpec

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not os.environ.get("SIGHTLINE_DATA"), reason="SIGHTLINE_DATA names no folder"),
]
COUNTS = {"gtsrb": (39_209, 43), "intel": (12_000, 6), "bikes": (1_000, 2)}


@pytest.mark.parametrize("name", COUNTS)
def test_every_split_has_every_class_and_no_group_crosses(name: str) -> None:
    data = compose_config("train", f"experiment={name}").data
    rule = SplitRule(data.val_fraction, data.test_fraction, data.group_pattern)
    manifest = make_manifest(Path(os.environ["SIGHTLINE_DATA"]) / name, rule)
    assert (len(manifest), len(manifest.class_names)) == COUNTS[name]
    groups = {split: set(manifest.groups[manifest.select(split).rows]) for split in ("train", "val")}
    assert not groups["train"] & groups["val"]
    for split in groups:
        assert len(set(manifest.select(split).labels)) == len(manifest.class_names)
    if name == "gtsrb":
        assert len(groups["train"] | groups["val"]) < 1_400, "30 frames of a sign are one group"


@pytest.mark.parametrize("name", COUNTS)
def test_files_of_every_kind_are_prepared(name: str) -> None:
    manifest = make_manifest(Path(os.environ["SIGHTLINE_DATA"]) / name)
    spec = TaskSpec(manifest.class_names, 64, (0.5,) * 3, (0.5,) * 3)
    for path in list(manifest.select("train").paths)[::500]:
        pixels = prepare(load_rgb(path), spec)
        assert pixels.shape == (64, 64, 3)
        assert pixels.std() > 0
