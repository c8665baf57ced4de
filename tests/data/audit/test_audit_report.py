"""The audit's page: self-contained, small, and made whatever the pictures are like."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import compose_train
from tests.data.audit.test_audit import scene, tabulate

from sightline.data.audit.audit import Audit, Finding, audit
from sightline.data.audit.inspection import inspect_files
from sightline.data.audit.report import describe, write_report
from sightline.data.display import to_display
from sightline.data.manifest import Manifest
from sightline.data.opening import open_files


def audit_folder(root: Path) -> tuple[Audit, Manifest]:
    manifest = tabulate(root)
    return audit(manifest, inspect_files(root, manifest.paths, index=None)), manifest


def save(root: Path, path: str, image: Image.Image) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)
    return file


def report(root: Path, page: Path) -> str:
    result, manifest = audit_folder(root)
    write_report(result, manifest, page)
    return page.read_text(encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "animals"
    for number in range(10):
        save(root, f"train/cat/c{number}_0.png", scene(number))
        save(root, f"train/dog/d{number}_0.jpg", scene(100 + number))
    return root


def test_a_clean_data_set_has_a_clean_page(root: Path, tmp_path: Path) -> None:
    text = report(root, tmp_path / "audit.html")
    assert "Nothing wrong was found in 20 images." in text
    assert text.count("<img") == 16, "eight images of each class"
    assert "prefers-color-scheme: dark" in text


def test_the_page_needs_nothing_else(root: Path, tmp_path: Path) -> None:
    text = report(root, tmp_path / "audit.html")
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)""", text)
    assert not re.search(r"https?:|@import|url\(|<script", text)


def test_findings_show_their_files(root: Path, tmp_path: Path) -> None:
    save(root, "test/dog/copy_0.png", scene(0))
    (root / "train/dog/void_0.png").write_bytes(b"")
    text = report(root, tmp_path / "audit.html")
    assert "1 file cannot be trained on; 1 set in more than one split; 1 set with contradicting labels" in text
    assert "1 leak reaches the test split" in text
    assert '<section class="finding">' in text
    for path in ("test/dog/copy_0.png", "train/cat/c0_0.png", "train/dog/void_0.png"):
        assert f"<bdi>{path}</bdi>" in text
    assert '<span class="none"' in text


def test_names_are_text_and_not_html(tmp_path: Path) -> None:
    root = tmp_path / "<b>data"
    for number in range(3):
        save(root, f"train/<i>&cat/c{number}_0.png", scene(number))
        save(root, f'train/dog"/<script>{number}_0.png', scene(10 + number))
    (root / "train/<i>&cat/<script>bad_0.png").write_bytes(b"<script>alert(1)")
    text = report(root, tmp_path / "audit.html")
    assert "<script" not in text
    assert "<i>&" not in text
    assert "<b>" not in text


def test_a_page_of_many_findings_stays_small(tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number in range(30):
        noise = np.random.default_rng(number).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        for copy in range(8):
            save(root, f"train/class{number:03d}/a{copy}_0.png", Image.fromarray(noise))
    result, manifest = audit_folder(root)
    write_report(result, manifest, tmp_path / "audit.html")
    text = (tmp_path / "audit.html").read_text()
    assert len(text) < 3_000_000
    assert "and 20 more; all in audit.json" in text
    assert "and 2 more files; all in audit.json" in text


def test_the_same_data_give_the_same_page(root: Path, tmp_path: Path) -> None:
    pages = [re.sub(r"Made on .* s, with", "", report(root, tmp_path / f"{number}.html")) for number in range(2)]
    assert pages[0] == pages[1]


def test_a_page_is_made_of_files_that_have_gone(root: Path, tmp_path: Path) -> None:
    result, manifest = audit_folder(root)
    for path in root.rglob("*.*"):
        path.unlink()
    write_report(result, manifest, tmp_path / "audit.html")
    assert "<img" not in (tmp_path / "audit.html").read_text()


def test_the_verdict_speaks_plainly(root: Path) -> None:
    result, _ = audit_folder(root)
    result.findings.append(Finding("odd_size", ("a", "b"), "2 images are small", ("train",)))
    result.summary["num_findings"] = {"odd_size": 1}
    assert describe(result) == "Found in 20 images: 2 images of an odd mode or size."


@pytest.mark.parametrize(("channels", "bands"), [(5, "[3,1,0]"), (5, "null"), (1, "null")])
def test_bands_and_deep_greys_are_shown(channels: int, bands: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (12, 16, 16, channels), np.uint16)
    values[:, 0, 0], values[:, 0, 1] = 0, 4095
    for number, each in enumerate(values):
        folder = tmp_path / "data" / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number}.npy", each)
    words = ["data=folder", f"data.root={tmp_path / 'data'}", f"data.display_bands={bands}"]
    opened = open_files(compose_train(*words, f"paths.cache={tmp_path / 'cache'}", "data.value_range=[0,4095]"))
    assert opened.report is not None
    page = (opened.report / "audit.html").read_text()
    images = [Image.open(io.BytesIO(base64.b64decode(text))) for text in re.findall(r"png;base64,([^\"]+)", page)]
    shown = {np.asarray(image.convert("RGB")).tobytes() for image in images}
    levels = np.rint(values * (65535 / 4095)).astype(np.uint16)
    asked = None if bands == "null" else (3, 1, 0)
    assert shown == {to_display(each, asked).tobytes() for each in levels}
    said = "the pictures show bands 3, 1, 0 as red" if asked else "the pictures show bands 0, 1, 2 as red"
    assert (said in page) == (channels == 5)
    assert "more than 8 bits: 0 to 4095 become black to white" in page
