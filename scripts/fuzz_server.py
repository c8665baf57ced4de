"""Ten thousand requests that no honest client sends, to a real server: none may end in a 500, a crash or a leak.

    python scripts/fuzz_server.py [--requests 10000] [--seed 0] [--findings FOLDER]
    python scripts/fuzz_server.py --replay FOLDER/0123.request

Half of them ask a model of pictures of 8 bits, half one of four bands of 16 bits; each server is the image's entry
point with feedback and capture into folders. What is sent follows from the seed: mutated pictures, bombs, JSON, forms,
odd headers and paths, cut and slow bodies. With schemathesis (`pip install 'schemathesis>=4'`) as many requests again
as `--schema` says are drawn from /openapi.json. A finding is an answer of 500 or above other than 503, a request right
by HTTP without an answer, an error that is no problem document or tells a path or a stack trace, a server that has
ended, files left open, memory that grew, and a good picture that is answered otherwise afterwards. Each is kept as a
file to replay, and the program ends with 1.
"""

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from benchmark_serve_sides import PROJECT, free_port, in_process, resident
from fuzz_cases import Case, http, make_case

from sightline.serving.readiness import made_picture
from sightline.task_spec import TaskSpec

WORKERS = 8
SECONDS = 60.0
"""In which a request must be answered."""
LEAK_MEGABYTES = 60.0
"""By which memory may differ between the half and the end: pictures of 50 megapixels come and go."""
OPEN_FILES = 8
"""More than at the beginning: connections that linger."""
TELLING = (b"Traceback", b'File "', str(PROJECT).encode(), b"site-packages")


@dataclass
class Fuzz:
    """What was sent to one server and what came of it."""

    name: str
    port: int
    process: "subprocess.Popen[bytes]"
    findings: Path
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and status; `none` where the connection ended without one."""
    found: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, case: Case) -> None:
        if self.process.poll() is not None:
            return
        answer = exchange(self.port, case)
        status = status_of(answer)
        with self.lock:
            self.statuses[case.kind, "none" if status is None else str(status)] += 1
        if why := fault_of(case, status, answer):
            self.keep(f"{case.kind}: {why}", case.raw, answer)
        elif self.process.poll() is not None:
            self.keep(f"{case.kind}: the server ended with {self.process.returncode}", case.raw, answer)

    def keep(self, why: str, raw: bytes = b"", answer: bytes = b"") -> None:
        """A finding, with the request to replay it."""
        with self.lock:
            self.findings.mkdir(parents=True, exist_ok=True)
            path = self.findings / f"{self.name}-{len(self.found):04d}.request"
            path.write_bytes(raw)
            path.with_suffix(".answer").write_bytes(answer)
            self.found.append(f"{why} ({path})")
            print(f"FINDING {self.found[-1]}", flush=True)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--schema", type=int, default=200, help="requests for each operation of /openapi.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--replay", type=Path, help="a kept request: send it again, and print what comes")
    given = parser.parse_args(words)
    found: list[str] = []
    print(f"{platform.machine()}, {date.today()}, seed {given.seed}")
    with tempfile.TemporaryDirectory() as scratch:
        for name, arguments in (("pictures", {}), ("bands", {"channels": 4, "value_range": (0, 4095)})):
            run = Path(scratch) / name
            in_process(make_model, run / "model", arguments)
            with fuzzed_server(run, Path(scratch) / f"{name}.log") as (port, process):
                fuzz = Fuzz(name, port, process, given.findings)
                if given.replay:
                    print(exchange(port, Case("replay", given.replay.read_bytes())).decode(errors="replace"))
                    continue
                attack(fuzz, given, TaskSpec.load(run / "model" / "task_spec.json"))
            check_log(fuzz, Path(scratch) / f"{name}.log")
            found += fuzz.found
    print("no findings" if not found else f"{len(found)} findings")
    return 1 if found else 0


def make_model(folder: Path, arguments: dict[str, Any]) -> None:
    from tests.exported_models import export_tiny_model

    export_tiny_model(folder, **arguments)


@contextmanager
def fuzzed_server(run: Path, log: Path) -> "Iterator[tuple[int, subprocess.Popen[bytes]]]":
    """The image's server, with folders for feedback and capture."""
    port = free_port()
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "OUTPUT": str(run / "output"), "CAPTURE": str(run / "capture")}
    told = {f"SIGHTLINE_SERVE_{name}": value for name, value in settings.items()}
    told |= {"MODEL_URI": str(run / "model"), "PYTHONPATH": str(PROJECT / "src")}
    command = [sys.executable, "-m", "sightline.serving.entrypoint", "serve"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, env={**os.environ, **told}, stdout=file, stderr=file)
        try:
            wait_until_ready(port, process, log)
            yield port, process
        finally:
            process.terminate()
            process.wait(40)


