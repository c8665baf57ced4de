"""What computes a network's answers: torch, the network compiled, or its exported graph in onnxruntime."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from sightline.errors import BadInput, GateNotMet
from sightline.models.checkpoint import SavedModel
from sightline.models.exported import EXPORT, FILES, ExportedModel
from sightline.models.inference import TorchRuntime
from sightline.models.views import with_views
from sightline.runs.files import read_json, whole_file
from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)
INT8 = "int8"
"""The precision that only an exported model has."""
MAX_DIFFERENCE = 1e-4
"""Of a probability of the exported graph from torch's."""
NUM_COMPARED = 8
"""Images of the first batch by which a graph that is made unasked is held against torch."""
IMAGES_AT_ONCE = 8
"""Through a graph: what lies between its layers stays in the processor's caches."""
SMALLEST = np.finfo(np.float32).tiny
VERSIONS = ("torch", "timm", "onnx", "onnxscript")
"""Packages that a graph may depend on."""
EXTRA = "pip install 'sightline-vision[export]'"


class Runtime(Protocol):
    """What computes answers."""

    @property
    def name(self) -> str:
        """`torch`, `compiled` or `onnx`."""
        ...

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits float32 `(B, num_classes)` on the CPU for prepared images, `(B, H, W, C)` of the TaskSpec's type."""
        ...


@dataclass(frozen=True)
class Placement:
    """Where and how a network is to be computed."""

    device: torch.device
    precision: str
    channels_last: bool = True
    cache: Path | None = None
    """Where graphs that are made unasked are kept; None: they are not made."""


class CompiledRuntime(TorchRuntime):
    """The network compiled for batches of one size: smaller ones are filled up to it."""

    name = "compiled"

    def __init__(
        self,
        network: nn.Module,
        prepare: Callable[[torch.Tensor], torch.Tensor],
        device: torch.device,
        precision: str,
        *,
        channels_last: bool = True,
    ) -> None:
        super().__init__(network, prepare, device, precision, channels_last=channels_last)
        self.compiled = FilledForward(self.network)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.compiled(images)


