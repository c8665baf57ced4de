"""Trainings on pictures of any depth: greys of 12 bits, arrays of five bands, digits with one channel."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.conftest import TINY, WITHOUT_FIGURES, compose_config, write_image
from timm.models import adapt_input_conv

from sightline.data.deep_greys import to_8_bit
from sightline.errors import BadInput
from sightline.models.backbones import check_fit, create_backbone
from sightline.models.checkpoint import load_model
from sightline.runs.invocation import Invocation
from sightline.task_spec import TaskSpec
from sightline.training.train import TrainResult, train

SIDE, PER_CLASS = 16, 24
Make = Callable[[int, int], np.ndarray]
"""A picture of a class and a number."""


def near_black(label: int, number: int) -> np.ndarray:
    """12 bits of which the classes differ by 6 of 4096 levels, and not at all once they are 256."""
    return (np.random.default_rng((label, number)).integers(0, 2, (SIDE, SIDE)) + 6 * label).astype(np.uint16)


def band_four(label: int, number: int) -> np.ndarray:
    """Five bands, of which the last is bright in one class."""
    values = np.random.default_rng((label, number)).normal(0, 1, (SIDE, SIDE, 5))
    values[..., 4] += 3 * label
    return values.astype(np.float32)


def write_set(root: Path, make: Make, suffix: str = "npy") -> Path:
    for label, name in enumerate(("left", "right")):
        for number, (split, count) in enumerate((("train", PER_CLASS), ("val", 8), ("test", 8))):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                values = make(label, 1000 * number + index)
                if suffix == "npy":
                    np.save(folder / f"{index}.npy", values)
                else:
                    Image.fromarray(values).save(folder / f"{index}.{suffix}")
    return root


def words_for(root: Path, folder: Path, *words: str) -> list[str]:
    places = (f"paths.runs={folder / 'runs'}", f"paths.cache={folder / 'cache'}", "logger=none")
    settings = ("data=folder", f"data.root={root}", *TINY, *WITHOUT_FIGURES, f"data.image_size={SIDE}", "model.lr=0.01")
    return [*settings, *places, "trainer.precision=32-true", *words]


def train_on(root: Path, folder: Path, *words: str) -> TrainResult:
    """As from the command line, of which the words given here are typed."""
    return train(compose_config("train", *words_for(root, folder, *words)), Invocation(overrides=words))


def spec_of(result: TrainResult) -> TaskSpec:
    return TaskSpec.load(result.run_dir / "model" / "task_spec.json")


def weights_of(result: TrainResult) -> dict[str, torch.Tensor]:
    return load_file(result.run_dir / "model" / "model.safetensors")


def record_of(result: TrainResult) -> dict:
    return json.loads((result.run_dir / "run.json").read_text())


def are_equal(one: TrainResult, other: TrainResult) -> bool:
    ours, theirs = weights_of(one), weights_of(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def bands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("depth") / "bands", band_four)


@pytest.fixture(scope="module")
def bands_run(bands: Path) -> TrainResult:
    return train_on(bands, bands.parent, "trainer.max_epochs=4", "checkpoint.keep=all")


def test_arrays_of_five_bands_are_told_apart_by_the_last(bands_run: TrainResult) -> None:
    spec = spec_of(bands_run)
    assert (spec.channels, spec.bit_depth, spec.kind) == (5, 16, "single")
    assert len(spec.mean) == len(spec.std) == 5
    assert weights_of(bands_run)["conv1.0.weight"].shape[1] == 5
    assert bands_run.metrics["test/accuracy"] == 1
    guesses = {guess["key"]: guess["value"] for guess in record_of(bands_run)["guesses"]}
    assert guesses["data.channels"] == 5
    assert guesses["data.mean"] == pytest.approx(spec.mean)
    assert load_model(bands_run.run_dir).architecture.arguments["in_chans"] == 5


def test_mean_and_std_are_those_of_the_training_images(bands: Path, bands_run: TrainResult) -> None:
    spec = spec_of(bands_run)
    assert spec.value_range is not None
    low, high = spec.value_range
    files = [np.load(file) for file in (bands / "train").rglob("*.npy")]
    values = np.clip((np.stack(files).astype(float) - low) / (high - low), 0, 1).reshape(-1, 5)
    np.testing.assert_allclose(spec.mean, values.mean(0), atol=1e-3)
    np.testing.assert_allclose(spec.std, values.std(0), atol=1e-3)


def test_greys_of_12_bits_keep_them(tmp_path: Path) -> None:
    dark, bright = (to_8_bit(near_black(label, 0), (0, 4095)) for label in (0, 1))
    np.testing.assert_array_equal(dark, bright)
    root = write_set(tmp_path / "greys", near_black, "tif")
    result = train_on(root, tmp_path, "trainer.max_epochs=6", "data.value_range=[0,4095]")
    spec = spec_of(result)
    assert (spec.channels, spec.bit_depth, spec.value_range) == (1, 16, (0, 4095))
    assert result.metrics["test/accuracy"] == 1


def test_what_is_cached_and_who_reads_it_changes_nothing(bands: Path, tmp_path: Path) -> None:
    words = ("stages=[fit]", "+augmentation.transforms.noise={_target_:albumentations.GaussNoise,p:0.5}")
    kept = train_on(bands, tmp_path, *words, "data.cache=always")
    assert are_equal(kept, train_on(bands, tmp_path, *words, "data.cache=off", "data.num_workers=2"))
    plain = train_on(bands, tmp_path, "stages=[fit]", "augmentation=none")
    assert are_equal(plain, train_on(bands, tmp_path, "stages=[fit]", "augmentation=none", "data.device_cache=true"))
    assert not are_equal(kept, plain)


def test_digits_have_one_channel(tmp_path: Path) -> None:
    places = (f"paths.runs={tmp_path / 'runs'}", f"paths.data={tmp_path}", f"paths.cache={tmp_path / 'cache'}")
    words = ("experiment=digits", *places, *TINY, *WITHOUT_FIGURES, "data.batch_size=256", "logger=none")
    result = train(compose_config("train", *words))
    spec = spec_of(result)
    assert (spec.channels, spec.bit_depth, spec.value_range, len(spec.mean)) == (1, 8, None, 1)
    assert weights_of(result)["conv1.0.weight"].shape[1] == 1


@pytest.mark.parametrize(("channels", "expected"), [("1", 1), ("auto", 3)])
def test_greys_among_colours(channels: str, expected: int, tmp_path: Path) -> None:
    root = tmp_path / "mixed"
    for label, (name, color) in enumerate((("blue", (40, 60, 200)), ("red", (200, 60, 40)))):
        for index in range(12):
            write_image(root / name / f"{index}.png", color, seed=20 * label + index)
        Image.fromarray(np.full((32, 32), 99 + label, np.uint8)).save(root / name / "grey.png")
    spec = spec_of(train_on(root, tmp_path, f"data.channels={channels}", "stages=[fit]"))
    assert (spec.channels, spec.bit_depth) == (expected, 8)


def test_a_picture_of_other_channels_is_a_bad_file(bands: Path, tmp_path: Path) -> None:
    root = write_set(tmp_path / "bands", band_four)
    write_image(root / "train" / "left" / "photo.png", (9, 9, 9), seed=1)
    with pytest.raises(BadInput, match=r"train/left/photo.png \(has 3 channels, and the data 5"):
        train_on(root, tmp_path)
    result = train_on(root, tmp_path, "data.on_bad_file=skip", "data.max_bad_fraction=0.1", "stages=[fit]")
    assert record_of(result)["data"]["skipped"]["files"] == {"train/left/photo.png": "other_channels"}
    with pytest.raises(BadInput, match=r"has 5 channels, and the data 3"):
        train_on(root, tmp_path, "data.channels=3")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data.mean=[0.5,0.5,0.5]", "data.std=[0.5,0.5,0.5]"), r"data.mean=.*must be 5 numbers"),
        (("data.channels=5", "data.mean=[0.5]", "data.std=[0.5]"), r"data.mean=.*must be 5 numbers"),
        (("data.display_bands=[0,1,5]",), r"data.display_bands=\[0, 1, 5\].*below the number of channels, 5"),
        (("data.display_bands=[0,1]",), r"data.display_bands=\[0, 1\]: display_bands must be one or three"),
        (("+model.arguments.in_chans=3",), r"model.arguments.in_chans=3 data.channels=5"),
        (("data.channels=0",), r"data.channels=0"),
        (("data.channels=grey",), r"data.channels=grey"),
        (("+augmentation.transforms.hue={_target_:albumentations.HueSaturationValue}",), r"needs red, green and blue"),
        (
            (
                "+augmentation.batch.before.tint={_target_:sightline.data.batch_augmentation.RandomTint,limits:[0.9,1.1]}",
            ),
            r"augmentation.batch.before.tint \(RandomTint\): it needs red, green and blue, and images have 5 channels",
        ),
    ],
)
def test_what_does_not_go_with_five_bands_is_refused_and_nothing_written(
    words: tuple[str, ...], message: str, bands: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        train_on(bands, tmp_path, *words, f"paths.cache={bands.parent / 'cache'}")
    assert not (tmp_path / "runs").exists()


def test_changes_of_colour_are_left_out_by_name(bands: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = train_on(bands, tmp_path, "augmentation=strong", "stages=[fit]", "data.batch_size=48")
    lines = [record.message for record in caplog.records if "is left out" in record.message]
    key, colours = "augmentation.transforms.rand_augment", "it needs red, green and blue, and images have 5 channels"
    assert f"{key} (HueSaturationValue) is left out: {colours}" in lines
    assert any(line.startswith(f"{key} (Equalize) is left out: it does not take images of 5 chan") for line in lines)
    assert spec_of(result).channels == 5


@pytest.mark.parametrize("channels", [1, 5])
def test_weights_for_colours_are_made_to_fit(channels: int, bands: Path, tmp_path: Path) -> None:
    weights, first = tmp_path / "colours.safetensors", "conv1.0.weight"
    coloured = create_backbone("test_resnet", 3)[0].state_dict()
    save_file(coloured, weights)
    check_fit("test_resnet", {}, weights)
    network, _ = create_backbone("test_resnet", 3, arguments={"in_chans": channels}, weights=weights)
    found = network.state_dict()
    torch.testing.assert_close(found[first], adapt_input_conv(channels, coloured[first]))
    torch.testing.assert_close(found["layer1.0.conv1.weight"], coloured["layer1.0.conv1.weight"])


def test_weights_for_other_bands_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "five.safetensors"
    save_file(create_backbone("test_resnet", 3, arguments={"in_chans": 5})[0].state_dict(), weights)
    check_fit("test_resnet", {}, weights)
    create_backbone("test_resnet", 3, arguments={"in_chans": 5}, weights=weights)
    with pytest.raises(BadInput, match=r"weights are for images of 5 channel\(s\), and the data has 1"):
        create_backbone("test_resnet", 3, arguments={"in_chans": 1}, weights=weights)


@pytest.mark.parametrize(("words", "expected"), [(("model.pretrained=false",), None), ((), (0.5, 0.5))])
def test_greys_with_weights_for_colours_have_the_mean_of_the_three(
    words: tuple[str, ...], expected: tuple[float, float] | None, tmp_path: Path
) -> None:
    weights = tmp_path / "colours.safetensors"
    save_file(create_backbone("test_resnet", 3)[0].state_dict(), weights)
    root = write_set(tmp_path / "greys", lambda label, number: near_black(label, number).astype(np.uint8), "png")
    given = words or (f"model.weights={weights}",)
    spec = spec_of(train_on(root, tmp_path, *given, "stages=[fit]", "trainer.max_epochs=1", "data.on_leak=warn"))
    assert spec.channels == 1
    assert ((*spec.mean, *spec.std) == (0.5, 0.5)) == (expected is not None)


def test_a_change_that_rounds_to_8_bits_is_no_change_of_deep_images(bands: Path, tmp_path: Path) -> None:
    """MedianBlur takes floating point, and gives back what 8 bits hold of it; a blur of Gauss keeps them all."""
    blur = "+augmentation.transforms.blur={{_target_:albumentations.{}}}"
    train_on(bands, tmp_path / "soft", blur.format("GaussianBlur"), "stages=[fit]")
    with pytest.raises(BadInput, match=r"augmentation.transforms.blur .MedianBlur.*it rounds to 8 bits"):
        train_on(bands, tmp_path / "median", blur.format("MedianBlur"), "stages=[fit]")
