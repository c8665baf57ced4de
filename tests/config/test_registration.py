"""What the schemas tell together, and the names that configurations get from where things lie."""

from pathlib import Path

import pytest

from tests.conftest import compose_task, compose_train


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("/a/photos", "photos"),
        ("photos/", "photos"),
        ("../Neue Bilder (2024)", "Neue-Bilder-2024"),
        ("x/photos.tar.GZ", "photos"),
        ("s3://bucket/pets/photos/", "photos"),
        ("/a/pets/labels.csv", "pets"),
        ("/a/pets/labels.txt", "pets"),
        ("/a/pets/LABELS.LST", "pets"),
        ("https://somewhere/images.zip", "images"),
        ("/a/фото", "фото"),
        ("/a/🐶", "data"),
        ("/a/" + 100 * "a", 60 * "a"),
    ],
)
def test_a_folder_of_images_gives_its_name(root: str, name: str) -> None:
    words = ["data=folder", f"data.root='{root}'"]
    cfg = compose_train(*words)
    assert (cfg.name, cfg.data.name) == (name, name)
    assert compose_task("prepare", *words).data.name == name
    assert compose_train("data=shards", f"data.root='{root}'").name == name


def test_a_folder_that_is_named_from_within_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos" / "more").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "photos" / "more")
    assert compose_train("data=folder", "data.root=.").name == "more"
    assert compose_train("data=folder", "data.root=..").name == "photos"


def test_a_name_that_is_typed_stays() -> None:
    words = ["data=folder", "data.root=/a/photos"]
    assert compose_train(*words, "name=mine").name == "mine"
    assert compose_train("experiment=gtsrb", "data.root=/a/photos").name == "gtsrb"