class FilledForward:
    """A network's forward, compiled for the largest batch that it was given; smaller ones are filled up to that."""

    def __init__(self, network: nn.Module) -> None:
        self.compiled, self.largest = torch.compile(network, dynamic=False), 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Raises: BadInput where there is no compiler."""
        count = len(images)
        self.largest = max(self.largest, count)
        if count < self.largest:
            filled = images.new_zeros((self.largest, *images.shape[1:]))
            filled[:count] = images
            images = filled.to(memory_format=_memory_format(images))
        try:
            return self.compiled(images)[:count]
        except Exception as error:
            if "compiler" not in str(error).lower():
                raise
            raise BadInput(
                f"runtime=compiled: the network cannot be compiled here ({str(error).strip().splitlines()[0]}); "
                "install a C++ compiler (g++), or use runtime=torch"
            ) from error


def _memory_format(images: torch.Tensor) -> torch.memory_format:
    is_last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format


class OnnxRuntime:
    """An exported graph on the processor; it is opened, or made, when the first batch comes."""

    name = "onnx"

    def __init__(self, open_for: Callable[[torch.Tensor], ExportedModel]) -> None:
        """`open_for` opens the graph for the first batch."""
        self._open_for, self._exported = open_for, None

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """The logarithms of the graph's probabilities, times its temperature: the logits, but for a constant of each
        image, and none smaller than that of the smallest probability that float32 has.

        Raises: BadInput for a batch of floats, which data modules of own code may give.
        """
        if batch.is_floating_point():
            raise BadInput(
                "runtime=onnx: the exported model takes pixels, and the data module of this run gives floats; use "
                "runtime=torch"
            )
        if self._exported is None:
            self._exported = self._open_for(batch)
        few = batch.cpu().numpy()
        parts = [
            self._exported.run(few[start : start + IMAGES_AT_ONCE])[0] for start in range(0, len(few), IMAGES_AT_ONCE)
        ]
        probabilities = np.concatenate(parts)
        temperature = np.float32(self._exported.spec.temperature)
        return torch.from_numpy(np.log(np.maximum(probabilities, SMALLEST)) * temperature)


def compute_logits(runtime: Runtime, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """Logits float32 `(N, num_classes)` on the CPU of prepared images, `(B, H, W, C)`."""
    return torch.cat([runtime.logits(batch) for batch in batches])


def check_runtime(asked: str, placement: Placement) -> None:
    """Raises: BadInput for a runtime that is not here, or does not compute there or so."""
    is_int8 = placement.precision == INT8
    if is_int8 and asked not in ("auto", "onnx"):
        raise BadInput(f"precision=int8 runtime={asked}: it is the exported model that has 8 bits; use runtime=onnx")
    if asked != "onnx" and not is_int8:
        return
    if placement.device.type != "cpu":
        raise BadInput(
            f"runtime=onnx: computes on a processor, and the device is {placement.device.type}; set accelerator=cpu "
            "(train.py: trainer.accelerator=cpu), or use runtime=torch"
        )
    if placement.precision not in ("32-true", INT8):
        raise BadInput(
            f"runtime=onnx precision={placement.precision}: it computes in 32 bits; leave precision out, set "
            "precision=int8, or use runtime=torch"
        )
    needed = ("onnxruntime",) if is_int8 else ("onnxruntime", "onnx", "onnxscript")
    if missing := [name for name in needed if find_spec(name) is None]:
        raise BadInput(f"runtime=onnx: needs {', '.join(missing)}; {EXTRA}, or use runtime=torch")


def make_runtime(
    asked: str, saved: SavedModel, placement: Placement, prepare: Callable[[torch.Tensor], torch.Tensor]
) -> Runtime:
    """What computes a model with the views of its task, as asked for: `auto`, `torch`, `compiled` or `onnx`.

    `auto` is the exported model on a processor in 32 bits, where it lies beside the model, is of these weights and this
    task, and was found to agree with torch; else torch. `onnx` makes a graph where there is none of the kind, and keeps
    it in the cache. At precision int8 both are the exported model of that precision. A line of the log says what
    computes where that is not torch.

    Raises: BadInput where that does not compute here; GateNotMet when a graph that was made disagrees with torch.
    """
    check_runtime(asked, placement)
    on_processor = placement.device.type == "cpu" and placement.precision == "32-true"
    if placement.precision == INT8:
        exported = open_int8(saved)
    else:
        exported = _find_exported(saved) if asked in ("auto", "onnx") and on_processor else None
    if exported is not None:
        log.info("runtime: onnx (%s)", exported.path)
        return OnnxRuntime(lambda batch: exported)
    network = with_views(saved.network, saved.spec.views)
    arguments = (network, prepare, placement.device, placement.precision)
    if asked == "compiled":
        log.info("runtime: compiled; the first batch takes the time of compiling")
        return CompiledRuntime(*arguments, channels_last=placement.channels_last)
    torch_runtime = TorchRuntime(*arguments, channels_last=placement.channels_last)
    if asked != "onnx":
        return torch_runtime
    path = _cached_path(saved, placement)
    log.info("runtime: onnx (%s)", path)
    return OnnxRuntime(lambda batch: _open_cached(path, saved, torch_runtime, batch))


def open_int8(saved: SavedModel) -> ExportedModel:
    """The int8 file beside a saved model, with a calibration of its own.

    Raises: BadInput where there is none, or it is of another model.
    """
    folder = _model_folder(saved)
    path = None if folder is None else folder / FILES[INT8]
    if folder is None or path is None or not path.is_file():
        raise BadInput(
            f"precision=int8: {saved.path} has no {FILES[INT8]}; make it with export.py run={saved.path} "
            "export.int8=true, or leave precision out"
        )
    exported = ExportedModel.open(path, num_threads=torch.get_num_threads())
    if reason := _why_other(exported, saved, folder):
        raise BadInput(f"precision=int8: {path}: {reason}; export the run again, or leave precision out")
    return exported


def _find_exported(saved: SavedModel) -> ExportedModel | None:
    """The exported model beside a saved one, where it answers as that does.

    Its calibration may be older: the temperature is taken out of its answers again.
    """
    folder = _model_folder(saved)
    path = None if folder is None else folder / FILES["fp32"]
    if folder is None or path is None or not path.is_file() or find_spec("onnxruntime") is None:
        return None
    try:
        exported = ExportedModel.open(path, num_threads=torch.get_num_threads())
    except BadInput as error:
        log.warning("%s; torch computes", error)
        return None
    difference = read_json(folder / EXPORT).get("fp32", {}).get("max_probability_difference")
    reason = _why_other(exported, saved, folder)
    if reason is None and (difference is None or not difference <= MAX_DIFFERENCE):
        reason = f"nothing says that it agrees with torch ({EXPORT})"
    if reason is None:
        return exported
    log.info("%s is left aside: %s", path, reason)
    return None


def _model_folder(saved: SavedModel) -> Path | None:
    return next((each for each in (saved.path, saved.path / "model") if (each / "model.json").is_file()), None)


def _why_other(exported: ExportedModel, saved: SavedModel, folder: Path) -> str | None:
    """Why a file in a model's folder is not of that model as it is to be computed; None where it is."""
    sha256, report = read_json(folder / "model.json")["sha256"], read_json(folder / EXPORT)
    if exported.facts.get("sha256") != sha256 or report.get("sha256", sha256) != sha256:
        return "it is of other weights"
    if _uncalibrated(exported.spec) != _uncalibrated(saved.spec):
        return "its views or its task are others"
    return None


