"""Mixup and CutMix: two images of a batch become one, and so do their labels."""

from dataclasses import dataclass

import numpy as np
import torch
from timm.data.mixup import cutmix_bbox_and_lam, mixup_target


@dataclass(frozen=True)
class Mixing:
    """Mixes each image with the one in its place from the batch's other end.

    `mixup` (arXiv:1710.09412) and `cutmix` (arXiv:1905.04899) are the alphas of the beta distribution that the share is
    drawn from; 0 is off, and with both each batch has one of them. Draws come from numpy's generator, which is seeded
    anew for every step.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, num_classes: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images `(B, 3, H, W)` and each one's shares of the classes `(B, num_classes)`; the input stays as it is."""
        if np.random.random() >= self.probability:
            return images, mixup_target(labels, num_classes)
        cuts = self.cutmix > 0 and (self.mixup == 0 or np.random.random() < 0.5)
        alpha = self.cutmix if cuts else self.mixup
        share = float(np.random.beta(alpha, alpha))
        others = images.flip(0)
        if cuts:
            (top, bottom, left, right), share = cutmix_bbox_and_lam(images.shape, share)
            images = images.clone()
            images[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
        else:
            images = torch.lerp(others, images, share)
        return images, mixup_target(labels, num_classes, float(share))
