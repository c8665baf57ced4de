"""The only place that writes and opens saved models; none of them needs pickle."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sightline.config.code_folder import hash_code
from sightline.config.code_of_run import EXTENSIONS, find_code_of_run
from sightline.config.own_code import open_code, targets_of
from sightline.errors import BadInput
from sightline.models.backbones import OF_OWN_NETWORKS, Architecture, state_dict_sha256
from sightline.runs.folder import run_folder
from sightline.task_spec import TaskSpec

BACKBONE = "backbone."
OLD_ARCHITECTURE = "model_card"
"""The name that checkpoints had for it."""
NOT_MEASURED = "not_measured"
"""What says in a checkpoint and in run.json why a module of own code has no logits."""


@dataclass(frozen=True)
class SavedModel:
    """A network in eval mode with its task and architecture."""

    network: nn.Module
    spec: TaskSpec
    architecture: Architecture
    path: Path


def save_model(folder: Path, network: nn.Module, spec: TaskSpec, architecture: Architecture) -> None:
    """Write `model.safetensors` (timm's tensor names), `task_spec.json` and `model.json` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = network.state_dict().items()  # some networks use a tensor twice, which the format does not know
    state = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in shared}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    spec.save(folder / "task_spec.json")
    described = {
        "name": architecture.name,
        "arguments": dict(architecture.arguments),
        "num_classes": architecture.num_classes,
        "weights": architecture.weights_origin,
        **{key: value for key, value in architecture.to_dict().items() if key in OF_OWN_NETWORKS},
        "sha256": state_dict_sha256(state),
    }
    (folder / "model.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class CodeOfRun:
    """How the own code of a saved model is found and trusted, where it has any."""

    extensions: str | Path | None = None
    """The folder that it lies in; None: where the run's record says."""
    trusts: bool = False
    """Whether it may have changed since, or be of nobody known."""
    is_imported: bool = False
    """Whether this process has imported it already, as one that has just trained the model has."""


FROM_RECORD = CodeOfRun()
IMPORTED = CodeOfRun(is_imported=True)


def load_model(path: Path, code: CodeOfRun = FROM_RECORD) -> SavedModel:
    """Open a run folder (its `model/`), a model folder or a checkpoint.

    Raises: BadInput when there is no model there, it does not open, or its network is of code that is not trusted.
    """
    if path.is_file():
        return _load_checkpoint(path, code)
    folder = path if (path / "model.json").is_file() else path / "model"
    if not (folder / "model.json").is_file():
        raise BadInput(f"run={path}: there is no model in it{_why_no_model(path)}")
    return _load_folder(folder, code)


def _why_no_model(path: Path) -> str:
    record = path / "run.json"
    if not record.is_file():
        return "; give a run folder of train.py, its model/ folder or a checkpoint"
    facts = json.loads(record.read_text(encoding="utf-8"))
    if (why := facts.get("model", {}).get(NOT_MEASURED)) is not None:
        return f": {_not_measured(facts['model'], why)}"
    if facts.get("task") != "train":
        return f": it is a run of {facts.get('task')}; give the run of train.py that made the model"
    return f": the run is {facts.get('status')} ({facts.get('reason') or 'its best checkpoint is not exported yet'})"


def _load_folder(folder: Path, code: CodeOfRun) -> SavedModel:
    try:
        described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        spec = TaskSpec.load(folder / "task_spec.json")
        of_own = {key: described[key] for key in OF_OWN_NETWORKS if key in described}
        origin = described.get("weights", "unknown")
        architecture = Architecture(
            described["name"], described["num_classes"], described["arguments"], origin, **of_own
        )
        state = load_file(folder / "model.safetensors")
    except Exception as error:  # whatever is wrong with files that we are given, the answer is the same
        raise BadInput(
            f"run={folder}: this model folder does not open ({error}); copy it again or train anew"
        ) from error
    return _assemble(architecture, spec, state, folder, code)


def _load_checkpoint(path: Path, code: CodeOfRun) -> SavedModel:
    checkpoint = _open_checkpoint(path)
    architecture = Architecture(**checkpoint["architecture"])
    spec = TaskSpec.from_dict(checkpoint["task_spec"])
    state = checkpoint["state_dict"] if architecture.is_module else _backbone_state(checkpoint)
    return _assemble(architecture, spec, state, path, code)


def _open_checkpoint(path: Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if OLD_ARCHITECTURE in checkpoint:
            checkpoint["architecture"] = checkpoint.pop(OLD_ARCHITECTURE)
        for key in ("state_dict", "architecture", "task_spec"):
            checkpoint[key]
    except Exception as error:
        raise BadInput(f"run={path}: not a checkpoint of this project ({error}); give one of train.py") from error
    if (why := checkpoint.get(NOT_MEASURED)) is not None:
        raise BadInput(f"run={path}: {_not_measured(checkpoint['architecture'], why)}")
    return checkpoint


def _not_measured(architecture: dict[str, Any], why: str) -> str:
    return f"{architecture.get('target')} {why}: there are no answers to measure, explain or predict with"


def _backbone_state(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    state = checkpoint["state_dict"]
    return {name.removeprefix(BACKBONE): tensor for name, tensor in state.items() if name.startswith(BACKBONE)}


def _assemble(
    architecture: Architecture, spec: TaskSpec, state: dict[str, torch.Tensor], path: Path, code: CodeOfRun
) -> SavedModel:
    if architecture.num_classes != spec.num_classes:
        raise BadInput(
            f"run={path}: the network has {architecture.num_classes} classes, its task names {spec.num_classes}"
        )
    if architecture.target is not None and not code.is_imported:
        _open_code(architecture, path, code)
    network = architecture.create()
    _fill(network, state, path)
    return SavedModel(network.eval(), spec, architecture, path)


def _open_code(architecture: Architecture, path: Path, code: CodeOfRun) -> None:
    """Make the code of a network importable, where it is what it was when the network was trained.

    Raises: BadInput when it is gone, has changed, or came with the model itself.
    """
    run = run_folder(path)
    place = _place_of_code(architecture, run, code, path)
    targets = {"model": str(architecture.target), **targets_of(architecture.arguments, "model.arguments")}
    open_code(targets, place, known=architecture.code, record=run or path, trusts=code.trusts)


def _place_of_code(architecture: Architecture, run: Path | None, code: CodeOfRun, path: Path) -> Path | None:
    """The folder of the network's code: the one that was named if it is the code of then, else the recorded one.

    Raises: BadInput when neither is here.
    """
    if EXTENSIONS not in architecture.code:
        return None if code.extensions is None else Path(code.extensions)
    named = None if code.extensions is None else Path(code.extensions).expanduser()
    if named is not None and named.is_dir() and hash_code(named) == architecture.code[EXTENSIONS]:
        return named
    try:
        recorded = None if run is None else find_code_of_run(run, trusts=code.trusts)
    except BadInput as error:
        if named is None:
            raise BadInput(f"run={path}: its network is {architecture.target}; {error}") from error
        return named
    if named is None and recorded is None:
        raise BadInput(
            f"run={path}: its network is {architecture.target}, whose code is not here; name its folder with "
            "extensions=FOLDER"
        )
    is_of_then = named is None or (recorded is not None and hash_code(recorded) == architecture.code[EXTENSIONS])
    return recorded if is_of_then else named


def _fill(network: nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(f"run={path}: the weights do not fit {type(network).__name__} ({error})") from error
