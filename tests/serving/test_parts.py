"""Folders, tables and prefixes in parts: each writes its own file, goes on where it was killed, and all are merged."""

import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import COLORS, Cli, compose_config, write_image

from sightline.data.collection.named_pictures import FileList, name_pictures
from sightline.data.predicted_classes import Row
from sightline.errors import BadInput
from sightline.serving.predict import predict
from sightline.serving.predict_result import PredictResult
from sightline.serving.prediction_files import Journal, read_table, write_table

NUM_PHOTOS = 11


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven photos in three folders, and one file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(NUM_PHOTOS):
        name, color = list(COLORS.items())[number % 3]
        write_image(folder / name / f"{number}.png", color, seed=number, size=(40, 30))
    (folder / "green" / "broken.png").write_bytes(b"no picture")
    return folder


def classify(*words: str) -> PredictResult:
    return predict(compose_config("predict", *words, "accelerator=cpu", "num_workers=0", "batch_size=2"))


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_parts_put_together_are_the_whole(kind: str, exported: Path, photos: Path, tmp_path: Path) -> None:
    words = [f"run={exported}", f"images={photos}", f"format={kind}", f"paths.runs={tmp_path / 'runs'}"]
    whole = classify(*words, f"output={tmp_path / 'whole'}")
    shared = classify(*words, "part=2", "num_parts=3").run_dir
    assert {classify(*words, f"part={part}", "num_parts=3").run_dir for part in (0, 1)} == {shared}
    assert sorted(each.name for each in shared.glob(f"*.{kind}")) == [
        f"predictions-0000{part}-of-00003.{kind}" for part in range(3)
    ]
    merged = classify(f"merge={shared}")
    assert merged.table == shared / f"predictions.{kind}"
    assert merged.table.read_bytes() == whole.table.read_bytes()
    assert (
        (merged.num_images, merged.num_unsure) == (whole.num_images, whole.num_unsure) == (NUM_PHOTOS, whole.num_unsure)
    )
    assert [each.name for each in merged.unreadable] == ["broken.png"]
    assert json.loads((shared / "run.json").read_text())["unreadable"] == [str(photos / "green" / "broken.png")]
    assert classify(f"merge={shared}").table == merged.table  # once more: the same


def test_rows_as_json_have_what_is_said_of_a_picture(exported: Path, photos: Path, tmp_path: Path) -> None:
    words = [f"run={exported}", f"images={photos}", f"paths.runs={tmp_path}"]
    in_csv, in_lines = (classify(*words, f"format={kind}", f"output={tmp_path / kind}") for kind in ("csv", "jsonl"))
    lines = [json.loads(line) for line in in_lines.table.read_text().splitlines()]
    broken = [line for line in lines if line["error"]]
    assert [line["file"] for line in broken] == ["green/broken.png"]
    assert broken[0]["class"] is broken[0]["probability"] is None
    answered = [line for line in lines if not line["error"]]
    rows = rows_of(in_csv.table)
    assert list(rows[0]) == ["file"] + [
        f"{name}{rank}" for rank in ("", "_2", "_3", "_4", "_5") for name in ("class", "probability")
    ]
    assert [(row["file"], row["class"], row["probability"]) for row in rows] == [
        (line["file"], line["class"], f"{line['probability']:.6f}") for line in answered
    ]
    assert all(line["unsure"] == (line["probability"] < 0.6) for line in answered)
    assert all(
        line["classes"][0] == line["class"] and sum(line["probabilities"]) == pytest.approx(1) for line in answered
    )
    assert in_lines.num_unsure == sum(line["unsure"] for line in answered)


def test_a_part_is_computed_once(exported: Path, photos: Path, tmp_path: Path) -> None:
    words = [f"run={exported}", f"images={photos}", f"output={tmp_path / 'out'}", f"paths.runs={tmp_path}"]
    first = classify(*words, "part=1", "num_parts=2")
    state = first.table.stat().st_mtime_ns
    again = classify(*words, "part=1", "num_parts=2")
    assert again.table.stat().st_mtime_ns == state
    assert (again.num_images, again.num_unsure, again.first) == (first.num_images, first.num_unsure, again.first)
    with pytest.raises(BadInput, match="computed with another list of pictures"):
        classify(*words[:1], f"images={photos / 'red'}", *words[2:], "part=1", "num_parts=2")


