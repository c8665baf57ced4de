"""Grad-CAM for convolutions and transformers."""

from typing import Any

import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import nn

from sightline.explanation.map_layer import MapLayer, with_features


class GradCam:
    """A layer's features, weighted by their gradients (Selvaraju et al., arXiv:1610.02391)."""

    def __init__(self, network: nn.Module, layer: MapLayer) -> None:
        self.explained = _WithMaps(network, layer)
        self.method = LayerGradCam(self.explained, self.explained.maps)

    def attribute(self, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Float32 `(B, H, W)`, nowhere negative, for normalised images `(B, C, H, W)`."""
        maps = self.method.attribute(images, target=classes, relu_attributions=True)
        assert isinstance(maps, torch.Tensor)
        grown: Any = LayerAttribution.interpolate(maps, (images.shape[2], images.shape[3]), "bilinear")
        return grown[:, 0].detach().float().cpu()


class _WithMaps(nn.Module):
    """The network with one layer's features passed through `maps` as NCHW, which is where captum looks."""

    def __init__(self, network: nn.Module, layer: MapLayer) -> None:
        super().__init__()
        self.network, self.layer = network, layer
        self.maps = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return with_features(self.network, self.layer, images, self._pass)

    def _pass(self, features: torch.Tensor) -> torch.Tensor:
        if not features.requires_grad:
            features = features.detach().requires_grad_()
        return self.layer.from_maps(self.maps(self.layer.to_maps(features)), features)
