"""What training minimises, over labels `(B,)` or each image's shares of the classes `(B, num_classes)`."""

from collections.abc import Sequence

import torch
from timm.loss import BinaryCrossEntropy, compute_class_weights  # pyright: ignore[reportPrivateImportUsage]
from torch import nn

WEIGHTINGS = {"balanced": "inv_freq", "effective": "effective_num"}
"""Names of class weightings → timm's."""


def make_loss(
    name: str,
    *,
    label_smoothing: float = 0.0,
    class_weights: torch.Tensor | None = None,
    focal_gamma: float = 2.0,
    target_threshold: float | None = None,
) -> nn.Module:
    """The loss `cross_entropy`, `bce` or `focal`, as the mean over a batch's images."""
    if name == "bce":
        return BinaryLoss(label_smoothing, class_weights, target_threshold)
    if name == "focal":
        return FocalLoss(focal_gamma, label_smoothing, class_weights)
    return nn.CrossEntropyLoss(class_weights, label_smoothing=label_smoothing)


def weights_of_classes(weighting: str, counts: Sequence[int]) -> torch.Tensor:
    """float32 `(num_classes,)` with mean 1 from the number of training images of each class.

    `balanced` weighs a class by one over its number, `effective` by its effective number (arXiv:1901.05555), which
    differs less between large classes.
    """
    return compute_class_weights(counts, num_samples=sum(counts), method=WEIGHTINGS[weighting])[1]


def shares(targets: torch.Tensor, num_classes: int, label_smoothing: float) -> torch.Tensor:
    """float32 `(B, num_classes)` of labels or shares, with a part of each spread over all classes."""
    if targets.ndim == 1:
        targets = nn.functional.one_hot(targets, num_classes)
    return targets.float() * (1 - label_smoothing) + label_smoothing / num_classes


class BinaryLoss(nn.Module):
    """Binary cross entropy of every class against the rest (arXiv:2110.00476): the mean over images and classes.

    Shares above `target_threshold`, where there is one, count as 1 and the others as 0. Class weights weigh an image.
    """

    def __init__(
        self, label_smoothing: float, class_weights: torch.Tensor | None, target_threshold: float | None
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.weight: torch.Tensor | None
        self.register_buffer("weight", class_weights)
        self.loss = BinaryCrossEntropy(0.0, target_threshold, reduction="none")

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        wanted = shares(targets, logits.shape[1], self.label_smoothing)
        losses = self.loss(logits.float(), wanted).mean(1)
        return losses.mean() if self.weight is None else (losses * (wanted @ self.weight)).mean()


class FocalLoss(nn.Module):
    """Cross entropy in which what is already right counts less: (1 - p)^gamma times it (arXiv:1708.02002)."""

    def __init__(self, gamma: float, label_smoothing: float = 0.0, class_weights: torch.Tensor | None = None) -> None:
        super().__init__()
        self.gamma, self.label_smoothing = gamma, label_smoothing
        self.weight: torch.Tensor | None
        self.register_buffer("weight", class_weights)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logs = logits.float().log_softmax(1)
        wanted = shares(targets, logits.shape[1], self.label_smoothing)
        if self.weight is not None:
            wanted = wanted * self.weight
        return -(wanted * (1 - logs.exp()).pow(self.gamma) * logs).sum(1).mean()
