"""Which run a command goes on with: found, held against other processes, and compared with what was asked for."""

import fcntl
import json
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sightline.config import TrainConfig, to_plain
from sightline.errors import BadInput, Interrupted
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.record import open_folder

log = logging.getLogger(__name__)
RESUMABLE_KEYS = (
    "name paths output resume stages evaluation explanation optimized_metric logger checkpoint.every_minutes data.name "
    "data.num_workers data.cache data.cache_gb data.device_cache data.root data.origin data.manifest data.audit "
    "data.on_bad_file data.max_bad_fraction data.on_leak "
    "trainer.enable_progress_bar trainer.enable_model_summary trainer.log_every_n_steps trainer.profiler"
).split()
"""Keys that may change between a stop and going on: no weight and no metric follows from them, or the hash of the data
tells."""
RUN_FILES = ("metrics.csv", "checkpoints", "tensorboard", "csv")
"""What a run that begins again in its folder takes away."""
MAX_NAMED = 8
SECONDS_TO_END = 10.0
"""Workers of a process that was killed notice within 5 s, and hold its folder until then."""


@dataclass(frozen=True)
class Start:
    """Where a run begins: in a new folder at step 0, or in an old one with what it has."""

    folder: Path
    checkpoint: Path | None = None
    step: int = 0
    log_step: int | None = None
    """The first step that the logs do not have yet."""
    earlier: dict[str, Any] = field(default_factory=dict)
    """The run.json of the run that is continued."""


def resume_fingerprint(cfg: TrainConfig, precision: str, data: dict[str, Any]) -> dict[str, Any]:
    """What must be the same before a stop and after it, as plain values."""
    config = to_plain(cfg)
    config["trainer"]["precision"] = precision  # `auto` means another one elsewhere
    return {"config": config, "data_sha256": data["sha256"]}


@contextmanager
def open_run(cfg: TrainConfig, facts: dict[str, Any], invocation: Invocation = UNTOLD) -> Iterator[Start]:
    """The folder of a new run, or of the one that `resume` names, for this process alone.

    Raises: BadInput when that run cannot be continued with these settings.
    """
    old = find_run_to_continue(cfg)
    folder = old or open_folder(Path(cfg.paths.runs), "train", cfg.name, cfg.output)
    with _hold(folder):
        start = Start(folder) if old is None else _open_old(cfg, folder, facts)
        try:
            yield start
        except (Interrupted, KeyboardInterrupt):
            if invocation.argv:
                log.warning("go on with: %s", resume_command(start.folder, invocation))
            raise


def find_run_to_continue(cfg: TrainConfig) -> Path | None:
    """The folder of the run to go on with, if there is one."""
    output = None if cfg.output is None else Path(cfg.output).expanduser().absolute()
    if cfg.resume is None:
        return None
    if cfg.resume == "auto":
        return output if output is not None and _holds_run(output) else None
    folder = _named(cfg.resume, Path(cfg.paths.runs))
    if output is not None and output.resolve() != folder.resolve():
        raise BadInput(f"output={cfg.output} resume={cfg.resume}: a run goes on in its own folder; drop output")
    return folder


def _holds_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() or any((folder / "checkpoints").glob("last*.ckpt"))


