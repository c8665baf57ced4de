"""Every method on networks whose reasons are known."""

import pytest
import timm
import torch
from torch import nn

from sightline.explanation.attribution import METHODS, Cases, Explainer
from sightline.explanation.baselines import make_baselines
from sightline.explanation.faithfulness import (
    agreement,
    importance_order,
    insertion_deletion,
    random_order,
    randomisation_check,
    rank_correlation,
    shuffle_parameters,
)
from sightline.explanation.memory import choose_batch_size
from sightline.explanation.path_integral import Settings
from sightline.task_spec import TaskSpec

SPEC = TaskSpec(("dark", "bright"), 32, (0.5,) * 3, (0.25,) * 3)


class Corner(nn.Module):
    """Says `bright` when the upper left quarter is."""

    def __init__(self) -> None:
        super().__init__()
        mask = torch.zeros(1, 1, 32, 32)
        mask[..., :16, :16] = 1
        self.weight = nn.Parameter(mask)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = (images * self.weight).mean(dim=(1, 2, 3)) * 8
        return torch.stack([-score, score], dim=1)


def make_cases(count: int = 3) -> Cases:
    pixels = torch.randint(120, 256, (count, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Cases(pixels, torch.ones(count, dtype=torch.long))


def make_explainer(network: nn.Module | None = None, **options) -> Explainer:
    return Explainer(network or Corner(), SPEC, torch.device("cpu"), memory_gb=1.0, **options)


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion", "smooth_grad"])
def test_the_corner_is_found(method: str) -> None:
    explained = make_explainer().explain(method, make_cases())
    for each in explained:
        assert each.values.shape == (32, 32)
        assert each.values.dtype == torch.float32
        inside, total = each.values[:16, :16].abs().sum(), each.values.abs().sum()
        assert inside / total > 0.8
        assert each.seconds > 0


@pytest.mark.parametrize("baseline", ["black", "blurred", "mean", "random_average"])
def test_every_baseline_is_complete(baseline: str) -> None:
    explainer = make_explainer(baseline=baseline)
    cases = make_cases()
    starts = make_baselines(baseline, cases.pixels, SPEC, 0)
    end = explainer.network(explainer.prepare(cases.pixels))[:, 1]
    for number, each in enumerate(explainer.explain("integrated_gradients", cases)):
        gained = sum(float(end[number] - explainer.network(start)[number, 1]) for start in starts) / len(starts)
        assert float(each.values.sum()) == pytest.approx(gained, rel=1e-3, abs=1e-4)
        assert each.converged


def test_a_true_map_beats_a_random_one() -> None:
    explainer, cases = make_explainer(), make_cases(1)
    values = explainer.explain("integrated_gradients", cases)[0].values
    true = insertion_deletion(explainer, cases.pixels[0], 1, importance_order(values))
    wrong = insertion_deletion(explainer, cases.pixels[0], 1, importance_order(-values))
    random = insertion_deletion(explainer, cases.pixels[0], 1, random_order(32 * 32, 0))
    assert true[1] < random[1] < wrong[1], "deletion"


def test_shuffled_weights_are_the_same_numbers() -> None:
    network = timm.create_model("test_resnet", num_classes=4).eval()
    shuffled = shuffle_parameters(network, 0)
    for before, after in zip(network.parameters(), shuffled.parameters(), strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
    images = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(network(images), shuffled(images))


def test_a_map_of_edges_fails_the_randomisation_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worthless map: the image itself, whatever the network."""
    from sightline.explanation import attribution

    def edges(explainer: Explainer, cases: Cases) -> list[attribution.Explained]:
        return [attribution.Explained(image.float().mean(dim=2), 0.1, 1) for image in cases.pixels]

    monkeypatch.setitem(attribution.METHODS, "edges", edges)
    assert randomisation_check(make_explainer(), "edges", make_cases()) == pytest.approx(1)
    assert abs(randomisation_check(make_explainer(), "integrated_gradients", make_cases())) < 0.5


def test_agreement_is_between_every_pair() -> None:
    explainer, cases = make_explainer(), make_cases()
    maps = {method: explainer.explain(method, cases) for method in ("integrated_gradients", "occlusion")}
    found = agreement(maps)
    assert list(found) == ["integrated_gradients and occlusion"]
    assert found["integrated_gradients and occlusion"] > 0.5
    assert rank_correlation(torch.zeros(4), torch.arange(4.0)) == 0


def test_memory_bounds_the_batch() -> None:
    network = timm.create_model("test_resnet", num_classes=4).eval()
    image = torch.zeros(3, 160, 160)
    assert choose_batch_size(network, image, 1e3) == 1
    assert choose_batch_size(network, image, 1e12) == 16
    sizes = [choose_batch_size(network, image, budget) for budget in (2e7, 4e7, 8e7, 1.6e8)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 2
    assert choose_batch_size(network, torch.zeros(3, 64, 64), 4e7) > choose_batch_size(network, image, 4e7)


def test_every_configured_method_exists() -> None:
    from sightline.config import METHODS as NAMES

    assert tuple(METHODS) == NAMES


def test_settings_bound_what_is_kept() -> None:
    small = Explainer(Corner(), SPEC, torch.device("cpu"), settings=Settings(max_steps=4096), memory_gb=0.05)
    assert small.settings.paths_at_once == 1
