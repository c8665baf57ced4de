"""Random changes of whole batches, made where the network is."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch.nn import functional

from sightline.data.levels import LUMA
from sightline.data.transforms import normalise_colors
from sightline.task_spec import TaskSpec


class Draws:
    """Random numbers in 0..1 for a batch, `(B, num_draws)`, each used once."""

    def __init__(self, values: torch.Tensor) -> None:
        self.columns = iter(values.unbind(1))

    def uniform(self, low: float, high: float) -> torch.Tensor:
        """A uniform number for each image, `(B,)`."""
        return low + (high - low) * next(self.columns)

    def log_uniform(self, low: float, high: float) -> torch.Tensor:
        """A log-uniform number for each image, `(B,)`: as likely between 1/2 and 1 as between 1 and 2."""
        return self.uniform(math.log(low), math.log(high)).exp()

    def happens(self, p: float) -> torch.Tensor:
        """Whether it happens to each image, bool `(B,)`."""
        return next(self.columns) < p


@runtime_checkable
class BatchTransform(Protocol):
    """A change of images `(B, C, H, W)` with levels in 0..1, made to a share `p` of them.

    One that has `needs_colours` is left out where images are not red, green and blue.
    """

    num_draws: ClassVar[int]

    @property
    def p(self) -> float: ...

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor: ...


@dataclass(frozen=True)
class RandomGain:
    """A longer or shorter exposure: colours times a number, white where they go beyond it."""

    limits: Sequence[float]
    p: float = 0.5
    num_draws: ClassVar[int] = 1

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        return (images * _by_image(draws.uniform(*self.limits))).clamp(max=1)


@dataclass(frozen=True)
class RandomTint:
    """Another colour of the light: each channel times a number of its own."""

    limits: Sequence[float]
    p: float = 0.5
    num_draws: ClassVar[int] = 3
    needs_colours: ClassVar[bool] = True

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        gains = [draws.log_uniform(*self.limits) for _ in range(3)]
        return (images * torch.stack(gains, 1)[:, :, None, None]).clamp(max=1)


@dataclass(frozen=True)
class RandomGamma:
    """Another tone curve: colours to the power of a number, darker above 1."""

    limits: Sequence[float]
    p: float = 0.5
    num_draws: ClassVar[int] = 1

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        return images.pow(_by_image(draws.log_uniform(*self.limits)))


@dataclass(frozen=True)
class RandomShade:
    """Uneven light: colours within a disc with a soft edge, anywhere and of any size, times a number."""

    limits: Sequence[float]
    p: float = 0.5
    num_draws: ClassVar[int] = 5

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        y, x = (
            torch.linspace(-1, 1, size, device=images.device) - draws.uniform(-0.6, 0.6)[:, None]
            for size in images.shape[2:]
        )
        distance = (y[:, :, None].square() + x[:, None, :].square()).sqrt()
        radius, softness = draws.uniform(0.3, 1.2), draws.uniform(0.02, 0.3)
        inside = ((_by_image(radius) - distance[:, None]) / _by_image(softness)).sigmoid()
        return (images * (1 + (_by_image(draws.log_uniform(*self.limits)) - 1) * inside)).clamp(max=1)


@dataclass(frozen=True)
class RandomHaze:
    """A veil of one grey over the image, as of fog, dust or glare: less contrast."""

    strength: Sequence[float]
    p: float = 0.5
    num_draws: ClassVar[int] = 2

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        strength = _by_image(draws.uniform(*self.strength))
        return images * (1 - strength) + _by_image(draws.uniform(0, 1)) * strength


@dataclass(frozen=True)
class RandomGray:
    """No colours: by luminance or, as often, by the brightest channel, which shows a faded red as white."""

    p: float = 0.2
    num_draws: ClassVar[int] = 1
    needs_colours: ClassVar[bool] = True

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        luma = (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        gray = torch.where(_by_image(draws.happens(0.5)), images.amax(1, keepdim=True), luma)
        return gray.expand_as(images)


@dataclass(frozen=True)
class RandomBlur:
    """Each pixel mixed with the mean of five in its row, then in its column: motion, or lack of focus."""

    p: float = 0.2
    num_draws: ClassVar[int] = 2

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        rows, columns = (_mean_of_neighbours(size, 2, images.device) for size in images.shape[2:])
        images = torch.lerp(images, images @ columns.mT, _by_image(draws.uniform(0, 1)))
        return torch.lerp(images, rows @ images, _by_image(draws.uniform(0, 1)))


@dataclass(frozen=True)
class RandomErasing:
    """A rectangle of one random colour over the image (Zhong et al., arXiv:1708.04896).

    Of more than three bands the fourth has the level of the first again, and so on.
    """

    sides: Sequence[float]
    """Height and width as shares of the image's, from and to."""
    p: float = 0.25
    num_draws: ClassVar[int] = 7

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        rows, columns = (_is_within(size, draws, self.sides) for size in images.shape[2:])
        drawn = [draws.uniform(0, 1) for _ in range(3)]
        color = torch.stack([drawn[band % 3] for band in range(images.shape[1])], 1)[:, :, None, None]
        return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], color, images)


