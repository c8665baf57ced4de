"""What one answer costs: milliseconds and memory, each measured in a process of its own."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

log = logging.getLogger(__name__)
MAX_RUNS, MAX_SECONDS = 20, 2.0
TIMEOUT = 600


def cost_of_onnx(path: Path) -> dict[str, float]:
    """`milliseconds` of one image on one thread (the median) and `memory_mb` of a process that opens and runs a file.

    Nothing where it cannot be measured; a line says why.
    """
    return _in_a_process("print_onnx", str(path))


def cost_of_torch(model: Path, extensions: str | None, trusts: bool) -> dict[str, float]:
    """The same of a `model/` folder in torch."""
    return _in_a_process("print_torch", str(model), extensions, trusts)


def _in_a_process(function: str, *arguments: Any) -> dict[str, float]:
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        f"from sightline.export.cost import {function}; {function}(*{arguments!r})"
    )
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=True)
        return json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        log.warning("what an answer of %s costs is not measured: %s", arguments[0], said)
        return {}


def print_onnx(path: str) -> None:
    """Called in the process that is measured."""
    from sightline.models.exported import ExportedModel

    model = ExportedModel.open(Path(path), num_threads=1)
    spec = model.spec
    image = np.zeros((1, spec.image_size, spec.image_size, spec.channels), spec.dtype)
    _print_cost(lambda: model.run(image))


def print_torch(model: str, extensions: str | None, trusts: bool) -> None:
    """Called in the process that is measured."""
    import torch

    from sightline.data.transforms import normalise
    from sightline.models.checkpoint import CodeOfRun, load_model
    from sightline.models.views import with_views

    torch.set_num_threads(1)
    saved = load_model(Path(model), CodeOfRun(extensions, trusts))
    spec = saved.spec
    network = with_views(saved.network, spec.views).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    image = torch.zeros((1, spec.image_size, spec.image_size, spec.channels), dtype=getattr(torch, spec.dtype))
    with torch.inference_mode():
        _print_cost(lambda: network(normalise(image, spec)))


def _print_cost(run: Callable[[], Any]) -> None:
    import psutil

    for _ in range(3):
        run()
    times: list[float] = []
    while len(times) < MAX_RUNS and sum(times) < MAX_SECONDS:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    memory = psutil.Process().memory_info().rss / 2**20
    print(json.dumps({"milliseconds": round(1e3 * median(times), 3), "memory_mb": round(memory, 1)}))
