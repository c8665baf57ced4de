"""docs/extending.md: the parts that it shows are written, put together in one command, and do what it says."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from sightline.command import read_overrides
from sightline.config import TrainConfig, validate, with_own_code
from sightline.data.opening import open_data
from sightline.training.build import build_training
from tests.conftest import PROJECT, Cli, compose_config

PAGE = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")
PARTS_OF_PAGE = PAGE.partition("## The parts")[2].partition("\n## ")[0]
FILES = re.findall(r"```python\n# code/(\w+\.py)\n(.*?)```", PARTS_OF_PAGE, re.DOTALL)
COMMANDS = [
    shlex.split(command)[2:]
    for command in re.findall(r"^python src/train\.py [^\n]*", PARTS_OF_PAGE, re.MULTILINE)
    if "experiment=digits" in command
]
PARTS = 11
"""Examples on the page; the optimizer and its scheduler are one, as are the callback and the logger."""


def write_code(folder: Path) -> Path:
    """The files of the page, in a new folder."""
    folder.mkdir()
    for name, text in FILES:
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_code(tmp_path_factory.mktemp("extending") / "code")


def words_of(command: list[str], folder: Path, colors: Path) -> Iterator[str]:
    for word in command:
        if word == "experiment=digits":
            yield from ("data=folder", f"data.root={colors}")
        else:
            yield f"extensions={folder}" if word == "extensions=code" else word


@pytest.fixture(scope="module")
def all_parts(folder: Path, colors: Path) -> list[str]:
    words = [word for command in COMMANDS for word in words_of(command, folder, colors)]
    small = [
        "data.image_size=16",
        "data.batch_size=8",
        "data.num_workers=0",
        "trainer.max_epochs=2",
        "evaluation=short",
    ]
    explained = ["explanation.methods=[occlusion]", "explanation.num_images=2", "model.lr=0.005", "augmentation=none"]
    return [*dict.fromkeys([*small, *explained, *words])]


@pytest.fixture(scope="module")
def run(all_parts: list[str], cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("together") / "run"
    done = cli("train", *all_parts, f"output={output}")
    assert done.returncode == 0, done.stderr
    output.with_name("printed.txt").write_text(done.stdout)
    return output


def test_every_part_has_an_example() -> None:
    assert len(COMMANDS) == PARTS
    assert len(FILES) == PARTS - 1, "an argument of the trainer needs no file"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1].partition("=")[0])
def test_each_command_alone_is_understood(command: list[str], folder: Path, colors: Path) -> None:
    words, _ = read_overrides("train", [*words_of(command, folder, colors)])
    with_own_code(validate(compose_config("train", *words)))


def metrics_of(run: Path) -> dict[str, float]:
    return json.loads((run / "metrics.json").read_text())


def test_the_network_is_saved_by_its_name(run: Path) -> None:
    described = json.loads((run / "model" / "model.json").read_text())
    assert (described["target"], described["arguments"]) == ("my_network.SmallNet", {"width": 8})


def test_the_loss_is_what_training_minimises(run: Path) -> None:
    """Poly-1 with an epsilon of 2 lies above the cross entropy, by more than one where little is known."""
    found = metrics_of(run)
    assert found["train/loss"] > found["val/loss"] + 0.5


def test_the_optimizer_has_the_rate_of_the_scheduler(run: Path) -> None:
    lines = (run / "metrics.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    assert "lr-SignSGD" in rows[0]
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.5 * 0.005, 0.1 * 0.005])


def test_callback_logger_metrics_and_evaluator_write(run: Path) -> None:
    found, columns = metrics_of(run), (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/weight_norm", "val/margin", "val/auroc"} <= {*columns}
    assert any("train/weight_norm" in json.loads(line) for line in (run / "lines.jsonl").read_text().splitlines())
    assert {"val/margin", "val/auroc", "test/margin", "test/auroc", "test/mean_confidence"} <= found.keys()
    assert "The mean confidence is" in (run / "evaluation" / "report.html").read_text()


def test_metrics_of_one_s_own_are_printed(run: Path) -> None:
    """The one that decides after each epoch, all of them at the end."""
    printed = run.with_name("printed.txt").read_text()
    assert len(re.findall(r"^epoch ./2 .* val/auroc \d\.\d{4} ", printed, re.MULTILINE)) == 2
    table = {line.split()[0] for line in printed.splitlines() if "/" in line and len(line.split()) == 2}
    assert {"val/auroc", "val/margin", "test/auroc", "test/margin"} <= table


def test_the_methods_explain(run: Path) -> None:
    explained = json.loads((run / "explanations" / "explanations.json").read_text())
    assert {each["method"] for each in explained["images"]} == {"occlusion", "gradient", "input_x_gradient"}
    assert {*explained["summary"]["verdicts"]} == {"occlusion", "gradient", "input_x_gradient"}


def test_the_arguments_of_the_trainer_are_recorded(run: Path) -> None:
    recorded = json.loads((run / "run.json").read_text())["config"]["trainer"]["further"]
    assert recorded == {"reload_dataloaders_every_n_epochs": 1, "limit_predict_batches": 3}


def test_evaluate_measures_the_run_s_own_metrics(run: Path, cli: Cli) -> None:
    done = cli("evaluate", f"run={run}", "evaluation=short", f"output={run.with_name('again')}")
    assert done.returncode == 0, done.stderr
    again, trained = metrics_of(run.with_name("again")), metrics_of(run)
    assert f"{again['test/auroc']:.4f}" in re.findall(r"^test/auroc +(\S+)", done.stdout, re.MULTILINE)
    assert {name: again[name] for name in ("test/margin", "test/auroc", "test/loss")} == {
        name: trained[name] for name in ("test/margin", "test/auroc", "test/loss")
    }


@pytest.fixture(scope="module")
def composed(all_parts: list[str]) -> TrainConfig:
    words, _ = read_overrides("train", all_parts)
    return with_own_code(validate(compose_config("train", *words)))[0]


def test_images_batches_and_the_order_are_changed(composed: TrainConfig) -> None:
    opened = open_data(composed)
    _, datamodule = build_training(composed, opened)
    augmented, again = (datamodule.train.augmentation(Image.new("RGB", (16, 16)), (0, 0, 3)) for _ in range(2))  # pyright: ignore[reportAttributeAccessIssue]
    assert 0 < (augmented == 255).mean() < 0.5
    assert (augmented == again).all(), "a function of seed, epoch and image"
    assert [type(step).__name__ for step in datamodule.batch_augmentation.before] == ["Shadow"]  # pyright: ignore[reportOptionalMemberAccess]
    images = torch.full((64, 16, 16, 3), 200, dtype=torch.uint8)
    draws = torch.rand(64, datamodule.batch_augmentation.num_draws)  # pyright: ignore[reportOptionalMemberAccess]
    changed, _ = datamodule.on_after_batch_transfer((images, torch.zeros(64, dtype=torch.int64), draws), 0)
    darkness = changed.mean((1, 2, 3))
    assert 0.2 < float((darkness < darkness.max() - 1e-4).float().mean()) < 0.8, "some of the images are darker"
    order, labels = datamodule.sampler.order(0), datamodule.train.images.labels  # pyright: ignore[reportAttributeAccessIssue]
    times = torch.bincount(torch.as_tensor(labels[order % len(labels)]))
    assert times[2] == 2 * (labels == 2).sum()
    assert times[0] == (labels == 0).sum()
