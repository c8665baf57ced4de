"""Corruptions: every image altered, the same for the same seed, worse with severity."""

import numpy as np
import pytest
import torch
from tests.evaluation.inputs import Images, make_inputs

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
