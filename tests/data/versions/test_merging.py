"""Annotations of every form become the next version, or are named."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import write_image
from tests.data.versions.conftest import RED, Do

from sightline.data.versions.merging import MergeResult, merge_annotations
from sightline.data.versions.store import Versions
from sightline.errors import BadInput

A, B = "train/red/train00.png", "train/red/train01.png"


@pytest.fixture
def made(do: Do, signs: Path) -> Path:
    do("create", "signs", f"data.root={signs}")
    return signs


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def result(label: str, control: str = "label") -> dict[str, Any]:
    return {"from_name": control, "to_name": "image", "type": "choices", "value": {"choices": [label]}}


def annotation(label: str | None, who: Any = 1, at: str = "2026-11-20T10:00:00Z", **more: Any) -> dict[str, Any]:
    chosen = [] if label is None else [result(label)]
    return {"completed_by": who, "result": chosen, "was_cancelled": label is None, "created_at": at, **more}


def task(data: dict[str, str], *annotations: dict[str, Any], number: int = 1) -> dict[str, Any]:
    return {"id": number, "data": data, "annotations": list(annotations)}


def merged(versions: Versions, source: Path, **told: Any) -> MergeResult:
    return merge_annotations(versions, "signs", str(source), by="ann", **told)


def label_of(versions: Versions, path: str) -> str:
    manifest = versions.load("signs").manifest
    return manifest.class_names[manifest.labels[manifest.paths.tolist().index(path)]]


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def forms(folder: Path, image: Path) -> dict[str, Any]:
    """The same correction in every form that is taken: the image's class is green."""
    digest, annotated = sha256(image), annotation("green")
    one = {**annotated, "task": {"id": 1, "data": {"image": f"s3://bucket/{A}"}}}
    by_hash = {"image": "s3://elsewhere/anything.png", "sha256": digest}
    return {
        "json": [task(by_hash, annotated), task({"image": B}, number=2)],
        "json_min": [{"id": 1, "image": f"/data/local-files/?d={A}", "label": "green", "annotator": 3}],
        "json_min_choices": [{"id": 1, "image": A, "choice": {"choices": ["green"]}, "annotator": 3}],
        "target": one,
        "task_file": task({"image": f"s3://bucket/signs/{A}"}, annotated),
        "csv": f"path,label,by,at\n{A},green,bob,2026-11-20\n",
        "csv_sha256": f"sha256,label\n{digest},green\n",
    }


@pytest.mark.parametrize("form", sorted(forms(Path(), Path(__file__))))
def test_a_correction_in_every_form(form: str, made: Path, versions: Versions, tmp_path: Path) -> None:
    value = forms(tmp_path, made / A)[form]
    suffix = ".csv" if form.startswith("csv") else "" if form == "target" else ".json"
    done = merged(versions, write(tmp_path / "annotations" / f"1{suffix}", value).parent)
    assert (done.is_new, done.relabelled, done.added) == (True, 1, 0)
    assert done.version.spelled() == "signs/2"
    assert label_of(versions, A) == "green"
    assert "1 relabelled since signs/1" in done.sentence
    again = merged(versions, tmp_path / "annotations")
    assert (again.is_new, again.confirmed, again.version.number) == (False, 1, 2)
    assert "nothing new" in again.sentence


def test_an_uploaded_image_is_found_by_its_name_where_no_other_has_it(
    do: Do, signs: Path, versions: Versions, tmp_path: Path
) -> None:
    write_image(signs / "train" / "red" / "only one.png", RED, seed=66)
    do("create", "signs", f"data.root={signs}")
    uploads = ["/data/upload/3/1a2b3c4d-only%20one.png", "/data/upload/3/1a2b3c4d-train00.png"]
    export = [task({"image": image}, annotation("green")) for image in uploads]
    done = merged(versions, write(tmp_path / "export.json", export))
    assert done.relabelled == 1
    assert label_of(versions, "train/red/only one.png") == "green"
    assert done.left_out == {"several images of that name": uploads[1:]}


