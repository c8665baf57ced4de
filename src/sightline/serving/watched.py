"""What answers, with others who see each answer: metrics and capture."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.serving.contract import Answer, HeatMap, ModelIdentity, Problem
from sightline.serving.service import Answerer
from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)
Watcher = Callable[[bytes, Answer], None]
"""Gets the bytes of a picture and the answer to it; what it raises is logged and fails nothing."""


@dataclass(frozen=True)
class Watched:
    """An answerer that tells the watchers what it answers, by whatever door it was asked."""

    answerer: Answerer
    watchers: tuple[Watcher, ...]

    @property
    def spec(self) -> TaskSpec:
        return self.answerer.spec

    @property
    def model(self) -> ModelIdentity:
        return self.answerer.model

    def answer(self, pictures: Sequence[bytes], ids: Sequence[str]) -> list[Answer | Problem]:
        found = self.answerer.answer(pictures, ids)
        for picture, each in zip(pictures, found, strict=True):
            if isinstance(each, Answer):
                self._tell(picture, each)
        return found

    def _tell(self, picture: bytes, answer: Answer) -> None:
        for watcher in self.watchers:
            try:
                watcher(picture, answer)
            except Exception as error:
                log.warning("an answer was not noted (%s)", error, exc_info=error)

    def explain(self, picture: bytes) -> HeatMap:
        return self.answerer.explain(picture)

    def describe(self) -> dict[str, Any]:
        return self.answerer.describe()
