"""A version comes back bit for bit, and is trained on exactly."""

import json
import shutil
from pathlib import Path

import pytest
from tests.conftest import BARE, Cli, compose_task, compose_train, write_image
from tests.data.versions.conftest import RED, Do

from sightline.data.opening import open_data, open_files
from sightline.data.versions.checkout import with_data_version
from sightline.data.versions.store import Versions
from sightline.errors import BadInput


@pytest.fixture
def where(place: str, tmp_path: Path) -> list[str]:
    return [f"paths.data_versions={place}", f"paths.cache={tmp_path / 'cache'}", f"paths.runs={tmp_path / 'runs'}"]


@pytest.fixture
def relabelled(do: Do, signs: Path, tmp_path: Path) -> str:
    """The second version, in which an image has another class than its folder."""
    do("create", "signs", f"data.root={signs}")
    (tmp_path / "corrections.csv").write_text("path,label,by\ntrain/red/train00.png,green,bob\n")
    assert do("merge", "signs", str(tmp_path / "corrections.csv"))["relabelled"] == 1
    return "signs/2"


@pytest.mark.parametrize("link", [False, True])
def test_a_checkout_is_the_version_bit_for_bit(
    link: bool, do: Do, signs: Path, versions: Versions, tmp_path: Path
) -> None:
    do("create", "signs", f"data.root={signs}")
    out = tmp_path / "out"
    done = do("checkout", "signs/1", f"into={out}", f"link={str(link).lower()}")
    assert done == {"version": "signs/1", "folder": str(out), "images": 36, "is_new": True}
    assert (out / "manifest.csv").read_bytes() == versions.find("signs/1").table.read_bytes()
    for path in signs.rglob("*.png"):
        assert (out / path.relative_to(signs)).read_bytes() == path.read_bytes()
    assert ((out / "train" / "red" / "train00.png").stat().st_nlink > 1) == link
    assert json.loads((out / "data_version.json").read_text())["name"] == "signs"
    assert not do("checkout", "signs/1", f"into={out}")["is_new"]


def test_a_folder_that_holds_something_else_is_not_touched(do: Do, signs: Path, tmp_path: Path) -> None:
    do("create", "signs", f"data.root={signs}")
    with pytest.raises(BadInput, match="is not empty"):
        do("checkout", "signs/1", f"into={signs}")