def test_who_and_when_stand_in_the_version(made: Path, versions: Versions, tmp_path: Path) -> None:
    export = [
        task({"image": A}, annotation("green", {"id": 7, "email": "bob@example.com"}, at="2026-11-20T10:00:00Z")),
        task({"image": B}, annotation("red", 4, at="2026-11-21T10:00:00Z")),
        task({"image": "train/red/train02.png"}, annotation(None, 4)),
    ]
    done = merged(versions, write(tmp_path / "export.json", export), why="checked")
    assert (done.relabelled, done.confirmed, done.skipped) == (1, 1, 1)
    facts = done.version.facts
    assert (facts["by"], facts["why"]) == ("ann", "checked")
    assert facts["source"] == {
        "annotations": str(tmp_path / "export.json"),
        "annotators": {"bob@example.com": 1, "4": 1},
        "first": "2026-11-20T10:00:00Z",
        "last": "2026-11-21T10:00:00Z",
    }
    (correction,) = facts["corrections"].values()
    assert (correction["from"], correction["to"], correction["by"]) == ("red", "green", "bob@example.com")


@pytest.mark.parametrize(
    ("annotations", "label", "num_contradictions"),
    [
        ([annotation("green", 1), annotation("green", 2)], "green", 0),
        ([annotation("green", 1), annotation("red", 2)], "red", 1),
        ([annotation("red", 1, "2026-01-01"), annotation("green", 1, "2026-01-02")], "green", 0),
        (
            [
                annotation("green", 1),
                annotation("red", 2, ground_truth=False),
                annotation("green", 3, ground_truth=True),
            ],
            "green",
            0,
        ),
        ([annotation(None, 1), annotation("green", 2)], "green", 0),
        ([{**annotation("green"), "result": [{**result("x"), "value": {"choices": ["green", "red"]}}]}], "red", 1),
    ],
)
def test_people_are_held_against_each_other(
    annotations: list[dict[str, Any]],
    label: str,
    num_contradictions: int,
    made: Path,
    versions: Versions,
    tmp_path: Path,
) -> None:
    done = merged(versions, write(tmp_path / "export.json", [task({"image": A}, *annotations)]))
    assert len(done.contradictions) == num_contradictions
    assert label_of(versions, A) == label
    if num_contradictions:
        assert done.contradictions[0]["image"] == A


