"""A model that knows when its function's time is over: the sender gets a problem, not Lambda's own end."""

import math
import threading
import time
from collections.abc import Sequence
from typing import Any

from sightline.serving.contract import Answer, HeatMap, ModelIdentity, Problem
from sightline.serving.runtime_predictor import RuntimePredictor
from sightline.task_spec import TaskSpec

MARGIN = 0.5
"""Seconds before Lambda's own end, in which what is begun is sent."""


class TimedModel:
    """A model that begins nothing once the time of its thread's event is over."""

    def __init__(self, model: RuntimePredictor) -> None:
        self.inner, self._event = model, threading.local()

    def begin(self, context: Any) -> None:
        """An event begins in this thread; its context says how long it may take, None that nothing ends it."""
        milliseconds = math.inf if context is None else context.get_remaining_time_in_millis()
        self._event.end = time.monotonic() + milliseconds / 1000 - MARGIN

    def seconds_left(self) -> float:
        """Raises: Problem 503 where there are none."""
        left = getattr(self._event, "end", math.inf) - time.monotonic()
        if left <= 0:
            detail = "the function's time is over; send less at once, or give the function a longer timeout"
            raise Problem(503, "Took too long", detail)
        return left

    @property
    def spec(self) -> TaskSpec:
        return self.inner.spec

    @property
    def model(self) -> ModelIdentity:
        return self.inner.model

    def answer(self, pictures: Sequence[bytes], ids: Sequence[str]) -> list[Answer | Problem]:
        self.seconds_left()
        return self.inner.answer(pictures, ids)

    def explain(self, picture: bytes) -> HeatMap:
        return self.inner.explain(picture, self.seconds_left())

    def describe(self) -> dict[str, Any]:
        return self.inner.describe()
