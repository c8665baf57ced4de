"""The modules of docs/extending.md: its files are written and its commands are run, with fewer epochs."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.commands import PROJECT
from tests.conftest import WITHOUT_FIGURES, Cli

PAGE = PROJECT / "docs" / "extending.md"
SHORTER = ("trainer.max_epochs=2", "data.num_workers=0", "trainer.accelerator=cpu", "logger=none", "evaluation=short")


def section(title: str) -> str:
    return PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(
    ("title", "more", "expected"),
    [
        ("A LightningModule of your own", ("data.image_size=16",), "val/macro_f1"),
        ("A LightningDataModule of your own", ("model.name=test_resnet",), "test/accuracy"),
    ],
)
def test_its_example_trains(title: str, more: tuple[str, ...], expected: str, cli: Cli, tmp_path: Path) -> None:
    text = section(title)
    files = re.findall(r"```python\n# (code/\w+\.py)\n(.*?)```", text, re.S)
    (command,) = re.findall(r"```\n(python .*?)```", text, re.S)
    for name, content in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    python, program, *typed = shlex.split(command.replace("\\\n", " "))
    assert (python, program) == ("python", "src/train.py")
    words = [word.replace("extensions=code", f"extensions={tmp_path / 'code'}") for word in typed]
    stages = ("stages=[fit,test]", *WITHOUT_FIGURES, f"output={tmp_path / 'run'}", f"paths.data={tmp_path / 'data'}")
    done = cli("train", *words, *SHORTER, *stages, *more)
    assert done.returncode == 0, done.stderr
    assert expected in json.loads((tmp_path / "run" / "metrics.json").read_text())
