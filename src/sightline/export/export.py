"""Export a trained model for serving: ONNX files, written when they answer as the network does."""

import json
import logging
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import ExportConfig, ExportTaskConfig, validate_task, with_own_code
from sightline.errors import BadInput
from sightline.finished_run import FinishedRun, batch_limit, find_own_images, make_loader_of
from sightline.runs.files import read_json, write_json
from sightline.runs.folder import find_run
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.record import now

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sightline.export.agreement import Answers, Batches
    from sightline.models.checkpoint import SavedModel

log = logging.getLogger(__name__)
NEEDED = ("onnx", "onnxscript", "onnxruntime")
SHOWN = (
    "max_probability_difference",
    "agreement",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "milliseconds",
    "bytes",
)
"""What the program prints of each file."""


@dataclass(frozen=True)
class ExportResult:
    facts: dict[str, Any]
    """`export.json`."""
    folder: Path
    """The run's `model/`."""

    @property
    def numbers(self) -> dict[str, float]:
        """By `precision/name`."""
        of_files = {each: self.facts[each] for each in ("fp32", "int8") if each in self.facts}
        return {f"{each}/{name}": of_files[each][name] for each in of_files for name in SHOWN if name in of_files[each]}


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
    channels_last: bool = True


def check_installed(why: str = "export.py") -> None:
    """Raises: BadInput when a package that writes or runs ONNX is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise BadInput(f"{why} needs {', '.join(missing)}: pip install 'sightline-vision[export]'")


def export(cfg: "DictConfig | ExportTaskConfig", invocation: Invocation = UNTOLD) -> ExportResult:
    """Write a finished run's `model.onnx`, `export.json` and what belongs to them into its `model/`.

    Raises: BadInput before anything is written; GateNotMet when the answers differ, and nothing is written either.
    """
    cfg = validate_task(cfg, ExportTaskConfig)
    check_installed()
    find_run(cfg.run, Path(cfg.paths.runs))  # before torch loads, which takes seconds
    cfg, _ = with_own_code(cfg, invocation)
    run = _open(cfg)
    assert run.folder is not None
    trained = _of_run(cfg, run, run.folder)
    facts = export_model(trained, cfg.export)
    record = run.folder / "run.json"
    write_json(record, {**read_json(record), "exported": summary(facts)})
    return ExportResult(facts, run.folder / "model")


def _open(cfg: ExportTaskConfig) -> FinishedRun:
    """Raises: BadInput for a model that is not the `model/` of a run folder."""
    places = {"data_root": cfg.data.own_root, "runs": cfg.paths.runs, "extensions": cfg.extensions}
    run = FinishedRun.open(cfg.run, "cpu", "32-true", **places, trust_code=cfg.trust_code)
    if run.path.is_file():
        raise BadInput(f"run={cfg.run}: a checkpoint; what is exported is the model/ of a run: name its folder")
    if run.folder is None:
        raise BadInput(
            f"run={cfg.run}: this model came without its run folder, which names the images that its export is "
            "compared on; name a run folder"
        )
    return run


def _of_run(cfg: ExportTaskConfig, run: FinishedRun, folder: Path) -> Trained:
    from sightline.export.agreement import Batches

    try:
        images = find_own_images(cfg, run, "val")
    except BadInput as error:
        raise BadInput(
            f"run={cfg.run}: an export is compared on the run's own validation images, and {error}; where they lie "
            "elsewhere now, say data.own_root=FOLDER"
        ) from error
    spec = run.task_spec
    loaders = {split: make_loader_of(cfg, run, images, split) for split in ("val", "train")}
    limit = batch_limit(cfg, run, "val")
    return Trained(
        folder,
        run.name,
        run.saved,
        Batches(loaders["val"], spec, limit),
        Batches(loaders["train"], spec),
        run.channels_last,
    )


def summary(facts: dict[str, Any]) -> dict[str, Any]:
    """For run.json."""
    return {"precisions": [each for each in ("fp32", "int8") if each in facts], "created": facts["created"]}


def export_model(trained: Trained, settings: ExportConfig) -> dict[str, Any]:
    """Write all files into a hidden folder, compare them, and put them into the run's `model/` together.

    Raises: BadInput for a network that has no ONNX, GateNotMet for one that answers differently in it.
    """
    from sightline.export.agreement import answer_both, check_fp32
    from sightline.models.exported import FILES, ExportedModel
    from sightline.models.onnx_graph import write_onnx

    model = trained.folder / "model"
    identity = _identity(trained)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=model) as place:
        folder = Path(place)
        fp32 = folder / FILES["fp32"]
        write_onnx(fp32, trained.saved.network, trained.saved.spec, {**identity, "precision": "fp32"})
        exported = ExportedModel.open(fp32, num_threads=_num_threads())
        network, answers = answer_both(_runner(trained), exported, trained.val, lambda _: None)
        difference, agreement = check_fp32(network, answers.probabilities)
        facts: dict[str, Any] = {
            "fp32": {
                "max_probability_difference": difference,
                "agreement": agreement,
                **accuracy_of(answers),
                "bytes": fp32.stat().st_size,
            },
            "images": len(answers),
            "runtime_versions": {name: version(name) for name in ("torch", *NEEDED)},
            "sha256": identity["sha256"],
            "created": identity["created"],
        }
        write_json(folder / "export.json", facts)
        for name in (FILES["fp32"], "export.json"):
            (folder / name).replace(model / name)
    return facts


def _identity(trained: Trained) -> dict[str, str]:
    """What the files say of themselves, by name."""
    metrics, record = read_json(trained.folder / "metrics.json"), read_json(trained.folder / "run.json")
    split = "test" if "test/accuracy" in metrics else "val"
    facts = {
        "name": trained.name,
        "version": trained.folder.name,
        "sha256": read_json(trained.folder / "model" / "model.json")["sha256"],
        "created": now(),
    }
    if f"{split}/accuracy" in metrics:
        names = {"value": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}
        measured = {key: metrics.get(f"{split}/{name}") for key, name in names.items()}
        images = record.get("data", {}).get("num_images", {}).get(split)
        facts["accuracy"] = json.dumps({**measured, "images": images, "split": split})
    return facts


def accuracy_of(answers: "Answers") -> dict[str, float]:
    """With its 95 % interval (Wilson's)."""
    from sightline.evaluation.intervals import wilson

    low, high = wilson(int((answers.predicted == answers.labels).sum()), len(answers))
    return {"accuracy": answers.accuracy, "accuracy_low": low, "accuracy_high": high}


def _runner(trained: Trained) -> Any:
    """The network as evaluation runs it, on the processor at 32 bits."""
    import torch

    from sightline.evaluation.predictions import Runner
    from sightline.models.views import with_views

    network = with_views(trained.saved.network, trained.saved.spec.views)
    return Runner(network, trained.saved.spec, torch.device("cpu"), "32-true", trained.channels_last)


def _num_threads() -> int:
    import torch

    return torch.get_num_threads()
