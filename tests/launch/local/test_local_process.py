"""Jobs as processes, where the contract does not reach: folders whose names Hydra would read as something else."""

import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

from hydra.core.override_parser.overrides_parser import OverridesParser
from tests.conftest import PROJECT

from sightline.launch.job import Job
from sightline.launch.local.backend import LocalProcess


def test_a_folder_of_any_name_is_the_folder(tmp_path: Path) -> None:
    """Unquoted, a comma would begin a sweep and a quote would end the program."""
    for name in ("a, b", "it's", "c=d", "(e)", "${f}", "é"):
        plan = LocalProcess(tmp_path / name).plan(Job("a-job", "src/train.py", ()))["request"]
        given = OverridesParser.create().parse_override(plan["command"][-1])
        assert not given.is_sweep_override()
        assert str(given.value()).replace("\\${", "${") == plan["folder"] == str(tmp_path / name / "a-job")


def test_an_output_in_quotes_is_the_text_in_them(tmp_path: Path) -> None:
    plan = LocalProcess(tmp_path).plan(Job("a-job", "src/train.py", (f"output='{tmp_path}/a b'",)))["request"]
    assert plan["folder"] == f"{tmp_path}/a b"


def test_a_preloaded_process_whose_asker_was_killed_ends_without_a_word() -> None:
    words = [sys.executable, "-m", "sightline.launch.local.preloaded", "json"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    with subprocess.Popen(words, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""
