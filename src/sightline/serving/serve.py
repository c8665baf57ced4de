"""The task of serve.py: a finished run, or another endpoint, as a service."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.config import ServeConfig, validate_task
from sightline.errors import BadInput, Interrupted
from sightline.models.exported import FILES
from sightline.registry.names import with_local_runs
from sightline.runs.folder import find_run
from sightline.runs.invocation import UNTOLD, Invocation

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sightline.serving.service import Answerer

THREADS_THAT_WAIT = 16
"""For another endpoint's answers, which need no core here."""


def serve(cfg: "DictConfig | ServeConfig", invocation: Invocation = UNTOLD) -> None:
    """Answer requests until a signal comes, finish what was taken, and end as that signal ends a program.

    Raises: BadInput before anything is opened for a run that is not exported, an address that is taken, or one that
    others reach without a token; Interrupted at the end.
    """
    cfg = with_local_runs(validate_task(cfg, ServeConfig))
    open_answerer = _opener(cfg, invocation.serve_token)
    from sightline.serving.app import make_server

    is_elsewhere = cfg.endpoint is not None and cfg.serve.threads == "auto"
    settings = replace(cfg.serve, threads=THREADS_THAT_WAIT) if is_elsewhere else cfg.serve
    server = make_server(open_answerer, settings, invocation.serve_token, ends_with_error=True)
    server.serve_until_stopped()
    if server.stopped_by is not None:
        raise Interrupted(server.stopped_by)


def _opener(cfg: ServeConfig, token: str | None) -> "Callable[[], Answerer]":
    """What opens that which answers."""
    if cfg.endpoint is not None:
        from sightline.serving.remote import RemoteAnswerer

        return partial(RemoteAnswerer.open, cfg.endpoint, token, Path(cfg.paths.runs))
    assert cfg.run is not None
    folder, file = model_folder(find_run(cfg.run, Path(cfg.paths.runs))), FILES[cfg.serve.precision]
    if not (folder / file).is_file():
        raise BadInput(
            f"run={cfg.run}: there is no {file} in {folder}; make it with python src/export.py run={cfg.run}"
        )
    from sightline.serving.runtime_predictor import RuntimePredictor

    return partial(RuntimePredictor.open, folder, cfg.serve.precision, max_pixels=cfg.serve.max_pixels)


def model_folder(path: Path) -> Path:
    """The folder of the exported model of a run's folder, its `model/` or one of its checkpoints."""
    folder = path if path.is_dir() else path.parent.parent
    return folder if (folder / "model.json").is_file() or (folder / FILES["fp32"]).is_file() else folder / "model"
