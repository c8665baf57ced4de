"""The wrapper of every entry point: which error has which exit code."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException

from sightline.command import exit_code, explain, groups_listed_in_place
from sightline.errors import BadInput, Interrupted
from tests.conftest import PROJECT, Cli


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (BadInput("data.root=x: no such folder"), 2, "data.root=x: no such folder"),
        (HydraException("Could not find 'experiment/x'\n\nAvailable options:\n\tdigits"), 2, "Available options"),
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


def test_help_lists_the_same_groups_in_place() -> None:
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        plain = hydra.format_config_groups(lambda group: True)
        with groups_listed_in_place():
            assert hydra.format_config_groups(lambda group: True) == plain
    assert "augmentation: a3, albumentations, " in plain


def test_a_reader_that_leaves_is_no_error() -> None:
    """As in `train.py --help | head -3`."""
    command = [sys.executable, str(PROJECT / "src" / "train.py"), "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
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
