"""Corruptions: every image altered, the same for the same seed, worse with severity."""

from itertools import product

import numpy as np
import pytest
import torch
from tests.evaluation.inputs import Images, make_inputs, make_spec

from sightline.errors import BadInput
from sightline.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from sightline.evaluation.robustness import Corruptions


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_image_is_altered_and_can_be_repeated(name: str, size: int) -> None:
    for number, image in enumerate(Images(2, size).pixels.numpy()):
        for severity in (1, 3, 5):
            damaged = corrupt(image, name, severity, (0, number))
            assert damaged.shape == image.shape
            assert damaged.dtype == np.uint8
            assert not np.array_equal(damaged, image), severity
            assert np.array_equal(damaged, corrupt(image, name, severity, (0, number)))


FITTING = [
    (name, bit_depth, channels)
    for name, bit_depth, channels in product(CORRUPTIONS, (8, 16), (1, 2, 3, 5))
    if CORRUPTIONS[name].fits(make_spec(channels, bit_depth))
]


@pytest.mark.parametrize(("name", "bit_depth", "channels"), FITTING)
def test_images_of_any_depth_are_altered_alike(name: str, bit_depth: int, channels: int) -> None:
    image = Images(1, channels=channels, bit_depth=bit_depth).pixels.numpy()[0]
    damaged = corrupt(image, name, 3, (0, 1))
    assert damaged.shape == image.shape
    assert damaged.dtype == image.dtype
    assert np.array_equal(damaged, corrupt(image, name, 3, (0, 1)))
    by_band = np.abs(damaged.astype(float) - image).mean(axis=(0, 1)) / np.iinfo(image.dtype).max
    assert by_band.min() > 0.003, "every band"
    if bit_depth == 16:  # as strong as with eight bits, but for the draws of noise
        shallow = Images(1, channels=channels).pixels.numpy()[0]
        usual = np.abs(corrupt(shallow, name, 3, (0, 1)).astype(float) - shallow).mean() / 255
        assert by_band.mean() == pytest.approx(usual, rel=0.15)
        assert len(np.unique(damaged % 257)) > 10, "levels that eight bits do not have"


@pytest.mark.parametrize(
    ("channels", "bit_depth", "left_out"),
    [
        (3, 8, []),
        (3, 16, ["snow", "fog", "jpeg_compression", "pixelate"]),
        (1, 8, ["snow", "fog", "spatter", "saturate"]),
        (5, 8, ["snow", "fog", "spatter", "saturate", "jpeg_compression"]),
        (5, 16, ["snow", "fog", "spatter", "saturate", "jpeg_compression", "pixelate"]),
    ],
)
def test_what_needs_colours_or_eight_bits_is_left_out_and_named(
    channels: int, bit_depth: int, left_out: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    names = ["contrast", "gaussian_noise", "snow", "fog", "spatter", "saturate", "jpeg_compression", "pixelate"]
    section = Corruptions(names, [3], 7)(make_inputs(count=14, spec=make_spec(channels, bit_depth)))
    measured = [name for name in names if f"test/corruption/{name}/3/accuracy" in section.metrics]
    assert measured == [name for name in names if name not in left_out]
    values = [section.metrics[f"test/corruption/{name}/3/accuracy"] for name in measured]
    assert section.metrics["test/corruption/mean_accuracy"] == pytest.approx(np.mean(values))
    said = f"and of the mean: {len(left_out)} of 8 kinds of damage"
    assert (said in section.text) == (said in caplog.text) == bool(left_out)
    assert all(name in section.text for name in left_out)
    (pictures,) = section.pictures.values()
    assert len(pictures) == 1 + len(measured)
    for picture in pictures:
        assert picture.pixels.shape == (32, 32, 3)
        assert picture.pixels.dtype == np.uint8


def test_nothing_is_measured_where_nothing_fits() -> None:
    section = Corruptions(["snow"], [3])(make_inputs(count=14, spec=make_spec(1)))
    assert section.metrics == {}
    assert "1 of 1 kinds of damage" in section.text
    assert "snow (8 bits of red, green and blue)" in section.text


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"spatter", "saturate", "glass_blur"}))
def test_severity_grows(name: str) -> None:
    images = Images(4, 96).pixels.numpy()
    texture = np.random.default_rng(0).integers(-25, 25, images.shape)
    images = (images.astype(int) + texture).clip(0, 255).astype(np.uint8)
    distances = []
    for severity in (1, 3, 5):
        damaged = [corrupt(image, name, severity, (0, number)) for number, image in enumerate(images)]
        distances.append(np.abs(np.array(damaged, int) - images).mean())
    assert distances[-1] > 1.05 * distances[0], distances


def test_random_corruptions_differ_between_images_and_seeds() -> None:
    image = Images(1).pixels.numpy()[0]
    draws = [corrupt(image, "gaussian_noise", 3, key) for key in ((0, 0), (0, 1), (1, 0))]
    assert not np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_the_section_measures_what_the_network_says_of_damaged_images() -> None:
    inputs = make_inputs(count=40)
    section = Corruptions(["gaussian_noise", "contrast"], [1, 5], 21)(inputs)
    chosen = inputs.choose_balanced(21)
    assert np.bincount(inputs.labels[chosen]).tolist() == [3] * 7, "balanced"
    metrics = section.metrics
    assert metrics["test/corruption/altered_images"] == 1
    assert metrics["test/corruption/clean_accuracy"] == inputs.predictions.is_right[chosen].mean()
    four = [
        metrics[f"test/corruption/{name}/{severity}/accuracy"]
        for name in ("gaussian_noise", "contrast")
        for severity in (1, 5)
    ]
    assert metrics["test/corruption/mean_accuracy"] == pytest.approx(np.mean(four))
    images = next(inputs.pixels(chosen.tolist())).numpy()
    damaged = [corrupt(image, "contrast", 5, (0, 0)) for image in images]  # contrast draws nothing
    predicted = inputs.runner.predict(iter([torch.from_numpy(np.stack(damaged))])).argmax(1)
    expected = (predicted == inputs.labels[chosen]).double().mean()
    assert metrics["test/corruption/contrast/5/accuracy"] == pytest.approx(float(expected))
    assert [len(pictures) for pictures in section.pictures.values()] == [3]


def test_all_families_are_the_default() -> None:
    evaluator = Corruptions()
    assert evaluator.names == list(CORRUPTIONS)
    assert tuple(evaluator.severities) == SEVERITIES


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"names": ["gausian_noise"]}, "did you mean gaussian_noise"),
        ({"severities": [0, 1]}, "severities 1 to 5"),
        ({"max_images": 0}, "1 or more"),
    ],
)
def test_bad_options_are_refused(options: dict, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Corruptions(**options)