def _uncalibrated(spec: TaskSpec) -> TaskSpec:
    """What a graph is made of, but for the temperature."""
    return replace(spec, calibration=None)


def _cached_path(saved: SavedModel, placement: Placement) -> Path:
    """Where the graph of these weights, this task and these versions is kept.

    Raises: BadInput without a cache.
    """
    from sightline.models.backbones import state_dict_sha256

    if placement.cache is None:
        raise BadInput(f"runtime=onnx: {saved.path} has no exported model; make one with export.py run={saved.path}")
    facts = {
        "weights": state_dict_sha256(saved.network.state_dict()),
        "architecture": saved.architecture.to_dict(),
        "task": _uncalibrated(saved.spec).to_dict(),
        "versions": {name: _version(name) for name in VERSIONS},
    }
    name = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    return placement.cache / "onnx" / f"{name}.onnx"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _open_cached(path: Path, saved: SavedModel, torch_runtime: TorchRuntime, batch: torch.Tensor) -> ExportedModel:
    """The graph at a path, made where it is not there yet.

    Raises: GateNotMet when what was made disagrees with torch about the first images; then nothing is kept.
    """
    threads = torch.get_num_threads()
    if path.is_file():
        return ExportedModel.open(path, num_threads=threads)
    from sightline.models.onnx_graph import write_onnx

    log.info("making the graph of %s, once", saved.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    spec = _uncalibrated(saved.spec)
    with whole_file(path) as partial:
        write_onnx(partial, saved.network, spec, {"precision": "fp32"})
        few = batch[:NUM_COMPARED].cpu()
        found, _ = ExportedModel.open(partial, num_threads=threads).run(few.numpy())
        expected = torch_runtime.logits(few).softmax(dim=1).numpy()
        difference = float(np.abs(found - expected).max())
        if not difference <= MAX_DIFFERENCE:
            raise GateNotMet(
                f"runtime=onnx: the exported graph of {saved.path} answers otherwise than torch (a probability differs "
                f"by {difference:.2g}, allowed is {MAX_DIFFERENCE:g}); use runtime=torch"
            )
    return ExportedModel.open(path, num_threads=threads)
