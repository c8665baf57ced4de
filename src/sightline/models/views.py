"""Test-time augmentation: one answer from several views of an image (Krizhevsky et al., NeurIPS 2012)."""

import math
from collections.abc import Iterator

import torch
from torch import nn

SHIFT = 1 / 16
"""How far a view is moved, as a share of the image's side."""
ZOOMS = (0.9, 0.82)
"""The side that a nearer view shows, as a share of the image's: random crops make things larger in training than they
are later, and nearer views make up for it (Touvron et al., NeurIPS 2019, arXiv:1906.06423)."""


class AveragedViews(nn.Module):
    """Averages a network's probabilities over views of an image: itself, and as `kind` says its mirror image, four
    shifts or two nearer looks at its middle."""

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logarithms of the mean probabilities, `(B, num_classes)`, for `(B, 3, H, W)`."""
        logs = torch.stack([self.network(view).float().log_softmax(1) for view in self.views(images)])
        return logs.logsumexp(0) - math.log(len(logs))

    def views(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """Each of the shape of `images`."""
        for view in self._upright(images):
            yield view
            if "flip" in self.kind:
                yield view.flip(3)

    def _upright(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        yield images
        if "shifts" in self.kind:
            yield from shifted(images)
        if "zooms" in self.kind:
            yield from (zoomed(images, share) for share in ZOOMS)


def shifted(images: torch.Tensor) -> Iterator[torch.Tensor]:
    """Images `(B, 3, H, W)` moved down, up, right and left; what a shift uncovers repeats the border."""
    height, width = images.shape[2:]
    by = max(1, round(SHIFT * width))
    wider = nn.functional.pad(images, (by, by, by, by), mode="replicate")
    for top, left in ((0, by), (2 * by, by), (by, 0), (by, 2 * by)):
        yield wider[:, :, top : top + height, left : left + width]


def zoomed(images: torch.Tensor, share: float) -> torch.Tensor:
    """The middle of images `(B, 3, H, W)`, with this share of each side, at their full size."""
    height, width = images.shape[2:]
    top, left = round((1 - share) * height / 2), round((1 - share) * width / 2)
    middle = images[:, :, top : height - top, left : width - left]
    return nn.functional.interpolate(middle, (height, width), mode="bilinear", align_corners=False)


def with_views(network: nn.Module, kind: str) -> nn.Module:
    """The network itself for `none`."""
    return network if kind == "none" else AveragedViews(network, kind)