def test_rows_of_a_killed_process_stay_and_half_a_row_goes(exported: Path, photos: Path, tmp_path: Path) -> None:
    """What a killed process leaves: rows to somewhere in one."""
    words = [f"run={exported}", f"images={photos}", f"paths.runs={tmp_path}", "part=0", "num_parts=2", "format=jsonl"]
    whole = classify(*words, f"output={tmp_path / 'whole'}").table
    note, lines = json.loads(whole.with_suffix(".json").read_text()), whole.read_text().splitlines(keepends=True)
    out = tmp_path / "out"
    (out / "records").mkdir(parents=True)
    journal = out / f"{whole.stem}.partial.jsonl"
    kept = {**json.loads(lines[0]), "probability": 2.0, "probabilities": [2.0, -1.0]}  # which no model says
    journal.write_text("".join([json.dumps(note), "\n", json.dumps(kept), "\n", lines[1], lines[2][:20]]))
    result = classify(*words, f"output={out}")
    assert [json.loads(line) for line in result.table.read_text().splitlines()] == [kept, *map(json.loads, lines[1:])]
    assert not journal.exists()
    journal.write_text(json.dumps({**note, "model": {"sha256": "another"}}) + "\n")
    result.table.unlink()
    with pytest.raises(BadInput, match="computed with another model"):
        classify(*words, f"output={out}")


@pytest.mark.parametrize("damage", ["part", "row", "twice", "other", "model", "unfinished"])
def test_what_is_not_whole_is_not_merged(damage: str, exported: Path, photos: Path, tmp_path: Path) -> None:
    words = [f"run={exported}", f"images={photos}", f"output={tmp_path}", f"paths.runs={tmp_path}", "num_parts=3"]
    tables = [classify(*words, f"part={part}").table for part in range(3)]
    lines = tables[1].read_text().splitlines(keepends=True)
    if damage == "part":
        tables[1].unlink()
        expected = "1 of 3 parts are missing or unfinished: 1; run them, like part=1 num_parts=3"
    elif damage == "unfinished":
        tables[1].rename(tables[1].with_suffix(".partial.jsonl"))
        expected = "missing or unfinished: 1"
    elif damage == "row":
        tables[1].write_text("".join([*lines[:2], *lines[3:]]))
        expected = r"predictions-00001-of-00003.csv lacks 1 row\(s\) of 4; remove it and run part=1 num_parts=3 again"
    elif damage == "twice":
        tables[1].write_text("".join([*lines, lines[1]]))
        expected = r"predictions-00001-of-00003.csv has \S+ twice"
    elif damage == "other":
        tables[1].write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]))
        expected = "rows of other pictures, or in another order"
    else:
        note = tables[1].with_suffix(".json")
        note.write_text(json.dumps({**json.loads(note.read_text()), "model": {"sha256": "another"}}))
        expected = "were computed with another model"
    with pytest.raises(BadInput, match=expected):
        classify(f"merge={tmp_path}")
    assert not (tmp_path / "predictions.csv").exists()


def test_there_may_be_more_parts_than_pictures(exported: Path, photos: Path, tmp_path: Path) -> None:
    words = [
        f"run={exported}",
        f"images={photos / 'red'}",
        f"output={tmp_path}",
        f"paths.runs={tmp_path}",
        "num_parts=6",
    ]
    assert [classify(*words, f"part={part}").num_images for part in range(6)] == [0, 1, 0, 1, 0, 1]
    assert classify(f"merge={tmp_path}").num_images == 3


