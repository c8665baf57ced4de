"""Versions are made once, cost what changed, and keep val and test."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import PROJECT, write_image
from tests.data.versions.conftest import GREEN, RED, Do

from sightline.data.versions.places import open_place
from sightline.data.versions.store import Versions
from sightline.errors import BadInput


def objects(place: str) -> list[str]:
    return sorted(path.name for path in (Path(place) / "objects").iterdir())


def test_the_first_version_is_split_as_a_training_splits(do: Do, signs: Path, place: str, versions: Versions) -> None:
    made = do("create", "signs", f"data.root={signs}", "why=first")
    assert (made["version"], made["is_new"]) == (1, True)
    assert made["num_images"] == {"train": 24, "val": 4, "test": 8}
    version = versions.find("signs")
    assert version.spelled() == "signs/1"
    assert (Path(place) / "signs" / "1.csv").read_bytes() == version.table.read_bytes()
    assert len(objects(place)) == 36 + 1  # and the table
    facts = do("show", "signs/1")
    assert (facts["by"], facts["why"], facts["source"]["root"]) == ("ann", "first", str(signs))
    assert facts["by_class"]["red"] == {"train": 12, "val": 2, "test": 4}


def test_the_same_images_make_no_version(do: Do, signs: Path) -> None:
    first = do("create", "signs", f"data.root={signs}")
    again = do("create", "signs", f"data.root={signs}")
    assert (again["version"], again["is_new"], again["sha256"]) == (1, False, first["sha256"])
    assert "nothing has changed" in again["sentence"]
    assert [each["version"] for each in do("list")] == [1]


def test_new_images_are_trained_on_and_only_they_are_stored(do: Do, signs: Path, place: str) -> None:
    do("create", "signs", f"data.root={signs}")
    before = objects(place)
    write_image(signs / "train" / "red" / "new.png", RED, seed=77)
    (signs / "train" / "green" / "train00.png").unlink()
    (signs / "train" / "green" / "train01.png").rename(signs / "train" / "red" / "was_green.png")
    made = do("create", "signs", f"data.root={signs}")
    assert made["version"] == 2
    assert made["changes"] == {"added": 1, "removed": 1, "relabelled": 1, "moved": 0, "renamed": 1}
    assert len({*objects(place)} - {*before}) == 2  # the image and the table
    found = do("diff", "signs/1", "signs")
    assert [each["path"] for each in found["added"]] == ["train/red/new.png"]
    assert found["added"][0]["split"] == "train"
    assert [(each["from"], each["to"]) for each in found["relabelled"]] == [("green", "red")]
    assert found["by_class"]["red"]["relabelled_to"] == 1


def test_a_data_set_without_val_keeps_the_split_that_the_first_version_dealt(do: Do, signs: Path) -> None:
    shutil.rmtree(signs / "val")
    do("create", "signs", f"data.root={signs}")
    for index in range(20):  # which a split anew would deal into val, too
        write_image(signs / "train" / "red" / f"more{index}.png", RED, seed=500 + index)
    made = do("create", "signs", f"data.root={signs}")
    assert made["changes"]["added"] == 20
    assert made["changes"]["moved"] == 0
    assert made["num_images"]["val"] == do("show", "signs/1")["num_images"]["val"]


@pytest.mark.parametrize("what", ["removed", "relabelled", "moved", "added"])
def test_val_and_test_change_only_when_that_is_said(what: str, do: Do, signs: Path) -> None:
    do("create", "signs", f"data.root={signs}")
    file = signs / "test" / "red" / "test00.png"
    if what == "added":
        write_image(signs / "test" / "red" / "more.png", RED, seed=99)
    elif what == "removed":
        file.unlink()
    elif what == "relabelled":
        file.rename(signs / "test" / "green" / "test00r.png")
    else:
        file.rename(signs / "train" / "red" / "test00.png")
    with pytest.raises(BadInput, match=f"1 would be {what}.*allow_test_changes=true"):
        do("create", "signs", f"data.root={signs}")
    assert len(do("list", "signs")) == 1
    made = do("create", "signs", f"data.root={signs}", "allow_test_changes=true")
    assert made["version"] == 2
    assert list(do("show", "signs/2")["test_changes"]) == [what]


def test_a_copy_of_a_test_image_is_not_trained_on(do: Do, signs: Path, caplog: pytest.LogCaptureFixture) -> None:
    do("create", "signs", f"data.root={signs}")
    shutil.copy(signs / "test" / "red" / "test01.png", signs / "train" / "red" / "copy.png")
    made = do("create", "signs", f"data.root={signs}")
    assert made["version"] == 1
    assert "train/red/copy.png" in caplog.text


def test_a_frame_of_a_track_in_test_is_not_trained_on(do: Do, tmp_path: Path) -> None:
    root = tmp_path / "tracks"
    for label, color in (("green", GREEN), ("red", RED)):
        for track in range(10):
            for frame in range(2):
                seed = 100 * track + frame + (5000 if label == "red" else 0)
                write_image(root / "train" / label / f"{track:02d}_{frame}.png", color, seed=seed)
    words = ("create", "tracks", f"data.root={root}", r"data.group_pattern='(\d+)_\d+'")
    do(*words)
    rows = do("show", "tracks")
    assert rows["num_images"]["test"] > 0
    for label, color in (("green", GREEN), ("red", RED)):
        for track in range(10):
            write_image(root / "train" / label / f"{track:02d}_9.png", color, seed=9000 + track + 50 * (label == "red"))
    made = do(*words)
    assert 0 < made["changes"]["added"] < 20
    facts = do("show", "tracks/2")
    assert facts["left_out"]["of a group that is in val or test"]["count"] == 20 - made["changes"]["added"]
    assert facts["num_images"]["test"] == rows["num_images"]["test"]


def test_near_duplicates_of_test_images_are_named_or_refused(do: Do, signs: Path, tmp_path: Path) -> None:
    from PIL import Image

    root = tmp_path / "shapes"
    shutil.copytree(signs, root)
    picture = Image.linear_gradient("L").rotate(45).resize((64, 64)).convert("RGB")
    (root / "test" / "red").mkdir(exist_ok=True)
    picture.save(root / "test" / "red" / "shape.png")
    do("create", "shapes", f"data.root={root}")
    picture.resize((48, 48)).save(root / "train" / "red" / "smaller.png")
    with pytest.raises(BadInput, match=r"smaller\.png"):
        do("create", "shapes", f"data.root={root}", "data.on_leak=error")
    do("create", "shapes", f"data.root={root}")
    (leak,) = do("show", "shapes/2")["leaks"]
    assert {*leak["files"]} == {"test/red/shape.png", "train/red/smaller.png"}


def test_bad_files_are_refused_or_left_out(do: Do, signs: Path) -> None:
    (signs / "train" / "red" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(BadInput, match=r"cut\.png"):
        do("create", "signs", f"data.root={signs}")
    made = do("create", "signs", f"data.root={signs}", "data.on_bad_file=skip", "data.max_bad_fraction=0.1")
    assert sum(made["num_images"].values()) == 36


def test_what_a_run_was_trained_on_becomes_a_version(do: Do, trained: Path) -> None:
    made = do("create", "colors", f"run={trained}")
    assert made["sha256"] == json.loads((trained / "run.json").read_text())["data"]["sha256"]


def test_tags_name_versions(do: Do, signs: Path) -> None:
    do("create", "signs", f"data.root={signs}")
    write_image(signs / "train" / "red" / "new.png", RED, seed=77)
    do("create", "signs", f"data.root={signs}")
    assert do("tag", "signs/1", "paper")["before"] is None
    assert do("show", "signs/paper")["version"] == 1
    assert do("tag", "signs/2", "paper")["before"] == "signs/1"
    assert do("list", "signs")[1]["tags"] == ["paper"]
    with pytest.raises(BadInput, match="begins with a letter"):
        do("tag", "signs/1", "7")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "sings"), "did you mean signs"),
        (("show", "signs/9"), "no such version; there are 1 to 1"),
        (("show", "signs/papr"), "no such version or tag"),
        (("create", "signs"), "say which images"),
        (("create", "a/b", "data=digits"), "a data set's name"),
        (("create", "objects", "data=digits"), "a data set's name"),
        (("create", "signs", "data.root=/nowhere"), "no such folder"),
        (("create", "signs", "data.version=signs/1"), "name a version behind the verb"),
        (("checkout", "signs"), "into=FOLDER"),
        (("diff", "signs"), "write it as diff A B"),
        (("merge", "signs"), "name the annotations once"),
        (("list", "sings"), "did you mean signs"),
    ],
)
def test_bad_input_says_what_to_type(words: tuple[str, ...], said: str, do: Do, signs: Path) -> None:
    do("create", "signs", f"data.root={signs}")
    with pytest.raises(BadInput, match=said):
        do(*words)


def test_a_place_that_cannot_be_written_is_named(do: Do, signs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"paths\.data_versions=.*cannot be written"):
        do("create", "signs", f"data.root={signs}", f"paths.data_versions={tmp_path / 'file'}")
    with pytest.raises(BadInput, match="must be a folder, or s3"):
        open_place("gs://bucket")


def test_a_damaged_table_is_found(do: Do, signs: Path, place: str, tmp_path: Path) -> None:
    do("create", "signs", f"data.root={signs}")
    table = Path(place) / "signs" / "1.csv"
    table.write_bytes(table.read_bytes().replace(b"red", b"der", 1))
    do("show", "signs/1")  # of the cache
    shutil.rmtree(tmp_path / "cache")
    do("show", "signs/1")  # of the object
    shutil.rmtree(tmp_path / "cache")
    sha256 = json.loads((Path(place) / "signs" / "1.json").read_text())["sha256"]
    (Path(place) / "objects" / sha256).unlink()
    with pytest.raises(BadInput, match="is not what 1.json states"):
        do("show", "signs/1")


KILLED = """
import os, sys
from pathlib import Path
from sightline.command import do_verb
import runpy
count = 0
def die(event, args):
    global count
    if event in ("os.rename", "os.link"):
        count += 1
        if count == int(sys.argv[1]):
            os.kill(os.getpid(), 9)
