"""Attribution methods, which give each pixel its part in an answer, behind one interface."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from captum.attr import NoiseTunnel, Occlusion, Saliency
from torch import nn

from sightline.data.transforms import normalise, to_pixels
from sightline.explanation.baselines import make_baselines
from sightline.explanation.grad_cam import GradCam
from sightline.explanation.map_layer import MapLayer, find_map_layer
from sightline.explanation.memory import choose_batch_size, memory_budget
from sightline.explanation.own_method import make_attribute
from sightline.explanation.path_integral import PathIntegral, Settings, batches_of, integrate
from sightline.models.runtimes import Runtime
from sightline.task_spec import TaskSpec

NUM_NOISY = 32
NOISE = 0.15
"""SmoothGrad: number of samples, and standard deviation as a share of the range (Smilkov et al., arXiv:1706.03825)."""
WINDOWS = 8
"""Occlusion: the grey square's side is an eighth of the image's, moved by half of that."""


@dataclass(frozen=True)
class Cases:
    """Images and the class that is explained in each: prepared pixels `(N, H, W, C)`, classes `(N,)`."""

    pixels: torch.Tensor
    classes: torch.Tensor

    def __len__(self) -> int:
        return len(self.classes)

    def first(self, count: int) -> "Cases":
        return Cases(self.pixels[:count], self.classes[:count])


@dataclass(frozen=True)
class Explained:
    """The map of one case, float32 `(H, W)`, what it cost, and its completeness error where the method has one.

    `grid` are the rows and columns of the features that the map was made of, where it is coarser than the image.
    """

    values: torch.Tensor
    seconds: float
    steps: int
    completeness_error: float | None = None
    converged: bool | None = None
    grid: tuple[int, int] | None = None


class Explainer:
    """A network in float32 that explains; memory for its gradients is bounded."""

    def __init__(
        self,
        network: nn.Module,
        spec: TaskSpec,
        device: torch.device,
        *,
        name: str = "",
        settings: Settings | None = None,
        baseline: str = "black",
        memory_gb: float | None = None,
        seed: int = 0,
    ) -> None:
        settings = settings or Settings()
        copied = copy.deepcopy(network)  # weights that went through inference mode cannot be differentiated through
        self.network = copied.float().eval().to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.network.requires_grad_(False)
        self.spec, self.device, self.name, self.baseline, self.seed = spec, device, name, baseline, seed
        self.runtime: Runtime | None = None
        """What computes answers alone; None, and whatever needs gradients: the network."""
        self.own: Mapping[str, Mapping[str, Any]] = {}
        """Nodes of further methods, by name."""
        self.budget = memory_budget(memory_gb, device)
        image = torch.zeros(spec.channels, spec.image_size, spec.image_size, device=device)
        batch_size = choose_batch_size(self.network, image, self.budget / 2)
        map_bytes = 4 * spec.image_size**2 * settings.max_steps
        paths = int(min(32, max(1, self.budget / 2 // map_bytes)))
        self.settings = replace(settings, batch_size=batch_size, paths_at_once=paths)
        self.on_progress: Callable[[float], None] = lambda done: None
        """Called with the number of maps that were made since the last call, or the share of one."""

    @cached_property
    def map_layer(self) -> MapLayer:
        """Where Grad-CAM's maps come from.

        Raises: BadInput when no layer of this network is known to lie where the image does.
        """
        return find_map_layer(self.network, self.spec.image_size, self.name, self.spec.channels)

    def with_network(self, network: nn.Module, settings: Settings) -> "Explainer":
        """The same explainer for another network of the same shape, by torch; nobody waits for its maps."""
        other = object.__new__(Explainer)
        other.__dict__.update(self.__dict__)
        other.runtime = None
        other.on_progress = lambda done: None
        sizes = {"batch_size": self.settings.batch_size, "paths_at_once": self.settings.paths_at_once}
        other.network, other.settings = network, replace(settings, **sizes)
        return other

    def prepare(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the network sees, float32 `(N, C, H, W)`, as in prediction."""
        return normalise(pixels.to(self.device), self.spec)

    @torch.inference_mode()
    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Float32 `(N, num_classes)` on the CPU for prepared pixels `(N, H, W, C)`."""
        return torch.cat([self.forward(self.prepare(pixels[part])).cpu() for part in self.parts(len(pixels))])

    def parts(self, count: int) -> Iterator[slice]:
        """So many images in batches that fit into memory."""
        return batches_of(count, self.settings.batch_size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, without gradients, for images `(B, C, H, W)` as the network sees them.

        Another runtime than torch gets the nearest pixels: exact but for the mean colour of occlusion.
        """
        if self.runtime is None:
            return self.network(images)
        return self.runtime.logits(to_pixels(images, self.spec)).to(images.device)

    def explain(self, method: str, cases: Cases) -> list[Explained]:
        """The maps of one method, in the order of the cases."""
        if method in self.own:
            attribute = make_attribute(method, self.own[method], self.network)
            return _in_batches(self, cases, 1, attribute)
        return METHODS[method](self, cases)


