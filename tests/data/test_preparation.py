"""prepare.py and the data that train.py accepts: looked at, split once, bad files and leaks dealt with as asked."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.commands import Starter
from tests.conftest import BARE, PROJECT, TINY, Cli, compose_task, compose_train, write_image

from sightline.config import PrepareConfig, with_value
from sightline.data.audit.audit import Audit, audit
from sightline.data.audit.inspection import Inspection
from sightline.data.display import to_display
from sightline.data.manifest import Manifest
from sightline.data.opening import open_files
from sightline.data.prepare import prepare
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec


@pytest.fixture
def root(colors: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(colors, tmp_path / "colors"))


def config(root: Path, *words: str) -> PrepareConfig:
    folder = root.parent
    paths = (f"paths.runs={folder / 'runs'}", f"paths.cache={folder / 'cache'}")
    return compose_task("prepare", "data=folder", f"data.root={root}", *paths, *words)


def test_prepare_leaves_the_audit_and_a_pinned_split(root: Path) -> None:
    result = prepare(config(root))
    record = json.loads((result.run_dir / "run.json").read_text())
    manifest = Manifest.load(root / "manifest.csv", root)
    assert record["status"] == "finished"
    assert record["data"]["sha256"] == manifest.sha256
    assert record["data"]["skipped"] == {"num_images": 0, "files": {}}
    assert (result.run_dir / "manifest.csv").read_bytes() == (root / "manifest.csv").read_bytes()
    assert json.loads((result.run_dir / "audit.json").read_text())["summary"]["num_images"]
    assert "<html" in (result.run_dir / "audit.html").read_text()
    for number in range(30):
        write_image(root / "train" / "red" / f"new{number}.png", (210, 50, 40), seed=9000 + number)
    again = open_files(config(root)).manifest
    before = dict(zip(manifest.paths, manifest.splits, strict=True))
    after = dict(zip(again.paths, again.splits, strict=True))
    assert all(after[path] == split for path, split in before.items())
    assert len(again) == len(manifest) + 30


def test_runs_that_begin_at_once_audit_their_data_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As trials of a sweep do: half an audit is none, and each of them needs it."""
    audited = []

    def count(manifest: Manifest, inspection: Inspection, **settings: Any) -> Audit:
        audited.append(manifest)
        return audit(manifest, inspection, **settings)

    monkeypatch.setattr("sightline.data.audit.audit.audit", count)
    cfg = config(root)
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(open_files, [cfg] * 4))
    assert len(audited) == 1
    assert len({each.report for each in opened}) == 1


def test_a_bad_file_stops_by_default_and_the_report_names_it(root: Path) -> None:
    (root / "train" / "red" / "00.png").write_bytes(b"")
    with pytest.raises(
        BadInput, match=r"1 bad file.*red/00.png \(empty\).*data.on_bad_file=skip data.max_bad_fraction=0.013"
    ):
        prepare(config(root))
    assert not (root.parent / "runs").exists()
    report = next((root.parent / "cache" / "audits").glob("*/audit.html"))
    assert "train/red/00.png" in report.read_text()


def test_skipped_files_are_counted_and_named_in_the_record(root: Path) -> None:
    bad = root / "train" / "red" / "00.png"
    bad.write_bytes(bad.read_bytes()[:500])
    with pytest.raises(
        BadInput, match=r"data.max_bad_fraction=0.01: 1 of 78 files are bad.*set data.max_bad_fraction=0.013"
    ):
        prepare(config(root, "data.on_bad_file=skip"))
    result = prepare(config(root, "data.on_bad_file=skip", "data.max_bad_fraction=0.05"))
    record = json.loads((result.run_dir / "run.json").read_text())
    assert record["data"]["skipped"] == {"num_images": 1, "files": {"train/red/00.png": "truncated"}}
    assert "train/red/00.png" not in (root / "manifest.csv").read_text()
    assert sum(record["data"]["num_images"].values()) == 77


def test_skipping_bad_files_moves_no_other_image(root: Path) -> None:
    whole = open_files(config(root)).manifest
    (root / "train" / "red" / "00.png").write_bytes(b"")
    rest = open_files(config(root, "data.on_bad_file=skip", "data.max_bad_fraction=0.05")).manifest
    splits = dict(zip(whole.paths, whole.splits, strict=True))
    assert all(splits[path] == split for path, split in zip(rest.paths, rest.splits, strict=True))


