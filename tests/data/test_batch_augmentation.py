"""Augmentation of whole batches: what each change does, and that draws are functions of seed, epoch and index."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TINY, compose_train
from torch.nn import functional

from sightline.data.batch_augmentation import (
    BatchAugmentation,
    BatchTransform,
    Draws,
    RandomBlur,
    RandomErasing,
    RandomGain,
    RandomGamma,
    RandomGray,
    RandomHaze,
    RandomShade,
    RandomTint,
    RandomView,
)
from sightline.data.datamodule import ImageDataModule
from sightline.data.splitting import make_manifest
from sightline.data.training_data import FolderData
from sightline.data.transforms import denormalise
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec

SPEC = TaskSpec(("blue", "green", "red"), 32, (0.5,) * 3, (0.25,) * 3)
NONE = torch.zeros(4, dtype=torch.bool)
SIGNS = ("augmentation=signs", "augmentation.batch.source_size=null")


def some_bytes(size: int = 32, count: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.manual_seed(0))


def some_colors() -> torch.Tensor:
    return some_bytes().permute(0, 3, 1, 2) / 255


def numbers(count: int, rows: int = 4) -> torch.Tensor:
    return torch.rand(rows, count, generator=torch.manual_seed(1))


def apply(step: BatchTransform, images: torch.Tensor) -> torch.Tensor:
    """With as many draws as it says, to the last one."""
    draws = Draws(numbers(step.num_draws, len(images)))
    changed = step(images, draws)
    assert next(draws.columns, None) is None
    return changed


def plain(images: torch.Tensor, horizontal_flip: float = 0.0) -> torch.Tensor:
    augmentation = BatchAugmentation(SPEC, RandomView(), horizontal_flip=horizontal_flip)
    made, labels = augmentation(images, torch.tensor([0, 1, 2, 0]), numbers(augmentation.num_draws))
    assert labels.tolist() == [0, 1, 2, 0]
    return denormalise(made, SPEC)


def test_without_changes_the_colors_are_those_of_the_bytes() -> None:
    assert torch.allclose(plain(some_bytes()), some_colors(), atol=1e-5)


def test_small_images_are_enlarged_as_evaluation_enlarges_them() -> None:
    images = some_bytes(16)
    wanted = functional.interpolate(images.permute(0, 3, 1, 2) / 255, size=(32, 32), mode="bilinear")
    assert torch.allclose(plain(images), wanted, atol=1e-5)


def test_a_flip_mirrors() -> None:
    assert torch.allclose(plain(some_bytes(), horizontal_flip=1.0), some_colors().flip(3), atol=1e-5)


def test_a_turn_by_a_quarter_turns_and_a_crop_enlarges() -> None:
    view = RandomView(rotate_degrees=90)
    draws = torch.full((4, view.num_draws), 0.5)
    draws[:, 4] = 1.0  # the angle: as far as it goes
    turned = view(some_colors(), Draws(draws), 32, NONE)
    assert torch.allclose(turned, some_colors().rot90(1, (2, 3)), atol=1e-5)
    ramp = torch.linspace(0, 1, 32).expand(4, 3, 32, 32)
    crop = RandomView(crop_scale=(0.25, 0.25))(ramp, Draws(numbers(7)), 32, NONE)
    assert torch.allclose(crop[..., -1] - crop[..., 0], torch.full((4, 3, 32), 0.5), atol=1e-2), "half as wide"
    assert len({float(value) for value in crop[:, 0, 0, 0]}) == 4, "each from its own place"


@pytest.mark.parametrize(
    ("step", "holds"),
    [
        (RandomGain((0.5, 0.5)), lambda before, after: torch.allclose(after, before / 2)),
        (RandomGain((9, 9)), lambda before, after: torch.equal(after, (9 * before).clamp(max=1))),
        (RandomTint((1.5, 1.5)), lambda before, after: torch.allclose(after, (1.5 * before).clamp(max=1))),
        (RandomGamma((2, 2)), lambda before, after: torch.allclose(after, before**2, atol=1e-6)),
        (RandomShade((0.5, 0.5)), lambda before, after: ((after <= before) & (after >= before / 2 - 1e-6)).all()),
        (RandomHaze((0.5, 0.5)), lambda before, after: ((after - before / 2).std((1, 2, 3)) < 1e-6).all()),
        (RandomGray(), lambda before, after: torch.equal(after[:, 0], after[:, 2])),
        (RandomErasing((0.5, 0.5)), lambda before, after: ((after != before).any(1).sum((1, 2)) == 256).all()),
        (RandomBlur(), lambda before, after: (after.std((1, 2, 3)) < before.std((1, 2, 3))).all()),
    ],
)
def test_each_change_does_what_it_says(step: BatchTransform, holds: Callable[..., bool]) -> None:
    images = some_colors()
    assert holds(images, apply(step, images))


def test_a_blur_mixes_each_pixel_with_the_mean_of_five_fewer_at_the_border() -> None:
    step, images = RandomBlur(), some_colors()
    across, down = Draws(numbers(2)).columns
    wanted = images
    for window, padding, share in (((1, 5), (0, 2), across), ((5, 1), (2, 0), down)):
        mean = functional.avg_pool2d(wanted, window, stride=1, padding=padding, count_include_pad=False)
        wanted = torch.lerp(wanted, mean, share[:, None, None, None])
    assert torch.allclose(apply(step, images), wanted, atol=1e-6)


def test_tints_differ_by_channel_and_grays_by_image() -> None:
    gains = (apply(RandomTint((0.5, 0.9)), torch.ones(4, 3, 2, 2)))[:, :, 0, 0]
    assert len(gains.flatten().unique()) == 12
    red = torch.zeros(64, 3, 2, 2)
    red[:, 0] = 1
    assert sorted({round(value, 4) for value in apply(RandomGray(), red)[:, 1, 0, 0].tolist()}) == [0.299, 1.0]


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_change_is_made_to_its_share_of_the_images(where: str) -> None:
    def changed(p: float) -> int:
        steps: dict[str, Any] = {where: [RandomGain((0.5, 0.5), p)]}
        augmentation = BatchAugmentation(SPEC, RandomView(), **steps)
        images = torch.full((1000, 32, 32, 3), 200, dtype=torch.uint8)
        made, _ = augmentation(images, torch.zeros(1000, dtype=torch.int64), numbers(augmentation.num_draws, 1000))
        values = denormalise(made, SPEC).mean((1, 2, 3))
        assert set(values.mul(255).round().tolist()) <= {100.0, 200.0}
        return int((values < 0.5).sum())

    assert changed(0.0) == 0
    assert changed(1.0) == 1000
    assert 250 < changed(0.3) < 350


def datamodule_of(root: Path, *words: str, num_workers: int = 0) -> ImageDataModule:
    cfg = compose_train("data=folder", f"data.root={root}", *TINY, *words, f"data.num_workers={num_workers}")
    return FolderData(make_manifest(root)).make_datamodule(cfg, SPEC)


def epoch_of(datamodule: ImageDataModule, epoch: int) -> torch.Tensor:
    datamodule.sampler.set_epoch(epoch)
    return torch.cat([datamodule.on_after_batch_transfer(batch, 0)[0] for batch in datamodule.train_dataloader()])


def test_draws_differ_between_images_and_epochs_and_workers_change_none(colors: Path) -> None:
    alone, together = datamodule_of(colors, *SIGNS), datamodule_of(colors, *SIGNS, num_workers=2)
    epochs = [epoch_of(alone, epoch) for epoch in (0, 1)]
    images = torch.cat(epochs)
    assert images.shape == (96, 3, 32, 32)
    assert len({image.numpy().tobytes() for image in images}) == 96
    for epoch in (0, 1):
        assert torch.equal(epoch_of(together, epoch), epochs[epoch])


def test_an_image_is_changed_the_same_in_any_batch(colors: Path) -> None:
    large, small = (datamodule_of(colors, *SIGNS, f"data.batch_size={size}") for size in (8, 3))
    assert torch.allclose(epoch_of(large, 2), epoch_of(small, 2)[:48], atol=1e-5)  # 51 images, whole batches


def test_batches_travel_at_the_source_size(colors: Path) -> None:
    module = datamodule_of(colors, "augmentation=signs", "augmentation.batch.source_size=20")
    images, labels, draws = next(iter(module.train_dataloader()))
    assert images.shape == (8, 20, 20, 3)
    assert images.dtype == torch.uint8
    assert draws.shape == (8, module.batch_augmentation.num_draws)  # pyright: ignore[reportOptionalMemberAccess]
    prepared, same = module.on_after_batch_transfer((images, labels, draws), 0)
    assert prepared.shape == (8, 3, 32, 32)
    assert torch.equal(same, labels)


@pytest.mark.parametrize("split", ["val", "test"])
def test_validation_and_test_are_never_augmented(split: str, colors: Path) -> None:
    augmented, plain_module = datamodule_of(colors, *SIGNS), datamodule_of(colors, "augmentation=none")
    batches = (getattr(module, f"{split}_dataloader")() for module in (augmented, plain_module))
    for first, second in zip(*batches, strict=True):
        assert all(torch.equal(*columns) for columns in zip(first, second, strict=True))


def test_a_mirror_image_that_means_another_class_is_never_made(colors: Path) -> None:
    words = ("augmentation=none", "augmentation.batch.horizontal_flip=1")
    upright = epoch_of(datamodule_of(colors, *words, "data.orientation_matters=true"), 0)
    mirrored = epoch_of(datamodule_of(colors, *words), 0)
    assert torch.allclose(upright.flip(3), mirrored, atol=1e-5)
    assert not torch.allclose(upright, mirrored, atol=1e-2)


def test_a_mirror_image_has_the_class_that_the_data_says(colors: Path) -> None:
    words = ("augmentation=none", "augmentation.batch.horizontal_flip=1", "data.orientation_matters=true")
    pairs = "+data.mirror_classes={red: red, green: blue, blue: white}"  # there is no white: blue stays as it is
    upright, module = datamodule_of(colors, *words), datamodule_of(colors, *words, pairs)
    for first, second in zip(upright.train_dataloader(), module.train_dataloader(), strict=True):
        images, labels = upright.on_after_batch_transfer(first, 0)
        made, others = module.on_after_batch_transfer(second, 0)
        assert others.tolist() == [0 if label == 1 else label for label in labels.tolist()], "blue, green, red"
        wanted = torch.where((labels > 0)[:, None, None, None], images.flip(3), images)
        assert torch.allclose(made, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("augmentation.batch.crop_scale=[0,1]", "augmentation.batch.crop_scale=.0.*two shares of the area"),
        ("augmentation.batch.source_size=0", "augmentation.batch.source_size=0: must be a number of pixels"),
        ("augmentation.batch.rotate_degrees=200", "rotate_degrees=200.0: must be from 0 to 180"),
        ("augmentation.batch.horizontal_flip=2", "augmentation.batch.horizontal_flip=2.0: must be a probability"),
        ("+augmentation.batch.after.x={_target_: os.getcwd}", r"x .os.getcwd.: is no batch transform"),
        ("augmentation.batch.before.blur.q=1", "augmentation.batch.before.blur"),
    ],
)
def test_what_cannot_be_is_refused(word: str, message: str, colors: Path) -> None:
    with pytest.raises(BadInput, match=message):
        datamodule_of(colors, *SIGNS, word if "blur.q" not in word else f"+{word}")


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize(
    "step",
    [
        *(RandomGain((0.5, 0.9)), RandomGamma((0.5, 2)), RandomShade((0.5, 0.9)), RandomHaze((0.1, 0.5))),
        *(RandomBlur(), RandomErasing((0.5, 0.5))),
    ],
    ids=lambda step: type(step).__name__,
)
def test_changes_take_any_number_of_channels(step: BatchTransform, channels: int) -> None:
    images = torch.rand(4, channels, 32, 32, generator=torch.manual_seed(0))
    changed = apply(step, images)
    assert changed.shape == images.shape
    assert (changed != images).any(3).any(2).all(), "in each channel"


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_levels_of_16_bits_are_changed_like_those_of_8(channels: int) -> None:
    coarse = torch.randint(0, 256, (4, 32, 32, channels), generator=torch.manual_seed(0))
    made = []
    for bit_depth, images in ((8, coarse.to(torch.uint8)), (16, (coarse * 257).to(torch.uint16))):
        halves = (0.5,) * channels
        spec = TaskSpec(("a", "b"), 24, halves, halves, channels=channels, bit_depth=bit_depth)
        augmentation = BatchAugmentation(
            spec, RandomView(rotate_degrees=20), source_size=32, horizontal_flip=0.5, before=[RandomGain((0.5, 2), p=1)]
        )
        made.append(augmentation(images, torch.tensor([0, 1, 1, 0]), numbers(augmentation.num_draws))[0])
    assert made[0].shape == (4, channels, 24, 24)
    torch.testing.assert_close(made[0], made[1], atol=1e-5, rtol=1e-5)