def explain_integrated_gradients(explainer: Explainer, cases: Cases) -> list[Explained]:
    """Integrated gradients from one baseline, or the mean over several."""
    start = time.perf_counter()
    images = explainer.prepare(cases.pixels)
    classes = cases.classes.to(explainer.device)

    def score(points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return explainer.network(points).gather(1, labels[:, None])[:, 0]

    starts = make_baselines(explainer.baseline, cases.pixels, explainer.spec, explainer.seed)

    def on_done() -> None:
        explainer.on_progress(1 / len(starts))

    found = [
        integrate(score, images, baselines.to(explainer.device), classes, explainer.settings, on_done)
        for baselines in starts
    ]
    seconds = time.perf_counter() - start
    all_steps = sum(path.steps for paths in found for path in paths)
    return [_combine(paths, seconds / all_steps, explainer.settings) for paths in zip(*found, strict=True)]


def _combine(paths: tuple[PathIntegral, ...], seconds_a_step: float, settings: Settings) -> Explained:
    """The mean over an image's baselines."""
    values = torch.stack([path.attribution for path in paths]).mean(dim=0)
    steps = sum(path.steps for path in paths)
    total, difference = sum(path.total for path in paths), sum(path.difference for path in paths)
    error = PathIntegral(values, steps, total, difference).completeness_error
    return Explained(values, steps * seconds_a_step, steps, error, error <= settings.tolerance)


def explain_grad_cam(explainer: Explainer, cases: Cases) -> list[Explained]:
    layer = explainer.map_layer
    method = GradCam(explainer.network, layer)
    found = _in_batches(explainer, cases, 1, lambda images, classes: method.attribute(images.requires_grad_(), classes))
    return [replace(each, grid=layer.grid) for each in found]


def explain_occlusion(explainer: Explainer, cases: Cases) -> list[Explained]:
    """What the score loses when a square of the mean colour covers a position (Zeiler and Fergus, arXiv:1311.2901)."""
    size = explainer.spec.image_size
    side = max(2, size // WINDOWS)
    stride = max(1, side // 2)
    window, strides = (explainer.spec.channels, side, side), (explainer.spec.channels, stride, stride)
    method = Occlusion(explainer.forward)

    def attribute(images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            maps = method.attribute(images, window, strides=strides, baselines=0, target=classes)
        return maps.sum(dim=1)

    steps = (-(-(size - side) // stride) + 1) ** 2
    return _in_batches(explainer, cases, steps, attribute)


def explain_smooth_grad(explainer: Explainer, cases: Cases) -> list[Explained]:
    """The mean gradient around the image, its absolute value summed over the channels."""
    method = NoiseTunnel(Saliency(explainer.network))

    def attribute(images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        spread = NOISE * float(images.max() - images.min())
        maps = method.attribute(
            images.requires_grad_(),
            nt_type="smoothgrad",
            nt_samples=NUM_NOISY,
            nt_samples_batch_size=1,
            stdevs=spread,
            target=classes,
            abs=False,
        )
        assert isinstance(maps, torch.Tensor)
        return maps.abs().sum(dim=1)

    with torch.random.fork_rng():
        torch.manual_seed(explainer.seed)
        return _in_batches(explainer, cases, NUM_NOISY, attribute)


def _in_batches(
    explainer: Explainer, cases: Cases, steps: int, attribute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> list[Explained]:
    start = time.perf_counter()
    maps: list[torch.Tensor] = []
    for part in batches_of(len(cases), explainer.settings.batch_size):
        found = attribute(explainer.prepare(cases.pixels[part]), cases.classes[part].to(explainer.device))
        maps += list(found.detach().float().cpu())
        explainer.on_progress(len(found))
    seconds = (time.perf_counter() - start) / len(cases)
    return [Explained(values, seconds, steps) for values in maps]


METHODS: dict[str, Callable[[Explainer, Cases], list[Explained]]] = {
    "integrated_gradients": explain_integrated_gradients,
    "grad_cam": explain_grad_cam,
    "occlusion": explain_occlusion,
    "smooth_grad": explain_smooth_grad,
}
"""By the names in `explanation.methods`."""
