"""The wrapper of every entry point: which error has which exit code."""

import signal

import pytest
from hydra.errors import HydraException

from sightline.command import exit_code, explain
from sightline.errors import BadInput, Interrupted


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
