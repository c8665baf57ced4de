"""Every method on networks whose reasons are known."""

from dataclasses import replace

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


def make_cases(count: int = 3, spec: TaskSpec = SPEC) -> Cases:
    shape, generator = (count, 32, 32, spec.channels), torch.Generator().manual_seed(0)
    pixels = torch.randint(120, 256, shape, generator=generator, dtype=torch.uint8)
    if spec.bit_depth == 16:
        pixels = (257 * pixels.int()).to(torch.uint16)
    return Cases(pixels, torch.ones(count, dtype=torch.long))


def make_explainer(network: nn.Module | None = None, spec: TaskSpec = SPEC, **options) -> Explainer:
    return Explainer(network or Corner(), spec, torch.device("cpu"), memory_gb=1.0, **options)


def make_spec(channels: int, bit_depth: int) -> TaskSpec:
    value_range = (0, 4095) if bit_depth == 16 else None
    mean, std = (0.5,) * channels, (0.25,) * channels
    return replace(SPEC, mean=mean, std=std, channels=channels, bit_depth=bit_depth, value_range=value_range)


def of_the_mean(channels: int) -> nn.Module:
    """A network that looks at nothing but the mean of the channels."""
    torch.manual_seed(0)
    network, adapted = (timm.create_model("test_resnet", num_classes=2, in_chans=count) for count in (1, channels))
    weights = network.state_dict()
    weights["conv1.0.weight"] = weights["conv1.0.weight"].repeat(1, channels, 1, 1) / channels
    adapted.load_state_dict(weights)
    return adapted.eval()


DEPTHS = [make_spec(1, 8), make_spec(1, 16), make_spec(5, 8), make_spec(5, 16)]


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion", "smooth_grad"])
def test_the_corner_is_found(method: str) -> None:
    explained = make_explainer().explain(method, make_cases())
    for each in explained:
        assert each.values.shape == (32, 32)
        assert each.values.dtype == torch.float32
        inside, total = each.values[:16, :16].abs().sum(), each.values.abs().sum()
        assert inside / total > 0.8
        assert each.seconds > 0


@pytest.mark.parametrize("spec", DEPTHS, ids=lambda spec: f"{spec.channels}x{spec.bit_depth}")
@pytest.mark.parametrize("method", METHODS)
def test_images_of_any_depth_are_explained(method: str, spec: TaskSpec) -> None:
    """The maps of deep greys and of bands are those of the same picture with three channels of eight bits."""
    grey = make_cases(2, make_spec(1, 8)).pixels
    deep = make_cases(2, make_spec(1, spec.bit_depth)).pixels
    cases = Cases(deep.expand(-1, -1, -1, spec.channels).contiguous(), torch.ones(2, dtype=torch.long))
    expected = Cases(grey.expand(-1, -1, -1, 3).contiguous(), cases.classes)
    found = make_explainer(of_the_mean(spec.channels), spec).explain(method, cases)
    usual = make_explainer(of_the_mean(3)).explain(method, expected)
    for each, other in zip(found, usual, strict=True):
        assert each.values.shape == (32, 32)
        if method != "smooth_grad":  # whose noise is drawn for each channel
            times = spec.channels / 3 if method == "occlusion" else 1  # it says the same of every channel
            torch.testing.assert_close(each.values, other.values * times, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("spec", DEPTHS, ids=lambda spec: f"{spec.channels}x{spec.bit_depth}")
def test_baselines_of_any_depth(spec: TaskSpec) -> None:
    pixels = make_cases(2, spec).pixels
    shape = (2, spec.channels, 32, 32)
    (black,), (mean,) = (make_baselines(kind, pixels, spec, 0) for kind in ("black", "mean"))
    torch.testing.assert_close(black, torch.full(shape, -2.0))
    torch.testing.assert_close(mean, torch.zeros(shape), atol=0.01, rtol=0)
    (blurred,) = make_baselines("blurred", pixels, spec, 0)
    given = make_explainer(spec=spec).prepare(pixels)
    assert blurred.shape == shape
    torch.testing.assert_close(blurred.mean(dim=(2, 3)), given.mean(dim=(2, 3)), atol=0.05, rtol=0)
    assert blurred.std() < given.std() / 5
    noise = make_baselines("random_average", pixels, spec, 0)
    assert len(noise) == 4
    for each in noise:
        assert each.shape == shape
        assert abs(float(each.mean())) < 0.1
        assert -2 <= float(each.min()) < -1.9
        assert 1.9 < float(each.max()) <= 2


@pytest.mark.parametrize("spec", [SPEC, *DEPTHS], ids=lambda spec: f"{spec.channels}x{spec.bit_depth}")
@pytest.mark.parametrize("baseline", ["black", "blurred", "mean", "random_average"])
def test_every_baseline_is_complete(baseline: str, spec: TaskSpec) -> None:
    explainer = make_explainer(spec=spec, baseline=baseline)
    cases = make_cases(spec=spec)
    starts = make_baselines(baseline, cases.pixels, spec, 0)
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
