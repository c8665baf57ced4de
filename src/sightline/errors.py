"""Expected errors, each with one exit code."""

import signal

FAILED, BAD_INPUT, GATE_NOT_MET = 1, 2, 4
"""Exit codes of programs: any other error, `BadInput` and `GateNotMet`."""


class BadInput(ValueError):
    """The input cannot work: the message names the thing, the value and the change to make. Exit code 2."""


class GateNotMet(RuntimeError):
    """A number is not what is asked for, by `evaluation.gates` or of an exported model's answers. Exit code 4."""


class Damaged(RuntimeError):
    """What was kept is not as it was. Exit code 1."""


class Interrupted(BaseException):
    """A signal asked the process to stop. Exit code 128 + the signal's number."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")

    @property
    def exit_code(self) -> int:
        return 128 + self.signal_number
