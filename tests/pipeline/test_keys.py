"""The key of a step: the same for the same work, whatever it is called and wherever it lies."""

import shutil
from pathlib import Path

import pytest
from tests.conftest import compose_task

from sightline.pipeline.checks import check
from sightline.pipeline.keys import Keys, hash_left

SMALL = ("data=folder", "name=colors", "model.name=test_resnet", "data.image_size=32", "evaluation=short")


def keys_of(data: Path, runs: Path, *more: str) -> dict[str, str]:
    """Of every step, with the same inputs."""
    typed = [f"data.root={data}", *SMALL, f"paths.runs={runs}", f"paths.cache={runs / 'cache'}", *more]
    cfg = compose_task("pipeline", *typed)
    checked = check(cfg, typed)
    keys = Keys.of(cfg, checked.champion, checked.images)
    return {each.step.name: keys.of_step(each, dict.fromkeys(each.step.inputs, "left")) for each in checked.steps}


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "runs"


@pytest.fixture(scope="module")
def before(colors: Path, runs: Path) -> dict[str, str]:
    return keys_of(colors, runs, "model.lr=0.01", "seed=3")


def test_order_and_place_change_no_key(before: dict[str, str], colors: Path, runs: Path, tmp_path: Path) -> None:
    assert keys_of(colors, runs, "model.lr=0.02", "seed=3", "model.lr=1e-2") == before
    copied = tmp_path / "elsewhere" / "colors"
    shutil.copytree(colors, copied)
    assert keys_of(copied, tmp_path / "other_runs", "model.lr=0.01", "seed=3") == before


@pytest.mark.parametrize(
    ("typed", "steps"),
    [
        ("model.lr=0.02", ["train"]),
        ("evaluation.target_accuracy=0.9", ["train", "evaluate"]),
        ("explanation.num_images=2", ["explain"]),
        ("export.int8=false", ["export"]),
        ("pipeline.max_loss=0.01", ["gate"]),
        ("pipeline.precision=int8", ["export", "evaluate"]),
        ("data.val_fraction=0.3", ["prepare", "train"]),
        ("pipeline.description=other", []),
    ],
)
def test_a_setting_changes_the_key_of_the_steps_that_take_it(
    typed: str, steps: list[str], before: dict[str, str], colors: Path, runs: Path
) -> None:
    assert changed(before, keys_of(colors, runs, "model.lr=0.01", "seed=3", typed)) == steps


def test_bytes_of_an_image_change_the_keys_of_what_reads_it(
    before: dict[str, str], colors: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "colors"
    shutil.copytree(colors, copied)
    image = next(copied.rglob("*.png"))
    image.write_bytes(image.read_bytes() + b"more")
    after = keys_of(copied, tmp_path / "runs", "model.lr=0.01", "seed=3")
    assert changed(before, after) == ["prepare", "train"]


def test_other_code_of_ones_own_changes_every_key_unless_that_is_ignored(colors: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    (own / "thing.py").write_text("ONE = 1\n")
    typed = (f"extensions={own}", "trust_code=true")
    before, ignoring = (
        keys_of(colors, tmp_path / "runs", *typed, *more) for more in ((), ("pipeline.ignore_code=true",))
    )
    (own / "thing.py").write_text("ONE = 2\n")
    assert changed(before, keys_of(colors, tmp_path / "runs", *typed)) == list(before)
    assert keys_of(colors, tmp_path / "runs", *typed, "pipeline.ignore_code=true") == ignoring


def test_what_a_step_left_is_its_files_and_not_when_they_were_made(tmp_path: Path) -> None:
    assert hash_left("evaluate", tmp_path) is None
    (tmp_path / "metrics.json").write_text("{}")
    first = hash_left("evaluate", tmp_path)
    (tmp_path / "run.json").write_text("other times")
    assert hash_left("evaluate", tmp_path) == first
    (tmp_path / "metrics.json").write_text('{"a": 1}')
    assert hash_left("evaluate", tmp_path) != first
