"""The run folder and its `run.json`: what ran, on what, with which data, and how it ended."""

import logging
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

from sightline.errors import BadInput, Interrupted
from sightline.runs.file_names import readable
from sightline.runs.files import write_json
from sightline.runs.guesses import Guess
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.project import IS_INSTALLED, PROJECT

log = logging.getLogger(__name__)
PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "timm",
    "torchmetrics",
    "albumentations",
    "hydra-core",
    "numpy",
)

DIRTY = "-dirty"


def open_folder(runs: Path, task: str, name: str, output: str | None = None) -> Path:
    """Make the folder of a new run: `output` if given, else `runs/<task>/<name>/<time>`.

    A folder of that second that is there already makes it `<time>-1`, `<time>-2` and so on. Only folders below `runs`
    move the link `runs/latest`.

    Raises: BadInput when `output` holds a run, or anything that is not hidden, or cannot be made, or where the path is
    no UTF-8: TensorBoard cannot write there.
    """
    key, place = ("paths.runs", str(runs)) if output is None else ("output", output)
    if readable(place) != place:
        raise BadInput(f"{key}={readable(place)}: holds bytes that are no UTF-8; name another folder")
    if output is not None:
        return _open_output(Path(output).expanduser().absolute())
    parent = runs / task / name
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"paths.runs={runs}: cannot make {parent} ({error.strerror}); name another folder") from error
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ("", *(f"-{n}" for n in range(1, 10_000))):
        folder = parent / (stamp + suffix)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        _point_latest_to(runs, folder)
        return folder
    raise RuntimeError(f"{parent} already holds 10,000 runs of this second")


OUTPUT_FILES = (
    "audit.html",
    "audit.json",
    "checkpoints",
    "config.yaml",
    "manifest.csv",
    "tensorboard",
    "lost+found",
)
"""Files of a run that may lie in an `output` folder without run.json: an interrupted copy, or a fresh file system."""


def _open_output(folder: Path) -> Path:
    if (folder / "run.json").exists():
        raise BadInput(f"output={folder}: this folder already holds a run; name another or remove it first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        strangers = [name for name in names if name not in OUTPUT_FILES]
    except OSError as error:
        raise BadInput(f"output={folder}: cannot make this folder ({error.strerror}); name another") from error
    if strangers:
        raise BadInput(
            f"output={folder}: other things lie in this folder, like {strangers[0]}; name a new or an empty one"
        )
    return folder


def _point_latest_to(runs: Path, folder: Path) -> None:
    """Make `runs/latest` a link to the newest run, whatever its task; a file system without links goes without."""
    link = runs / f".latest-{os.getpid()}"
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(folder.relative_to(runs), target_is_directory=True)
        link.replace(runs / "latest")
    except OSError:
        link.unlink(missing_ok=True)


def git_commit(folder: Path, built_from: str | None = None) -> tuple[str | None, bool | None]:
    """The commit that `folder` is at and whether files differ from it; without a checkout that of `built_from`."""
    if not IS_INSTALLED:  # a checkout round an installed package is somebody else's
        try:
            commit = _git(folder, "rev-parse", "HEAD").strip()
            return commit, bool(_git(folder, "status", "--porcelain").strip())
        except (OSError, subprocess.SubprocessError):
            pass
    return (built_from.removesuffix(DIRTY), built_from.endswith(DIRTY)) if built_from else (None, None)


def _git(folder: Path, *args: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *args], check=True, capture_output=True, text=True, timeout=10
    ).stdout


def package_versions(names: Iterable[str] = PACKAGES) -> dict[str, str | None]:
    """By the name of the distribution; None for what is not installed, as code that runs from its folder."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def now() -> str:
    """The time as run.json writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunRecord:
    """Keeps `run.json` true while a task runs: `running` on entry, then `finished`, `failed` or `interrupted`.

    `earlier` is the record of the run that goes on: its start and its guesses stay, and its seconds are added. Of
    several processes one `writes`.
    """

    def __init__(
        self,
        folder: Path,
        invocation: Invocation = UNTOLD,
        *,
        earlier: dict[str, Any] | None = None,
        writes: bool = True,
        **facts: Any,
    ) -> None:
        self.folder, self.earlier, self.writes = folder, earlier or {}, writes
        commit, dirty = git_commit(PROJECT, invocation.commit)
        self.facts: dict[str, Any] = {
            "argv": list(invocation.argv),
            "cwd": str(Path.cwd()),
            "overrides": list(invocation.overrides),
            "guesses": _with_guesses(self.earlier.get("guesses", []), invocation.guesses),
            **facts,
            "commit": commit,
            "dirty": dirty,
            "versions": package_versions(),
        }

    def update(self, **facts: Any) -> None:
        self.facts.update(facts)
        if self.writes:
            write_json(self.folder / "run.json", self.facts)

    def add_guesses(self, guesses: Iterable[Guess]) -> None:
        self.update(guesses=_with_guesses(self.facts["guesses"], guesses))

    def __enter__(self) -> "RunRecord":
        self._clock = time.monotonic()
        started = self.earlier.get("started") or now()
        self.update(started=started, finished=None, seconds=None, status="running", reason=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "finished"
        if error is not None:
            status = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
        seconds = (self.earlier.get("seconds") or 0.0) + time.monotonic() - self._clock
        why = None if error is None else reason(error)
        try:
            self.update(finished=now(), seconds=round(seconds, 3), status=status, reason=why)
        except OSError as failed:
            if error is None:
                raise
            log.warning("%s: how it ended cannot be written (%s)", self.folder / "run.json", failed)


def _with_guesses(known: list[dict[str, Any]], guesses: Iterable[Guess]) -> list[dict[str, Any]]:
    """Guesses as run.json has them, and new ones, which stand for what was guessed of their keys before."""
    new = [guess.to_dict() for guess in guesses]
    again = {each["key"] for each in new}
    return [*(each for each in known if each["key"] not in again), *new]


def reason(error: BaseException) -> str:
    """One line that says why: the error's message, or its type when it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__
