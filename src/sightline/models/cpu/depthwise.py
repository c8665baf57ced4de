"""Strided depthwise convolutions that train faster on processors."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class StridedDepthwiseConv2d(nn.Conv2d):
    """A depthwise `nn.Conv2d` with a stride; on a processor its input's gradient is a convolution without one.

    oneDNN has no fast kernel for that gradient in bf16: torch 2.15 takes 99 ms for `(32, 96, 64, 64)` on one core with
    AMX, where the convolution over the spread gradient takes 27 ms.
    """

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if input.device.type != "cpu" or not (torch.is_grad_enabled() and input.requires_grad):
            return super()._conv_forward(input, weight, bias)
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            input, weight, bias = input.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        output: torch.Tensor = _Convolution.apply(input, weight, self.stride, self.padding)  # pyright: ignore[reportAssignmentType]
        return output if bias is None else output + bias[:, None, None]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> torch.Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(images, weight, stride=stride, padding=padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (images, weight) = gradients, ctx.saved_tensors
        by_images = _input_gradient(gradient, weight, images.shape, ctx.stride, ctx.padding)
        settings = (list(ctx.stride), list(ctx.padding), [1, 1], False, [0, 0], len(weight))
        by_weight = torch.ops.aten.convolution_backward(
            gradient, images, weight, None, *settings, [False, True, False]
        )[1]
        return by_images, by_weight, None, None


def _input_gradient(
    gradient: torch.Tensor,
    weight: torch.Tensor,
    shape: torch.Size,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> torch.Tensor:
    """The transposed convolution, as a convolution of the gradient with zeros between its numbers."""
    kernel = weight.shape[2:]
    sides = [shape[2 + i] + 2 * padding[i] - kernel[i] + 1 for i in (0, 1)]
    spread = gradient.new_zeros((*gradient.shape[:2], *sides))
    spread = spread.contiguous(memory_format=torch.channels_last)
    spread[:, :, :: stride[0], :: stride[1]] = gradient
    around = (kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1])
    return functional.conv2d(spread, weight.flip(2, 3), padding=around, groups=len(weight))


def speed_up_strided_depthwise(network: nn.Module) -> int:
    """Make the strided depthwise convolutions of a network `StridedDepthwiseConv2d`, and return how many there are.

    Weights, names and outputs stay what they are.
    """
    count = 0
    for module in network.modules():
        if type(module) is nn.Conv2d and _fits(module):
            module.__class__ = StridedDepthwiseConv2d
            count += 1
    return count


def _fits(module: nn.Conv2d) -> bool:
    if isinstance(module.padding, str) or module.padding_mode != "zeros" or module.dilation != (1, 1):
        return False
    is_depthwise = module.groups == module.in_channels == module.out_channels > 1
    is_covered = all(pad < side for pad, side in zip(module.padding, module.kernel_size, strict=True))
    return is_depthwise and is_covered and max(module.stride) > 1