def wait_until_ready(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if status_of(exchange(port, Case("ping", http("GET", "/ping")))) == 200:
            return
        time.sleep(0.05)
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


def attack(fuzz: Fuzz, given: argparse.Namespace, spec: TaskSpec) -> None:
    """Send everything, and look at the process before, in the middle and afterwards."""
    good = http("POST", "/invocations", made_picture(spec), content_type="application/octet-stream")
    before = probabilities(exchange(fuzz.port, Case("good", good)))
    files = num_open_files(fuzz.process.pid)
    count = given.requests // 2
    memory = [resident(fuzz.process.pid)[0]]
    with ThreadPoolExecutor(WORKERS) as pool:
        for half in (range(count // 2), range(count // 2, count)):
            list(pool.map(lambda number: fuzz.send(make_case(given.seed, number)), half))
            memory.append(settled(fuzz))
        if given.schema:
            pool.submit(by_schema, fuzz, given.schema, given.seed).result()
    if fuzz.process.poll() is not None:
        fuzz.keep(f"the server ended with {fuzz.process.returncode}")
        return
    memory.append(settled(fuzz))
    left = num_open_files(fuzz.process.pid)
    if left > files + OPEN_FILES:
        fuzz.keep(f"{files} files were open at the beginning, and {left} at the end")
    if memory[2] > memory[1] + LEAK_MEGABYTES:
        fuzz.keep(f"memory grew from {memory[1]:.0f} MB at the half to {memory[2]:.0f} MB at the end")
    if (after := probabilities(exchange(fuzz.port, Case("good", good)))) != before:
        fuzz.keep(f"a good picture was answered {before} before and {after} after", good)
    report(fuzz, memory, (files, left))


def report(fuzz: Fuzz, memory: Sequence[float], files: tuple[int, int]) -> None:
    kinds = sorted({kind for kind, _ in fuzz.statuses})
    print(f"\nmodel of {fuzz.name}: {sum(fuzz.statuses.values()):,} requests")
    for kind in kinds:
        told = {status: count for (other, status), count in sorted(fuzz.statuses.items()) if other == kind}
        print(f"  {kind:<20} {sum(told.values()):>6}  " + "  ".join(f"{status}: {n}" for status, n in told.items()))
    told = ", ".join(f"{each:.0f}" for each in memory)
    print(f"  memory in MB at the start, the half, the end, after the schema: {told}")
    most = resident(fuzz.process.pid)[1]
    print(f"  most memory: {most:.0f} MB; open files: {files[0]} before, {files[1]} after", flush=True)


def settled(fuzz: Fuzz) -> float:
    """Megabytes of memory once nothing is on its way any more."""
    time.sleep(1.0)
    return resident(fuzz.process.pid)[0] if fuzz.process.poll() is None else 0.0


def num_open_files(pid: int) -> int:
    """Once the connections that were closed are gone; after some seconds whatever is there."""
    folder, end = Path(f"/proc/{pid}/fd"), time.monotonic() + 10
    counts = [len(list(folder.iterdir()))]
    while time.monotonic() < end and (len(counts) < 5 or len(set(counts[-5:])) > 1):
        time.sleep(0.3)
        counts.append(len(list(folder.iterdir())))
    return counts[-1]


def exchange(port: int, case: Case) -> bytes:
    """What the server answers; nothing where it does not."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            try:
                if case.pieces:
                    at = 0
                    for seconds, count in case.pieces:
                        time.sleep(seconds)
                        connection.sendall(case.raw[at : at + count])
                        at += count
                    if at < len(case.raw):
                        return answer
                else:
                    connection.sendall(case.raw)
                if not case.is_whole:
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server has refused it, and said so before
            while part := connection.recv(1 << 16):
                answer += part
    except (ConnectionResetError, TimeoutError, ConnectionRefusedError):
        pass
    return answer


def status_of(answer: bytes) -> int | None:
    """The last status: before it there may be a `100 Continue`."""
    head = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")[:12]
    return int(head[9:12]) if head.startswith(b"HTTP/1.1 ") and head[9:12].isdigit() else None


def fault_of(case: Case, status: int | None, answer: bytes) -> str | None:
    """What is wrong with an answer."""
    if status is None:
        return f"no answer in {SECONDS:g} s" if case.is_whole else None
    if status >= 500 and status != 503:
        return f"status {status}"
    if any(each in answer for each in TELLING):
        return f"status {status}, which tells what only the server should know"
    head, _, body = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    is_json = b"json" in head.lower().partition(b"content-type:")[2].partition(b"\r\n")[0]
    if case.is_whole and status >= 400 and body:
        if not is_json:
            return f"status {status}, and no problem document"
        problem = json.loads(body)
        if problem.get("status") != status or not {"type", "title", "detail"} <= problem.keys():
            return f"status {status}, and a problem document that lacks something"
    return None


def probabilities(answer: bytes) -> Any:
    body = answer.partition(b"\r\n\r\n")[2]
    return json.loads(body).get("probabilities") if body else None


def check_log(fuzz: Fuzz, log: Path) -> None:
    """A server that ends as it was told to, and never wrote a stack trace."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if "Traceback" in text:
        fuzz.keep("the server's log has a stack trace", answer=text.encode())


def by_schema(fuzz: Fuzz, count: int, seed: int) -> None:
    """Requests drawn from the OpenAPI document, right and wrong ones."""
    if status_of(exchange(fuzz.port, Case("schema", http("GET", "/openapi.json")))) != 200:
        print("  there is no /openapi.json: nothing is drawn from it")
        return
    try:
        import hypothesis  # pyright: ignore[reportMissingImports]
        import schemathesis  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("  schemathesis is not installed: nothing is drawn from /openapi.json")
        return
    schema: Any = schemathesis.openapi.from_url(f"http://127.0.0.1:{fuzz.port}/openapi.json")
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in modes:

            @hypothesis.seed(seed)
            @hypothesis.settings(
                max_examples=count // 2,
                database=None,
                deadline=None,
                suppress_health_check=list(hypothesis.HealthCheck),
                phases=[hypothesis.Phase.generate],
            )
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                send_drawn(fuzz, case)

            with suppress(hypothesis.errors.Unsatisfiable):  # an operation that takes nothing has no wrong requests
                ask()  # pyright: ignore[reportCallIssue]


def send_drawn(fuzz: Fuzz, case: Any) -> None:
    """Send one that schemathesis drew."""
    response = case.call(timeout=SECONDS)
    lines = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    answer = f"HTTP/1.1 {response.status_code} x\r\n{lines}\r\n".encode() + response.content
    asked = response.request
    body = asked.body or b""
    raw = body.encode() if isinstance(body, str) else bytes(body)
    sent = http(
        str(asked.method), str(asked.path_url), raw, **{k.replace("-", "_"): str(v) for k, v in asked.headers.items()}
    )
    drawn = Case("schema", sent)
    fuzz.statuses["schema", str(response.status_code)] += 1
    if why := fault_of(drawn, response.status_code, answer):
        fuzz.keep(f"schema, {asked.method} {asked.path_url}: {why}", sent, answer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