def test_a_leak_warns_or_stops(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copyfile(root / "train" / "red" / "03.png", root / "test" / "red" / "copy.png")
    opened = open_files(config(root))
    assert opened.num_findings["leak"] == 1
    assert "1 set(s) of images lie in more than one split" in caplog.text
    with pytest.raises(BadInput, match=r"data.on_leak=error: 1 set.*(03|copy).png"):
        open_files(config(root, "data.on_leak=error"))


def test_a_second_look_reads_no_file(root: Path) -> None:
    first = open_files(config(root))
    for path in root.rglob("*.png"):
        state = path.stat()
        path.write_bytes(b"\0" * state.st_size)
        __import__("os").utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    again = open_files(config(root))
    assert again.manifest.sha256 == first.manifest.sha256
    assert again.report == first.report


def test_without_an_audit_the_files_are_only_hashed(root: Path) -> None:
    (root / "train" / "red" / "00.png").write_bytes(b"not an image")
    opened = open_files(config(root, "data.audit=skip"))
    assert opened.report is None
    assert opened.describe()["findings"] is None
    assert not (root.parent / "cache" / "audits").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.audit=skip", "data.on_bad_file=skip"], "only the audit tells"),
        (["data.audit=skip", "data.on_leak=error"], "only the audit tells"),
        (["data.audit=never"], "data.audit=never: must be one of auto, skip"),
        (["data.cache=on"], "data.cache=on: must be one of auto, always, off"),
        (["data.cache_gb=0"], "data.cache_gb=0.0: must be above 0"),
        (["data.max_bad_fraction=2"], "data.max_bad_fraction=2.0: must be a share"),
        (["data.num_folds=1"], "data.num_folds=1: must be 2 or more"),
        (["data.num_folds=5", "data.fold=5"], "must be from 0 to 4"),
        (["data.fold=1"], "of how many folds"),
        (["data.class_pattern=abc"], "put brackets round the part that names the class"),
        (["data.name_pattern=abc"], "put brackets round the part that names the class, like 'data.name_pattern="),
        (["data.layout=flat"], "data.layout=flat: must be one of auto, splits, classes, classes_splits"),
        (
            ["data.name_pattern='(a)'", "data.class_pattern='(b)'"],
            "data.class_pattern=(b) data.name_pattern=(a): the class st",
        ),
        (
            ["data.name_pattern='(a)'", "data.layout=classes_splits"],
            "in the folder's name or in the file's; drop one of",
        ),
        (["data.small_classes=skip"], "data.small_classes=skip: must be one of error, train_only, leave_out"),
        (["data.manifest=nowhere.csv"], "data.manifest=nowhere.csv: no such file"),
    ],
)
def test_settings_that_cannot_work_say_so(words: list[str], message: str, root: Path) -> None:
    with pytest.raises(BadInput) as caught:
        prepare(config(root, *words))
    assert message in str(caught.value)


def test_a_read_only_folder_is_prepared_without_a_pin(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "manifest.csv").mkdir()  # nothing can be written over it, whoever runs the tests
    result = prepare(config(root))
    assert "pin the split with data.manifest" in caplog.text
    assert (result.run_dir / "manifest.csv").is_file()


def test_a_table_and_a_zip_train_like_the_folder(root: Path) -> None:
    whole = open_files(config(root)).manifest
    table = root / "images.csv"
    rows = [f"{path},{label},{split}" for path, label, split, _, _ in whole.rows()]
    table.write_text("\n".join(["path,label,split", *rows]) + "\n")
    listed = open_files(config(table)).manifest
    assert list(listed.paths) == list(whole.paths)
    assert np.array_equal(listed.splits, whole.splits)
    packed = Path(shutil.make_archive(str(root.parent / "packed"), "zip", root))
    unpacked = open_files(config(packed)).manifest
    assert unpacked.sha256 == whole.sha256


def test_train_uses_the_data_as_prepared(root: Path, cli: Cli, tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (200, 40, 40, 255)).save(root / "train" / "red" / "odd.png")
    (root / "train" / "red" / "00.png").write_bytes(b"")
    words = ["data=folder", f"data.root={root}", f"paths.cache={tmp_path / 'cache'}", f"output={tmp_path / 'run'}"]
    done = cli("train", *words, *TINY, "data.on_bad_file=skip", "data.max_bad_fraction=0.05")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["skipped"]["files"] == {"train/red/00.png": "empty"}
    assert record["data"]["findings"] == {"empty": 1, "flat": 1, "odd_mode": 1}
    assert (tmp_path / "run" / "audit.html").is_file()
    evaluated = cli("evaluate", f"run={tmp_path / 'run'}", f"output={tmp_path / 'evaluated'}")
    assert evaluated.returncode == 0, evaluated.stderr
    mine, again = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "evaluated"))
    assert all(again[name] == value for name, value in mine.items() if name.startswith("test/"))


def test_shards_train_and_evaluate_like_the_folder(root: Path, cli: Cli, tmp_path: Path) -> None:
    packed = tmp_path / "shards"
    prepare(config(root, f"shards={packed}"))
    words = [f"paths.cache={tmp_path / 'cache'}", f"output={tmp_path / 'run'}", *TINY]
    done = cli("train", "data=shards", f"data.root={packed}", *words)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["sha256"] == Manifest.load(root / "manifest.csv", root).sha256
    evaluated = cli("evaluate", f"run={tmp_path / 'run'}", f"output={tmp_path / 'evaluated'}")
    assert evaluated.returncode == 0, evaluated.stderr
    folder = cli("evaluate", f"run={tmp_path / 'run'}", f"data.root={root}", f"output={tmp_path / 'from_folder'}")
    assert folder.returncode == 0, folder.stderr
    numbers = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("evaluated", "from_folder")]
    assert numbers[0] == numbers[1]


