"""Grad-CAM for convolutions and transformers: the layer comes from timm's own list of features."""

from collections.abc import Iterator
from typing import Any

import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import nn

from sightline.errors import BadInput

Grid = tuple[str, int, int]
"""A layer's output: its layout (NCHW, NHWC or NLC), and the rows and columns of its map."""
MIN_SIDE = 4
"""Cells a side that a map should have: the last features of a small image may have one or two."""


class GradCam:
    """Maps from the last features whose position still matters to the output (Selvaraju et al., arXiv:1610.02391)."""

    def __init__(self, network: nn.Module, name: str) -> None:
        """Raises: BadInput when timm knows no features of this network."""
        self.network = network
        self.layers = find_layers(network)
        if not self.layers:
            raise BadInput(
                f"explanation.methods: grad_cam needs feature maps, and timm lists none for {name}; "
                "integrated_gradients, occlusion and smooth_grad can explain it"
            )

    def attribute(self, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Float32 `(B, H, W)`, nowhere negative, for normalised images `(B, 3, H, W)`."""
        maps = next(self._useful_maps(images, classes), None)
        if maps is None:
            return torch.zeros(len(images), *images.shape[2:])
        size = (images.shape[2], images.shape[3])
        grown = LayerAttribution.interpolate(maps.clamp(min=0), size, "bilinear")
        assert isinstance(grown, torch.Tensor)
        return grown[:, 0].detach().float().cpu()

    def _useful_maps(self, images: torch.Tensor, classes: torch.Tensor) -> Iterator[torch.Tensor]:
        """Of the latest layers first, those large enough before the others, without those that show nothing."""
        grids = [(layer, _grid_of(self.network, layer, images)) for layer in reversed(self.layers)]
        known = [(layer, grid) for layer, grid in grids if grid is not None]
        for layer, grid in sorted(known, key=lambda pair: min(pair[1][1:]) < MIN_SIDE):
            maps = self._attribute(layer, grid, images, classes)
            if bool(maps.any()):  # behind a transformer's last block only the class token matters
                yield maps

    def _attribute(self, layer: nn.Module, grid: Grid, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        explained = _WithMaps(self.network, layer, grid)
        found = LayerGradCam(explained, explained.maps).attribute(images, target=classes, relu_attributions=False)
        assert isinstance(found, torch.Tensor)
        return found


def find_layers(network: nn.Module) -> list[nn.Module]:
    """The modules that timm lists as ends of stages, the earliest first; none where it lists none."""
    info: Any = getattr(network, "feature_info", None) or []
    modules = dict(network.named_modules())
    names = [feature.get("module") for feature in info if isinstance(feature, dict)]
    return [modules[name] for name in names if name in modules]


def _grid_of(network: nn.Module, layer: nn.Module, images: torch.Tensor) -> Grid | None:
    """The layout (NCHW, NHWC or NLC) of a layer's output, and the height and width of its map.

    timm's `forward_intermediates` gives every network's features as NCHW; comparing tells the layout.
    """
    seen: list[Any] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        with torch.no_grad():
            network(images[:1])
    finally:
        handle.remove()
    output = seen[-1] if seen and isinstance(seen[-1], torch.Tensor) else None
    if output is None:
        return None
    if output.ndim == 4:
        layout, first = ("NHWC", 1) if _is_channels_last(network) else ("NCHW", 2)
        return layout, output.shape[first], output.shape[first + 1]
    if output.ndim != 3:
        return None
    sides = _token_grid(network, images)
    return None if sides is None or sides[0] * sides[1] > output.shape[1] else ("NLC", *sides)


def _is_channels_last(network: nn.Module) -> bool:
    return str(getattr(network, "output_fmt", "NCHW")).upper().endswith("NHWC")


def _token_grid(network: nn.Module, images: torch.Tensor) -> tuple[int, int] | None:
    """Rows and columns of a transformer's patches, as timm lays them out."""
    intermediates: Any = getattr(network, "forward_intermediates", None)
    if intermediates is None:
        return None
    with torch.no_grad():
        maps = intermediates(images[:1], indices=1, output_fmt="NCHW", intermediates_only=True)
    return int(maps[-1].shape[2]), int(maps[-1].shape[3])


class _WithMaps(nn.Module):
    """The network with one layer's output passed through `maps` as NCHW, which is where captum looks."""

    def __init__(self, network: nn.Module, layer: nn.Module, grid: Grid) -> None:
        super().__init__()
        self.network, self.layer, self.grid = network, layer, grid
        self.maps = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        handle = self.layer.register_forward_hook(lambda module, inputs, output: self._pass(output))  # pyright: ignore[reportArgumentType]
        try:
            return self.network(images)
        finally:
            handle.remove()

    def _pass(self, output: torch.Tensor) -> torch.Tensor:
        layout, height, width = self.grid
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        if layout == "NCHW":
            return self.maps(output)
        if layout == "NHWC":
            return self.maps(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        num_prefix = output.shape[1] - height * width  # class and register tokens come first
        maps = self.maps(output[:, num_prefix:].transpose(1, 2).unflatten(2, (height, width)))
        return torch.cat([output[:, :num_prefix], maps.flatten(2).transpose(1, 2)], dim=1)
