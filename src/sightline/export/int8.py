"""A model in 8 bits: weights by channel, ranges of activations from training images, calibrated anew on validation."""

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.config import ExportConfig
from sightline.errors import GateNotMet
from sightline.export.agreement import Answers, Batches, answer
from sightline.models.exported import IMAGE, METADATA, PROBABILITIES, ExportedModel

if TYPE_CHECKING:
    import onnx

    from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
KEPT_FLOAT = ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "Softmax")
"""Operations that gain nothing in 8 bits, and lose accuracy."""
RANKED = (*WEIGHTED, "Add", "Mul")
NUM_RANKING_IMAGES = 16
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""How many of the worst layers are left at float, one attempt after the other."""
AT_ONCE = 8
"""Images that are run together for their ranges."""


@dataclass(frozen=True)
class Quantised:
    """What came of it."""

    answers: Answers
    agreement: float
    accuracy_drop: float
    float_layers: tuple[str, ...]
    spec: "TaskSpec"
    """With the calibration of its own answers."""


def write_int8(
    fp32: Path, path: Path, val: Batches, images: np.ndarray, answers: Answers, settings: ExportConfig
) -> Quantised:
    """Write the int8 file of an exported model, with the ranges that prepared `images` `(N, H, W, C)` give.

    `answers` are those of the fp32 file on `val`. Where accuracy or agreement are not met, the layers that change the
    answers most are left at float, as few as do.

    Raises: GateNotMet when they are not met with many such layers either.
    """
    import torch

    with tempfile.TemporaryDirectory(prefix="sightline-int8-") as scratch:
        quantiser = Quantiser(fp32, images, Path(scratch), torch.get_num_threads())
        missed: list[tuple[float, float]] = []
        for excluded in quantiser.attempts():
            quantiser.write(path, excluded=excluded)
            found = answer(ExportedModel.open(path, num_threads=quantiser.num_threads), val, "Comparing int8")
            agreement = float((found.predicted == answers.predicted).mean())
            drop = answers.accuracy - found.accuracy
            if drop <= settings.max_accuracy_drop and agreement >= settings.min_agreement:
                break
            missed.append((agreement, drop))
        else:
            agreement, drop = max(missed, key=lambda each: (each[0], -each[1]))
            raise GateNotMet(
                f"export: model.int8.onnx agrees with fp32 on {agreement:.4f} of the validation images (at least "
                f"{settings.min_agreement:g}), its accuracy is {drop:.4f} lower (at most "
                f"{settings.max_accuracy_drop:g}), and layers at float did not mend it; serve fp32"
            )
        names = tuple(quantiser.name_of(each) for each in excluded)
    if names:
        log.info("int8: left at float, as 8 bits there change answers most: %s", ", ".join(names))
    return Quantised(found, agreement, drop, names, _calibrated(found, val.spec))


def _calibrated(answers: Answers, spec: "TaskSpec") -> "TaskSpec":
    """With temperature and threshold for these answers, which were given at the temperature of the spec."""
    import torch

    from sightline.evaluation.calibration import calibrate
    from sightline.evaluation.predictions import Predictions

    if spec.calibration is None:
        return spec
    logs = np.log(np.maximum(answers.probabilities, np.finfo(np.float32).tiny)) * spec.temperature
    predictions = Predictions(torch.from_numpy(logs), torch.from_numpy(answers.labels))
    return replace(spec, calibration=calibrate(predictions, spec.calibration.target_accuracy))


def finish(path: Path, spec: "TaskSpec", old: "TaskSpec", facts: Mapping[str, str]) -> None:
    """Put the temperature of `spec` into a graph that has the one of `old`, and all facts into its metadata."""
    import onnx

    model = onnx.load(path)
    if spec.temperature != old.temperature:
        _divide_logits(model.graph, spec.temperature / old.temperature)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**facts, METADATA: json.dumps(spec.to_dict(), ensure_ascii=False)})
    onnx.save(model, path)


def _divide_logits(graph: "onnx.GraphProto", by: float) -> None:
    import onnx

    softmax = next(node for node in graph.node if PROBABILITIES in node.output)
    assert softmax.op_type == "Softmax", softmax.op_type
    divisor = onnx.numpy_helper.from_array(np.array(by, np.float32), "temperature_of_int8")
    graph.initializer.append(divisor)
    divided = onnx.helper.make_node("Div", [softmax.input[0], divisor.name], ["divided_logits"], name="divide_logits")
    softmax.input[0] = "divided_logits"
    graph.node.insert(list(graph.node).index(softmax), divided)


@dataclass
class Quantiser:
    """Makes int8 files of one exported model; the ranges of its activations are measured once."""

    fp32: Path
    images: np.ndarray
    """Prepared `(N, H, W, C)`."""
    scratch: Path
    num_threads: int = 1
    nodes: list[Any] = field(init=False)
    outside: list[str] = field(init=False)
    """Names of nodes that are never quantised: views and normalisation before the first layer, what follows the last
    one, and `KEPT_FLOAT`."""

    def __post_init__(self) -> None:
        import onnx

        self.nodes = list(onnx.load(self.fp32).graph.node)
        after, before = _reached(self.nodes), _reached(_turned(self.nodes))
        self.outside = [
            node.name
            for node in self.nodes
            if node.op_type in KEPT_FLOAT or node.name not in after or node.name not in before
        ]

    def write(self, path: Path, *, excluded: Sequence[str] = (), only: str | None = None) -> None:
        """Quantise all nodes but the excluded ones, or a single one."""
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        from sightline.models.onnx_graph import quiet

        class Reader(CalibrationDataReader):
            """Images in groups, as onnxruntime asks for them."""

            groups = iter(np.array_split(self.images, max(1, len(self.images) // AT_ONCE)))

            def get_next(self) -> Any:
                group = next(self.groups, None)
                return None if group is None else {IMAGE: group}

        with quiet():
            quantize_static(
                self.fp32,
                path,
                Reader(),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                nodes_to_quantize=None if only is None else [only],
                nodes_to_exclude=[*self.outside, *excluded],
                calibration_cache_path=self.scratch / "ranges.json",
            )

    def attempts(self) -> Iterator[tuple[str, ...]]:
        """The nodes to leave at float: none, then the worst one, the two worst, and so on."""
        yield ()
        ranked = self._ranked()
        for count in STEPS:
            if count > len(ranked) // 2:
                return
            yield tuple(ranked[:count])

    def _ranked(self) -> list[str]:
        """The names of nodes by how much quantising each of them alone changes the answers, the worst first."""
        from rich.progress import track

        images = self.images[:NUM_RANKING_IMAGES]
        right, _ = ExportedModel.open(self.fp32, num_threads=self.num_threads).run(images)
        path, changes = self.scratch / "one.onnx", {}
        names = [node.name for node in self.nodes if node.op_type in RANKED and node.name not in self.outside]
        for name in track(names, "Looking for the layers to blame", transient=True):
            self.write(path, only=name)
            answered, _ = ExportedModel.open(path, num_threads=self.num_threads).run(images)
            changes[name] = float(np.abs(answered - right).mean())
        return sorted(names, key=lambda name: -changes[name])

    def name_of(self, name: str) -> str:
        """A node's layer as the network names it, where that is known."""
        from sightline.models.onnx_graph import SCOPES

        node = next(node for node in self.nodes if node.name == name)
        weights = [each for each in node.input if each.startswith("network.") and each.endswith(".weight")]
        if weights:
            return weights[0].removeprefix("network.").removesuffix(".weight")
        scopes = {each.key: each.value for each in node.metadata_props}.get(SCOPES, "")
        layers = [each for each in json.loads(scopes.replace("'", '"') or "[]") if each.startswith("network.")]
        return f"{layers[-1].removeprefix('network.')} ({node.op_type})" if layers else name


def _reached(nodes: Sequence[Any]) -> set[str]:
    """The names of the layers with weights, and of the nodes that what these make goes into, near or far."""
    names: set[str] = set()
    tensors: set[str] = set()
    for node in nodes:
        if node.op_type in WEIGHTED or tensors & {*node.input}:
            names.add(node.name)
            tensors |= {*node.output} - {""}
    return names


def _turned(nodes: Sequence[Any]) -> list[Any]:
    """The graph from its end: nodes with inputs for outputs."""
    import onnx

    return [onnx.helper.make_node(node.op_type, node.output, node.input, name=node.name) for node in reversed(nodes)]
