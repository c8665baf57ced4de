"""The files of an exported model: made in a hidden folder, held to the network's answers, and put in place together."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.config import ExportConfig
from sightline.errors import GateNotMet
from sightline.models.exported import EXPORT, FILES, MEASURED
from sightline.runs.files import read_json, write_json
from sightline.runs.record import now

if TYPE_CHECKING:
    from sightline.data.manifest import Manifest
    from sightline.export.agreement import Answers, Batches
    from sightline.models.checkpoint import SavedModel

log = logging.getLogger(__name__)
NEEDED = ("onnx", "onnxscript", "onnxruntime")
VERSION_LETTERS = 12
"""Of the hash of its weights: a model's version where no registry gave it one."""
UNFINISHED = ".export-"
"""How the hidden folders begin in which files are made."""
WRITTEN = (*FILES.values(), "baseline.npz", EXPORT)
"""In the run's `model/`, in the order in which they are put there."""


@dataclass(frozen=True)
class Trained:
    """A trained model, and the images of its run that its files are held to."""

    folder: Path
    """The run folder."""
    name: str
    saved: "SavedModel"
    val: "Batches"
    train: "Batches"
    """Without augmentation; int8 learns its ranges from some."""
    manifest: "Manifest | None" = None
    channels_last: bool = True
    extensions: str | None = None
    """The folder of its own code, where the record does not say it."""
    trusts: bool = False
    """Whether that code may have changed since."""


def summary(facts: dict[str, Any]) -> dict[str, Any]:
    """For run.json."""
    return {"precisions": [each for each in FILES if each in facts], "created": facts["created"]}


def export_model(trained: Trained, settings: ExportConfig) -> dict[str, Any]:
    """Write all files into a hidden folder, compare them, and put them into the run's `model/` together.

    Returns what `export.json` holds.

    Raises: BadInput for a network that has no ONNX, GateNotMet for one that answers differently in it.
    """
    from sightline.models.onnx_graph import write_onnx

    model, facts = trained.folder / "model", _identity(trained)
    measured = _accuracy_in(trained.folder)
    with _made_in(model) as folder:
        write_onnx(folder / FILES["fp32"], trained.saved.network, trained.saved.spec, {**facts, "precision": "fp32"})
        answers, kept = _check(trained, folder)
        kept |= {"images": len(answers), "sha256": facts["sha256"], "created": now()}
        kept["fp32"] |= {} if measured is None else {MEASURED: measured}
        kept["runtime_versions"] = {name: version(name) for name in ("torch", *NEEDED)}
        if settings.int8 is not False:
            kept |= _add_int8(trained, settings, folder, answers, facts)
        if settings.cost:
            _add_cost(trained, folder, kept)
        write_json(folder / EXPORT, kept)
        for name in WRITTEN:  # what tells of the others comes last
            if (folder / name).is_file():
                (folder / name).replace(model / name)
            else:
                (model / name).unlink(missing_ok=True)
    return kept


@contextmanager
def _made_in(model: Path) -> Iterator[Path]:
    """A hidden folder to make the files in; those of processes that were killed go."""
    import fcntl

    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=model) as name:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # a network disk without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _remove_abandoned(model)
            yield Path(name)
        finally:
            os.close(descriptor)


def _remove_abandoned(model: Path) -> None:
    """Remove the hidden folders that no process holds."""
    import fcntl

    for folder in model.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _identity(trained: Trained) -> dict[str, str]:
    """What the files say of themselves, by name: the same of equal weights, whenever and wherever they are exported."""
    sha256 = read_json(trained.folder / "model" / "model.json")["sha256"]
    return {"name": trained.name, "version": sha256[:VERSION_LETTERS], "sha256": sha256}


def quote_accuracy(model: Path, evaluated: Path) -> None:
    """Let `export.json` in a `model/` folder quote, of the file that an evaluation measured, what was measured."""
    facts, record = read_json(model / EXPORT), read_json(evaluated / "run.json")
    precision = "int8" if record.get("precision") == "int8" else "fp32"
    if precision in facts:
        facts[precision][MEASURED] = _accuracy_in(evaluated)
        write_json(model / EXPORT, facts)


