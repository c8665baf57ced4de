"""Deep greys of a data set: one range for all of them, found or given, and obeyed wherever pixels are prepared."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import BARE, Cli, compose_task, compose_train

from sightline import FinishedRun
from sightline.data.opening import open_data, open_files
from sightline.data.prepare import prepare
from sightline.data.training_data import FolderData
from sightline.data.transforms import load, load_rgb
from sightline.data.transforms import prepare as prepare_pixels
from sightline.errors import BadInput
from sightline.runs.files import read_json
from sightline.task_spec import TaskSpec
from sightline.training.train import train

Make = Callable[[np.ndarray], np.ndarray | Image.Image]


def write_patches(
    root: Path, make: Make = np.asarray, *, count: int = 12, split: str = "train", start: int = 0
) -> None:
    """Two classes of 12-bit greys that differ in where the light patch is, as radiographs do."""
    for name, left in (("left", True), ("right", False)):
        folder = root / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(start, start + count):
            values = np.random.default_rng((number, left)).integers(0, 40, (32, 32))
            values[8:24, (2 if left else 18) : (14 if left else 30)] += 200
            made = make(values.astype(np.uint16))
            image = made if isinstance(made, Image.Image) else Image.fromarray(made)
            image.save(folder / f"{number:02d}.tif")


def config(root: Path, *words: str) -> Any:
    folder = root.parent
    paths = (f"paths.runs={folder / 'runs'}", f"paths.cache={folder / 'cache'}")
    return compose_train("data=folder", f"data.root={root}", *paths, *BARE, *words)


def opened(root: Path, *words: str) -> FolderData:
    data = open_data(config(root, *words))
    assert isinstance(data, FolderData)
    return data


def findings(data: FolderData) -> dict[str, list[dict[str, Any]]]:
    assert data.report is not None
    found: dict[str, list[dict[str, Any]]] = {}
    for each in read_json(data.report / "audit.json")["findings"]:
        found.setdefault(each["kind"], []).append(each)
    return found


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("deep") / "patches"
    write_patches(root)
    return root


@pytest.fixture(scope="module")
def deep_run(patches: Path) -> Path:
    """A finished run on deep greys."""
    learn = ("trainer.max_epochs=10", "model.lr=0.01", "data.orientation_matters=true", "data.cache=always")
    return train(config(patches, *learn, f"output={patches.parent / 'run'}")).run_dir


def test_the_range_is_found_and_said_and_the_patch_is_seen(patches: Path) -> None:
    data = opened(patches)
    assert data.value_range == (0, 239)
    channels, guess = data.guesses
    assert str(channels) == "guessed data.channels=1 (24 of 24 images are greys)"
    assert str(guess).startswith("guessed data.value_range=[0,239] (24 of 24 images are greys of more than 8 bits")
    pixels = np.asarray(load_rgb(patches / "train" / "left" / "00.tif", data.value_range))
    assert pixels[8:24, 2:14].mean() > 200
    assert pixels[8:24, 18:30].mean() < 40
    assert not findings(data), "lost contrast would make the images equal"
    assert data.report is not None
    assert read_json(data.report / "audit.json")["summary"]["value_range"] == [0, 239]
    assert "0 to 239" in (data.report / "audit.html").read_text(encoding="utf-8")


def test_two_classes_of_deep_greys_are_learnt(deep_run: Path) -> None:
    assert read_json(deep_run / "metrics.json")["test/accuracy"] == 1
    assert TaskSpec.load(deep_run / "model" / "task_spec.json").value_range == (0, 239)
    keys = ["data.mean", "data.std", "data.channels", "data.value_range"]
    assert [guess["key"] for guess in read_json(deep_run / "run.json")["guesses"]] == keys


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda values: values * np.uint16(17), (0, 4063)),
        (lambda values: values.astype(np.int32) * 10 - 1024, (-1024, 1366)),
        (lambda values: values.astype(np.float32) / 239, (0, 1)),
        (lambda values: (values / 239 * 1e-3 + 1).astype(np.float32), (1, 1.001)),
        (lambda values: (values * 1e28).astype(np.float32), (0, 2.39e30)),
        (lambda values: np.where(values == 5, np.nan, values.astype(np.float32)), (0, 239)),
        (lambda values: Image.fromarray(values.astype(np.uint8)), None),
    ],
    ids=["12 bits", "signed", "0 to 1", "a small part", "huge", "no numbers", "8 bits"],
)
def test_greys_of_any_type_have_a_range(make: Make, expected: tuple[float, float] | None, tmp_path: Path) -> None:
    write_patches(tmp_path / "patches", make)
    data = opened(tmp_path / "patches")
    assert data.value_range == (expected and pytest.approx(expected))
    assert not findings(data)
    pixels = np.asarray(load_rgb(tmp_path / "patches" / "train" / "left" / "00.tif", data.value_range))
    assert pixels[8:24, 2:14].mean() > pixels[8:24, 18:30].mean() + 150


@pytest.mark.filterwarnings("error:overflow")
def test_a_value_beyond_32_bits_does_not_end_the_search(tmp_path: Path) -> None:
    """It stretches the range like any other odd value."""
    write_patches(tmp_path / "patches", count=4)
    np.save(tmp_path / "patches" / "train" / "left" / "odd.npy", np.full((32, 32), 1e300))
    low, high = opened(tmp_path / "patches").value_range or (0, 0)
    assert low == 0
    assert 1e38 < high < 1e39


def test_8_bit_images_among_deep_ones_stay_as_they_are_and_are_counted(tmp_path: Path) -> None:
    write_patches(tmp_path / "patches")
    write_patches(tmp_path / "patches", lambda values: values.astype(np.uint8), count=3, start=20)
    data = opened(tmp_path / "patches")
    assert data.value_range == (0, 239)
    assert "24 of 30 images are greys of more than 8 bits" in str(data.guesses[1])
    assert "the 6 of 8 bits stay 0 to 255" in str(data.guesses[1])


def test_nothing_of_the_test_set_goes_into_the_range(tmp_path: Path) -> None:
    write_patches(tmp_path / "patches")
    write_patches(tmp_path / "patches", lambda values: values * np.uint16(100), count=3, start=20, split="test")
    assert opened(tmp_path / "patches").value_range == (0, 239)


def test_a_range_that_is_given_is_obeyed_and_what_it_hides_is_a_finding(tmp_path: Path) -> None:
    write_patches(tmp_path / "patches")
    data = opened(tmp_path / "patches", "data.value_range=[0,65535]")
    assert data.value_range == (0, 65535)
    assert "data.value_range" not in [guess.key for guess in data.guesses]
    (flat,) = findings(data)["flat"]
    assert len(flat["files"]) == 24
    assert "24 images are of one colour alone with data.value_range=[0,65535]" in flat["detail"]
    assert "0 to 239" in flat["detail"]
    assert set(findings(data)) == {"flat"}, "what looks equal only for want of contrast is no duplicate"
    assert opened(tmp_path / "patches").num_findings == {}, "another range is another audit"


def test_images_of_one_colour_are_a_finding_at_any_depth(colors: Path, tmp_path: Path) -> None:
    root = tmp_path / "colors"
    (root / "train").mkdir(parents=True)
    for folder in (colors / "train").iterdir():
        (root / "train" / folder.name).symlink_to(folder)
    Image.new("RGB", (32, 32), (7, 8, 9)).save(tmp_path / "flat.png")
    hidden = Image.new("LA", (32, 32), (255, 0))
    hidden.paste((255, 255), (4, 4, 12, 12))
    dotted = Image.new("RGB", (900, 900), (7, 8, 9))
    dotted.putpixel((450, 450), (8, 8, 9))
    (root / "train" / "more").mkdir()
    Image.open(tmp_path / "flat.png").save(root / "train" / "more" / "flat.png")
    hidden.save(root / "train" / "more" / "white on white.png")
    dotted.save(root / "train" / "more" / "dotted.png")
    Image.fromarray(np.full((32, 32), 900, np.uint16)).save(root / "train" / "more" / "deep.tif")
    (flat,) = findings(opened(root))["flat"]
    assert flat["files"] == [f"train/more/{name}" for name in ("deep.tif", "flat.png", "white on white.png")]


def test_a_range_for_images_of_8_bits_alone_is_refused(colors: Path, tmp_path: Path) -> None:
    words = (f"paths.cache={tmp_path}", "data.value_range=[0,4095]")
    with pytest.raises(BadInput, match=r"data.value_range=\[0,4095\]: it is for images of more than 8 bits.*drop it"):
        open_data(compose_train("data=folder", f"data.root={colors}", *BARE, *words))


@pytest.mark.parametrize("value", ["[5]", "[5,5]", "[9,1]", "wide", "[0,.inf]", "12"])
def test_what_is_no_range_is_refused(value: str) -> None:
    with pytest.raises(BadInput, match=r"data.value_range=.*must be auto, or two numbers.*like \[0,4095\]"):
        compose_train(f"data.value_range={value}")


def test_a_few_odd_files_that_stretch_the_range_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_patches(tmp_path / "patches")
    write_patches(tmp_path / "patches", lambda values: values * np.uint16(200), count=1, start=20)
    assert opened(tmp_path / "patches", "data.manifest=none").value_range is not None
    assert "half of the deep images fill fewer than" in caplog.text
    assert "set data.value_range" in caplog.text


def test_without_an_audit_a_sample_tells_the_range(tmp_path: Path) -> None:
    write_patches(tmp_path / "patches")
    data = opened(tmp_path / "patches", "data.audit=skip")
    assert data.value_range == (0, 239)
    assert "24 of a sample of 24 images" in str(data.guesses[1])
    given = opened(tmp_path / "patches", "data.audit=skip", "data.value_range=[0,300]")
    assert (given.value_range, [guess.key for guess in given.guesses]) == ((0, 300), ["data.channels"])


def test_files_cache_and_shards_give_the_same_pixels(patches: Path, deep_run: Path, tmp_path: Path) -> None:
    spec = TaskSpec.load(deep_run / "model" / "task_spec.json")
    data = opened(patches)
    expected = np.stack([prepare_pixels(load(path, spec), spec) for path in data.manifest.select("test").paths])
    assert (expected.dtype, expected.shape[-1]) == (np.uint16, 1)
    (cached,) = data.make_loader("test", spec, batch_size=64, num_workers=0)
    assert data.cache is not None
    assert data.make_loader("test", spec, batch_size=64, num_workers=0).dataset.store is not None  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_array_equal(cached[0].numpy(), expected)
    pytest.importorskip("litdata")
    paths = (f"paths.runs={tmp_path}", f"paths.cache={tmp_path / 'cache'}")
    words = (f"data.root={patches}", "pin=false", f"shards={tmp_path / 'packed'}")
    prepare(compose_task("prepare", "data=folder", *words, *paths))
    shards = open_data(compose_train("data=shards", f"data.root={tmp_path / 'packed'}", *paths, *BARE))
    assert shards.value_range == (0, 239)
    (packed,) = shards.make_loader("test", spec, batch_size=64, num_workers=0)
    np.testing.assert_array_equal(packed[0].numpy(), expected)


def test_another_range_is_another_store(patches: Path, deep_run: Path) -> None:
    spec = TaskSpec.load(deep_run / "model" / "task_spec.json")
    wider = TaskSpec.from_dict({**spec.to_dict(), "value_range": [0, 4095]})
    data = opened(patches)
    (narrow,), (wide,) = (data.make_loader("test", each, batch_size=64, num_workers=0) for each in (spec, wider))
    assert narrow[0].numpy().max() > 200 * 257
    assert wide[0].numpy().max() < 20 * 257


def test_a_finished_run_reads_files_images_and_arrays_alike(
    patches: Path, deep_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = FinishedRun.open(deep_run, device="cpu")
    files = sorted((patches / "train").rglob("*.tif"))
    expected = run.predict(files)
    assert np.mean([each.label == file.parent.name for each, file in zip(expected, files, strict=True)]) > 0.9
    arrays = [np.asarray(Image.open(file)) for file in files]
    for pictures in ([Image.open(file) for file in files], arrays, [each.astype(np.float64) for each in arrays]):
        np.testing.assert_array_equal(run.predict(pictures).probabilities, expected.probabilities)
    assert not caplog.text
    run.predict(np.zeros((32, 32, 3), np.uint8))
    assert "1 of 1 image(s) have 8 bits, and the model was trained on deeper ones (0 to 239" in caplog.text


def test_commands_obey_the_range_of_the_run(patches: Path, deep_run: Path, cli: Cli, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_patches(photos, count=2, start=40)
    Image.new("L", (32, 32), 90).save(photos / "train" / "left" / "eight.png")
    runs = f"paths.runs={tmp_path / 'runs'}"
    done = cli("predict", f"run={deep_run}", f"images={photos}", "pictures=true", f"output={tmp_path / 'p'}", runs)
    assert done.returncode == 0, done.stderr
    assert "1 of 5 image(s) have 8 bits" in done.stdout + done.stderr
    with (tmp_path / "p" / "predictions.csv").open(encoding="utf-8") as table:
        rows = [row for row in csv.DictReader(table) if row["file"].endswith(".tif")]
    assert [row["class"] for row in rows] == [Path(row["file"]).parent.name for row in rows]
    shown = np.asarray(Image.open(tmp_path / "p" / "pictures" / "train" / "left" / "40.tif.png"))
    assert shown[-200:].std() > 50
    words = (f"images={photos / 'train' / 'right'}", "explanation.methods=[grad_cam]", f"output={tmp_path / 'e'}")
    done = cli("explain", f"run={deep_run}", *words, runs)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "e" / "explanations" / "explanations.json").read_text(encoding="utf-8"))
    assert {each["predicted"] for each in found["images"]} == {"right"}


def test_a_measured_folder_of_another_depth_is_said(deep_run: Path, cli: Cli, tmp_path: Path) -> None:
    write_patches(tmp_path / "other", lambda values: values.astype(np.uint8), split="test")
    words = (f"data.root={tmp_path / 'other'}", f"paths.runs={tmp_path / 'runs'}", "evaluation=short")
    done = cli("evaluate", f"run={deep_run}", *words)
    assert done.returncode == 0, done.stderr
    assert "24 of 24 image(s) have 8 bits, and the model was trained on deeper ones" in done.stdout + done.stderr


def test_deep_greys_shown_to_a_model_of_8_bits_are_not_black(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.tile(np.linspace(0, 4095, 32).astype(np.uint16), (32, 1))
    Image.fromarray(values).save(tmp_path / "deep.tif")
    Image.fromarray((values >> 4).astype(np.uint8)).save(tmp_path / "eight.png")
    run = FinishedRun.open(trained, device="cpu")
    deep, eight = (run.predict(tmp_path / name).probabilities for name in ("deep.tif", "eight.png"))
    np.testing.assert_allclose(deep, eight, atol=0.02)
    assert "1 of 1 image(s) have more than 8 bits, and the model was trained on 8" in caplog.text


def test_prepare_keeps_the_guess(tmp_path: Path) -> None:
    write_patches(tmp_path / "patches")
    paths = (f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}")
    result = prepare(compose_task("prepare", "data=folder", f"data.root={tmp_path / 'patches'}", *paths))
    _, guess = read_json(result.run_dir / "run.json")["guesses"]
    assert (guess["key"], guess["value"]) == ("data.value_range", [0, 239])
    assert open_files(config(tmp_path / "patches")).value_range == (0, 239)
