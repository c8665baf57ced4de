"""A network as an ONNX file that holds all between prepared pixels and probabilities."""

import copy
import io
import json
import logging
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sightline.errors import BadInput
from sightline.models.exported import FEATURES, IMAGE, METADATA, PROBABILITIES
from sightline.models.views import with_views
from sightline.runs.files import whole_file
from sightline.task_spec import TaskSpec

TEMPERATURE = "temperature"
"""The number in the graph that logits are divided by."""
SCOPES = "pkg.torch.onnx.name_scopes"
"""Where a node says which layer it is of."""
MAX_BYTES = 2**31
"""Of a file of this format; weights beyond it lie in a second one."""


class ExportedNetwork(nn.Module):
    """Normalisation, the network with its views, temperature and softmax in one, in 32 bits on the processor."""

    mean: torch.Tensor
    std: torch.Tensor
    temperature: torch.Tensor

    def __init__(self, network: nn.Module, spec: TaskSpec) -> None:
        super().__init__()
        if any(each.device.type != "cpu" or each.dtype != torch.float32 for each in network.parameters()):
            network = copy.deepcopy(network).cpu().float()  # the one that was given stays where it is
        network = network.eval()
        self.network = with_views(network, spec.views)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1) * spec.max_level)
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1) * spec.max_level)
        self.register_buffer(TEMPERATURE, torch.tensor(spec.temperature))
        shape, generator = (2, spec.channels, spec.image_size, spec.image_size), torch.Generator().manual_seed(0)
        self.head = find_head(network, torch.rand(shape, generator=generator))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities `(B, num_classes)` and features `(B, D)` of prepared `(B, H, W, C)`.

        The features are what the network's last layer turns into logits, of the image itself where there are views.
        """
        normalised = (image.permute(0, 3, 1, 2).float() - self.mean) / self.std
        with inputs_of(self.head) as seen:
            logits = self.network(normalised).float()
        features = seen[0].flatten(1) if seen else logits
        return (logits / self.temperature).softmax(dim=1), features


@contextmanager
def inputs_of(layer: nn.Module | None) -> Iterator[list[torch.Tensor]]:
    """What a layer is given while this lasts, a tensor for each call."""
    seen: list[torch.Tensor] = []
    if layer is None:
        yield seen
        return
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        yield seen
    finally:
        hook.remove()


@torch.no_grad()
def find_head(network: nn.Module, images: torch.Tensor) -> nn.Module | None:
    """The layer whose output is the logits of images `(B, C, H, W)`; None where no single one makes them."""
    made: list[tuple[nn.Module, torch.Tensor]] = []
    layers = [each for each in network.modules() if isinstance(each, nn.Linear | nn.Conv2d)]

    def keep(layer: nn.Module, given: Any, output: Any) -> None:
        made.append((layer, output))

    hooks = [each.register_forward_hook(keep) for each in layers]
    try:
        logits = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, output in reversed(made):
        if output.numel() == logits.numel() and torch.equal(output.flatten(), logits.flatten()):
            return layer
    return None


def write_onnx(path: Path, network: nn.Module, spec: TaskSpec, facts: Mapping[str, str]) -> None:
    """Write a network as ONNX with the task and further facts (text by name) as its metadata, whole or not at all.

    Raises: BadInput with the operation or the line that has no ONNX.
    """
    size = spec.image_size
    image = torch.zeros((2, size, size, spec.channels), dtype=getattr(torch, spec.dtype))
    program = _translate(ExportedNetwork(network, spec).eval(), image)
    if isinstance(program.model.graph.inputs[0].shape[0], int):
        raise BadInput(
            "export: the network was traced for one number of images alone; its code must take any: where it says "
            "view(2, …) or the like, let it say view(len(images), …)"
        )
    _forget_sources(program.model.graph)
    program.model.metadata_props.update({**facts, METADATA: json.dumps(spec.to_dict(), ensure_ascii=False)})
    num_bytes = sum(each.const_value.nbytes for each in program.model.graph.initializers.values() if each.const_value)
    if num_bytes >= MAX_BYTES:
        raise BadInput(
            f"export: the weights have {num_bytes / 2**30:.1f} GiB, and an ONNX file holds less than 2; serve this "
            "network with torch, or train a smaller one"
        )
    with whole_file(path) as partial:
        program.save(partial, external_data=False)


def _forget_sources(graph: Any) -> None:
    """Take away what the exporter notes of each node but its layer: with lines and paths of code, equal networks would
    make files that differ from machine to machine."""
    for node in graph.all_nodes():
        kept = {key: text for key, text in node.metadata_props.items() if key == SCOPES}
        node.metadata_props.clear()
        node.metadata_props.update(kept)


def _translate(network: nn.Module, image: torch.Tensor) -> Any:
    """The exporter's program; what it says on the way is not passed on."""
    try:
        with quiet(), sdpa_kernel(SDPBackend.MATH):  # others lay their results out as what is written does not
            return torch.onnx.export(
                network,
                (image,),
                dynamo=True,
                input_names=[IMAGE],
                output_names=[PROBABILITIES, FEATURES],
                dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
                verbose=False,
            )
    except Exception as error:  # the exporter's own kinds, and whatever the network's code raises while it is traced
        raise BadInput(f"export: {_what_is_refused(error)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, what libraries say of their work on graphs is not passed on: their errors are exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with redirect_stderr(io.StringIO()):  # where the tracer prints half a graph
                yield
    finally:
        logging.disable(before)


def _what_is_refused(error: BaseException) -> str:
    """The operation that ONNX does not have, or what the tracer says, and the line of code where that is known."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = str(error).strip().split("\n")[0] or type(error).__name__
    if found := re.search(r"OpOverload\(op='([\w.]+)'", said):
        return f"ONNX has no operation {found[1]}, which the network uses; replace it, or serve with torch"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [each for each in frames if not {"torch", "onnxscript", "sightline"} & {*Path(each.filename).parts}]
    place = f" ({Path(theirs[-1].filename).name}:{theirs[-1].lineno}: {theirs[-1].line})" if theirs else ""
    return (
        f"the network cannot be traced: {said}{place}; what it computes may not depend on the values or the number of "
        "images, nor leave torch: change that, or serve with torch"
    )