def _accuracy_in(folder: Path) -> dict[str, Any] | None:
    """The accuracy in a run's folder: on test, else on validation; None where it has none."""
    metrics, record = read_json(folder / "metrics.json"), read_json(folder / "run.json")
    split = "test" if "test/accuracy" in metrics else "val"
    if f"{split}/accuracy" not in metrics:
        return None
    names = {"value": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}
    images = record.get("data", {}).get("num_images", {}).get(split)
    return {**{key: metrics.get(f"{split}/{name}") for key, name in names.items()}, "images": images, "split": split}


def _check(trained: Trained, folder: Path) -> "tuple[Answers, dict[str, Any]]":
    """Compare the fp32 file with the network, and write what later images are compared with.

    Raises: GateNotMet when it answers differently.
    """
    import torch

    from sightline.evaluation.predictions import Runner
    from sightline.export.agreement import answer_both, check_fp32
    from sightline.export.baseline import FILE, look, save_baseline, sizes
    from sightline.models.exported import ExportedModel
    from sightline.models.views import with_views

    spec, path = trained.saved.spec, folder / FILES["fp32"]
    network, looks = with_views(trained.saved.network, spec.views), []
    runner = Runner(network, spec, torch.device("cpu"), "32-true", trained.channels_last)
    exported = ExportedModel.open(path, num_threads=torch.get_num_threads())
    right, answers = answer_both(
        runner, exported, trained.val, lambda images: looks.append(look(images, spec.max_level))
    )
    difference, agreement = check_fp32(right, answers.probabilities)
    save_baseline(folder / FILE, answers, looks, sizes(trained.manifest, len(answers)))
    compared = {"max_probability_difference": difference, "agreement": agreement}
    return answers, {"fp32": {**compared, **_accuracy(answers), "bytes": path.stat().st_size}}


def _add_int8(
    trained: Trained, settings: ExportConfig, folder: Path, answers: "Answers", facts: dict[str, str]
) -> dict[str, Any]:
    """Write the int8 file, or say why there is none.

    Raises: GateNotMet where it was asked for and does not meet its bounds.
    """
    from sightline.export.int8 import finish, write_int8

    path, spec = folder / FILES["int8"], trained.saved.spec
    images = trained.train.some(settings.calibration_images)
    try:
        made = write_int8(folder / FILES["fp32"], path, trained.val, images, answers, settings)
    except GateNotMet as error:
        if settings.int8 is True:
            raise
        path.unlink(missing_ok=True)
        log.warning("%s", error)
        return {"int8_refused": str(error)}
    measured = _accuracy(made.answers)
    value, low, high = measured.values()
    finish(path, made.spec, spec, {**facts, "precision": "int8"})
    calibration = made.spec.calibration
    return {
        "int8": {
            "max_probability_difference": float(np.abs(made.answers.probabilities - answers.probabilities).max()),
            "agreement": made.agreement,
            **measured,
            MEASURED: {"value": value, "low": low, "high": high, "images": len(answers), "split": "val"},
            "accuracy_drop": made.accuracy_drop,
            "temperature": made.spec.temperature,
            "threshold": None if calibration is None else calibration.threshold,
            "float_layers": list(made.float_layers),
            "calibration_images": len(images),
            "bytes": path.stat().st_size,
        }
    }


def _add_cost(trained: Trained, folder: Path, facts: dict[str, Any]) -> None:
    from sightline.export.cost import cost_of_onnx, cost_of_torch

    for precision, name in FILES.items():
        if precision in facts:
            facts[precision] |= cost_of_onnx(folder / name)
    facts["torch"] = cost_of_torch(trained.folder / "model", trained.extensions, trained.trusts)


def _accuracy(answers: "Answers") -> dict[str, float]:
    """With its 95 % interval (Wilson's)."""
    from sightline.evaluation.intervals import wilson

    low, high = wilson(int((answers.predicted == answers.labels).sum()), len(answers))
    return {"accuracy": answers.accuracy, "accuracy_low": low, "accuracy_high": high}
