"""What the image starts: python -m sightline.launch.container.entrypoint train|process|selftest

`train` reads what SageMaker lays below /opt/ml, runs the program that the job names, passes signals on to it, and
leaves its results, or the reason of a failure, where they are collected. `process PROGRAM override …` does so in a
processing job, a step of a pipeline. The standard library alone: what goes wrong before a library loads is reported,
too.
"""

import argparse
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from sightline.errors import BAD_INPUT, FAILED, BadInput
from sightline.launch.container.folder import OPT_ML, ContainerFolder
from sightline.launch.container.hosts import FirstHostWatch, Hosts
from sightline.launch.container.hyperparameters import SCRIPT, TRAIN, script_of, to_overrides
from sightline.launch.container.processing_folder import ProcessingFolder
from sightline.launch.interruption import SIGNALS
from sightline.launch.local.machine import visible_gpus
from sightline.runs.files import read_json
from sightline.runs.folder import reason_of
from sightline.runs.override_text import key_of, quoted
from sightline.runs.project import PROJECT

INTERRUPTED = tuple(128 + number for number in SIGNALS)
MAX_LETTERS = MAX_BYTES = 1024
"""The longest reason of a failure that the service keeps, in letters of a training job and in bytes of another."""
NUM_TAIL_LINES = 50
MIRROR_SECONDS = 30.0
SECONDS_TO_READ = 5.0
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="sightline.launch.container.entrypoint", description="Train, run a step of a pipeline, or test the image."
    )
    parser.add_argument("verb", choices=("train", "process", "selftest"))
    parser.add_argument("--base-dir", type=Path, help=f"instead of {OPT_ML}; SM_BASE_DIR says it, too")
    given, overrides = parser.parse_known_args(args)
    if given.verb == "selftest":
        from sightline.launch.container.selftest import selftest

        return selftest()
    base = given.base_dir or Path(os.environ.get("SM_BASE_DIR") or OPT_ML)
    if given.verb == "process":
        return process(ProcessingFolder(base.absolute()), overrides)
    return train(ContainerFolder(base.absolute()), overrides)


def train(folder: ContainerFolder, overrides: Sequence[str] = ()) -> int:
    """Run a job and return its exit code; `overrides` come after those of its hyperparameters."""
    program = Program()
    try:
        return _train(folder, overrides, program)
    except (BadInput, OSError, ValueError) as error:
        _say(f"error: {error}")
        return _fail(folder.failure, BAD_INPUT if isinstance(error, BadInput) else FAILED, str(error))


def _train(folder: ContainerFolder, overrides: Sequence[str], program: "Program") -> int:
    hosts = Hosts.read(folder.config / "resourceconfig.json")
    folder = folder.with_mounted_run(is_first=hosts.is_first)
    folder.begin()
    hyperparameters = read_json(folder.config / "hyperparameters.json")
    if not is_inside_sagemaker(folder, os.environ):
        _say("no resourceconfig.json and no TRAINING_JOB_NAME: not started by SageMaker, everything else is the same")
    script = script_of(hyperparameters)
    if script != TRAIN and not hosts.is_first:
        _say(f"{script} runs on the first host alone")
        return 0
    if hosts.is_first and folder.is_finished:
        _say("the run is finished; only its results are handed over")
        folder.publish()
        return 0
    hosts.wait_for_names()
    end = FirstHostWatch(hosts)
    given = [*to_overrides(hyperparameters), *overrides]
    args = program_overrides(given, script, folder, hosts, len(visible_gpus()))
    code = program.run(
        [sys.executable, str(PROJECT / script), *args],
        {**os.environ, **hosts.environment(), "SM_BASE_DIR": str(folder.base)},
        folder.mirror_tensorboard if hosts.is_first else lambda: None,
    )
    if hosts.is_first:
        folder.publish()
    if code and code not in INTERRUPTED:
        why = reason(code, program.tail, folder.run)
        if why.startswith("killed by"):  # it could not say so itself
            _say(f"error: {why}")
        return _fail(folder.failure, code, why)
    while not code and not program.signals and not end.wait(1.0):
        pass
    return code


def process(folder: ProcessingFolder, words: Sequence[str]) -> int:
    """Run a step of a pipeline and return its exit code; `words` are its program and the arguments of that."""
    program = Program()
    try:
        return _process(folder, words, program)
    except (BadInput, OSError, ValueError) as error:
        _say(f"error: {error}")
        return _fail(folder.message, BAD_INPUT if isinstance(error, BadInput) else FAILED, str(error))


