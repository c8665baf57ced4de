"""The faster strided depthwise convolution: torch's own outputs and gradients."""

import copy

import pytest
import timm
import torch
from torch import nn

from sightline.models.cpu.depthwise import StridedDepthwiseConv2d, speed_up_strided_depthwise


def pair(kernel: int, stride: int, padding: int, bias: bool = False) -> tuple[nn.Conv2d, nn.Conv2d]:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, kernel, stride, padding, groups=6, bias=bias)
    fast = copy.deepcopy(plain)
    assert speed_up_strided_depthwise(nn.Sequential(fast)) == 1
    return plain, fast


def gradients(convolution: nn.Conv2d, images: torch.Tensor) -> list[torch.Tensor]:
    images = images.clone().requires_grad_()
    output = convolution(images)
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
    (output.double() * weights).sum().backward()
    return [output, *(tensor.grad for tensor in (images, *convolution.parameters()) if tensor.grad is not None)]


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (5, 7)])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (5, 2, 2), (3, 2, 0), (4, 3, 1), (2, 2, 0)])
def test_gradients_are_those_of_torch(kernel: int, stride: int, padding: int, size: tuple[int, int]) -> None:
    plain, fast = (module.double() for module in pair(kernel, stride, padding, bias=True))
    images = torch.randn(2, 6, *size, dtype=torch.float64)
    for wanted, given in zip(gradients(plain, images), gradients(fast, images), strict=True):
        torch.testing.assert_close(given, wanted)


def test_bf16_is_as_near_to_the_truth_as_torchs_own() -> None:
    plain, fast = pair(3, 2, 1)
    images = torch.randn(4, 6, 16, 16).contiguous(memory_format=torch.channels_last)
    truth = gradients(copy.deepcopy(plain).double(), images.double())
    with torch.autocast("cpu", torch.bfloat16):
        given, torchs = gradients(fast, images), gradients(plain, images)
    assert given[0].dtype == torch.bfloat16
    for number in (1, 2):
        error, usual = ((tensors[number] - truth[number]).abs().mean() for tensors in (given, torchs))
        assert error <= 1.1 * usual


def test_other_convolutions_stay_what_they_are() -> None:
    others = nn.Sequential(
        nn.Conv2d(6, 6, 3, 1, 1, groups=6),
        nn.Conv2d(6, 12, 3, 2, 1, groups=6),
        nn.Conv2d(6, 6, 3, 2, 1),
        nn.Conv2d(6, 6, 3, 2, 1, groups=6, dilation=2),
        nn.Conv2d(6, 6, 3, 2, 1, groups=6, padding_mode="reflect"),
        nn.Conv2d(6, 6, 3, 2, 3, groups=6),
    )
    assert speed_up_strided_depthwise(others) == 0


def test_a_network_keeps_its_weights_and_outputs() -> None:
    network = timm.create_model("mobilenetv2_050", num_classes=3).eval()
    state, images = network.state_dict(), torch.randn(2, 3, 32, 32)
    wanted = network(images)
    assert speed_up_strided_depthwise(network) == 4
    assert sum(isinstance(module, StridedDepthwiseConv2d) for module in network.modules()) == 4
    assert network.state_dict().keys() == state.keys()
    with torch.no_grad():
        assert torch.equal(network(images), wanted)
    torch.testing.assert_close(network(images), wanted)
