"""`--help` shows a program's own groups and keys, with what they mean and are."""

import re

import pytest
from tests.conftest import Cli

from sightline.command import help_text
from sightline.config import TASKS
from sightline.config.registration import all_keys

GROUPS = {
    "train": "paths data model model/optimizer augmentation trainer experiment launch hparams_search",
    "find_lr": "paths data model model/optimizer augmentation trainer experiment launch",
    "evaluate": "evaluation paths launch",
    "explain": "explanation paths launch",
    "predict": "paths launch",
    "prepare": "paths data launch",
    "models": "",
    "new": "",
}


@pytest.mark.parametrize("task", GROUPS)
def test_own_groups_and_keys_alone(task: str) -> None:
    text = help_text(task)
    _, _, listed = text.partition("\ngroups, as they are now")
    groups = re.findall(r"^  ([\w/]+)=\S*  ", listed.partition("\nkeys, as")[0], re.MULTILINE)
    assert set(groups) >= set(GROUPS[task].split())
    assert task in ("train", "find_lr") or set(groups) == set(GROUPS[task].split())
    for name, field in all_keys(TASKS[task]):
        assert re.search(rf"^  {re.escape(name)}[.=]", text, re.MULTILINE), name
        assert field.metadata.get("meaning", "").rstrip(".") in text, name
    assert f"python src/{task}.py" in text
    assert "hydra" not in text.replace("--hydra-help", "").replace("hydra.sweeper", "")


def test_it_shows_what_other_arguments_lead_to() -> None:
    text = help_text("train", ["experiment=gtsrb", "trainer.max_epochs=3"])
    assert "\n  experiment=gtsrb " in text
    assert re.search(r"^  trainer.max_epochs=3\b", text, re.MULTILINE)


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_the_words_for_help(word: str, cli: Cli) -> None:
    done = cli("predict", word)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Classify photos with a trained model.\n")


def test_the_version(cli: Cli) -> None:
    for task, word in (("train", "--version"), ("jobs", "--version")):
        done = cli(task, word)
        assert re.fullmatch(r"sightline \d+\.\d+\.\d+\n", done.stdout)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_configuration_alone(cli: Cli) -> None:
    done = cli("train", "seed=7", "--cfg", "job", "name=x")
    assert done.returncode == 0, done.stderr
    assert "\nname: x\n" in f"\n{done.stdout}"
    assert "\nseed: 7\n" in done.stdout
