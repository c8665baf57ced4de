"""Small sets of photos: published weights where they are within reach, and epochs by the number of images."""

from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file
from tests.conftest import TINY, compose_train

from sightline.errors import BadInput
from sightline.runs.files import read_json
from sightline.training.fine_tuning import with_max_epochs, with_pretrained
from sightline.training.train import train

PHOTOS = ("experiment=photos", "data.root=photos", *(word for word in TINY if "max_epochs" not in word), "stages=[fit]")


def repository_of(name: str) -> str:
    described = timm.get_pretrained_cfg(name)
    assert described is not None
    assert described.hf_hub_id is not None
    return described.hf_hub_id


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache of a machine without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def published(offline: Path) -> str:
    """The name of a network whose weights are in that cache, as the hub's client lays them out."""
    name, revision = "test_resnet", "0" * 40
    repository = offline / f"models--{repository_of(name).replace('/', '--')}"
    for folder in (repository / "refs", repository / "snapshots" / revision):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    save_file(timm.create_model(name).state_dict(), repository / "snapshots" / revision / "model.safetensors")
    return name


def test_weights_in_the_cache_are_begun_with(published: str, colors: Path, tmp_path: Path) -> None:
    words = ("trainer.limit_train_batches=1", "trainer.max_epochs=auto", "trainer.max_steps=1", "augmentation=none")
    cfg = compose_train(*PHOTOS, *words, f"data.root={colors}", f"output={tmp_path / 'run'}", "logger=none")
    record = read_json(train(cfg).run_dir / "run.json")
    assert record["model"]["weights_origin"] == f"timm {repository_of(published)}"
    pixels = {"data.channels": 3, "data.bit_depth": 8}
    assert record["found"] == {"model.pretrained": True, "trainer.max_epochs": 30, **pixels}
    assert [guess["key"] for guess in record["guesses"]] == ["model.pretrained", "trainer.max_epochs"]


@pytest.mark.usefixtures("offline")
def test_out_of_reach_means_from_scratch_and_says_how_to_do_better(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        cfg, _ = with_pretrained(compose_train(*PHOTOS), {})
    assert cfg.model.pretrained is False
    line = caplog.messages[-1]
    assert line.startswith("guessed model.pretrained=false (from scratch: the weights of test_resnet could not be")
    assert "model.weights=FILE" in line


def test_weights_that_do_not_fit_the_arguments_are_left(published: str, caplog: pytest.LogCaptureFixture) -> None:
    words = (f"model.name={published}", "+model.arguments.channels=[16,24,32,40]")
    with caplog.at_level("INFO"):
        cfg, _ = with_pretrained(compose_train(*PHOTOS, *words), {})
    assert cfg.model.pretrained is False
    assert "do not fit its arguments" in caplog.messages[-1]


@pytest.mark.usefixtures("offline")
def test_a_frozen_backbone_needs_weights() -> None:
    with pytest.raises(BadInput, match="model.freeze=backbone: with random weights the frozen backbone knows nothing"):
        with_pretrained(compose_train(*PHOTOS, "model.freeze=backbone"), {})


@pytest.mark.usefixtures("offline")
def test_a_run_that_goes_on_keeps_what_it_began_with() -> None:
    cfg, guesses = with_pretrained(compose_train(*PHOTOS), {"model.pretrained": True})
    assert cfg.model.pretrained is True
    assert [guess.because for guess in guesses] == ["as this run began"]


def test_what_is_typed_is_not_guessed(tmp_path: Path) -> None:
    (weights := tmp_path / "net.safetensors").touch()
    for word in ("model.pretrained=false", "model.pretrained=true", f"model.weights={weights}"):
        cfg, guesses = with_pretrained(compose_train(*PHOTOS, word), {})
        assert not guesses
        assert cfg.model.pretrained == (word == "model.pretrained=true")


def epochs(num_images: int, word: str) -> int:
    found = with_max_epochs(compose_train(*PHOTOS, word), num_images)[0].trainer.max_epochs
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize("word", ["model.pretrained=true", "model.pretrained=false"])
def test_fewer_images_are_shown_more_often_and_from_scratch_more_often_still(word: str) -> None:
    numbers = [epochs(count, word) for count in (20, 100, 200, 1000, 10_000)]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) > 2
    assert all(epochs(count, "model.pretrained=false") > epochs(count, "model.pretrained=true") for count in (20, 5000))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.pretrained=maybe", "model.pretrained=maybe: must be true, false or auto"),
        ("trainer.max_epochs=many", "trainer.max_epochs=many: must be a number, or auto"),
    ],
)
def test_other_words_are_refused(word: str, message: str, colors: Path) -> None:
    with pytest.raises(BadInput, match=message):
        compose_train(*PHOTOS, f"data.root={colors}", word)
