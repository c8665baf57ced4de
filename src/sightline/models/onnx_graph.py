"""A network as an ONNX file that holds all between prepared pixels and probabilities."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from sightline.models.exported import FEATURES, IMAGE, METADATA, PROBABILITIES
from sightline.models.views import with_views
from sightline.task_spec import TaskSpec


class ExportedNetwork(nn.Module):
    """Normalisation, the network with its views, temperature and softmax in one."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, spec: TaskSpec) -> None:
        super().__init__()
        self.network, self.spec = with_views(network, spec.views), spec
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1) * spec.max_level)
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1) * spec.max_level)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities `(B, num_classes)` and features `(B, D)` of prepared `(B, H, W, C)`."""
        normalised = (image.permute(0, 3, 1, 2).float() - self.mean) / self.std
        logits = self.network(normalised)
        return (logits / self.spec.temperature).softmax(dim=1), logits


def write_onnx(path: Path, network: nn.Module, spec: TaskSpec, facts: Mapping[str, str]) -> None:
    """Write a network as ONNX with the task and further facts (text by name) as its metadata."""
    size = spec.image_size
    image = torch.zeros((2, size, size, spec.channels), dtype=getattr(torch, spec.dtype))
    program = torch.onnx.export(
        ExportedNetwork(network, spec).eval(),
        (image,),
        dynamo=True,
        input_names=[IMAGE],
        output_names=[PROBABILITIES, FEATURES],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update({**facts, METADATA: json.dumps(spec.to_dict(), ensure_ascii=False)})
    program.save(path)
