"""Faithfulness metrics: whether a map follows the network or is only a pretty picture."""

import copy
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from sightline.explanation.attribution import Cases, Explained, Explainer
from sightline.explanation.baselines import make_baselines
from sightline.explanation.path_integral import Settings

NUM_POINTS = 16
GRID = 14
"""Maps are compared on so many cells a side: methods differ in how fine they are."""
NUM_RANDOMISED = 4
RANDOMISED = Settings(tolerance=0.05, min_steps=16, max_steps=64)


def insertion_deletion(explainer: Explainer, image: torch.Tensor, label: int, order: np.ndarray) -> tuple[float, float]:
    """Areas below the class's probability as the most important pixels are added to a blurred image, or taken away.

    `image` is a prepared one, `(H, W, C)`; `order` has the indices of its pixels, the most important first. As in RISE
    (Petsiuk et al., arXiv:1806.07421): insertion should be high, deletion, which paints the mean colour, low.
    """
    seen = explainer.prepare(image[None])[0].cpu()
    blurred = make_baselines("blurred", image[None], explainer.spec, 0)[0][0]
    mean = make_baselines("mean", image[None], explainer.spec, 0)[0][0]
    inserted = _probabilities(explainer, _mixtures(blurred, seen, order), label)
    deleted = _probabilities(explainer, _mixtures(seen, mean, order), label)
    step = 1 / NUM_POINTS
    return float(np.trapezoid(inserted, dx=step)), float(np.trapezoid(deleted, dx=step))


def importance_order(values: torch.Tensor) -> np.ndarray:
    """Indices of a map's pixels, the highest value first."""
    return np.argsort(-values.flatten().numpy(), kind="stable")


def random_order(num_pixels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(num_pixels)


def _mixtures(start: torch.Tensor, end: torch.Tensor, order: np.ndarray) -> torch.Tensor:
    """Images `(NUM_POINTS + 1, C, H, W)` from one to the other, pixel by pixel."""
    pixels = torch.from_numpy(order.copy())
    mixed = start.flatten(1).repeat(NUM_POINTS + 1, 1, 1)
    for number in range(1, NUM_POINTS + 1):
        chosen = pixels[: round(len(pixels) * number / NUM_POINTS)]
        mixed[number][:, chosen] = end.flatten(1)[:, chosen]
    return mixed.view(NUM_POINTS + 1, *start.shape)


@torch.inference_mode()
def _probabilities(explainer: Explainer, images: torch.Tensor, label: int) -> np.ndarray:
    found = []
    for part in explainer.parts(len(images)):
        batch = images[part].to(explainer.device).contiguous(memory_format=torch.channels_last)
        logits = explainer.forward(batch) / explainer.spec.temperature
        found.append(logits.softmax(dim=1)[:, label].cpu())
    return torch.cat(found).numpy()


def shuffle_parameters(network: nn.Module, seed: int) -> nn.Module:
    """A copy whose every weight tensor holds the same numbers in another order."""
    shuffled = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in shuffled.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return shuffled


def randomisation_check(explainer: Explainer, method: str, cases: Cases) -> float:
    """Mean rank correlation of a method's maps with those of the shuffled network, on the first few images.

    Near 0 the map depends on what the network has learnt; near 1 it would look the same without, and is worthless
    (Adebayo et al., arXiv:1810.03292). Ranks of absolute values, as in that paper.
    """
    few = cases.first(NUM_RANDOMISED)
    trained = explainer.with_network(explainer.network, RANDOMISED)
    expected = trained.explain(method, few)
    shuffled = trained.with_network(shuffle_parameters(explainer.network, explainer.seed), RANDOMISED)
    pairs = zip(expected, shuffled.explain(method, few), strict=True)
    return float(np.mean([rank_correlation(a.values.abs(), b.values.abs()) for a, b in pairs]))


def agreement(maps: Mapping[str, Sequence[Explained]]) -> dict[str, float]:
    """Mean rank correlation of each pair of methods, on a coarse grid."""
    return {
        f"{first} and {second}": float(
            np.mean(
                [
                    rank_correlation(coarsen(a.values), coarsen(b.values))
                    for a, b in zip(maps[first], maps[second], strict=True)
                ]
            )
        )
        for first, second in combinations(maps, 2)
    }


def coarsen(values: torch.Tensor) -> torch.Tensor:
    """The means of a map over a grid of at most 14 by 14."""
    side = min(GRID, *values.shape)
    return torch.nn.functional.adaptive_avg_pool2d(values[None], side)[0]


def rank_correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Spearman's rank correlation of two maps; 0 where one is constant."""
    a, b = first.flatten().numpy(), second.flatten().numpy()
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b)[0])  # pyright: ignore[reportArgumentType]  (scipy has no types)
