"""Who answers for a folder of pictures: the model of a run here, or an endpoint elsewhere."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sightline.config import PredictConfig
from sightline.data.predicted_classes import Row, most_probable
from sightline.runs.file_names import readable, to_text
from sightline.serving.client import Endpoint, open_endpoint
from sightline.serving.contract import MAX_BYTES, Answer, Problem
from sightline.serving.endpoint_transport import BUSY, TIMED_OUT, UNREACHABLE
from sightline.serving.predict_result import Certainty

if TYPE_CHECKING:
    from PIL import Image

    from sightline.data.collection.named_pictures import FileList
    from sightline.finished_run import FinishedRun

log = logging.getLogger(__name__)
ROWS_AT_ONCE = 32
"""Of an endpoint's answers, which come one by one."""
MAX_WARNINGS = 20
"""Of files without an answer; the rest is counted."""
LOST = (*BUSY, 401, 403, UNREACHABLE, TIMED_OUT)
"""Statuses that say something of the endpoint, not of the picture: what was asked is not answered yet."""


class EndpointLost(RuntimeError):
    """The endpoint has ceased to answer; the rows that came are kept."""


class Answering(Protocol):
    """What answers, and what it says of itself."""

    @property
    def name(self) -> str:
        """Of the experiment or the model."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """For run.json."""
        ...

    @property
    def computed_with(self) -> dict[str, Any]:
        """What another process must have so that its answers are the same."""
        ...

    @property
    def names_errors(self) -> bool:
        """Whether a CSV has rows for files without an answer."""
        ...

    @property
    def certainty(self) -> Certainty: ...

    def rows(self, files: "FileList") -> Iterator[list[Row]]:
        """A row for each file in order, some at a time."""
        ...

    def show(self, path: Path) -> "Image.Image":
        """A picture as people see it."""
        ...


@dataclass(frozen=True)
class ModelHere:
    """A finished run's model in this process."""

    run: "FinishedRun"
    cfg: PredictConfig
    names_errors: bool = False

    @classmethod
    def open(cls, cfg: PredictConfig) -> "ModelHere":
        from sightline.finished_run import FinishedRun
        from sightline.models.inference import keep_freed_memory

        assert cfg.run is not None
        keep_freed_memory()
        places = {"runs": cfg.paths.runs, "extensions": cfg.extensions}
        how = {"precision": cfg.precision, "runtime": cfg.runtime}
        run = FinishedRun.open(cfg.run, cfg.accelerator, **how, **places, trust_code=cfg.trust_code)
        run = replace(run, cache=Path(cfg.paths.cache))
        run.warn_if_uncalibrated()
        return cls(run, cfg)

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def facts(self) -> dict[str, Any]:
        run = self.run
        return {
            "name": run.trained.get("name"),
            "run": str(run.path),
            "model": run.describe_model(),
            "device": str(run.device),
            "precision": run.precision,
            "runtime": run.runtime.name,
            "calibrated": run.uncalibrated is None,
        }

    @property
    def computed_with(self) -> dict[str, Any]:
        from sightline.models.backbones import state_dict_sha256

        task = json.dumps(self.run.task_spec.to_dict(), sort_keys=True)
        model = {
            "name": self.name,
            "sha256": state_dict_sha256(self.run.saved.network.state_dict()),
            "task_sha256": hashlib.sha256(task.encode()).hexdigest(),
        }
        return {"model": model, "precision": self.run.precision, "runtime": self.run.runtime.name}

    @property
    def certainty(self) -> Certainty:
        calibration = self.run.task_spec.calibration
        is_calibrated = self.run.uncalibrated is None
        if calibration is None or calibration.threshold is None:
            return Certainty(is_calibrated=is_calibrated)
        return Certainty(calibration.threshold, calibration.target_accuracy, is_calibrated)

    @property
    def max_pixels(self) -> int:
        return self.cfg.data.max_pixels or self.run.max_pixels

    def rows(self, files: "FileList") -> Iterator[list[Row]]:
        from sightline.data.pictures import PictureBatches

        spec, number = self.run.task_spec, 0
        loading = {"batch_size": self.cfg.batch_size, "num_workers": self.cfg.num_workers}
        batches = PictureBatches(files, spec, max_pixels=self.max_pixels, **loading)
        threshold = spec.calibration.threshold if spec.calibration else None

        def skipped() -> Iterator[Row]:
            nonlocal number
            while number in batches.unreadable:
                yield Row(_text(files, number), error=readable(str(batches.unreadable.pop(number))))
                number += 1

        for batch in batches:
            probabilities = self.run.predict_batches([batch])
            assert probabilities is not None
            rows = []
            for ranked in most_probable(probabilities, spec.class_names):
                rows += skipped()
                unsure = None if threshold is None else ranked[0][1] < threshold
                rows.append(Row(_text(files, number), ranked, unsure))
                number += 1
            yield rows
        if rest := list(skipped()):
            yield rest

    def show(self, path: Path) -> "Image.Image":
        from sightline.data.display import load_displayed

        spec = self.run.task_spec
        bands = {"channels": spec.channels, "display_bands": spec.display_bands}
        return load_displayed(path, value_range=spec.value_range, max_pixels=self.max_pixels, **bands)


