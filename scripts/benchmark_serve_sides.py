"""What benchmark_serve.py compares: bare calls, torch, and a server in a process of its own; with models for that."""

import io
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
for place in (PROJECT, PROJECT / "src", PROJECT / "scripts"):
    sys.path.insert(0, str(place))

import numpy as np  # noqa: E402
from http_load import Load, Stream, request, run_load  # noqa: E402
from PIL import Image  # noqa: E402

from sightline.models.exported import FILES, ExportedModel  # noqa: E402
from sightline.serving.picture_decoding import decode_picture  # noqa: E402
from sightline.serving.pool import count_cores  # noqa: E402

SIZE, KILOBYTES = 224, 11
MAX_PIXELS = 50_000_000
NETWORKS = ("resnet18", "mobilenetv2_100")
WARM_UP = 0.5
"""Seconds that no side counts."""
JPEG = {"Content-Type": "image/jpeg"}
Server = tuple[int, "subprocess.Popen[bytes]"]
"""The port and the process."""


def bare(path: Path, picture: bytes, threads: int, seconds: float) -> tuple[float, float]:
    """Milliseconds of a call (p50), and calls a second of so many threads, without anything round them."""
    model = ExportedModel.open(path)
    times: list[float] = []
    decode_picture(picture, model.spec, MAX_PIXELS)
    end = 0.0

    def work() -> None:
        while (begin := time.perf_counter()) < end:
            model.run(decode_picture(picture, model.spec, MAX_PIXELS)[None])
            times.append(time.perf_counter() - begin)

    for length in (WARM_UP, seconds):
        times.clear()
        begin = time.perf_counter()
        end = begin + length
        workers = [threading.Thread(target=work) for _ in range(threads)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        taken = time.perf_counter() - begin
    return 1e3 * statistics.median(times), len(times) / taken


def torch_eager(run: Path, picture: bytes, is_channels_last: bool, seconds: float) -> float:
    """Pictures a second, one by one, by torch with as many threads as cores."""
    import torch

    from sightline.data.transforms import normalise
    from sightline.models.checkpoint import load_model

    torch.set_num_threads(count_cores())
    saved = load_model(run)
    layout = torch.channels_last if is_channels_last else torch.contiguous_format
    network = saved.network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    count, begin = 0, time.perf_counter()
    with torch.inference_mode():
        while time.perf_counter() < begin + seconds:
            if count == 0 and time.perf_counter() < begin + WARM_UP:
                begin, count = time.perf_counter(), 0
            pixels = torch.from_numpy(decode_picture(picture, saved.spec, MAX_PIXELS))[None]
            network(normalise(pixels, saved.spec).contiguous(memory_format=layout)).softmax(1)
            count += 1
    return count / (time.perf_counter() - begin)


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def invocations(picture: bytes, connections: int, rate: float | None = None, count: int | None = None) -> Stream:
    return Stream("/invocations", request("POST", "/invocations", picture, JPEG), connections, rate, count)


def load_of(port: int, picture: bytes, connections: int, seconds: float) -> Load:
    """Requests as fast as they are answered, after a warm-up."""
    for length in (WARM_UP, seconds):
        load = run_load(port, [invocations(picture, connections)], length)
    assert {status for _, status in load.times} == {200}, load.times.keys()
    return load


@contextmanager
def server(run: Path, precision: str, how: str = "image", first: bytes | None = None) -> Iterator[Server]:
    """A server in a process of its own, once it has answered: the image's entry point, or serve.py."""
    port = free_port()
    settings = {"host": "127.0.0.1", "port": str(port), "precision": precision}
    if how == "image":
        command = [sys.executable, "-m", "sightline.serving.entrypoint", "serve"]
        told = {f"SIGHTLINE_SERVE_{name.upper()}": value for name, value in settings.items()}
        told |= {"MODEL_URI": str(run / "model"), "PYTHONPATH": str(PROJECT / "src")}
    else:
        words = [f"serve.{name}={value}" for name, value in settings.items()]
        command, told = [sys.executable, str(PROJECT / "src" / "serve.py"), f"run={run}", *words], {}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env={**os.environ, **told}, stdout=log, stderr=log)
        try:
            wait_for_answer(port, first or make_picture(), process)
            yield port, process
        except RuntimeError as error:
            log.seek(0)
            raise SystemExit(f"{error}\n{log.read().decode()}") from error
        finally:
            process.terminate()
            process.wait(40)


def wait_for_answer(port: int, picture: bytes, process: "subprocess.Popen[bytes]") -> None:
    """Ask until it answers.

    Raises: RuntimeError when the process ends, or does not answer for a minute.
    """
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            load = run_load(port, [invocations(picture, 1, count=1)], 30.0)
        except ConnectionRefusedError:
            load = Load()
        if load.times["/invocations", 200]:
            return
        time.sleep(0.01)
    raise RuntimeError("the server did not answer for a minute")


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def resident(pid: int) -> tuple[float, float]:
    """Megabytes of a process: now, and the most at any time."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    found = {
        name: int(value.split()[0]) / 1e3 for name, _, value in (line.partition(":") for line in lines) if "Vm" in name
    }
    return found["VmRSS"], found["VmHWM"]


def make_picture() -> bytes:
    """A JPEG of about 11 kB: smooth noise, with as much fine noise as gives the size."""
    draws = np.random.default_rng(0)
    coarse = Image.fromarray(draws.integers(0, 256, (12, 12, 3), np.uint8)).resize(
        (SIZE, SIZE), Image.Resampling.BICUBIC
    )
    fine = draws.normal(size=(SIZE, SIZE, 1))
    buffer = io.BytesIO()
    for strength in range(2, 40):
        levels = (np.asarray(coarse) + strength * fine).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(levels).save(buffer, "JPEG", quality=80)
        if buffer.tell() >= 1e3 * KILOBYTES:
            break
    return buffer.getvalue()


def make_models(work: Path) -> dict[str, Path]:
    """Run folders of networks with random weights, exported in both precisions."""
    runs = {name: work / name for name in NETWORKS}
    for name, run in runs.items():
        if not (run / "model" / FILES["int8"]).is_file():
            print(f"exporting {name} …", flush=True)
            in_process(make_model, name, run)
    return runs


def make_model(name: str, run: Path) -> None:
    """Weights are random: speed and size do not depend on them."""
    import torch

    from sightline.export.int8 import Quantiser, finish
    from sightline.models.backbones import create_backbone
    from sightline.models.checkpoint import save_model
    from sightline.models.onnx_graph import write_onnx
    from sightline.task_spec import Calibration, TaskSpec

    torch.manual_seed(0)
    network, architecture = create_backbone(name, 1000)
    names, model = tuple(f"class {number}" for number in range(1000)), run / "model"
    spec = TaskSpec(
        names, SIZE, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), calibration=Calibration(1.2, 0.5, 0.9, 1)
    )
    save_model(model, network.eval(), spec, architecture)
    facts = {"name": name, "version": "1", "sha256": "0" * 64, "precision": "fp32"}
    write_onnx(model / FILES["fp32"], network, spec, facts)
    images = np.random.default_rng(0).integers(0, 256, (16, SIZE, SIZE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        Quantiser(model / FILES["fp32"], images, Path(scratch), torch.get_num_threads()).write(model / FILES["int8"])
    finish(model / FILES["int8"], spec, spec, {**facts, "precision": "int8"})
