"""SIGINT and SIGTERM noted for a check between two steps, so that no step is left half done."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from sightline.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While it is entered, the first signal waits for `check`; a second one ends the process at once."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._arrived = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():  # elsewhere signals cannot be had
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._number = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self._arrived.set()

    def check(self) -> None:
        """Raises: Interrupted when a signal has arrived."""
        if self._number is not None:
            raise Interrupted(self._number)

    def wait(self, seconds: float) -> None:
        """Wait, but not once a signal has arrived."""
        self._arrived.wait(seconds)