def test_new_images_come_from_beside_the_annotations(made: Path, versions: Versions, tmp_path: Path) -> None:
    new, folder = tmp_path / "new", tmp_path / "new" / "pictures"
    write_image(folder / "one.png", RED, seed=901)
    write_image(folder / "train00.png", RED, seed=902)  # called like another one, with other bytes
    (folder / "broken.png").write_bytes(b"no picture")
    rows = [("pictures/one.png", "red"), ("pictures/train00.png", "red"), ("pictures/broken.png", "red")]
    rows += [("pictures/lost.png", "red")]
    with (new / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    done = merged(versions, new)
    assert (done.added, done.relabelled) == (2, 0)
    assert done.left_out == {"bad files: not_an_image": ["pictures/broken.png"], "not found": ["pictures/lost.png"]}
    manifest = done.version.manifest
    assert manifest.num_images["train"] == 26
    stored = [f"train/red/{name}" for name in ("one.png", f"train00-{sha256(folder / 'train00.png')[:12]}.png")]
    assert {*stored} <= {*manifest.paths.tolist()}
    out = tmp_path / "out"
    out.mkdir()
    versions.checkout(done.version, out)
    assert (out / stored[0]).read_bytes() == (folder / "one.png").read_bytes()


def test_corrections_and_new_images_outlive_the_next_create(
    made: Path, versions: Versions, do: Do, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    write_image(new / "one.png", RED, seed=901)
    merged(versions, write(new / "labels.csv", f"path,label\none.png,red\n{A},green\n").parent)
    assert not do("create", "signs", f"data.root={made}")["is_new"]
    write_image(made / "train" / "red" / "more.png", RED, seed=905)
    third = do("create", "signs", f"data.root={made}")
    assert third["changes"] == {"added": 1, "removed": 0, "relabelled": 0, "moved": 0, "renamed": 0}
    assert label_of(versions, A) == "green"
    (made / A).rename(made / "train" / "green" / "really.png")  # the source learns it, too
    assert do("create", "signs", f"data.root={made}")["changes"]["renamed"] == 1
    assert label_of(versions, "train/green/really.png") == "green"


def test_val_and_test_are_listed_and_left(
    made: Path, versions: Versions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write(tmp_path / "export.csv", "path,label\ntest/red/test00.png,green\n")
    done = merged(versions, source)
    assert not done.is_new
    assert done.test_changes == [{"path": "test/red/test00.png", "from": "red", "to": "green"}]
    assert "allow_test_changes=true takes them" in caplog.text
    done = merged(versions, source, allow_test_changes=True)
    assert done.is_new
    assert done.version.facts["test_changes"] == {"relabelled": {"count": 1, "files": ["test/red/test00.png"]}}


def test_unknown_classes_are_refused_with_the_near_one(made: Path, versions: Versions, tmp_path: Path) -> None:
    source = write(tmp_path / "export.csv", f"path,label\n{A},grean\n")
    with pytest.raises(BadInput, match=r"grean \(1 image\) \(did you mean green\?\).*new_classes=true"):
        merged(versions, source)
    assert merged(versions, source, new_classes=True).version.manifest.class_names == ("grean", "green", "red")


def test_two_controls_are_told_apart(made: Path, versions: Versions, tmp_path: Path) -> None:
    both = {**annotation("green"), "result": [result("blurred", "quality"), result("green", "what")]}
    source = write(tmp_path / "export.json", [task({"image": A}, both)])
    with pytest.raises(BadInput, match="control=NAME"):
        merged(versions, source)
    assert merged(versions, source, control="what").relabelled == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("export.json", "{", "is no JSON"),
        ("export.json", "[1]", "is no object"),
        ("export.json", '[{"id": 1, "label": "red"}]', "names no image"),
        ("export.csv", "a,b\n1,2\n", "path or sha256 and label"),
        ("export.json", b"\xff\xfe\x00", "is no text"),
        ("notes.txt", "hello", "holds no .json or .csv file"),
    ],
)
def test_what_is_no_export_is_refused(
    name: str, content: str | bytes, said: str, made: Path, versions: Versions, tmp_path: Path
) -> None:
    source = tmp_path / "export" / name
    source.parent.mkdir()
    source.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(BadInput, match=said):
        merged(versions, source.parent)
    with pytest.raises(BadInput, match="no such file or folder"):
        merged(versions, tmp_path / "nowhere")
    with pytest.raises(BadInput, match="did you mean signs"):
        merge_annotations(versions, "sings", str(source), by="ann")
    assert versions.numbers("signs") == [1]


def test_a_group_in_test_takes_no_new_images(do: Do, versions: Versions, tmp_path: Path) -> None:
    rows = ["path,label,split,group"]
    for number in range(6):
        label, split = ("red", "green")[number % 2], ("train", "val", "test")[number // 2]
        write_image(tmp_path / "t" / f"{number}.png", RED, seed=number)
        rows.append(f"{number}.png,{label},{split},patient{number}")
    write(tmp_path / "t" / "table.csv", "\n".join(rows))
    do("create", "signs", f"data.root={tmp_path / 't' / 'table.csv'}")
    export = []
    for number, group in enumerate(("patient4", "patient9")):
        write_image(tmp_path / "new" / f"n{number}.png", RED, seed=70 + number)
        export.append(task({"image": f"n{number}.png", "group": group}, annotation("red")))
    done = merged(versions, write(tmp_path / "new" / "export.json", export))
    assert done.added == 1
    assert done.left_out == {"of a group that is in val or test": ["n0.png"]}
    assert done.version.manifest.group_names is not None
    assert "patient9" in done.version.manifest.group_names.tolist()
