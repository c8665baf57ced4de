"""gate.py: numbers in, a decision and a package out."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Cli, compose_task

from sightline.errors import BadInput, GateNotMet
from sightline.finished_run import FinishedRun
from sightline.pipeline.gate import changed_images, gate


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    return evaluation(tmp_path / "evaluated", {"test/accuracy": 0.9, "test/accuracy_low": 0.85})


def evaluation(folder: Path, metrics: dict[str, float], **config: Any) -> Path:
    """What gate.py reads of an evaluation, and a report."""
    (folder / "evaluation").mkdir(parents=True)
    (folder / "evaluation" / "report.html").write_text("<p>measured</p>")
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "run.json").write_text(json.dumps({"task": "evaluate", "config": config}))
    return folder


def words(run: Path, evaluated: Path, output: Path, *more: str) -> list[str]:
    return [f"run={run}", f"evaluated={evaluated}", f"output={output}", *more]


def test_a_model_that_passes_is_packed_as_a_run_folder(trained: Path, evaluated: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    told = words(trained, evaluated, tmp_path / "gate", "pipeline.min_accuracy=0.8", "registered_as=colors")
    result = gate(compose_task("gate", *told))
    assert result.passed
    assert result.package is not None
    assert result.package == tmp_path / "gate" / "package"
    opened = FinishedRun.open(str(result.package), "cpu")
    assert opened.metrics["test/accuracy"] == 0.9
    assert any(name.startswith("val/") for name in opened.metrics)
    card = (result.package / "model" / "model_card.md").read_text()
    assert "0.9000" in card
    assert "registry:colors" in card
    assert (result.package / "evaluation" / "report.html").read_text() == "<p>measured</p>"
    assert not (result.package / "checkpoints").exists()
    assert json.loads((result.package / "gate.json").read_text())["passed"]
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_a_model_that_does_not_pass_leaves_the_numbers_and_no_package(
    cli: Cli, trained: Path, evaluated: Path, tmp_path: Path
) -> None:
    output = tmp_path / "gate"
    done = cli("gate", *words(trained, evaluated, output, "pipeline.min_accuracy=0.9"))
    assert done.returncode == 4
    last = done.stderr.splitlines()[-1]
    assert last == "error: not to be registered: test/accuracy_low is 0.8500, 0.0500 below the least it may be, 0.9"
    decision = json.loads((output / "gate.json").read_text())
    assert decision["passed"] is False
    assert decision["conditions"][0]["bound"] == 0.9
    assert not (output / "package").exists()
    quiet = gate(
        compose_task("gate", *words(trained, evaluated, tmp_path / "b", "pipeline.min_accuracy=0.9", "fails=false"))
    )
    assert not quiet.passed


def test_the_champion_and_its_images_are_conditions(trained: Path, tmp_path: Path) -> None:
    name = "test/against/accuracy_difference"
    metrics = {"test/accuracy_low": 0.9, name: 0.0, f"{name}_low": -0.001, f"{name}_high": 0.001}
    evaluated = evaluation(tmp_path / "evaluated", metrics, against=str(tmp_path / "champion"))
    champion = tmp_path / "champion"
    champion.mkdir()
    (champion / "version.json").write_text(json.dumps({"name": "colors", "version": 7}))
    shutil.copy(trained / "manifest.csv", champion / "manifest.csv")
    previous = f"previous={champion / 'manifest.csv'}"
    result = gate(compose_task("gate", *words(trained, evaluated, tmp_path / "a", previous)))
    assert result.passed
    assert [each.kind for each in result.conditions] == ["champion", "data"]
    assert "colors/7" in result.sentence

    rows = list(csv.DictReader((trained / "manifest.csv").read_text().splitlines()))
    tested = next(row for row in rows if row["split"] == "test")
    tested["sha256"] = "0" * 64
    with (champion / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    assert changed_images(trained, champion / "manifest.csv") == {"new": 1, "gone": 1, "relabelled or moved": 0}
    with pytest.raises(GateNotMet, match="val and test are not those of colors/7: 1 new, 1 gone"):
        gate(compose_task("gate", *words(trained, evaluated, tmp_path / "b", previous)))
    allowed = [*words(trained, evaluated, tmp_path / "c", previous), "pipeline.allow_test_changes=true"]
    assert gate(compose_task("gate", *allowed)).passed


def test_a_label_of_a_training_image_may_change(trained: Path, tmp_path: Path) -> None:
    text = (trained / "manifest.csv").read_text().splitlines()
    number = next(row for row, line in enumerate(text) if ",train," in line and "blue" in line)
    text[number] = text[number].replace(",blue,", ",red,")
    (tmp_path / "manifest.csv").write_text("\n".join(text))
    assert sum(changed_images(trained, tmp_path / "manifest.csv").values()) == 0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("evaluated", "/nowhere", "evaluated=/nowhere: no such folder"),
        ("evaluated", "EMPTY", "no finished evaluation; name the output of evaluate.py"),
        ("explained", "/nowhere", "explained=/nowhere: no such folder"),
        ("pipeline.min_accuracy", "1.5", "pipeline.min_accuracy=1.5: must be from 0 to 1"),
        ("pipeline.against", "equal", "pipeline.against=equal: must be one of no_worse, better"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    key: str, value: str, message: str, trained: Path, evaluated: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    told = [*words(trained, evaluated, tmp_path / "gate"), f"{key}={value.replace('EMPTY', str(tmp_path / 'empty'))}"]
    with pytest.raises(BadInput, match=message.replace(".", r"\.")):
        gate(compose_task("gate", *told))
    assert not (tmp_path / "gate").exists()
