"""The layer whose features Grad-CAM draws, and where on the image each of them lies: found by trying it out."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sightline.errors import BadInput

MIN_SIDE = 4
"""Cells a side that a map should have: the last features of a small image may have one or two."""
MAX_PREFIX = 16
"""Class and register tokens before those of the patches."""
AGREEMENT = 0.6
"""Share of the cells that must move most with their own quarter: 0.25 is chance, most networks reach 0.9."""
COARSE = 8
"""Blocks a side of the coarse noise."""
TOLERANCE = 0.01
"""Of swapped answers, as a share of what they differ by."""


@dataclass(frozen=True)
class MapLayer:
    """One layer's features as maps: the module by name, the index in its output if that is a tuple, and the layout.

    The layout is `NCHW`, `NHWC`, or `NLC`: tokens row by row, behind class and register tokens.
    """

    module: str
    part: int | None
    layout: str
    grid: tuple[int, int]

    def features_of(self, output: Any) -> torch.Tensor:
        return output if self.part is None else output[self.part]

    def with_features(self, output: Any, features: torch.Tensor) -> Any:
        """The module's output with others in their place."""
        if self.part is None:
            return features
        return type(output)([*output[: self.part], features, *output[self.part + 1 :]])

    def to_maps(self, features: torch.Tensor) -> torch.Tensor:
        """Features in this layout as `(B, C, rows, columns)`."""
        if self.layout == "NCHW":
            return features
        if self.layout == "NHWC":
            return features.permute(0, 3, 1, 2)
        return features[:, self._num_prefix(features) :].transpose(1, 2).unflatten(2, self.grid)

    def from_maps(self, maps: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The way back; class and register tokens are those of `features`."""
        if self.layout == "NCHW":
            return maps
        if self.layout == "NHWC":
            return maps.permute(0, 2, 3, 1)
        return torch.cat([features[:, : self._num_prefix(features)], maps.flatten(2).transpose(1, 2)], dim=1)

    def _num_prefix(self, features: torch.Tensor) -> int:
        return features.shape[1] - self.grid[0] * self.grid[1]


def find_map_layer(network: nn.Module, image_size: int, name: str, channels: int = 3) -> MapLayer:
    """The last features that still lie where the image does, and that the answer depends on.

    No shape tells rows from channels for certain. So each quarter of an image is changed in turn: a layout is right if
    its cells move most with the quarter they lie in. The ends of stages that timm lists come first, then any module.

    Raises: BadInput when no layer of this network moves like that.
    """
    images = _images_with_one_quarter_changed(image_size, channels).to(next(network.parameters()).device)
    stages = _latest_first(_layers_that_follow(network, images, _listed(network)))
    last = next((layer for layer in stages if _matters(network, layer, images)), None)
    if last is not None and _is_whole(network, last, stages, images):
        return last
    behind = _latest_first(_layers_that_follow(network, images, _modules_behind(network, images, stages)))
    for layer in behind:
        if _is_whole(network, layer, behind, images) and _matters(network, layer, images):
            return layer
    # one of several branches; or a stage of a network whose head is all zeros, whose answers have no gradient anywhere
    layer = last or next(iter(stages), None)
    if layer is None:
        raise BadInput(
            f"explanation.methods: grad_cam needs features that lie where the image does, and at {image_size} px no "
            f"layer of {name} is known to have them; integrated_gradients, occlusion and smooth_grad can explain it"
        )
    return layer


def _images_with_one_quarter_changed(size: int, channels: int) -> torch.Tensor:
    """Twice five images `(10, C, size, size)`: noise, and the same with other noise in one quarter after the other.

    The first five are of fine noise, the others of coarse noise: what holds for both is no matter of chance.
    """
    generator = torch.Generator().manual_seed(0)
    fine = torch.randn(2, channels, size, size, generator=generator)
    blocks = torch.randn(2, channels, COARSE, COARSE, generator=generator)
    coarse = nn.functional.interpolate(blocks, (size, size))
    probes = []
    for noise, other in (fine, coarse):
        probes.append(noise)
        for rows, columns in _quarters(size, size):
            probes.append(noise.clone())
            probes[-1][:, rows, columns] = other[:, rows, columns]
    return torch.stack(probes)


def _quarters(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Upper left, upper right, lower left, lower right; the middle of an odd side is in none."""
    for rows in (slice(0, height // 2), slice(height - height // 2, height)):
        for columns in (slice(0, width // 2), slice(width - width // 2, width)):
            yield rows, columns


def _listed(network: nn.Module) -> list[str]:
    """The modules that timm lists as ends of stages; of a list of modules, each."""
    info: Any = getattr(network, "feature_info", None) or []
    modules = dict(network.named_modules())
    names = dict.fromkeys(feature.get("module") for feature in info if isinstance(feature, dict))
    return [
        each
        for name in names
        if name in modules
        for each in (_children(name, modules[name]) if isinstance(modules[name], nn.ModuleList) else [name])
    ]


def _children(name: str, module: nn.Module) -> list[str]:
    return [f"{name}.{child}" for child, _ in module.named_children()]


def _modules_behind(network: nn.Module, images: torch.Tensor, stages: Sequence[MapLayer]) -> list[str]:
    """The modules that work after the last of the stages, in that order; all where there are none."""
    order: list[str] = []
    with _watched(network, [name for name, _ in network.named_modules()], lambda name, output: order.append(name)):
        network(images[:1])
    last = max((order.index(stage.module) for stage in stages), default=-1)
    return list(dict.fromkeys(name for name in order[last + 1 :] if name))


@contextmanager
def _watched(network: nn.Module, names: Iterable[str], look: Callable[[str, Any], None]) -> Iterator[None]:
    """While it lasts, `look(name, output)` is called each time that one of the modules has worked; no gradients."""
    modules = dict(network.named_modules())
    handles = [
        modules[name].register_forward_hook(lambda module, inputs, output, name=name: look(name, output))
        for name in names
    ]
    try:
        with torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()


def _layers_that_follow(network: nn.Module, images: torch.Tensor, names: Iterable[str]) -> list[MapLayer]:
    """The layers, in the order of their work, that move where the images do; those that work twice are left out."""
    found: dict[str, list[MapLayer]] = {}

    def look(name: str, output: Any) -> None:
        found[name] = [] if name in found else list(_readings(name, output, len(images)))

    with _watched(network, names, look):
        network(images)
    return [layer for layers in found.values() for layer in layers]


def _readings(name: str, output: Any, count: int) -> Iterator[MapLayer]:
    """The best reading of each tensor in an output, where one agrees with the quarters that were changed."""
    parts = enumerate(output) if isinstance(output, tuple | list) else [(None, output)]
    for part, features in parts:
        if isinstance(features, torch.Tensor) and len(features) == count and features.is_floating_point():
            layers = [MapLayer(name, part, layout, grid) for layout, grid in _layouts(features)]
            agreements = {layer: _agreement(layer.to_maps(features)) for layer in layers}
            best = max(agreements, key=lambda layer: agreements[layer], default=None)
            if best is not None and agreements[best] >= AGREEMENT:
                yield best


def _layouts(features: torch.Tensor) -> Iterator[tuple[str, tuple[int, int]]]:
    """What features of this shape may be, for a square image; at least 2 by 2 cells."""
    shape = features.shape
    if features.ndim == 4:
        grids = {"NCHW": (shape[2], shape[3]), "NHWC": (shape[1], shape[2])}
        yield from ((layout, grid) for layout, grid in grids.items() if min(grid) >= 2)
    elif features.ndim == 3:
        largest = math.isqrt(shape[1])
        smallest = max(2, math.isqrt(max(0, shape[1] - MAX_PREFIX - 1)) + 1)
        yield from (("NLC", (side, side)) for side in range(largest, smallest - 1, -1))


def _agreement(maps: torch.Tensor) -> float:
    """Share of cells that move most with their own quarter, for the maps `(10, C, rows, columns)` of the probes.

    What moves all cells alike, as attention and global pooling do, is taken off first. The lesser of both noises; 0 if
    a quarter moves the cells of another one more than its own.
    """
    kinds = maps.float().unflatten(0, (2, 5))
    moved = kinds[:, 1:] - kinds[:, :1]
    strength = (moved - moved.mean(dim=(3, 4), keepdim=True)).norm(dim=2)
    strength = strength / strength.mean(dim=(2, 3), keepdim=True).clamp(min=1e-30)
    cells = [strength[:, :, rows, columns].flatten(2) for rows, columns in _quarters(*strength.shape[2:])]
    strongest = torch.stack(cells, dim=2).mean(dim=3).argmax(dim=2)  # (kinds, changed quarters)
    if not (strongest == torch.arange(4, device=maps.device)).all():
        return 0.0
    own = torch.stack([each.argmax(dim=1) == number for number, each in enumerate(cells)], dim=1)
    return float(own.float().mean(dim=(1, 2)).min())


def _latest_first(layers: Sequence[MapLayer]) -> list[MapLayer]:
    """Those with small maps at the end."""
    return sorted(layers, key=lambda layer: min(layer.grid) >= MIN_SIDE)[::-1]


def _is_whole(network: nn.Module, layer: MapLayer, layers: Sequence[MapLayer], images: torch.Tensor) -> bool:
    """Whether all that lies where the image does passes this layer, and no branch beside it.

    It is the only map in its module's output, and two images that swap this output swap their answers.
    """
    if sum(each.module == layer.module for each in layers) > 1:
        return False
    with torch.no_grad():
        answers = network(images[:2])
        swapped = _with_output(network, layer.module, images[:2], _flipped)
    return float((swapped - answers.flip(0)).norm()) <= TOLERANCE * float((answers.flip(0) - answers).norm())


def _flipped(output: Any) -> Any:
    """The output for two images in the other order."""
    if isinstance(output, torch.Tensor):
        halves = output.chunk(2)  # some layers fold windows into the batch
        return torch.cat(halves[::-1])
    return type(output)([_flipped(part) if isinstance(part, torch.Tensor | tuple | list) else part for part in output])


def _matters(network: nn.Module, layer: MapLayer, images: torch.Tensor) -> bool:
    """Whether the answer has a gradient there: behind a transformer's last block only the class token has one."""
    kept: list[torch.Tensor] = []

    def keep(output: torch.Tensor) -> torch.Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0]

    with torch.enable_grad():
        answers = with_features(network, layer, images[:1], keep)
        weights = torch.randn(answers.shape, generator=torch.Generator().manual_seed(0)).to(answers.device)
        if not answers.requires_grad:
            return False
        gradient = torch.autograd.grad((answers * weights).sum(), kept[0], allow_unused=True)[0]
    return gradient is not None and bool(layer.to_maps(gradient).any())


def with_features(
    network: nn.Module, layer: MapLayer, images: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """The network's answers `(B, num_classes)` when the features of a layer are changed on their way."""

    def replace(output: Any) -> Any:
        return layer.with_features(output, change(layer.features_of(output)))

    return _with_output(network, layer.module, images, replace)


def _with_output(network: nn.Module, name: str, images: torch.Tensor, replace: Callable[[Any], Any]) -> torch.Tensor:
    handle = network.get_submodule(name).register_forward_hook(lambda module, inputs, output: replace(output))
    try:
        return network(images)
    finally:
        handle.remove()