@dataclass(frozen=True)
class ModelElsewhere:
    """What an endpoint answers."""

    endpoint: Endpoint
    described: dict[str, Any] = field(default_factory=dict)
    max_pixels: int | None = None
    names_errors: bool = True

    @classmethod
    def open(cls, cfg: PredictConfig, token: str | None) -> "ModelElsewhere":
        """Raises: BadInput where nothing of ours answers."""
        assert cfg.endpoint is not None
        endpoint = open_endpoint(cfg.endpoint, token, runs=Path(cfg.paths.runs), connections=cfg.connections)
        described = endpoint.describe()
        log.info("endpoint: %s (%s %s)", cfg.endpoint, described.get("name"), described.get("version"))
        return cls(endpoint, described, cfg.data.max_pixels)

    @property
    def name(self) -> str:
        return self.described.get("name") or "endpoint"

    @property
    def facts(self) -> dict[str, Any]:
        return {"name": self.name, "endpoint": self.endpoint.address, "model": self.described}

    @property
    def computed_with(self) -> dict[str, Any]:
        model = {key: self.described.get(key) for key in ("name", "version", "sha256", "threshold")}
        return {"model": model, "precision": self.described.get("precision")}

    @property
    def certainty(self) -> Certainty:
        return Certainty(self.described.get("threshold"))

    def rows(self, files: "FileList") -> Iterator[list[Row]]:
        most = self.described.get("max_bytes") or MAX_BYTES
        reads: Iterator[Callable[[], bytes]] = (partial(_read, files[number], most) for number in range(len(files)))
        rows: list[Row] = []
        for number, answer in enumerate(self.endpoint.answer_each(reads)):
            if isinstance(answer, Problem) and answer.status in LOST:
                yield rows
                file = _text(files, number)
                raise EndpointLost(
                    f"endpoint={self.endpoint.address}: {answer.detail} (status {answer.status}, {file})"
                )
            rows.append(_row(_text(files, number), answer))
            if len(rows) == ROWS_AT_ONCE:
                yield rows
                rows = []
        yield rows

    def show(self, path: Path) -> "Image.Image":
        from sightline.data.display import load_displayed
        from sightline.task_spec import MAX_PIXELS

        return load_displayed(
            path, channels=self.described.get("channels") or 3, max_pixels=self.max_pixels or MAX_PIXELS
        )


def _row(file: str, answer: Answer | Problem) -> Row:
    if isinstance(answer, Problem):
        return Row(file, error=f"{answer.status} {answer.title}: {answer.detail}")
    unsure = None if answer.threshold is None else answer.unsure
    return Row(file, list(answer.probabilities.items()), unsure)


def _text(files: "FileList", number: int) -> str:
    return to_text(files.name(number))


def _read(path: Path, most: int) -> bytes:
    """A file's bytes.

    Raises: Problem for one that is too large, or cannot be read.
    """
    try:
        size = path.stat().st_size
        if size > most:
            raise Problem(413, "Too large", f"{size} bytes, and the endpoint takes {most}", "image")
        return path.read_bytes()
    except OSError as error:
        raise Problem(400, "Not readable", f"cannot be read ({error.strerror})", "image") from error


def warn_of(rows: "list[Row]", warned: int) -> int:
    """Say why files have no answer, of the first ones; the number that was said so far."""
    for row in rows:
        if row.error is not None:
            warned += 1
            if warned <= MAX_WARNINGS:
                log.warning("skipped %s", row.error if row.file in row.error else f"{row.file}: {row.error}")
    return warned


def open_answering(cfg: PredictConfig, token: str | None) -> Answering:
    """The model that a run names, or the endpoint.

    Raises: BadInput where there is none.
    """
    if cfg.endpoint is not None:
        return ModelElsewhere.open(cfg, token)
    return ModelHere.open(cfg)
