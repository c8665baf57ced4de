"""Convolutions as matrix products: torch's own outputs and gradients."""

import copy

import pytest
import timm
import torch
from torch import nn

from sightline.models.cpu.small_maps import SmallMapConv2d, speed_up_small_maps


def pair(channels: int, kernel: int, stride: int, padding: int, bias: bool = False) -> tuple[nn.Conv2d, nn.Conv2d]:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, channels, kernel, stride, padding, bias=bias)
    fast = copy.deepcopy(plain)
    assert speed_up_small_maps(nn.Sequential(fast)) == 1
    return plain, fast


def gradients(convolution: nn.Conv2d, images: torch.Tensor) -> list[torch.Tensor]:
    images = images.clone().requires_grad_()
    output = convolution(images)
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
    (output.double() * weights).sum().backward()
    return [output, *(tensor.grad for tensor in (images, *convolution.parameters()) if tensor.grad is not None)]


def uses_products(convolution: nn.Conv2d, images: torch.Tensor) -> bool:
    return "_Convolution" in type(convolution(images).grad_fn).__name__


@pytest.mark.parametrize("size", [(2, 2), (4, 4), (3, 4), (4, 2)])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (2, 2, 0), (5, 1, 2)])
def test_gradients_are_those_of_torch(kernel: int, stride: int, padding: int, size: tuple[int, int]) -> None:
    plain, fast = (module.double() for module in pair(512, kernel, stride, padding))
    images = torch.randn(3, 8, *size, dtype=torch.float64)
    assert uses_products(fast, images)
    for wanted, given in zip(gradients(plain, images), gradients(fast, images), strict=True):
        torch.testing.assert_close(given, wanted)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [((3, 1), (1, 2), (1, 0)), ((2, 3), (2, 1), (0, 2))])
def test_sides_that_differ_and_a_bias(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 512, kernel, stride, padding).double()
    fast = copy.deepcopy(plain)
    speed_up_small_maps(nn.Sequential(fast))
    images = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    assert uses_products(fast, images)
    for wanted, given in zip(gradients(plain, images), gradients(fast, images), strict=True):
        torch.testing.assert_close(given, wanted)


@pytest.mark.parametrize("size", [2, 8])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_bf16_is_about_as_near_to_the_truth_as_torchs_own(size: int, memory_format: torch.memory_format) -> None:
    plain, fast = (module.to(memory_format=memory_format) for module in pair(512, 3, 1, 1, bias=True))  # pyright: ignore[reportCallIssue]
    images = torch.randn(4, 8, size, size).contiguous(memory_format=memory_format)
    truth = gradients(copy.deepcopy(plain).double(), images.double())
    with torch.autocast("cpu", torch.bfloat16):
        given, torchs = gradients(fast, images), gradients(plain, images)
    assert given[0].dtype == torch.bfloat16
    for number, more in enumerate((1.1, 1.5, 1.1, 1.1)):  # gradients of overlapping patches are rounded before the sum
        error, usual = ((tensors[number] - truth[number]).abs().mean() for tensors in (given, torchs))
        assert error <= more * usual, number


def test_large_maps_and_frozen_weights_stay_with_torch() -> None:
    _, fast = pair(512, 3, 1, 1)
    assert uses_products(fast, torch.randn(2, 8, 4, 4))
    assert not uses_products(fast, torch.randn(2, 8, 5, 5))
    with torch.autocast("cpu", torch.bfloat16):
        assert uses_products(fast, torch.randn(2, 8, 8, 8))
        assert not uses_products(fast, torch.randn(2, 8, 9, 9))
    fast.requires_grad_(False)
    assert not uses_products(fast, torch.randn(2, 8, 4, 4, requires_grad=True))


@pytest.mark.parametrize("bias", [False, True])
def test_what_follows_may_change_the_output_in_place(bias: bool) -> None:
    plain, fast = pair(64, 1, 1, 0, bias=bias)
    images = torch.randn(3, 8, 1, 1)
    assert uses_products(fast, images)
    outputs = [nn.Sequential(each, nn.ReLU(inplace=True))(images) for each in (plain, fast)]
    torch.testing.assert_close(outputs[1], outputs[0])
    for output in outputs:
        output.sum().backward()
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad)


def test_squeeze_and_excite_networks_train() -> None:
    network = timm.create_model("mobilenetv3_small_050", num_classes=3)
    assert speed_up_small_maps(network)
    network(torch.randn(2, 3, 64, 64)).sum().backward()


def test_no_images_and_too_small_ones_are_torchs_business() -> None:
    _, fast = pair(512, 3, 1, 0)
    assert fast(torch.randn(0, 8, 4, 4)).shape == (0, 512, 2, 2)
    with pytest.raises(RuntimeError, match="Kernel size"):
        fast(torch.randn(2, 8, 2, 2))


def test_one_image_without_a_batch() -> None:
    plain, fast = pair(512, 3, 1, 1)
    image = torch.randn(8, 2, 2)
    torch.testing.assert_close(fast(image), plain(image))


def test_other_convolutions_stay_what_they_are() -> None:
    others = nn.Sequential(
        nn.Conv2d(64, 64, 3, 1, 1, groups=64),
        nn.Conv2d(64, 64, 3, 1, 2, dilation=2),
        nn.Conv2d(64, 64, 3, 1, 1, padding_mode="reflect"),
        nn.Conv2d(64, 64, 3, padding="same"),
    )
    assert speed_up_small_maps(others) == 0


def test_a_network_keeps_its_weights_and_outputs() -> None:
    network = timm.create_model("resnet18", num_classes=3).eval()
    state, images = network.state_dict(), torch.randn(2, 3, 64, 64)
    wanted = network(images)
    assert speed_up_small_maps(network) == 20
    assert sum(isinstance(module, SmallMapConv2d) for module in network.modules()) == 20
    assert network.state_dict().keys() == state.keys()
    with torch.no_grad():
        assert torch.equal(network(images), wanted)
    torch.testing.assert_close(network(images), wanted, rtol=1e-4, atol=1e-5)
