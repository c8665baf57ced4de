"""From data to a registered model, in steps that are jobs of our own programs."""

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """`sightline.pipeline(…)` is a function of the package too, and has the name of this room."""

    def __call__(self, experiment: str | None = None, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """SageMaker's definition of a pipeline, as `definition.define` makes it."""
        from sightline.pipeline.definition import define

        return define(experiment, overrides)


sys.modules[__name__].__class__ = _Callable
