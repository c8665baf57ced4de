"""data.max_pixels: images with more are named, with the number and the key, wherever images are opened."""

from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import BARE, COLORS, Cli, compose_task, compose_train, write_image

from sightline import FinishedRun
from sightline.data.opening import open_files
from sightline.data.prepare import prepare
from sightline.errors import BadInput
from sightline.runs.files import read_json

NAMED = r"slide.png.*3,200 pixels are more than data.max_pixels={} allows.*data.max_pixels=3200"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two colours, and one image that is larger than the others."""
    root = tmp_path / "two"
    for number, name in enumerate(("blue", "red")):
        for index in range(6):
            write_image(root / "train" / name / f"{index}.png", COLORS[name], seed=100 * number + index)
    write_image(root / "train" / "red" / "slide.png", COLORS["red"], seed=9, size=(80, 40))
    return root


def words(root: Path) -> list[str]:
    paths = (f"paths.runs={root.parent / 'runs'}", f"paths.cache={root.parent / 'cache'}")
    return ["data=folder", f"data.root={root}", *paths]


def test_the_audit_names_them_or_leaves_them_out(root: Path) -> None:
    with pytest.raises(BadInput, match=NAMED.format(2000)):
        prepare(compose_task("prepare", *words(root), "data.max_pixels=2000"))
    settings = ("data.max_pixels=2000", "data.on_bad_file=skip", "data.max_bad_fraction=0.5")
    result = prepare(compose_task("prepare", *words(root), *settings, "pin=false"))
    skipped = read_json(result.run_dir / "run.json")["data"]["skipped"]["files"]
    assert skipped == {"train/red/slide.png": "too_many_pixels"}
    assert open_files(compose_train(*words(root), "data.max_pixels=3200")).skipped == {}


def test_a_training_without_an_audit_names_them(root: Path, cli: Cli, tmp_path: Path) -> None:
    settings = ("data.audit=skip", "data.max_pixels=2000", "data.manifest=none", f"output={tmp_path / 'run'}")
    done = cli("train", *words(root), *BARE, *settings, "data.test_fraction=0")
    assert done.returncode != 0
    assert "slide.png: 3,200 pixels are more than data.max_pixels=2000" in done.stderr


def test_prediction_and_explanation_name_them_or_take_them(trained: Path, root: Path, cli: Cli, tmp_path: Path) -> None:
    slide = root / "train" / "red" / "slide.png"
    runs = f"paths.runs={tmp_path / 'runs'}"
    for task in ("predict", "explain"):
        done = cli(task, f"run={trained}", f"images={slide}", "data.max_pixels=2000", runs)
        assert done.returncode == 2, done.stderr
        assert "slide.png: 3,200 pixels are more than data.max_pixels=2000" in done.stderr
    done = cli("predict", f"run={trained}", f"images={slide}", "data.max_pixels=3200", runs)
    assert done.returncode == 0, done.stderr
    with pytest.raises(BadInput, match="data.max_pixels=2000"):
        FinishedRun.open(trained).predict(slide, max_pixels=2000)


def test_a_finished_run_goes_by_what_its_training_allowed(trained: Path, tmp_path: Path) -> None:
    """Beyond Pillow's own limit nothing is opened unasked, and no warning of Pillow's is shown."""
    with (tmp_path / "slide.pgm").open("wb") as raw:
        raw.write(b"P5 19000 10000 255\n")
        raw.truncate(raw.tell() + 190_000_000)
    run = FinishedRun.open(trained)
    assert run.max_pixels == 178_956_970
    with pytest.raises(BadInput, match="slide.pgm: 190,000,000 pixels are more than data.max_pixels=178956970"):
        run.predict(tmp_path / "slide.pgm")
    assert len(run.predict(tmp_path / "slide.pgm", max_pixels=200_000_000)) == 1
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "slide.pgm")