@dataclass(frozen=True)
class RandomView:
    """A crop that is turned and sheared, read in one resampling; the border is repeated outside.

    A crop stays within the image unless `crop_scale` goes beyond 1: then it may be larger, and squeeze what is there.
    """

    crop_scale: Sequence[float] = (1.0, 1.0)
    crop_ratio: Sequence[float] = (1.0, 1.0)
    rotate_degrees: float = 0.0
    shear_degrees: float = 0.0
    num_draws: ClassVar[int] = 7

    def __call__(self, images: torch.Tensor, draws: Draws, size: int, mirrors: torch.Tensor) -> torch.Tensor:
        """`(B, C, size, size)`; bool `mirrors` `(B,)` says which are mirrored, too."""
        matrix = self._matrix(draws, torch.where(mirrors, -1.0, 1.0))[:, None, None]
        centres = (2 * torch.arange(size, device=images.device) + 1) / size - 1
        across, down = centres[:, None] * matrix[..., 0], centres[:, None, None] * matrix[..., 1]
        grid = (across + matrix[..., 2]) + down  # affine_grid's, in a third of its time
        return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _matrix(self, draws: Draws, side: torch.Tensor) -> torch.Tensor:
        """Affine matrices `(B, 2, 3)` from coordinates of the crop to those of the image, both in -1..1."""
        area, ratio = draws.uniform(*self.crop_scale), draws.log_uniform(*self.crop_ratio)
        most = math.inf if self.crop_scale[1] > 1 else 1.0
        width, height = ((area * each).sqrt().clamp(max=most) for each in (ratio, 1 / ratio))
        x, y = draws.uniform(-1, 1) * (1 - width), draws.uniform(-1, 1) * (1 - height)
        angle = draws.uniform(-1, 1) * math.radians(self.rotate_degrees)
        shear_x, shear_y = ((draws.uniform(-1, 1) * math.radians(self.shear_degrees)).tan() for _ in range(2))
        cos, sin = angle.cos(), angle.sin()
        first = torch.stack([(cos - sin * shear_y) * width * side, (cos * shear_x - sin) * height, x], 1)
        second = torch.stack([(sin + cos * shear_y) * width * side, (sin * shear_x + cos) * height, y], 1)
        return torch.stack([first, second], 1)


