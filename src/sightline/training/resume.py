"""Which run a command goes on with: found, held against other processes, and compared with what was asked for."""

import fcntl
import json
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sightline.config import TrainConfig, to_plain, with_absolute_paths
from sightline.errors import BadInput, Interrupted
from sightline.runs.folder import find_resumed, holds_run
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.override_text import key_of, value_of
from sightline.runs.record import open_folder
from sightline.task_spec import NOT_YET

log = logging.getLogger(__name__)
RESUMABLE_KEYS = (
    "name paths output resume extensions trust_code stages evaluation explanation optimized_metric "
    "min_accuracy logger "
    "checkpoint.every_minutes checkpoint.keep data.name "
    "data.num_workers data.cache data.cache_gb data.device_cache data.root data.origin data.manifest data.audit "
    "data.display_bands "
    "data.on_bad_file data.max_bad_fraction data.on_leak "
    "trainer.enable_progress_bar trainer.enable_model_summary trainer.log_every_n_steps trainer.profiler"
).split()
"""Keys that may change between a stop and going on: no weight and no metric follows from them, or the hash of the data
tells."""
SCHEDULE_KEYS = (
    "trainer.max_epochs trainer.max_steps trainer.min_epochs trainer.min_steps trainer.max_time "
    "model.lr model.scheduler model.optimizer.lr model.optimizer.weight_decay"
).split()
"""Keys that `resume=RUN` may change beyond those: the weights and the optimizer's state stay, and a new schedule of the
learning rate begins."""
NOT_SETTINGS = ("output", "resume", "paths")
"""Where and how, which nobody needs to be told of."""
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
    schedule_from: int = 0
    """The step at which the schedule of the learning rate began."""
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Settings before and now, by key, where they differ."""


def resume_fingerprint(cfg: TrainConfig, precision: str, data: dict[str, Any]) -> dict[str, Any]:
    """What must be the same before a stop and after it, as plain values."""
    config = with_absolute_paths(to_plain(cfg), Path.cwd())
    config["trainer"]["precision"] = precision  # `auto` means another one elsewhere
    if config["runtime"] == "torch":
        config["runtime"] = "auto"  # the same in a fit, and what runs had before there was a choice
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
        return output if output is not None and holds_run(output) else None
    folder = find_resumed(cfg.resume, Path(cfg.paths.runs))
    if output is not None and output.resolve() != folder.resolve():
        raise BadInput(f"output={cfg.output} resume={cfg.resume}: a run goes on in its own folder; drop output")
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
    is_finished = earlier.get("status") == "finished"
    if is_finished and cfg.resume == "auto":
        raise BadInput(
            f"output={folder}: this folder already holds a run, and it is finished; name another, or train it for more "
            f"epochs with resume={folder} trainer.max_epochs=…"
        )
    from sightline.callbacks.checkpoint_files import PARTIAL, newest_whole

    named = Path(cfg.resume or "auto").expanduser()
    is_file = cfg.resume != "auto" and named.is_file()
    checkpoint = named.absolute() if is_file else newest_whole(folder / "checkpoints")
    if checkpoint is None and is_finished:
        raise BadInput(f"resume={folder}: this run is finished, and its checkpoints are gone; begin a new one")
    if checkpoint is None:
        log.warning("%s: stopped before its first checkpoint; it begins again", folder)
        _clear(folder)
        return Start(folder, earlier=earlier)
    for partial in checkpoint.parent.glob(f"*{PARTIAL}"):  # a write that was killed
        partial.unlink()
    position, state = _read_state(checkpoint)
    changed = _compare(state, facts, folder, earlier.get("cwd"))
    begins_anew = any(_is_one_of(key, SCHEDULE_KEYS) for key in changed)
    if begins_anew or is_finished:
        _check_schedule(cfg, folder, position, changes=begins_anew)
    step = position["global_step"]
    log.warning("%s: going on from step %d", folder, step)
    for key, (before, now) in changed.items():
        log.info("%s: %s → %s", key, before, now)
    if begins_anew:
        log.info(
            "a new schedule from step %d: weights and the state of the optimizer are kept, the learning rate begins "
            "again over what is left",
            step,
        )
    schedule_from = step if begins_anew else state.get("schedule_from", 0)
    return Start(folder, checkpoint, step, state["batches_that_stepped"], earlier, schedule_from, changed)


def _check_schedule(cfg: TrainConfig, folder: Path, position: dict[str, int], *, changes: bool) -> None:
    """Raises: BadInput when a run that has come so far has nothing left to do."""
    epochs, steps = cfg.trainer.max_epochs, cfg.trainer.max_steps
    assert not isinstance(epochs, str), "auto stands for a number by now"
    done, step = position["epoch"], position["global_step"]
    if not changes or 0 <= (-1 if epochs is None else epochs) <= done or 0 <= steps <= step:
        more = f"trainer.max_steps={2 * step}" if steps >= 0 else f"trainer.max_epochs={done + max(1, done // 2)}"
        raise BadInput(
            f"resume={folder}: {done} epochs and {step} steps of this run are done, and no more are asked for; to "
            f"train on, set a larger number, like {more}"
        )


def _read_state(checkpoint: Path) -> tuple[dict[str, int], dict[str, Any]]:
    """A checkpoint's `epoch` and `global_step`, and what it holds for going on.

    Raises: BadInput when it does not open or holds nothing of the kind.
    """
    import torch

    from sightline.callbacks.checkpoint_files import LAST, STATE, find_defect

    if (defect := find_defect(checkpoint)) is not None:
        raise BadInput(f"resume={checkpoint}: does not open ({defect}); give the run folder to use the one before it")
    content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    state = content.get(STATE)
    if state is None or not state["is_exact"]:
        which = "give the run folder, or its last.ckpt, or " if checkpoint.name != LAST else ""
        raise BadInput(
            f"resume={checkpoint}: was not written to go on from, or checkpoint.keep=weights left its weights alone; "
            f"{which}take them into a new run with model.weights={checkpoint.parent.parent}/model/model.safetensors"
        )
    if content.get("task_spec", {}).get("kind", "single") != "single":
        raise BadInput(f"resume={checkpoint}: {NOT_YET}; give a run of a single class an image")
    return {key: int(content.get(key, 0)) for key in ("epoch", "global_step")}, state


def _compare(saved: dict[str, Any], facts: dict[str, Any], folder: Path, cwd: str | None) -> dict[str, tuple[Any, Any]]:
    """The settings that have changed since a checkpoint was saved, before and now; `cwd` is where its command ran.

    Raises: BadInput with what differs when going on would make another run of it.
    """
    if saved["data_sha256"] != facts["data_sha256"]:
        raise BadInput(
            f"resume: {folder} was trained on other data (manifest {str(saved['data_sha256'])[:12]}…, now "
            f"{str(facts['data_sha256'])[:12]}…); put the data back, or name another output"
        )
    before = _flat(with_absolute_paths(saved["config"], Path(cwd or Path.cwd())))
    now = _flat(facts["config"])
    before = {key: value for key, value in _flat(asdict(TrainConfig())).items() if key in now} | before  # younger keys
    changed = {
        key: (before.get(key), now.get(key))
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _is_one_of(key, NOT_SETTINGS)
    }
    may_change = (*RESUMABLE_KEYS, *(SCHEDULE_KEYS if now.get("resume") not in (None, "auto") else ()))
    if now.get("trust_code"):
        may_change = (*may_change, "code_sha256")
    elif others := [key.partition(".")[2] for key in changed if _is_one_of(key, ("code_sha256",))]:
        raise BadInput(
            f"resume: own code of {folder} has changed since ({', '.join(others)}); put it back, name another output, "
            "or go on with what it is now with trust_code=true"
        )
    if differing := [key for key in changed if not _is_one_of(key, may_change)]:
        named = ", ".join(f"{key}={changed[key][1]} (was {changed[key][0]})" for key in differing[:MAX_NAMED])
        more = f" and {len(differing) - MAX_NAMED} more" if len(differing) > MAX_NAMED else ""
        raise BadInput(
            f"resume: {folder} has other settings: {named}{more}; put them back, or name another output "
            f"(resume={folder} alone takes them from the run)"
        )
    return changed


def _is_one_of(key: str, names: Iterable[str]) -> bool:
    """Whether a key is one of these, or lies in a section of theirs."""
    return any(key == each or key.startswith(each + ".") for each in names)


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
    takes_settings = value_of(words, "resume") not in (None, "auto", "null")  # then they are not all among the words
    words = [word for word in words if key_of(word) not in ("output", "resume")]
    return shlex.join([sys.executable, program, *words, f"{'resume' if takes_settings else 'output'}={folder}"])
