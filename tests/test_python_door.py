"""`from sightline import …`: every example of docs/python.md, and what the commands would say."""

import csv
import logging
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import sightline
from sightline import FinishedRun
from sightline.errors import BadInput
from tests.commands import PROJECT
from tests.conftest import Cli

EXAMPLES = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)


def test_every_example_of_the_page_runs(
    trained: Path, colors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other as in a notebook, where Hydra runs already; nothing of the process is changed."""
    shutil.copytree(colors, tmp_path / "photos")
    shutil.copytree(trained, tmp_path / "runs" / "train" / "colors" / "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sightline.runs.project.IS_INSTALLED", True)  # runs/ and data/ are those of this folder
    names: dict[str, Any] = {}
    root, numbers = logging.getLogger(), (signal.SIGINT, signal.SIGTERM)
    before = ([signal.getsignal(number) for number in numbers], list(root.handlers), root.level)
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        there = GlobalHydra.instance().hydra
        for example in EXAMPLES:
            exec(example, names)
        assert GlobalHydra.instance().hydra is there
    assert ([signal.getsignal(number) for number in numbers], list(root.handlers), root.level) == before
    assert names["trained"].metrics == names["result"].metrics
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "photos", "runs"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".cache"]


def test_predictions_are_those_of_the_command(trained: Path, colors: Path, cli: Cli, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(colors / "test", photos)
    (photos / "broken.png").write_text("no picture")
    done = cli("predict", f"run={trained}", f"images={photos}", f"output={tmp_path / 'out'}", f"paths.runs={tmp_path}")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "predictions.csv").open(newline="") as table:
        expected = {row["file"]: (row["class"], row["probability"]) for row in csv.DictReader(table)}
    written = sorted(photos.rglob("*"))
    predictions = FinishedRun.open(trained).predict(photos)
    assert predictions.unreadable == [photos / "broken.png"]
    assert sorted(photos.rglob("*")) == written
    files = [each.file.relative_to(photos).as_posix() for each in predictions if each.file is not None]
    answers = [(each.label, f"{each.probability:.6f}") for each in predictions]
    assert dict(zip(files, answers, strict=True)) == expected
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert predictions.probabilities.dtype == np.float32


def test_pictures_of_any_form_are_the_same(trained: Path, colors: Path, tmp_path: Path) -> None:
    """For a model that came without its run folder."""
    model = shutil.copytree(trained / "model", tmp_path / "model")
    run = FinishedRun.open(model, device="cpu", precision="32-true")
    assert (run.folder, run.metrics, run.history, run.manifest) == (None, {}, [], None)
    file = colors / "test" / "red" / "00.png"
    with Image.open(file) as image:
        array = np.asarray(image.convert("RGB"))
        forms: list[Any] = [file, str(file), image, array, np.stack([array]), [array], iter([str(file)])]
        rows = [run.predict(form).probabilities for form in forms]
    for row in rows:
        np.testing.assert_array_equal(row, rows[0])


def test_what_is_no_picture_is_refused(trained: Path, tmp_path: Path) -> None:
    run = FinishedRun.open(trained)
    (tmp_path / "broken.png").write_text("no picture")
    given: list[tuple[Any, str]] = [
        (tmp_path / "nothing.png", "nothing.png: no such file or folder"),
        (tmp_path / "broken.png", "broken.png: cannot be read as an image"),
        ([tmp_path / "broken.png"], "broken.png: cannot be read as an image"),
        ([tmp_path], "a folder among several pictures"),
        (np.zeros((4, 4, 5)), r"array float64 \(4, 4, 5\): this model takes numbers \(H, W, 3\)"),
        (np.zeros((4, 4, 3), np.complex64), r"array complex64 \(4, 4, 3\): this model takes numbers"),
        (np.zeros((0, 4), np.uint8), r"array uint8 \(0, 4\)"),
        (Image.new("RGB", (0, 4)), "picture 0: cannot be read as an image .* 0 x 4 pixels"),
        ([], "no images found"),
    ]
    for pictures, text in given:
        with pytest.raises(BadInput, match=text):
            run.predict(pictures)
    with pytest.raises(BadInput, match="no such run folder"):
        FinishedRun.open(tmp_path / "nothing")
    with pytest.raises(BadInput, match="tpu: not on this machine"):
        FinishedRun.open(trained, device="tpu")


def test_images_that_have_moved(trained: Path, tmp_path: Path) -> None:
    moved = FinishedRun.open(trained, data_root=tmp_path).manifest
    assert moved is not None
    assert moved.root == tmp_path


def test_the_package_is_light_and_has_no_other_names() -> None:
    heavy = "print(sorted({'torch', 'numpy', 'hydra', 'omegaconf', 'PIL'} & set(sys.modules)))"
    command = [sys.executable, "-c", f"import sys, sightline; {heavy}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(PROJECT / "src")})
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="has no attribute 'finish'"):
        sightline.finish  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
