"""Heat maps by hiding regions."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.exported_models import export_tiny_model

from sightline.serving.contract import Problem
from sightline.serving.occlusion import explain, occlude
from sightline.serving.runtime_predictor import RuntimePredictor
from sightline.task_spec import TaskSpec

MEAN, STD = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)


def spec_of(size: int, channels: int = 3, bit_depth: int = 8) -> TaskSpec:
    return TaskSpec(("bright", "dark"), size, MEAN[:1] * channels, STD[:1] * channels, bit_depth=bit_depth)


def brightness_at(row: slice, column: slice):
    """A model that looks at one place alone: the brighter it is there, the surer of the class `bright`."""

    def run(images: np.ndarray) -> np.ndarray:
        share = images[:, row, column].mean(axis=(1, 2, 3)) / np.iinfo(images.dtype).max
        return np.stack([share, 1 - share], axis=1).astype(np.float32)

    return run


@pytest.mark.parametrize("size", [32, 50, 224])
def test_the_map_is_bright_where_the_model_looks(size: int) -> None:
    seen = slice(round(3 * size / 8), size // 2)
    found = occlude(brightness_at(seen, seen), np.full((size, size, 3), 255, np.uint8), spec_of(size))
    left, top, right, bottom = found.box
    assert found.label == 0
    assert found.probability == pytest.approx(1)
    assert found.drop == pytest.approx(1 - 128 / 255, abs=0.01)  # white becomes the mean colour
    assert left <= 3 * size // 8
    assert top <= 3 * size // 8
    assert min(right, bottom) >= size // 2
    assert np.unravel_index(found.map.argmax(), found.map.shape) == (3, 3)
    assert found.map[5:, 5:].max() == pytest.approx(0, abs=1e-6)


def test_the_drawn_map_is_coloured_there_and_grey_elsewhere() -> None:
    seen = slice(8, 16)
    pixels = np.full((64, 64, 3), 255, np.uint8)
    heat_map = explain(brightness_at(seen, seen), pixels, spec_of(64))
    drawn = np.asarray(Image.open(io.BytesIO(heat_map.png))).astype(int)
    assert drawn.shape == (448, 448, 3)
    assert heat_map.label == "bright"
    is_grey = (drawn.max(axis=2) - drawn.min(axis=2)) < 3
    assert is_grey[250:, 250:].all()
    assert not is_grey[64:104, 64:104].any()


def test_a_model_that_looks_nowhere_has_a_map_without_colours() -> None:
    heat_map = explain(
        lambda images: np.full((len(images), 2), 0.5, np.float32), np.zeros((32, 32, 3), np.uint8), spec_of(32)
    )
    drawn = np.asarray(Image.open(io.BytesIO(heat_map.png)))
    assert heat_map.drop == 0
    assert (drawn == drawn[..., :1]).all()


def test_pictures_of_few_pixels_have_maps() -> None:
    found = occlude(brightness_at(slice(0, 1), slice(0, 1)), np.full((1, 1, 3), 255, np.uint8), spec_of(1))
    assert found.drop > 0


def test_it_ends_where_its_time_is_over() -> None:
    with pytest.raises(Problem, match="longer") as raised:
        explain(brightness_at(slice(9), slice(9)), np.zeros((32, 32, 3), np.uint8), spec_of(32), seconds=-1)
    assert raised.value.status == 503


def test_bands_of_16_bits_are_explained_by_their_exported_graph(tmp_path: Path) -> None:
    predictor = RuntimePredictor.open(export_tiny_model(tmp_path, channels=5, value_range=(0, 4000)))
    picture = io.BytesIO()
    np.save(picture, np.random.default_rng(0).integers(0, 4000, (40, 40, 5)).astype(np.uint16))
    heat_map = predictor.explain(picture.getvalue())
    (answer,) = predictor.answer([picture.getvalue()], ["1"])
    assert not isinstance(answer, Problem)
    assert heat_map.label == answer.label
    assert heat_map.probability == pytest.approx(answer.probability, abs=1e-5)
    assert Image.open(io.BytesIO(heat_map.png)).size == (448, 448)