def test_a_damaged_object_is_named_and_nothing_is_half(do: Do, signs: Path, place: str, tmp_path: Path) -> None:
    do("create", "signs", f"data.root={signs}")
    digest = do("diff", "signs/1", "signs/1")
    assert digest["by_class"] == {}
    victim = next(path for path in sorted((Path(place) / "objects").iterdir()) if path.read_bytes()[:4] == b"\x89PNG")
    victim.write_bytes(victim.read_bytes() + b"x")
    with pytest.raises(BadInput, match=f"{victim.name} is gone or damaged"):
        do("checkout", "signs/1", f"into={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_a_training_takes_the_labels_of_the_table(relabelled: str, where: list[str], versions: Versions) -> None:
    cfg = with_data_version(compose_train("data=digits", "data.version=signs", *where))
    assert cfg.data.version == relabelled
    opened = open_data(cfg)
    assert opened.manifest is not None
    assert opened.describe()["version"] == versions.find(relabelled).named()
    assert opened.manifest.sha256 == versions.find(relabelled).sha256
    row = opened.manifest.paths.tolist().index("train/red/train00.png")
    assert opened.class_names[opened.manifest.labels[row]] == "green"
    assert open_data(cfg).manifest == opened.manifest  # found again


def test_a_checkout_named_as_a_folder_is_the_version(relabelled: str, do: Do, where: list[str], tmp_path: Path) -> None:
    do("checkout", relabelled, f"into={tmp_path / 'out'}")
    opened = open_files(compose_task("prepare", "data=folder", f"data.root={tmp_path / 'out'}", *where))
    assert opened.version is not None
    assert opened.version["version"] == 2
    assert do("create", "signs", f"data.root={tmp_path / 'out'}")["version"] == 2


@pytest.mark.parametrize("change", ["image", "gone", "table"])
def test_a_changed_checkout_is_refused(change: str, do: Do, signs: Path, where: list[str], tmp_path: Path) -> None:
    do("create", "signs", f"data.root={signs}")
    out = tmp_path / "out"
    do("checkout", "signs/1", f"into={out}")
    file = out / ("manifest.csv" if change == "table" else "train/red/train00.png")
    if change == "gone":
        file.unlink()
    elif change == "table":
        file.write_text(file.read_text().replace(",red,train,", ",green,train,", 1))
    else:
        write_image(file, RED, seed=12345)
    with pytest.raises(BadInput, match="check signs/1 out anew"):
        open_files(compose_task("prepare", "data=folder", f"data.root={out}", *where))
    (out / "data_version.json").unlink()
    if change != "table":
        open_files(compose_task("prepare", "data=folder", f"data.root={out}", *where))


def test_images_that_were_put_into_a_checkout_are_not_lost(do: Do, signs: Path, tmp_path: Path) -> None:
    do("create", "signs", f"data.root={signs}")
    out = tmp_path / "out"
    do("checkout", "signs/1", f"into={out}")
    write_image(out / "train" / "red" / "new.png", RED, seed=4)
    with pytest.raises(BadInput, match=r"train/red/new\.png; remove data_version\.json"):
        do("create", "signs", f"data.root={out}")
    (out / "data_version.json").unlink()
    assert do("create", "signs", f"data.root={out}")["changes"]["added"] == 1


def test_a_pinned_table_beside_a_version_is_its_own(
    relabelled: str, do: Do, where: list[str], versions: Versions
) -> None:
    words = ["data=digits", "data.version=signs", *where]
    manifest = open_data(compose_train(*words, f"data.manifest={versions.find(relabelled).table}")).manifest
    assert manifest is not None
    assert manifest.sha256 == versions.find(relabelled).sha256
    with pytest.raises(BadInput, match="is not the table of signs/2"):
        open_data(compose_train(*words, f"data.manifest={versions.find('signs/1').table}"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("data.version=sings",), "did you mean signs"),
        (("data.version=signs/7",), "no such version"),
        (("data.version=signs", "data.num_folds=3"), "a version has one split"),
    ],
)
def test_a_version_that_cannot_be_is_refused(
    words: tuple[str, ...], said: str, do: Do, signs: Path, where: list[str]
) -> None:
    do("create", "signs", f"data.root={signs}")
    with pytest.raises(BadInput, match=said):
        with_data_version(compose_train("data=digits", *words, *where))


@pytest.mark.slow
def test_training_evaluation_and_the_cache_that_is_gone(
    relabelled: str, cli: Cli, where: list[str], versions: Versions, tmp_path: Path, do: Do
) -> None:
    done = cli("train", "data.version=signs", *where, *BARE)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs" / "train").glob("*/*")
    record = json.loads((run / "run.json").read_text())
    assert record["data"]["version"] == versions.find(relabelled).named()
    assert record["config"]["data"]["version"] == relabelled
    assert (run / "manifest.csv").read_bytes() == versions.find(relabelled).table.read_bytes()
    shutil.rmtree(tmp_path / "cache")
    done = cli("evaluate", f"run={run}", *where, "evaluation=short", f"output={tmp_path / 'again'}")
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert again["test/accuracy"] == json.loads((run / "metrics.json").read_text())["test/accuracy"]
    done = cli("evaluate", f"run={run}", "data.version=signs/1", *where, "evaluation=short", f"output={tmp_path / 'v'}")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "v" / "metrics.json").read_text())["test/accuracy"] == again["test/accuracy"]
    assert json.loads((tmp_path / "v" / "run.json").read_text())["data"]["version"]["version"] == 1
