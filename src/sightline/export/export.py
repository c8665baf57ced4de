"""Export a trained model for serving: ONNX files, written when they answer as the network does."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import ExportTaskConfig, validate_task, with_own_code
from sightline.errors import BadInput
from sightline.export.copied_run import copied_run
from sightline.export.model_files import NEEDED, Trained, export_model, summary
from sightline.finished_run import FinishedRun, batch_limit, find_own_images, make_loader_of
from sightline.registry.names import with_local_runs
from sightline.runs.file_names import to_text
from sightline.runs.files import read_json, write_json
from sightline.runs.folder import find_run
from sightline.runs.invocation import UNTOLD, Invocation

if TYPE_CHECKING:
    from omegaconf import DictConfig

SHOWN = (
    "max_probability_difference",
    "agreement",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "accuracy_drop",
    "milliseconds",
    "memory_mb",
    "bytes",
)
"""What the program prints of each file."""


@dataclass(frozen=True)
class ExportResult:
    facts: dict[str, Any]
    """`export.json`."""
    folder: Path
    """The `model/` of the run, or of its copy."""

    @property
    def numbers(self) -> dict[str, float]:
        """By `precision/name`."""
        of_files = {each: self.facts[each] for each in ("fp32", "int8", "torch") if each in self.facts}
        return {f"{each}/{name}": of_files[each][name] for each in of_files for name in SHOWN if name in of_files[each]}


def check_installed(why: str = "export.py") -> None:
    """Raises: BadInput when a package that writes or runs ONNX is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise BadInput(f"{why} needs {', '.join(missing)}: pip install 'sightline-vision[export]'")


def export(cfg: "DictConfig | ExportTaskConfig", invocation: Invocation = UNTOLD) -> ExportResult:
    """Write a finished run's `model.onnx`, `export.json` and what belongs to them into its `model/`, or that of a copy.

    Raises: BadInput before anything is written; GateNotMet when the answers differ, and nothing is written either.
    """
    cfg = with_local_runs(validate_task(cfg, ExportTaskConfig))
    check_installed()
    find_run(cfg.run, Path(cfg.paths.runs))  # before torch loads, which takes seconds
    cfg, _ = with_own_code(cfg, invocation)
    run = _open(cfg)
    assert run.folder is not None
    if cfg.output is None and "registry" in run.describe_model():
        raise BadInput(
            f"run={cfg.run}: a registered version never changes; export the run that it was made of, or a copy of it "
            "with output=FOLDER"
        )
    if cfg.output is None:
        return ExportResult(_export_into(cfg, run, run.folder, run.folder), run.folder / "model")
    output = Path(cfg.output).expanduser().absolute()
    with copied_run(run.folder, output) as copy:
        facts = _export_into(cfg, run, copy, output)
    return ExportResult(facts, output / "model")


def _export_into(cfg: ExportTaskConfig, run: FinishedRun, folder: Path, place: Path) -> dict[str, Any]:
    """Export into the run's folder, or into a copy of it that will lie at `place`; return what `export.json` holds."""
    from sightline.export.model_card import write_model_card

    facts = export_model(_of_run(cfg, run, folder), cfg.export)
    record = folder / "run.json"
    origin = {} if folder == run.folder else {"from": to_text(str(run.folder))}
    write_json(record, {**read_json(record), "exported": {**summary(facts), **origin}})
    write_model_card(folder, place)
    return facts


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
    val, train = Batches(loaders["val"], spec, limit), Batches(loaders["train"], spec)
    told = (images.manifest, run.channels_last, cfg.extensions, cfg.trust_code)
    return Trained(folder, run.name, run.saved, val, train, *told)
