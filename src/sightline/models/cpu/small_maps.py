"""Convolutions with small output maps, as matrix products that train faster on processors."""

import math
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

PRODUCT_CHANNELS_PER_PIXEL = 32
"""From so many output channels for each pixel of the output map products are faster."""
WEIGHT_CHANNELS_PER_PIXEL = 8
"""From so many they are faster for the weights' gradient in bf16."""


class SmallMapConv2d(nn.Conv2d):
    """An `nn.Conv2d` that trains with matrix products where its output map is small for its number of channels.

    oneDNN works along the rows of the map, and those have two pixels at the end of a ResNet at 64 px: for 128 images
    and 384 channels torch 2.15 takes 23 ms for such a 3 x 3 convolution and its gradients in bf16 on two cores with
    AMX, the products take 4 ms. Larger maps and what is not trained stay with torch. In bf16 the input's gradient is
    rounded once more than torch's, where patches overlap. There are no second derivatives.
    """

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if input.device.type != "cpu" or input.ndim != 4 or not (torch.is_grad_enabled() and weight.requires_grad):
            return super()._conv_forward(input, weight, bias)
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            input, weight, bias = input.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        sizes = (weight.shape[2:], self.stride, self.padding, input.shape[2:])
        geometry = _Geometry(*(cast("tuple[int, int]", tuple(size)) for size in sizes))
        if not len(input) or min(geometry.map) < 1:
            return super()._conv_forward(input, weight, bias)
        pixels = math.prod(geometry.map)
        by_products = pixels * PRODUCT_CHANNELS_PER_PIXEL <= self.out_channels
        in_bf16 = input.dtype == torch.bfloat16
        if not by_products and not (in_bf16 and pixels * WEIGHT_CHANNELS_PER_PIXEL <= self.out_channels):
            return super()._conv_forward(input, weight, bias)
        return _Convolution.apply(input, weight, bias, geometry, by_products)  # pyright: ignore[reportReturnType]


class _Geometry(NamedTuple):
    """Kernel, stride, padding and image size of a convolution, each as height and width."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    images: tuple[int, int]

    @property
    def map(self) -> tuple[int, int]:
        sides = zip(self.images, self.kernel, self.stride, self.padding, strict=True)
        height, width = ((side + 2 * pad - kernel) // step + 1 for side, kernel, step, pad in sides)
        return height, width


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        geometry: _Geometry,
        by_products: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry, ctx.by_products = geometry, by_products
        if not by_products:
            return functional.conv2d(images, weight, bias, stride=geometry.stride, padding=geometry.padding)
        shape = (len(images), len(weight), *geometry.map)
        output = torch.empty(
            shape, dtype=images.dtype, device=images.device, memory_format=torch.channels_last
        )  # not a view, or what follows could not change it in place
        rows = output.permute(0, 2, 3, 1).view(-1, len(weight))
        patches, matrix = _patches(images, geometry), _matrix(weight).t()
        torch.mm(patches, matrix, out=rows) if bias is None else torch.addmm(bias, patches, matrix, out=rows)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,), (images, weight) = gradients, ctx.saved_tensors
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, len(weight))
        by_images = by_weight = by_bias = None
        if ctx.needs_input_grad[0] and ctx.by_products:
            by_images = _sum_of_patches(rows @ _matrix(weight), len(images), ctx.geometry)
        elif ctx.needs_input_grad[0]:
            settings = (list(ctx.geometry.stride), list(ctx.geometry.padding), [1, 1], False, [0, 0], 1)
            mask = [True, False, False]
            by_images = torch.ops.aten.convolution_backward(gradient, images, weight, None, *settings, mask)[0]
        if ctx.needs_input_grad[1]:
            by_weight = rows.t() @ _patches(images, ctx.geometry)
            by_weight = by_weight.view(weight.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[2]:
            by_bias = rows.sum(0)
        return by_images, by_weight, by_bias, None, None


def _matrix(weight: torch.Tensor) -> torch.Tensor:
    """`(out, height * width * in)`; a view of weights in channels_last."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def _patches(images: torch.Tensor, geometry: _Geometry) -> torch.Tensor:
    """The patches below the kernel (im2col), `(B * positions, height * width * in)`."""
    (down, right), pad = geometry.stride, geometry.padding
    images = functional.pad(images.permute(0, 2, 3, 1), (0, 0, pad[1], pad[1], pad[0], pad[0])).contiguous()
    by_image, by_row, by_column, by_channel = images.stride()
    shape = (len(images), *geometry.map, *geometry.kernel, images.shape[-1])
    strides = (by_image, by_row * down, by_column * right, by_row, by_column, by_channel)
    return images.as_strided(shape, strides).reshape(shape[0] * shape[1] * shape[2], -1)


def _sum_of_patches(patches: torch.Tensor, count: int, geometry: _Geometry) -> torch.Tensor:
    """Images `(count, in, height, width)` in channels_last: patches added up where they lie."""
    (height, width), (rows, columns) = geometry.images, geometry.map
    (down, right), (top, left) = geometry.stride, geometry.padding
    patches = patches.view(count, rows, columns, *geometry.kernel, -1)
    padded = patches.new_zeros(count, height + 2 * top, width + 2 * left, patches.shape[-1])
    for y in range(geometry.kernel[0]):
        for x in range(geometry.kernel[1]):
            lain_on = padded[:, y : y + down * (rows - 1) + 1 : down, x : x + right * (columns - 1) + 1 : right]
            lain_on += patches[:, :, :, y, x]
    return padded[:, top : top + height, left : left + width].permute(0, 3, 1, 2)


def speed_up_small_maps(network: nn.Module) -> int:
    """Make the ungrouped convolutions of a network `SmallMapConv2d`, and return how many there are.

    Weights and names stay what they are, outputs but for rounding in training.
    """
    count = 0
    for module in network.modules():
        if type(module) is nn.Conv2d and _fits(module):
            module.__class__ = SmallMapConv2d
            count += 1
    return count


def _fits(module: nn.Conv2d) -> bool:
    is_plain = not isinstance(module.padding, str) and module.padding_mode == "zeros" and module.dilation == (1, 1)
    return is_plain and module.groups == 1 and module.out_channels >= WEIGHT_CHANNELS_PER_PIXEL
