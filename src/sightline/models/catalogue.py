"""timm's networks side by side: how large, how much work, how fast here, and whether their weights are at hand."""

import fnmatch
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sightline.errors import BadInput
from sightline.models.backbones import WEIGHT_FILES
from sightline.models.inference import autocast

WARM_UP_STEPS, MIN_STEPS, MIN_SECONDS = 2, 3, 1.0


@dataclass(frozen=True)
class Entry:
    """One network; sizes are of its own input and its own number of classes."""

    name: str
    image_size: int
    parameters: int
    multiply_adds: int | None
    """Of one image; None where they cannot be counted."""
    weights: str
    """`here`: downloaded already; `hub`: timm can fetch them; `none`."""


def matching(pattern: str) -> list[str]:
    """Names that a pattern with `*` and `?` matches; one without them matches what contains it.

    Raises: BadInput when there are none.
    """
    wanted = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    names = fnmatch.filter(timm.list_models(), wanted.split(".")[0] if "." in wanted else wanted)
    if not names:
        raise BadInput(f"pattern={pattern}: no model of timm's is called so; try a family, like resnet* or *vit*")
    return names


def describe(name: str, image_size: int | None = None) -> Entry:
    """Facts about a network, built without memory for its weights."""
    network = _without_weights(name)
    published = getattr(network, "pretrained_cfg", {})
    size = image_size or published.get("input_size", (3, 224, 224))[-1]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Entry(name, size, parameters, _multiply_adds(network, size), _weights_of(name))


def _without_weights(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name).eval()


def _multiply_adds(network: nn.Module, size: int) -> int | None:
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            network(torch.empty(1, 3, size, size, device="meta"))
    except (RuntimeError, NotImplementedError, AssertionError, ValueError, TypeError):  # each network has its own
        return None
    return counter.get_total_flops() // 2  # one of each is two operations


def _weights_of(name: str) -> str:
    if not timm.is_model_pretrained(name):
        return "none"
    published = timm.get_pretrained_cfg(name)
    repository = published.hf_hub_id if published is not None else None
    files = [try_to_load_from_cache(repository, file) for file in WEIGHT_FILES] if repository else []
    return "here" if any(isinstance(file, str) for file in files) else "hub"


def images_per_second(
    name: str, size: int, *, batch_size: int, device: torch.device, precision: str
) -> tuple[float, float]:
    """Of a training step (SGD) and of a forward pass, on random pixels in memory, here and now."""
    network = timm.create_model(name).to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    images = torch.randn(batch_size, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)

    def train() -> None:
        with autocast(precision, device):
            loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def predict() -> None:
        with torch.inference_mode(), autocast(precision, device):
            network(images)

    network.train()
    training = batch_size * _steps_per_second(train, device)
    network.eval()
    return training, batch_size * _steps_per_second(predict, device)


def _steps_per_second(step: Callable[[], None], device: torch.device) -> float:
    for _ in range(WARM_UP_STEPS):
        step()
    count, start = 0, _now(device)
    for count in itertools.count(1):
        step()
        if count >= MIN_STEPS and _now(device) - start > MIN_SECONDS:
            break
    return count / (_now(device) - start)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
