"""The service against the bare calls that it is made of, side by side in one run.

    python scripts/benchmark.py serve [--parts rate start memory lambda overload] [--turns 3] [--seconds 10]

`rate`: resnet18 with random weights, 224 px, a JPEG of about 11 kB. "Bare" is decoding and the call of onnxruntime with
one intra-op thread, in a process of its own that does nothing else: one thread against one connection, as many threads
as cores against 16 connections. The client shares the cores with the server (bare calls have them alone); what it took
of them is printed. torch is the same network and the same decoding by torch's eager mode with as many threads as
cores. `start`: from the start of a process to its first answer, with warm files. `memory`: resident memory of a server
with mobilenetv2_100 after some hundred answers. `lambda`: the image's second door under AWS's own runtime client on
one core. `overload`: three times the requests that it can answer. Sides take turns, and medians are shown.
"""

import argparse
import base64
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from benchmark_serve_sides import (
    SIZE,
    bare,
    in_process,
    invocations,
    load_of,
    make_models,
    make_picture,
    resident,
    server,
    torch_eager,
)
from http_load import Stream, request, run_load

from sightline.models.exported import FILES
from sightline.serving.pool import count_cores
from sightline.serving.readiness import INT8_FLAGS, processor_flags

PARTS = ("rate", "start", "memory", "lambda", "overload")
CONNECTIONS = 16
OVERLOAD = 3
"""Times what the server can answer."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    value: float
    unit: str
    goal: str = ""
    is_met: bool | None = None

    def __str__(self) -> str:
        verdict = "" if self.is_met is None else ("met" if self.is_met else "MISSED")
        return f"{self.what:<72} {self.value:>9.3f} {self.unit:<9} {self.goal:<9} {verdict}"


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--turns", type=int, default=3, help="how often the sides alternate (default 3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each side in a turn (default 10)")
    parser.add_argument("--starts", type=int, default=5, help="of each process, after one that is not counted")
    parser.add_argument("--overload-seconds", type=float, default=60.0)
    parser.add_argument("--work", type=Path, help="keeps the models, so that another run need not make them")
    parser.add_argument("--json", type=Path, help="the table as JSON")
    given = parser.parse_args(words)
    measure = {"rate": rate, "start": start, "memory": memory, "lambda": lambda_door, "overload": overload}
    with tempfile.TemporaryDirectory() as scratch:
        runs = make_models(given.work or Path(scratch))
        picture = make_picture()
        print(f"{platform.processor() or platform.machine()}, {count_cores()} cores, load {os.getloadavg()[0]:.2f}, ")
        print(f"{date.today()}; a JPEG of {len(picture) / 1e3:.1f} kB, {SIZE} px", flush=True)
        rows = []
        for part in given.parts:
            found = measure[part](given, runs, picture)
            rows += found
            print("\n".join(map(str, found)), flush=True)
    if given.json:
        given.json.write_text(json.dumps([vars(row) for row in rows], indent=2) + "\n", encoding="utf-8")


def rate(given: argparse.Namespace, runs: Mapping[str, Path], picture: bytes) -> list[Row]:
    """Bare calls and requests in turns, in both precisions, and torch."""
    rows: list[Row] = []
    found: Mapping[str, Sequence[float]] = {}
    has_int8 = bool(INT8_FLAGS & processor_flags())
    for precision in ("fp32", "int8") if has_int8 else ("fp32",):
        found = _take_turns(given, runs["resnet18"], picture, precision)
        rows += _rate_rows(precision, found)
    for layout in ("as it comes", "channels last"):
        rates = found[f"torch {layout}"]
        rows.append(Row(f"torch eager, {count_cores()} threads, {layout}", statistics.median(rates), "images/s"))
        if has_int8:
            ratio = _ratio(found["http rate"], rates)
            rows.append(Row(f"int8, {CONNECTIONS} connections, against torch {layout}", ratio, "x", ">= 3", ratio >= 3))
    return rows


def _take_turns(given: argparse.Namespace, run: Path, picture: bytes, precision: str) -> dict[str, list[float]]:
    """What each side reached, turn by turn."""
    path, found = run / "model" / FILES[precision], defaultdict(list)
    with server(run, precision) as (port, _):
        for _ in range(given.turns):
            found["bare p50"].append(in_process(bare, path, picture, 1, given.seconds)[0])
            single = load_of(port, picture, 1, given.seconds)
            found["bare rate"].append(in_process(bare, path, picture, count_cores(), given.seconds)[1])
            several = load_of(port, picture, CONNECTIONS, given.seconds)
            for layout in ("as it comes", "channels last"):
                is_last = layout == "channels last"
                found[f"torch {layout}"].append(in_process(torch_eager, run, picture, is_last, given.seconds))
            for title, load in (("single", single), ("several", several)):
                for share in (50, 99):
                    found[f"{title} p{share}"].append(load.percentile("/invocations", 200, share / 100))
            found["http rate"].append(several.rate("/invocations"))
            found["client"].append(several.client_seconds / several.seconds / count_cores())
    return found


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios, turn by turn."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def _rate_rows(precision: str, found: Mapping[str, Sequence[float]]) -> list[Row]:
    median = {name: statistics.median(values) for name, values in found.items()}
    slower, share = _ratio(found["single p50"], found["bare p50"]), _ratio(found["http rate"], found["bare rate"])
    return [
        Row(f"{precision}: bare, 1 thread, p50", median["bare p50"], "ms"),
        Row(f"{precision}: HTTP, 1 connection, p50", median["single p50"], "ms"),
        Row(f"{precision}: HTTP, 1 connection, p99", median["single p99"], "ms"),
        Row(f"{precision}: p50 against bare", slower, "x", "<= 1.1", slower <= 1.1),
        Row(f"{precision}: bare, {count_cores()} threads", median["bare rate"], "images/s"),
        Row(f"{precision}: HTTP, {CONNECTIONS} connections", median["http rate"], "images/s"),
        Row(f"{precision}: HTTP, {CONNECTIONS} connections, p50", median["several p50"], "ms"),
        Row(f"{precision}: HTTP, {CONNECTIONS} connections, p99", median["several p99"], "ms"),
        Row(f"{precision}: share of the cores that the client took", median["client"], ""),
        Row(f"{precision}: rate against bare", share, "x", ">= 0.88", share >= 0.88),
    ]


def start(given: argparse.Namespace, runs: Mapping[str, Path], picture: bytes) -> list[Row]:
    """Seconds from the start of a process to the end of its first answer."""
    rows, run = [], runs["resnet18"]
    for title, how, goal in (("the image's entry point", "image", 1.5), ("serve.py", "program", 2.5)):
        seconds = []
        for _ in range(given.starts + 1):
            begin = time.perf_counter()
            with server(run, "fp32", how, picture):
                seconds.append(time.perf_counter() - begin)
        median = statistics.median(seconds[1:])
        rows.append(Row(f"{title}: start to first answer", median, "s", f"<= {goal}", median <= goal))
        rows.append(Row(f"{title}: the slowest of {given.starts}", max(seconds[1:]), "s"))
    return rows


def memory(given: argparse.Namespace, runs: Mapping[str, Path], picture: bytes) -> list[Row]:
    """Resident megabytes of the image's server after some hundred answers."""
    rows = []
    with server(runs["mobilenetv2_100"], "fp32", "image") as (port, process):
        load = run_load(port, [invocations(picture, CONNECTIONS, count=400)], 120.0)
        assert len(load.times["/invocations", 200]) == 400, load.times.keys()
        now, most = resident(process.pid)
        rows.append(Row("mobilenetv2_100, image's server: memory after 400 answers", now, "MB", "<= 250", now <= 250))
        rows.append(Row("mobilenetv2_100, image's server: most at any time", most, "MB"))
    return rows