def _named(resume: str, runs: Path) -> Path:
    """The run folder that `resume=` means: itself, or that of its checkpoint, as given or below the runs folder."""
    given = Path(resume).expanduser()
    path = next((each for each in (given.absolute(), runs / given) if each.exists()), None)
    if path is None:
        raise BadInput(f"resume={resume}: no such run folder or checkpoint (looked here and in {runs})")
    folder = path.resolve() if path.is_dir() else path.resolve().parent.parent
    if not _holds_run(folder):
        raise BadInput(f"resume={resume}: {folder} is not the folder of a run; give one that has run.json")
    return folder


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """Keep a run folder to this process.

    Raises: BadInput when another one has it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    until = time.monotonic() + SECONDS_TO_END
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise BadInput(
                        f"output={folder}: another process is training there; stop it first, or name another folder"
                    ) from None
                time.sleep(0.2)
            except OSError as error:  # a network disk without locks
                log.debug("%s is not locked (%s)", folder, error)
                break
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough: workers have it too
    finally:
        os.close(descriptor)


def _open_old(cfg: TrainConfig, folder: Path, facts: dict[str, Any]) -> Start:
    """Raises: BadInput when the run in a folder is over, or was another one."""
    record = folder / "run.json"
    earlier = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    if earlier.get("task", "train") != "train":
        raise BadInput(f"output={folder}: this folder already holds a run of {earlier['task']}; name another")
    if earlier.get("status") == "finished":
        raise BadInput(f"output={folder}: this folder already holds a run, and it is finished; name another")
    from sightline.callbacks.checkpoint_files import PARTIAL, newest_whole

    named = Path(cfg.resume or "auto").expanduser()
    is_file = cfg.resume != "auto" and named.is_file()
    checkpoint = named.absolute() if is_file else newest_whole(folder / "checkpoints")
    if checkpoint is None:
        log.warning("%s: stopped before its first checkpoint; it begins again", folder)
        _clear(folder)
        return Start(folder, earlier=earlier)
    for partial in checkpoint.parent.glob(f"*{PARTIAL}"):  # a write that was killed
        partial.unlink()
    step, state = _read_state(checkpoint)
    _compare(state, facts, folder)
    log.warning("%s: going on from step %d", folder, step)
    return Start(folder, checkpoint, step, state["batches_that_stepped"], earlier)


def _read_state(checkpoint: Path) -> tuple[int, dict[str, Any]]:
    """A checkpoint's step, and what it holds for going on.

    Raises: BadInput when it does not open or holds nothing of the kind.
    """
    import torch

    from sightline.callbacks.checkpoint_files import find_defect
    from sightline.callbacks.resumable import STATE

    if (defect := find_defect(checkpoint)) is not None:
        raise BadInput(f"resume={checkpoint}: does not open ({defect}); give the run folder to use the one before it")
    content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    state = content.get(STATE)
    if state is None or not state["is_exact"]:
        raise BadInput(
            f"resume={checkpoint}: was not written to go on from; give the run folder, or its last.ckpt, "
            "or take its weights into a new run with model.weights=…/model/model.safetensors"
        )
    return int(content["global_step"]), state


def _compare(saved: dict[str, Any], facts: dict[str, Any], folder: Path) -> None:
    """Raises: BadInput with what differs when going on would make another run of it."""
    if saved["data_sha256"] != facts["data_sha256"]:
        raise BadInput(
            f"resume: {folder} was trained on other data (manifest {str(saved['data_sha256'])[:12]}…, now "
            f"{str(facts['data_sha256'])[:12]}…); put the data back, or name another output"
        )
    before, now = _flat(saved["config"]), _flat(facts["config"])
    before = {key: value for key, value in _flat(asdict(TrainConfig())).items() if key in now} | before  # younger keys
    differing = [
        f"{key}={now.get(key)} (was {before.get(key)})"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _may_differ(key)
    ]
    if differing:
        more = f" and {len(differing) - MAX_NAMED} more" if len(differing) > MAX_NAMED else ""
        raise BadInput(
            f"resume: {folder} has other settings: {', '.join(differing[:MAX_NAMED])}{more}; "
            "put them back, or name another output"
        )


def _may_differ(key: str) -> bool:
    return any(key == each or key.startswith(each + ".") for each in RESUMABLE_KEYS)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    items = (_flat(each, f"{prefix}.{key}" if prefix else str(key)) for key, each in value.items())
    return {key: each for item in items for key, each in item.items()}


def _clear(folder: Path) -> None:
    for name in RUN_FILES:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def resume_command(folder: Path, invocation: Invocation) -> str:
    """What to type, in the same working folder, to go on with a run."""
    program, *words = invocation.argv
    if {"-m", "--multirun"} & set(words):
        words = list(invocation.overrides)  # of this run of the several
    words = [word for word in words if word.lstrip("+").split("=", 1)[0] not in ("output", "resume")]
    return shlex.join([sys.executable, program, *words, f"output={folder}"])