class BatchAugmentation:
    """Changes of colour at the size that images are handed over in, one resampling, and changes of what comes out.

    Crops are enlarged if `source_size` (pixels) is the image size; give it more where files have more to show. An image
    that is mirrored has the class that `mirror_classes` has for its own; one whose class is not there stays as it is.
    Without it a mirror image is of the same class.
    """

    def __init__(
        self,
        spec: TaskSpec,
        view: RandomView,
        *,
        source_size: int | None = None,
        horizontal_flip: float = 0.0,
        mirror_classes: Mapping[str, str] | None = None,
        before: Iterable[BatchTransform] = (),
        after: Iterable[BatchTransform] = (),
    ) -> None:
        self.spec, self.source_spec = spec, replace(spec, image_size=source_size or spec.image_size)
        self.view, self.before, self.after = view, tuple(before), tuple(after)
        widths = [[step.num_draws + 1 for step in steps] for steps in (self.before, self.after)]
        self._widths = [1, *widths[0], view.num_draws, *widths[1]]
        self.horizontal_flip, self._mirrored = horizontal_flip, _mirrored_labels(spec.class_names, mirror_classes)

    @property
    def num_draws(self) -> int:
        """Numbers that it takes for each image."""
        return sum(self._widths)

    @torch.no_grad()
    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised float32 `(B, C, size, size)` and labels, from levels `(B, H, W, C)` and draws `(B, num_draws)`."""
        parts = iter(values.split(self._widths, 1))
        others = self._mirrored.to(labels.device)[labels]
        mirrors = (next(parts)[:, 0] < self.horizontal_flip) & (others >= 0)
        return self._change(images, mirrors, parts), torch.where(mirrors, others, labels)

    def _change(self, images: torch.Tensor, mirrors: torch.Tensor, parts: Iterator[torch.Tensor]) -> torch.Tensor:
        size = self.spec.image_size
        colors = images.permute(0, 3, 1, 2).float().div_(self.spec.max_level)
        for step in self.before:
            _change_some(colors, step, next(parts))
        if not self.after:  # resampling and normalising commute: first where there may be fewer pixels
            return self.view(normalise_colors(colors, self.spec), Draws(next(parts)), size, mirrors)
        colors = self.view(colors, Draws(next(parts)), size, mirrors)
        for step in self.after:
            _change_some(colors, step, next(parts))
        return normalise_colors(colors, self.spec)


def _change_some(images: torch.Tensor, step: BatchTransform, values: torch.Tensor) -> None:
    """Apply a step in place to the images whose first draw lies below its probability."""
    rows = (values[:, 0] < step.p).nonzero().squeeze(1)
    if len(rows):
        images[rows] = step(images[rows], Draws(values[rows, 1:]))


def _mirrored_labels(names: Sequence[str], mirror_classes: Mapping[str, str] | None) -> torch.Tensor:
    """For each label that of its mirror image, -1 where there is none: int64 `(num_classes,)`."""
    if mirror_classes is None:
        return torch.arange(len(names))
    index_of = {name: number for number, name in enumerate(names)}
    return torch.tensor([index_of.get(mirror_classes.get(name, ""), -1) for name in names])


def source_of(spec: TaskSpec, augmentation: BatchAugmentation | None) -> tuple[TaskSpec, int]:
    """The TaskSpec that images are prepared for before the batch augmentation, and its number of draws."""
    return (spec, 0) if augmentation is None else (augmentation.source_spec, augmentation.num_draws)


def _by_image(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]


def _mean_of_neighbours(size: int, reach: int, device: torch.device) -> torch.Tensor:
    """`(size, size)`: times a column of numbers, the mean of each and of those up to `reach` away."""
    positions = torch.arange(size, device=device)
    is_near = ((positions[:, None] - positions).abs() <= reach).float()
    return is_near / is_near.sum(1, keepdim=True)


def _is_within(size: int, draws: Draws, shares: Sequence[float]) -> torch.Tensor:
    """Which rows or columns a random stretch takes up: bool `(B, size)`."""
    share = draws.uniform(*shares)
    start = draws.uniform(0, 1) * (1 - share)
    centres = (torch.arange(size, device=share.device) + 0.5) / size
    return (centres >= start[:, None]) & (centres < (start + share)[:, None])
