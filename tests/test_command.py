"""The wrapper of every entry point: which error has which exit code."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.errors import HydraException

from sightline.command import Verbs, do_verb, exit_code, explain, main
from sightline.config import JobsConfig
from sightline.errors import BadInput, Interrupted
from tests.conftest import PROJECT, Cli


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (BadInput("data.root=x: no such folder"), 2, "data.root=x: no such folder"),
        (HydraException("Duplicate _self_ defined\n\n  in here"), 2, "Duplicate _self_ defined in here"),
        (RuntimeError("disk full"), 1, "RuntimeError: disk full"),
        (KeyError("name"), 1, "KeyError: 'name'"),
        (ValueError(), 1, "ValueError: ValueError"),
        (Interrupted(signal.SIGTERM), 143, "stopped by SIGTERM"),
        (Interrupted(signal.SIGINT), 130, "stopped by SIGINT"),
        (KeyboardInterrupt(), 130, "stopped by SIGINT"),
        (SystemExit(7), None, ""),
    ],
)
def test_errors_and_their_codes(error: BaseException, code: int | None, text: str) -> None:
    assert exit_code(error) == code
    assert text in explain(error)


def test_the_installed_command_names_its_tasks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sightline"])
    main()
    shown = capsys.readouterr().out
    for path in (PROJECT / "src").glob("*.py"):
        assert re.search(rf"^  {path.stem} +[A-Z].+[^.]$", shown, re.MULTILINE), path
    monkeypatch.setattr(sys, "argv", ["sightline", "trian", "experiment=digits"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.startswith("error: trian: no such task (did you mean train?); there are ")


@dataclass(frozen=True)
class Fruit:
    name: str
    seeds: Iterator[int]


def peel(cfg: object, fruit: str, knife: str = "blunt") -> list[Fruit]:
    """Take the skin off.

    And say how.
    """
    print(f"with a {knife} one")
    return [Fruit(fruit, iter((1, 2)))]


def compare(cfg: JobsConfig, *fruits: str) -> str | None:
    """Tell which is the best."""
    return cfg.into


BASKET = Verbs(
    "jobs", {"peel": peel, "compare": compare}, {"compare": lambda best: print(f"{best}!")}, {"--to": "into"}
)


def test_verbs_answer_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    do_verb(BASKET, ["compare", "apple", "--to", "a pear", "paths.runs=x", "fig"])
    do_verb(BASKET, ["compare", "into=fig"])
    assert capsys.readouterr() == ("a pear!\nfig!\n", "")
    do_verb(BASKET, ["peel", "--json", "fig", "sharp"])
    shown = capsys.readouterr()
    assert json.loads(shown.out) == [{"name": "fig", "seeds": [1, 2]}]
    assert shown.err == "with a sharp one\n"


def test_verbs_explain_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    do_verb(BASKET, ["--help"])
    shown = capsys.readouterr().out
    assert "\n  peel FRUIT [KNIFE]  Take the skin off\n  compare [FRUITS …]  Tell which is the best\n" in shown
    assert re.search(r"^  into=null  +where fetch puts a run folder", shown, re.MULTILINE)
    assert re.search(r"^  paths.runs=\$\{project_root:\}/runs  +\w", shown, re.MULTILINE)
    do_verb(BASKET, ["peel", "-h"])
    assert (
        "peel FRUIT [KNIFE] [key=value …] [--json]\n\nTake the skin off.\n\nAnd say how.\n" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("pele fig", r"pele: no such verb \(did you mean peel\?\); the verbs are peel, compare"),
        ("", "say what to do; the verbs are peel, compare"),
        ("peel", r"peel: write it as peel FRUIT \[KNIFE\]"),
        ("peel fig one two", "peel fig one two: write it as peel"),
        ("peel fig --tow=x", r"--tow: no such option \(did you mean --to\?\)"),
        ("peel fig --to", "--to: no value is given; say into=…"),
        ("peel fig +knife=sharp", "knife: no such key"),
    ],
)
def test_verbs_refuse_what_they_do_not_know(words: str, text: str) -> None:
    with pytest.raises(BadInput, match=text):
        do_verb(BASKET, words.split())


def test_programs_with_verbs_end_as_others_do(cli: Cli, tmp_path: Path) -> None:
    misspelt = cli("jobs", "list", "path.runs=x")
    assert (misspelt.returncode, misspelt.stdout) == (2, "")
    assert misspelt.stderr == "error: path.runs=x: no such key; type paths.runs=x\n"
    listed = cli("jobs", "list", f"paths.runs={tmp_path}", "--json")
    assert (listed.returncode, listed.stdout) == (0, "[]\n")
    assert listed.stderr == f"no jobs in {tmp_path / 'jobs'}\n"


@pytest.mark.parametrize("args", [["src/train.py", "--help"], ["-c", "from sightline.command import main; main()"]])
def test_a_reader_that_leaves_is_no_error(args: list[str]) -> None:
    """As in `train.py --help | head -3`, and `sightline | head -3` of an installed wheel."""
    with subprocess.Popen(
        [sys.executable, *args],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 128 + signal.SIGPIPE, "as a shell counts other programs that end so"


def test_the_flag_for_several_runs_may_stand_anywhere(cli: Cli, tmp_path: Path) -> None:
    words = ["data=synthetic", "-m", "seed=1,2", f"paths.runs={tmp_path}", "launch=local_process"]
    done = cli("train", *words, "launch.dry_run=true")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 2