def test_parts_in_processes_side_by_side(exported: Path, photos: Path, cli: Cli, tmp_path: Path) -> None:
    """Each job has a folder of its own; all of them together are the whole."""
    words = [
        f"run={exported}",
        f"images={photos}",
        "accelerator=cpu",
        "num_workers=0",
        f"paths.runs={tmp_path / 'runs'}",
    ]
    done = cli("predict", "-m", "part=0,1", "num_parts=2", *words, "launch=local_process", "launch.n_parallel=2")
    assert done.returncode == 0, done.stderr
    done = cli(
        "predict",
        f"merge={tmp_path / 'runs' / 'jobs'}",
        f"paths.runs={tmp_path / 'runs'}",
        f"output={tmp_path / 'all'}",
    )
    assert done.returncode == 0, done.stderr
    assert f"results: {tmp_path / 'all' / 'predictions.csv'} ({NUM_PHOTOS} image(s), " in done.stdout
    whole = classify(*words, f"output={tmp_path / 'whole'}")
    assert (tmp_path / "all" / "predictions.csv").read_bytes() == whole.table.read_bytes()


# what is named


def test_a_table_names_pictures(photos: Path, exported: Path, tmp_path: Path) -> None:
    table = photos.parent / f"{photos.name}.csv"
    named = [f"{photos.name}/red/2.png", f"{photos.name}/blue/0.png"]
    table.write_text(
        "".join(f"{line}\n" for line in ("id,file,camera", f"1,{named[0]},a", f"2,{named[1]},a", f"3,{named[0]},b"))
    )
    result = classify(f"run={exported}", f"images={table}", f"output={tmp_path / 'out'}", f"paths.runs={tmp_path}")
    assert [row["file"] for row in rows_of(result.table)] == named
    table.write_text(f"file\n{photos.name}/red/nothing.png\n{named[0]}\n")
    with pytest.raises(BadInput, match=r"images=\S+\.csv: line 2: .*nothing.png"):
        name_pictures(str(table), tmp_path)