def _process(folder: ProcessingFolder, words: Sequence[str], program: "Program") -> int:
    folder.begin()
    script = script_of({SCRIPT: words[0] if words else ""})
    arguments = folder.arguments(words[1:])
    with contextlib.ExitStack() as opened:
        result = opened.enter_context(folder.result.open("wb")) if "--json" in arguments else None
        environment = {**os.environ, "SM_BASE_DIR": str(folder.base)}
        code = program.run([sys.executable, str(PROJECT / script), *arguments], environment, lambda: None, result)
    if not code:
        folder.pack()
    elif code not in INTERRUPTED:
        why = reason(code, program.tail, folder.output)
        if why.startswith("killed by"):
            _say(f"error: {why}")
        return _fail(folder.message, code, why, MAX_BYTES)
    return code


def is_inside_sagemaker(folder: ContainerFolder, environment: Mapping[str, str]) -> bool:
    """Whether the service started this container; that /opt/ml exists says nothing."""
    return (folder.config / "resourceconfig.json").is_file() or "TRAINING_JOB_NAME" in environment


def program_overrides(
    overrides: Sequence[str], script: str, folder: ContainerFolder, hosts: Hosts, num_gpus: int
) -> list[str]:
    """The overrides of the program: the job's own, and those for the container and its processes."""
    kept = [each for each in overrides if key_of(each) not in ("output", "resume")]
    kept = [
        each.replace("${paths.inputs}", str(folder.inputs)) if key_of(each) == "extensions" else each for each in kept
    ]
    here = ["paths=container", "launch=here", "hydra.mode=RUN", f"output={quoted(str(folder.run))}"]
    if script != TRAIN or len(hosts.names) * max(1, num_gpus) == 1:
        return [*kept, *here]
    return [
        "trainer.strategy=ddp",
        "trainer.devices=auto",  # before the job's own overrides, which may ask for fewer
        *kept,
        *here,
        f"trainer.num_nodes={len(hosts.names)}",
    ]


class Program:
    """A process of its own that gets the signals of this one, and whose last lines on stderr are kept."""

    def __init__(self) -> None:
        self.tail: deque[str] = deque(maxlen=NUM_TAIL_LINES)
        self.signals: list[int] = []
        self._unsent: deque[int] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        for number in SIGNALS:  # at once: the first process of a container ignores signals that nobody has asked for
            signal.signal(number, self._pass_on)

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        now_and_then: Callable[[], None],
        stdout: IO[bytes] | None = None,
    ) -> int:
        """Run to the end, passing signals on; an end by signal 9 is exit code 137."""
        if self.signals:
            return 128 + self.signals[0]
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a signal to the group of both would arrive twice
            preexec_fn=_die_with_parent,
        )
        self._send()
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        code = self._wait(now_and_then)
        reader.join(SECONDS_TO_READ)
        return code if code >= 0 else 128 - code

    def _wait(self, now_and_then: Callable[[], None]) -> int:
        assert self._process is not None
        while True:
            try:
                return self._process.wait(MIRROR_SECONDS)
            except subprocess.TimeoutExpired:
                now_and_then()

    def _pass_on(self, number: int, frame: Any) -> None:
        self.signals.append(number)
        self._unsent.append(number)
        self._send()

    def _send(self) -> None:
        """Send each signal once, also those that came while the process was made."""
        with contextlib.suppress(IndexError):
            while self._process is not None:
                self._process.send_signal(self._unsent.popleft())

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        for line in self._process.stderr:
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
            self.tail.append(line.decode(errors="replace").rstrip())


def _die_with_parent() -> None:
    """Nobody is left behind when this process is killed; systems without the call go without."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)


def reason(code: int, tail: Sequence[str], run: Path) -> str:
    """Why a program failed, in one line: its last `error: …`, its record, its last line, or its exit code."""
    if code - 128 in (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT):
        name = signal.Signals(code - 128).name
        return f"killed by {name}" + (": out of memory, or by hand" if name == "SIGKILL" else "")
    starts = [number for number, line in enumerate(tail) if line.startswith("error: ")]
    if starts:
        return " ".join(list(tail)[starts[-1] :]).removeprefix("error: ")
    last = next((line.strip() for line in reversed(tail) if line.strip()), None)
    return reason_of(run) or last or f"exit code {code}"


def _fail(file: Path, code: int, why: str, max_bytes: int | None = None) -> int:
    """Leave the reason for the service."""
    line = " ".join(why.split())
    line = line if len(line) <= MAX_LETTERS else line[: MAX_LETTERS - 1] + "…"
    line = line.encode()[:max_bytes].decode(errors="ignore")
    with contextlib.suppress(OSError):  # where nothing can be written, the log has it
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(line, encoding="utf-8")
    return code


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
