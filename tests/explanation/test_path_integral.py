"""Integrated gradients against captum's, and against integrals that are known."""

import numpy as np
import pytest
import timm
import torch
from captum.attr import IntegratedGradients

from sightline.explanation.path_integral import Settings, integrate


def sums(points: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return points.square().sum(dim=(1, 2, 3))


def bent(points: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Two kinks along the path from 0 to 1."""
    mean = points.mean(dim=(1, 2, 3))
    return 5 * (mean - 0.311).relu() - 9 * (mean - 0.3307).relu() + 0.2 * mean


@pytest.fixture
def path() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.long)


def test_the_integral_of_a_square_is_the_square(path: tuple) -> None:
    images, baselines, classes = path
    found = integrate(sums, images, baselines, classes, Settings(tolerance=1e-6))
    assert found[0].difference == 48
    torch.testing.assert_close(found[0].attribution, torch.full((4, 4), 3.0))
    assert found[0].completeness_error < 1e-6
    assert found[0].steps == 16, "the trapezium is exact on it"


def test_kinks_are_refined_where_they_are(path: tuple) -> None:
    images, baselines, classes = path
    seen: list[float] = []

    def score(points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.extend(points[:, 0, 0, 0].tolist())
        return bent(points, labels)

    found = integrate(score, images[:1], baselines[:1], classes[:1], Settings(tolerance=1e-3))[0]
    assert found.completeness_error <= 1e-3
    assert found.steps < 100, "equal steps need thousands"
    assert len(seen) == found.steps, "no gradient is taken twice"
    assert len(set(seen)) == len(seen)
    inside = [place for place in seen if 0.25 < place < 0.4]
    assert len(inside) > 0.3 * len(seen)


def test_only_the_images_that_need_it_get_more_steps() -> None:
    images = torch.stack([torch.ones(3, 4, 4), torch.full((3, 4, 4), 0.2)])

    found = integrate(bent, images, torch.zeros_like(images), torch.zeros(2, dtype=torch.long), Settings(1e-3))
    assert [path.steps for path in found][1] == 16
    assert found[0].steps > 20


def test_what_does_not_converge_says_so(path: tuple) -> None:
    images, baselines, classes = path
    found = integrate(bent, images, baselines, classes, Settings(1e-9, min_steps=4, max_steps=20))
    assert [each.steps for each in found] == [20, 20]
    assert found[0].completeness_error > 1e-9


def test_batches_are_full_and_never_larger(path: tuple) -> None:
    images, baselines, classes = path
    sizes: list[int] = []

    def score(points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(points))
        return sums(points, labels)

    integrate(score, images, baselines, classes, Settings(min_steps=10, batch_size=8))
    assert sizes == [8, 8, 4], "two images share batches"
    sizes.clear()
    integrate(score, images, baselines, classes, Settings(min_steps=10, batch_size=8, paths_at_once=1))
    assert sizes == [8, 2, 8, 2]


def test_a_network_gives_captums_map() -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=5).eval()
    images, baselines = torch.randn(2, 3, 32, 32), torch.zeros(2, 3, 32, 32)
    classes = torch.tensor([1, 3])
    expected = IntegratedGradients(network).attribute(images, baselines, target=classes, n_steps=400).sum(dim=1)

    def score(points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return network(points).gather(1, labels[:, None])[:, 0]

    found = integrate(score, images, baselines, classes, Settings(tolerance=2e-3, min_steps=64))
    for each, reference in zip(found, expected, strict=True):
        distance = float((each.attribution - reference).abs().sum() / reference.abs().sum())
        assert distance < 0.05
        assert np.isclose(each.difference, float(reference.sum()), rtol=0.02)