def test_parquet_names_pictures_or_holds_them(photos: Path, tmp_path: Path) -> None:
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    files = sorted(photos.glob("red/*.png"))
    pq.write_table(pa.table({"image": [file.read_bytes() for file in files]}), tmp_path / "held.parquet")
    held = name_pictures(str(tmp_path / "held.parquet"), tmp_path / "cache").files
    assert [file.read_bytes() for file in held] == [file.read_bytes() for file in files]
    pq.write_table(pa.table({"path": [f"red/{file.name}" for file in files]}), photos / "named.parquet")
    try:
        assert list(name_pictures(str(photos / "named.parquet"), tmp_path).files) == files
    finally:
        (photos / "named.parquet").unlink()


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket, `pictures`, of a server in this process."""
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    served = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="pictures")
    yield client
    for item in client.list_objects_v2(Bucket="pictures").get("Contents", []):
        client.delete_object(Bucket="pictures", Key=item["Key"])
    client.delete_bucket(Bucket="pictures")
    served.stop()


def test_a_prefix_in_s3_is_classified_and_a_part_fetches_its_own(
    bucket: Any, exported: Path, photos: Path, tmp_path: Path
) -> None:
    for file in photos.rglob("*.png"):
        bucket.upload_file(str(file), "pictures", f"new/{file.relative_to(photos)}")
    bucket.put_object(Bucket="pictures", Key="new/notes.txt", Body=b"no picture")
    bucket.put_object(Bucket="pictures", Key="newer/0.png", Body=b"of another prefix")
    words = [
        f"run={exported}",
        "images=s3://pictures/new",
        f"paths.runs={tmp_path}",
        f"paths.cache={tmp_path / 'cache'}",
    ]
    classify(*words, f"output={tmp_path / 'out'}", "part=0", "num_parts=2")
    copies = sorted((tmp_path / "cache").rglob("*.png"))
    assert len(copies) == 6
    state = [copy.stat().st_ino for copy in copies]
    classify(*words, f"output={tmp_path / 'out'}", "part=1", "num_parts=2")
    merged = classify(f"merge={tmp_path / 'out'}")
    classify(*words, f"output={tmp_path / 'once more'}")
    assert [copy.stat().st_ino for copy in copies] == state, "what has not changed is not copied again"
    here = classify(f"run={exported}", f"images={photos}", f"paths.runs={tmp_path}", f"output={tmp_path / 'here'}")
    in_order = {row["file"]: row for row in rows_of(merged.table)}
    assert in_order == {row["file"]: row for row in rows_of(here.table)}
    bucket.put_object(Bucket="pictures", Key="new/list.csv", Body=b"picture\nred/5.png\nred/2.png\n")
    listed = classify(words[0], "images=s3://pictures/new/list.csv", *words[2:], f"output={tmp_path / 'listed'}")
    assert [in_order[row["file"]] for row in rows_of(listed.table)] == rows_of(listed.table)
    assert [row["file"] for row in rows_of(listed.table)] == ["red/5.png", "red/2.png"]
    one = classify(words[0], "images=s3://pictures/new/red/2.png", *words[2:], f"output={tmp_path / 'one'}")
    assert [row["file"] for row in rows_of(one.table)] == ["2.png"]
    for address, reason in (
        ("s3://nowhere/new", "cannot be listed"),
        ("s3://pictures/old", "no images found below it"),
    ):
        with pytest.raises(BadInput, match=reason):
            name_pictures(address, tmp_path)


def test_a_list_of_files_is_shared_by_its_parts(tmp_path: Path) -> None:
    names = [f"{number}/é\udce9 {number}.png" for number in range(10)]
    files = FileList.of(tmp_path, names)
    assert [*files] == [tmp_path / name for name in names]
    part = files[3:7]
    assert (len(part), part.first, part[0], part[3]) == (4, 3, files[3], files[6])
    assert [*part[1:]] == [files[4], files[5], files[6]]
    assert part.sha256() != files.sha256()
    with pytest.raises(IndexError):
        part[4]


# the tables


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_says_what_was_written(kind: str, tmp_path: Path) -> None:
    rows = [
        Row('a "b",\\x0a.png', [("wörter", 0.75), ("x,y", 0.25)], False),
        Row("broken.png", error="cannot be read,\nhere"),
        Row("one.png", [("x,y", 0.5)], True),
    ]
    table = tmp_path / f"predictions.{kind}"
    write_table(table, rows, with_errors=True)
    found = list(read_table(table))
    assert [(row.file, list(row.ranked), row.error) for row in found] == [
        (row.file, list(row.ranked), row.error) for row in rows
    ]
    write_table(table, [], with_errors=True)
    assert list(read_table(table)) == []
    table.write_bytes(b"\x93 no table\n" * 3)
    with pytest.raises(BadInput, match="cannot be read as a table"):
        list(read_table(table))


def test_parquet_needs_its_library(monkeypatch: pytest.MonkeyPatch, photos: Path, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r'pip install "sightline-vision\[parquet\]", or set format=jsonl'):
        classify("run=a", f"images={photos}", "format=parquet", f"paths.runs={tmp_path}")


def test_a_journal_that_was_never_begun_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "predictions.partial.jsonl"
    path.write_bytes(b'{"model": "half of its first li')
    journal = Journal(path, {"model": "m"})
    with journal:
        assert journal.done == 0
        journal.add([Row("a.png", [("a", np.float64(0.5).item())])])
    assert [row.file for row in journal.rows()] == ["a.png"]
    assert journal.count() == 1


def test_pictures_of_a_part_are_drawn(exported: Path, photos: Path, tmp_path: Path) -> None:
    words = [f"run={exported}", f"images={photos / 'red'}", f"output={tmp_path / 'out'}", f"paths.runs={tmp_path}"]
    classify(*words, "part=1", "num_parts=2", "pictures=true")
    drawn = sorted((tmp_path / "out" / "pictures").rglob("*.png"))
    assert len(drawn) == 2
    with Image.open(drawn[0]) as picture:
        assert picture.height > picture.width * 30 / 40