def test_folds_are_one_override_and_are_summarised(colors: Path, cli: Cli, tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={colors}", f"paths.runs={tmp_path}", f"paths.cache={tmp_path / 'cache'}"]
    done = cli("train", "-m", *words, *BARE, "data.num_folds=3", "data.fold=0,1,2", "name=folds")
    assert done.returncode == 0, done.stderr
    runs = sorted(str(path) for path in (tmp_path / "train" / "folds").iterdir())
    assert len(runs) == 3
    values = [json.loads((Path(run) / "metrics.json").read_text())["val/accuracy"] for run in runs]
    summary = json.loads(summarize(*runs, "--json").stdout)
    assert summary["val/accuracy"]["mean"] == pytest.approx(sum(values) / 3)
    assert summary["val/accuracy"]["low"] <= summary["val/accuracy"]["mean"] <= summary["val/accuracy"]["high"]
    assert "95 % interval" in summarize(*runs).stdout
    lacking = summarize(*runs[:2])
    assert lacking.returncode == 2
    assert "lacking: [2]" in lacking.stderr
    assert "metrics.json" not in summarize(str(tmp_path)).stdout


def summarize(*words: str) -> subprocess.CompletedProcess[str]:
    script = PROJECT / "scripts" / "summarize_folds.py"
    return subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_interval_of_the_mean_is_students() -> None:
    """scipy's own interval as the reference."""
    from scipy import stats

    sys.path.insert(0, str(PROJECT / "scripts"))
    try:
        from summarize_folds import summarize as summarize_values  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.pop(0)
    values = [0.91, 0.93, 0.9, 0.94, 0.92]
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    row = summarize_values(values)
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))


def test_a_picture_of_the_augmentations(starter: Starter, colors: Path, tmp_path: Path) -> None:
    script, picture = PROJECT / "scripts" / "show_augmentations.py", tmp_path / "a.png"
    words = [
        "data=folder",
        f"data.root={colors}",
        f"paths.cache={tmp_path}",
        "augmentation=strong",
        "data.image_size=32",
    ]
    done = starter.run([str(script), *words, "--output", str(picture), "--images", "3", "--draws", "4"])
    assert done.returncode == 0, done.stderr
    with Image.open(picture) as image:
        assert image.size == (5 * 36 + 4, 3 * 36 + 4)
        tiles = {np.asarray(image)[4:36, 4 + 36 * n : 36 + 36 * n].tobytes() for n in range(5)}
    assert len(tiles) == 5, "every draw is another"


def test_a_picture_of_the_augmentations_of_bands(starter: Starter, tmp_path: Path) -> None:
    for number in range(8):
        folder = tmp_path / "bands" / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number}.npy", np.random.default_rng(number).integers(0, 4096, (32, 32, 5), np.uint16))
    script, picture = PROJECT / "scripts" / "show_augmentations.py", tmp_path / "a.png"
    words = [f"data.root={tmp_path / 'bands'}", f"paths.cache={tmp_path / 'cache'}", "augmentation=light"]
    words += ["data.display_bands=[3,1,0]", "data.image_size=32"]
    done = starter.run([str(script), *words, "--output", str(picture), "--images", "2", "--draws", "3"])
    assert done.returncode == 0, done.stderr
    with Image.open(picture) as image:
        assert (image.mode, image.size) == ("RGB", (4 * 36 + 4, 2 * 36 + 4))
        plain = np.asarray(image)[4:36, 4:36]
    values = [np.load(file) for file in (tmp_path / "bands" / "train" / "a").iterdir()]
    shown = [to_display(each * np.uint16(16), (3, 1, 0)).astype(int) for each in values]
    assert min(abs(plain - each).max() for each in shown) <= 1, "the first image, as validation sees it"


def test_more_workers_than_cores_are_told_once_with_the_key(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0}, raising=False)
    cfg = compose_train("data=folder", f"data.root={root}", f"paths.cache={root.parent / 'cache'}", *TINY)
    opened = open_files(cfg)
    for num_workers in (0, 1, 2):
        spec = TaskSpec(tuple(opened.manifest.class_names), 32, (0.5,) * 3, (0.5,) * 3)
        opened.make_datamodule(with_value(cfg, "data.num_workers", num_workers), spec)
    told = [record.message for record in caplog.records if "num_workers" in record.message]
    assert told == ["data.num_workers=2: only 1 core(s) are lent to this process; fewer may be faster"]
