"""Test-time augmentation: one answer from several views of an image (Krizhevsky et al., NeurIPS 2012)."""

import math
from collections.abc import Iterator

import torch
from torch import nn

SHIFT = 1 / 16
"""How far a view is moved, as a share of the image's side."""


class AveragedViews(nn.Module):
    """Averages a network's probabilities over views: the image, and as `kind` says its mirror image or four shifts."""

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logarithms of the mean probabilities, `(B, num_classes)`, for `(B, 3, H, W)`."""
        logs = torch.stack([self.network(view).float().log_softmax(1) for view in self.views(images)])
        return logs.logsumexp(0) - math.log(len(logs))

    def views(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """Each of the shape of `images`; what a shift uncovers repeats the border."""
        for moved in self._shifted(images):
            yield moved
            if "flip" in self.kind:
                yield moved.flip(3)

    def _shifted(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        yield images
        if "shifts" not in self.kind:
            return
        height, width = images.shape[2:]
        by = max(1, round(SHIFT * width))
        wider = nn.functional.pad(images, (by, by, by, by), mode="replicate")
        for top, left in ((0, by), (2 * by, by), (by, 0), (by, 2 * by)):
            yield wider[:, :, top : top + height, left : left + width]


def with_views(network: nn.Module, kind: str) -> nn.Module:
    """The network itself for `none`."""
    return network if kind == "none" else AveragedViews(network, kind)