sys.addaudithook(die)
do_verb(runpy.run_path(sys.argv[2])["verbs"](), sys.argv[3:])
"""


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_half(signs: Path, place: str, tmp_path: Path, do: Do) -> None:
    """SIGKILL before the n-th file appears; then the same command makes the same version."""
    words = [
        "create",
        "signs",
        f"data.root={signs}",
        f"paths.data_versions={place}",
        f"paths.cache={tmp_path / 'cache'}",
    ]
    script = str(PROJECT / "src" / "data_versions.py")
    for moment in (1, 20, 37, 38, 39, 40):
        done = subprocess.run([sys.executable, "-c", KILLED, str(moment), script, *words], capture_output=True)
        assert done.returncode in (0, -9), done.stderr
        numbers = [each["version"] for each in do("list")]
        assert numbers in ([], [1])
        for number in numbers:
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            do("checkout", f"signs/{number}", f"into={tmp_path / 'out'}")
    assert do("create", "signs", f"data.root={signs}")["version"] == 1


@pytest.mark.slow
def test_two_writers_at_once_make_two_versions(signs: Path, place: str, tmp_path: Path, do: Do) -> None:
    do("create", "signs", f"data.root={signs}")
    script = str(PROJECT / "src" / "data_versions.py")
    writers = []
    for number in range(2):
        mine = tmp_path / f"mine{number}"
        shutil.copytree(signs, mine)
        write_image(mine / "train" / "red" / f"new{number}.png", RED, seed=700 + number)
        where = [f"paths.data_versions={place}", f"paths.cache={tmp_path / 'cache'}"]
        words = [sys.executable, script, "create", "signs", f"data.root={mine}", *where]
        writers.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors
    listed = do("list")
    assert [each["version"] for each in listed] == [1, 2, 3]
    assert all(sum(each["num_images"].values()) == 37 for each in listed[1:])


def test_a_moved_file_is_the_same_image_whatever_else_came_or_went(do: Do, signs: Path) -> None:
    do("create", "signs", f"data.root={signs}")
    for index in range(2, 7):
        (signs / "train" / "green" / f"train{index:02d}.png").unlink()
    (signs / "train" / "green" / "train01.png").rename(signs / "train" / "red" / "was_green.png")
    changes = do("create", "signs", f"data.root={signs}")["changes"]
    assert changes == {"added": 0, "removed": 5, "relabelled": 1, "moved": 0, "renamed": 1}


def test_equal_images_are_each_one_row(do: Do, signs: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copy(signs / "train" / "red" / "train00.png", signs / "train" / "red" / f"{name}.png")
    do("create", "signs", f"data.root={signs}")
    (signs / "train" / "red" / "b.png").unlink()
    (signs / "train" / "red" / "c.png").rename(signs / "train" / "red" / "d.png")
    changes = do("create", "signs", f"data.root={signs}")["changes"]
    assert changes == {"added": 0, "removed": 1, "relabelled": 0, "moved": 0, "renamed": 1}
