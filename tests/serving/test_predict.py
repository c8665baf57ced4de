"""Which photos `predict.py` and `explain.py` take, and what is said of them."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Cli, compose_config
from tests.saved_models import save_tiny_model

from sightline.data.collection.image_files import find_named
from sightline.data.display import to_display
from sightline.errors import BadInput
from sightline.serving.predict import predict


@pytest.fixture
def photos(colors: Path, tmp_path: Path) -> Path:
    """Fifteen photos in two folders, one of them with an odd name."""
    for number, file in enumerate(sorted((colors / "test").rglob("*.png"))[:15]):
        target = tmp_path / "photos" / ("new" if number % 2 else "old (1), #2") / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return tmp_path / "photos"


def test_a_pattern_several_paths_or_a_folder(photos: Path) -> None:
    new, old = photos / "new", photos / "old (1), #2"
    assert find_named(str(new)) == (sorted(new.iterdir()), new)
    assert find_named(str(new / "1.png")) == ([new / "1.png"], new)
    assert find_named(f"{new}/1*.png") == ([new / "1.png", new / "11.png", new / "13.png"], new)
    assert find_named([str(new / "1.png"), str(old / "0.png"), f"{new}/?.png"])[1] == photos
    files, base = find_named([f"{photos}/*", str(new / "1.png")])
    assert (len(files), base) == (15, photos)
    assert find_named(f"{photos}/**/0.png") == ([old / "0.png"], old)
    (photos / "[1]").mkdir()
    shutil.copy(new / "1.png", photos / "[1]" / "*.png")
    assert find_named(str(photos / "[1]" / "*.png")) == ([photos / "[1]" / "*.png"], photos / "[1]")
    with pytest.raises(BadInput, match=r"images=/no/\*.png: no such file or folder"):
        find_named([str(new), "/no/*.png"])


def test_photos_as_words_of_the_command(photos: Path, trained: Path, cli: Cli, tmp_path: Path) -> None:
    words = [f"run={trained}", f"paths.runs={tmp_path}"]
    done = cli("predict", *words, f"{photos}/*/*.png", f"output={tmp_path / 'all'}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 12
    assert lines[10] == "… and 5 more in predictions.csv"
    one, two = photos / "old (1), #2" / "0.png", photos / "new" / "1.png"
    done = cli("predict", *words, str(one), str(two), "pictures=true", f"output={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    assert " more in " not in done.stdout
    with (tmp_path / "two" / "predictions.csv").open(newline="") as table:
        assert [row["file"] for row in csv.DictReader(table)] == ["old (1), #2/0.png", "new/1.png"]
    assert (tmp_path / "two" / "pictures" / "old (1), #2" / "0.png.png").is_file()


def test_explanations_of_several_photos(photos: Path, trained: Path, cli: Cli, tmp_path: Path) -> None:
    typed = f"images={photos}/new/1.png,{photos}/old (1), #2/0.png"
    words = ["explanation=grad_cam", f"output={tmp_path / 'out'}"]
    done = cli("explain", f"run={trained}", typed, *words)
    assert done.returncode == 2  # the comma in the folder's name: neither a path nor several
    done = cli("explain", f"run={trained}", f"images={photos}/new/1.png", f"{photos}/old (1), #2/0.png", *words)
    assert done.returncode == 0, done.stderr
    explained = json.loads((tmp_path / "out" / "explanations" / "explanations.json").read_text())
    assert [image["image"] for image in explained["images"]] == ["new/1.png", "old (1), #2/0.png"]


def test_uncertain_photos_are_counted_in_a_sentence(photos: Path, trained: Path, cli: Cli, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    done = cli("predict", f"run={run}", f"images={photos}", f"output={tmp_path / 'sure'}")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "sure" / "predictions.csv").open(newline="") as table:
        probabilities = [float(row["probability"]) for row in csv.DictReader(table)]
    threshold = (min(probabilities) + max(probabilities)) / 2
    expected = sum(probability < threshold for probability in probabilities)
    assert 0 < expected < len(probabilities)
    spec = json.loads((run / "model" / "task_spec.json").read_text())
    spec["calibration"] |= {"threshold": threshold, "target_accuracy": 0.9}
    (run / "model" / "task_spec.json").write_text(json.dumps(spec))
    done = cli("predict", f"run={run}", f"images={photos}", f"output={tmp_path / 'unsure'}")
    said = (
        f"{expected} of 15 photos are uncertain (confidence below {100 * threshold:.3g} %, above which 90 % were right"
    )
    assert said in done.stderr
    record = json.loads((tmp_path / "unsure" / "run.json").read_text())
    assert (record["num_below_threshold"], record["threshold"]) == (expected, threshold)


@pytest.mark.parametrize(("channels", "bands"), [(5, (3, 1, 0)), (5, None), (1, None)])
def test_pictures_of_arrays_and_of_deep_greys(channels: int, bands: tuple[int, ...] | None, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", channels, (0, 4095), display_bands=bands)
    (tmp_path / "photos").mkdir()
    values = np.random.default_rng(0).integers(0, 4096, (300, 250, channels), np.uint16)
    np.save(tmp_path / "photos" / "scene.npy", values)
    np.save(tmp_path / "photos" / "seven.npy", np.zeros((32, 32, 7), np.uint16))
    words = [f"run={model}", f"images={tmp_path / 'photos'}", "pictures=true", f"output={tmp_path / 'out'}"]
    result = predict(compose_config("predict", *words, "accelerator=cpu", f"paths.runs={tmp_path}"))
    assert result.files == [tmp_path / "photos" / "scene.npy"]
    assert result.unreadable == [tmp_path / "photos" / "seven.npy"]
    with Image.open(tmp_path / "out" / "pictures" / "scene.npy.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))[-300:]
    levels = np.rint(values * (65535 / 4095)).astype(np.uint16)
    np.testing.assert_allclose(pixels, to_display(levels, bands).astype(int), atol=1)
