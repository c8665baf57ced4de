"""Networks as ONNX files: the same answers for any number of images, whatever the network, its images and its views."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightline.data.transforms import normalise
from sightline.errors import BadInput
from sightline.models.backbones import create_backbone, with_channels
from sightline.models.exported import ExportedModel
from sightline.models.onnx_graph import write_onnx
from sightline.models.views import with_views
from sightline.task_spec import Calibration, TaskSpec

SLOW = pytest.mark.slow
SHALLOW = {"depths": (1, 1, 1, 1)}
FAMILIES: list[Any] = [
    ("test_resnet", 32, {}),
    ("test_efficientnet", 32, {}),
    ("test_vit", 32, {"img_size": 32}),
    pytest.param("mobilenetv2_035", 32, {}, marks=SLOW),
    pytest.param("mobilenetv3_small_050", 32, {}, marks=SLOW),
    pytest.param("regnetx_002", 32, {}, marks=SLOW),
    pytest.param("densenet121", 32, {"growth_rate": 4, "block_config": (2, 2, 2, 2)}, marks=SLOW),
    pytest.param("test_convnext", 32, {}, marks=SLOW),
    pytest.param("test_byobnet", 32, {}, marks=SLOW),
    pytest.param("test_nfnet", 32, {}, marks=SLOW),
    pytest.param("test_maxvit", 64, {"img_size": 64}, marks=SLOW),
    pytest.param("test_mambaout", 32, {}, marks=SLOW),
    pytest.param("vit_tiny_patch16_224", 32, {"img_size": 32, "depth": 2}, marks=SLOW),
    pytest.param("deit_tiny_distilled_patch16_224", 32, {"img_size": 32, "depth": 2}, marks=SLOW),
    pytest.param(
        "swin_tiny_patch4_window7_224", 56, {"img_size": 56, "depths": (1, 1, 1, 1), "embed_dim": 24}, marks=SLOW
    ),
    pytest.param("eva02_tiny_patch14_224", 28, {"img_size": 28, "depth": 2}, marks=SLOW),
    pytest.param("mixer_s32_224", 64, {"img_size": 64}, marks=SLOW),
    pytest.param("levit_128s", 64, {"img_size": 64}, marks=SLOW),
    pytest.param("mobilevit_xxs", 64, {}, marks=SLOW),
]
"""One of each kind that timm has, as small as it takes: its name, the side of its images, and its arguments."""
SPEC = TaskSpec(("a", "b", "c"), 32, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3), calibration=Calibration(1.7, 0.6, 0.95, 10))


def images_of(spec: TaskSpec, count: int) -> np.ndarray:
    shape = (count, spec.image_size, spec.image_size, spec.channels)
    return np.random.default_rng(0).integers(0, spec.max_level + 1, shape).astype(spec.dtype)


@torch.inference_mode()
def answers_of(network: nn.Module, spec: TaskSpec, images: np.ndarray) -> np.ndarray:
    """As evaluation and prediction make them."""
    logits = with_views(network, spec.views).eval()(normalise(torch.from_numpy(images), spec))
    return (logits / spec.temperature).softmax(dim=1).numpy()


def assert_same_answers(path: Path, network: nn.Module, spec: TaskSpec, counts: tuple[int, ...] = (1, 3)) -> np.ndarray:
    """Write, open and compare for these numbers of images; the features of the last."""
    write_onnx(path, network, spec, {"name": "test"})
    model, features = ExportedModel.open(path), np.empty(0)
    assert model.spec == spec
    assert model.facts["name"] == "test"
    for count in counts:
        images = images_of(spec, count)
        probabilities, features = model.run(images)
        np.testing.assert_allclose(probabilities, answers_of(network, spec, images), atol=2e-5)
        assert len(features) == count
    return features


@pytest.mark.parametrize(("name", "size", "arguments"), FAMILIES)
def test_a_network_of_each_family_answers_the_same(
    tmp_path: Path, name: str, size: int, arguments: Mapping[str, Any]
) -> None:
    torch.manual_seed(0)
    network, _ = create_backbone(name, 3, arguments=arguments)
    features = assert_same_answers(tmp_path / "model.onnx", network, replace(SPEC, image_size=size), (1, 3, 64))
    timms: Any = network
    width = 3 if getattr(timms, "head_dist", None) else timms.head_hidden_size  # no layer makes the mean of two heads
    assert features.shape == (64, width)


@pytest.mark.parametrize(("channels", "bit_depth"), [(1, 8), (3, 16), (5, 16)])
def test_images_of_any_channels_and_depth(tmp_path: Path, channels: int, bit_depth: int) -> None:
    torch.manual_seed(0)
    network, _ = create_backbone("test_resnet", 3, arguments=with_channels("test_resnet", {}, channels))
    of_channels = {"mean": (0.4,) * channels, "std": (0.2,) * channels, "channels": channels, "bit_depth": bit_depth}
    assert_same_answers(tmp_path / "model.onnx", network, replace(SPEC, **of_channels))


class Small(nn.Sequential):
    """A network of own code, whose last layer but one has five outputs."""

    def __init__(self) -> None:
        layers = (nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        super().__init__(*layers, nn.Linear(32, 5), nn.Tanh(), nn.Linear(5, 3))


@pytest.mark.parametrize("views", ["none", "flip", "flip_and_shifts", "flip_and_zooms"])
def test_the_views_of_a_run_are_in_the_graph_and_its_features_are_of_the_image_itself(
    tmp_path: Path, views: str
) -> None:
    torch.manual_seed(0)
    network, spec = Small(), replace(SPEC, views=views)
    features = assert_same_answers(tmp_path / "model.onnx", network, spec)
    with torch.inference_mode():
        expected = nn.Sequential(*[*network][:-1])(normalise(torch.from_numpy(images_of(spec, 3)), spec))
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_a_network_without_a_last_linear_layer_has_its_logits_as_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    features = assert_same_answers(tmp_path / "model.onnx", network, SPEC)
    with torch.inference_mode():
        np.testing.assert_allclose(features, network(normalise(torch.from_numpy(images_of(SPEC, 3)), SPEC)), atol=1e-5)


class Decides(Small):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(-input if input.sum() > 0 else input)


class CountsTwo(Small):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.view(2, 3, 32, 32))


class Decomposes(Small):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input * torch.linalg.svdvals(input)[..., :1, None])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Decides, r"cannot be traced: .*test_onnx_graph.py:\d+: return super\(\).forward\(-input if"),
        (CountsTwo, "one number of images alone"),
        (Decomposes, "ONNX has no operation aten._linalg_svd"),
    ],
)
def test_a_network_that_cannot_be_exported_says_what_is_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: type[Small], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        write_onnx(tmp_path / "model.onnx", kind(), SPEC, {})
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_a_file_stays_whole_when_the_next_export_fails(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path, Small(), SPEC, {})
    before = path.read_bytes()
    with pytest.raises(BadInput):
        write_onnx(path, Decides(), SPEC, {})
    assert path.read_bytes() == before