def lambda_door(given: argparse.Namespace, runs: Mapping[str, Path], picture: bytes) -> list[Row]:
    """The runtime client from its start to the first answer, and what a warm event costs beside decoding and model."""
    from tests.serving.runtime_api import ENTRYPOINT, function

    one_core = ("taskset", "-c", "0") if shutil.which("taskset") else ()
    told = {"MODEL_URI": str(runs["resnet18"] / "model"), "OMP_NUM_THREADS": "1"}
    event = {"image": base64.b64encode(picture).decode()}
    colds, beside, walls = [], [], []
    for _ in range(given.starts + 1):
        begin = time.perf_counter()
        with function(told, (*one_core, *ENTRYPOINT)) as answers:
            answers(event)
            colds.append(time.perf_counter() - begin)
            for _ in range(20):
                begin = time.perf_counter()
                timings = answers(event)["timings"]
                walls.append(1e3 * (time.perf_counter() - begin))
                beside.append(walls[-1] - timings["decode"] - timings["model"])
    cold, over = statistics.median(colds[1:]), statistics.median(beside)
    core = "on one core" if one_core else "on any core"
    return [
        Row(f"Lambda, {core}: runtime client to first answer", cold, "s", "<= 1", cold <= 1),
        Row(f"Lambda, {core}: a warm event in all, p50", statistics.median(walls), "ms"),
        Row(f"Lambda, {core}: of that beside decoding and model, p50", over, "ms", "<= 5", over <= 5),
    ]


def overload(given: argparse.Namespace, runs: Mapping[str, Path], picture: bytes) -> list[Row]:
    """Three times the requests that it can answer, and `/ping` ten times a second beside them."""
    with server(runs["resnet18"], "fp32", "image") as (port, process):
        able = load_of(port, picture, CONNECTIONS, max(3.0, given.seconds)).rate("/invocations")
        before, _ = resident(process.pid)
        pings = Stream("/ping", request("GET", "/ping"), 8, 10.0)
        load = run_load(port, [invocations(picture, 256, OVERLOAD * able), pings], given.overload_seconds)
        after, most = resident(process.pid)
        again = load_of(port, picture, 1, 1.0)
    statuses = {status: len(times) for (path, status), times in load.times.items() if path == "/invocations" and times}
    ping, refused = (load.percentile(path, status, 0.99) for path, status in (("/ping", 200), ("/invocations", 429)))
    others = [count for status, count in statuses.items() if status not in (200, 429)]
    lost, growth = sum(load.lost.values()) + load.wrong, after - before
    print(f"overload: sent {load.sent['/invocations']}, answers by status {statuses}, unsent {dict(load.unsent)}")
    return [
        Row("overload: what it can answer", able, "images/s"),
        Row("overload: sent", load.sent["/invocations"] / given.overload_seconds, "a second"),
        Row("overload: answered 200", statuses.get(200, 0) / load.seconds, "a second"),
        Row("overload: /ping p50", load.percentile("/ping", 200, 0.5), "ms"),
        Row("overload: /ping p99", ping, "ms", "<= 50", ping <= 50),
        Row("overload: 429 p50", load.percentile("/invocations", 429, 0.5), "ms"),
        Row("overload: 429 p99", refused, "ms", "<= 50", refused <= 50),
        Row("overload: requests without an answer, or with another's", lost, "", "0", lost == 0),
        Row("overload: other statuses than 200 and 429", sum(others), "", "0", not others),
        Row("overload: memory before", before, "MB"),
        Row("overload: memory after", after, "MB", "flat", growth <= 0.1 * before),
        Row("overload: most memory at any time", most, "MB"),
        Row("overload: p50 of a single connection afterwards", again.percentile("/invocations", 200, 0.5), "ms"),
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
