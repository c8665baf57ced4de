"""The table of models: sizes and work as published, speeds as measured here."""

import csv
from pathlib import Path

import pytest
import timm
from tests.conftest import Cli, compose_config

from sightline.errors import BadInput
from sightline.models.catalogue import describe, matching
from sightline.models.listing import list_models


@pytest.mark.parametrize(("name", "millions", "giga"), [("resnet50", 25.56, 4.09), ("mobilenetv2_100", 3.50, 0.30)])
def test_sizes_are_the_published_ones(name: str, millions: float, giga: float) -> None:
    entry = describe(name)
    assert entry.parameters / 1e6 == pytest.approx(millions, abs=0.01)
    assert entry.multiply_adds is not None
    assert entry.multiply_adds / 1e9 == pytest.approx(giga, abs=0.05)
    assert entry.image_size == 224
    assert entry.weights in ("here", "hub")
    larger = describe(name, 448).multiply_adds
    assert larger is not None
    assert larger / entry.multiply_adds == pytest.approx(4, abs=0.05)


def test_a_pattern_or_a_part_of_a_name() -> None:
    assert matching("resnet1?") == [name for name in timm.list_models("resnet1*") if len(name) == len("resnet10")]
    assert "mobilenetv2_100" in matching("netv2_1")
    with pytest.raises(BadInput, match="pattern=nothing_like_it: no model"):
        matching("nothing_like_it")


def test_the_command_takes_a_bare_pattern(cli: Cli, cold_cli: Cli, tmp_path: Path) -> None:
    words = ["test_res*", "time=true", "batch_size=4", "image_size=32", f"output={tmp_path / 'table'}"]
    done = cold_cli("models", *words)
    assert done.returncode == 0, done.stderr
    assert "test_resnet" in done.stdout
    with (tmp_path / "table" / "models.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["name"] for row in rows} == set(matching("test_res*"))
    for row in rows:
        assert float(row["train_images_per_second"]) > 0
        assert float(row["predict_images_per_second"]) > 0
    refused = cli("models", "nothing_like_it")
    assert refused.returncode == 2
    assert "pattern=nothing_like_it" in refused.stderr


def test_a_long_list_is_cut_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    assert len(list_models(compose_config("models", "pattern=test_*", "limit=2"))) == 2
    assert "the first 2 are shown" in caplog.text
