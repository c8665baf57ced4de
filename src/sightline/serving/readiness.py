"""Whether a service can answer, and if not, why."""

import io
import logging
import platform
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sightline.errors import BadInput
from sightline.serve_settings import ServeSettings
from sightline.serving.contract import Problem
from sightline.serving.service import Answerer, Service
from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)
INT8_FLAGS = {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp"}
"""Of a processor that multiplies bytes several at a time; the last one is Arm's."""
SECONDS_BETWEEN = 1.0
"""The longest pause before an endpoint that was busy is asked again."""
FOLDERS = re.compile(r"(?<![\w:/.])(?:\w+://)?(?:[\w.~-]*/)+(?=[\w.-])")
"""Of a path in a message; a server tells nobody where its files are."""


def processor_flags(path: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What Linux says that the processor can; nothing elsewhere."""
    if not path.is_file():
        return set()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    named = (line.partition(":") for line in lines)
    return {flag for name, _, flags in named if name.strip() in ("flags", "Features") for flag in flags.split()}


class Readiness:
    """From loading to ready or failed, and to stopping at last; safe to ask from any thread."""

    def __init__(self, settings: ServeSettings, watch: Callable[[Answerer], Answerer] = lambda answerer: answerer):
        self.settings, self.watch = settings, watch
        self.service: Service | None = None
        self.reason = "the model is being loaded"
        """Why it cannot answer; empty where it can."""
        self.error: BaseException | None = None
        """What went wrong while it was loaded."""
        self.is_stopping = False

    def load(self, open_answerer: Callable[[], Answerer], flags: Sequence[str] | set[str] | None = None) -> None:
        """Open what answers, and let it answer once."""
        if self.settings.precision == "int8" and not INT8_FLAGS & set(processor_flags() if flags is None else flags):
            wanted = ", ".join(sorted(INT8_FLAGS))
            self.reason = (
                f"serve.precision=int8: this processor ({platform.machine()}) has none of {wanted}, so "
                "int8 would be slower than fp32 and less exact; give serve.precision=fp32"
            )
            log.error("%s", self.reason)
            return
        try:
            answerer = open_answerer()
            self._ask_once(answerer)
            service = Service(self.watch(answerer), self.settings)
        except Exception as error:  # whatever it is, /ping says it and the process goes on
            self.error = error
            said = isinstance(error, BadInput | Problem)
            self.reason = FOLDERS.sub("", str(error)) if said else f"the model does not open ({type(error).__name__})"
            log.error("%s", error, exc_info=None if said else error)
            return
        self.service, self.reason = service, ""
        log.info("ready: %s", describe(answerer))

    def _ask_once(self, answerer: Answerer) -> None:
        """Let the model answer; an endpoint that is busy, or not ready yet, is asked again.

        Raises: Problem for any other that it answers.
        """
        while not self.is_stopping:
            (answer,) = answerer.answer([made_picture(answerer.spec)], ["first"])
            if not isinstance(answer, Problem):
                return
            if answer.status not in (429, 503):
                raise answer
            self.reason = f"what answers is busy, and is asked again: {answer.detail}"
            time.sleep(min(answer.retry_after or SECONDS_BETWEEN, SECONDS_BETWEEN))

    def stop(self) -> None:
        """Refuse what comes from now on."""
        self.is_stopping, self.reason = True, "the server is stopping"

    def ready_service(self) -> Service:
        """Raises: Problem 503 with the reason why there is none."""
        if self.service is None or self.is_stopping:
            raise Problem(503, "Not ready", self.reason, retry_after=None if self.error else 2)
        return self.service


def describe(answerer: Answerer) -> str:
    """Which model it is, for a log."""
    model = answerer.model
    return f"{model.name}, version {model.version}, weights {model.sha256[:12] or 'unknown'}"


def made_picture(spec: TaskSpec) -> bytes:
    """A picture of the kind that a model takes: mid-grey, PNG or NumPy's format where PNG cannot hold it."""
    levels = np.full((spec.image_size, spec.image_size, spec.channels), spec.max_level // 2, spec.dtype)
    buffer = io.BytesIO()
    if spec.bit_depth == 8 and spec.channels in (1, 3):
        Image.fromarray(levels if spec.channels == 3 else levels[..., 0]).save(buffer, "PNG")
    else:
        np.save(buffer, levels)
    return buffer.getvalue()
