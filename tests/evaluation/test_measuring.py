"""What is measured at a run's end: averaged views, averaged checkpoints; and images that stay on the device."""

import json
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, compose_config, compose_task, compose_train
from tests.models.test_classifier import RECIPE_FOR_STEPS, make_classifier
from torch import nn
from torch.utils.data import DataLoader

from sightline.data.device_cache import DeviceDataset
from sightline.data.opening import open_data
from sightline.errors import BadInput
from sightline.evaluation.evaluate import evaluate
from sightline.finished_run import FinishedRun, find_images, make_loader_of
from sightline.models.checkpoint import load_model
from sightline.models.views import AveragedViews, zoomed
from sightline.training.checkpoint_averaging import average_checkpoints
from sightline.training.train import train


def words_of(root: Path, folder: Path, *more: str) -> list[str]:
    tiny = [word for word in TINY if "max_epochs" not in word]
    return ["data=folder", f"data.root={root}", f"output={folder}", *tiny, "logger=none", "model.lr=0.01", *more]


class Corner(nn.Module):
    """Two classes by the pixel in the upper left corner."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        corner = images[:, 0, 0, 0]
        return torch.stack([corner, -corner], 1)


VIEWS_OF = {"flip": 2, "shifts": 5, "flip_and_shifts": 10, "zooms": 3, "flip_and_zooms": 6}


@pytest.mark.parametrize(("kind", "count"), VIEWS_OF.items())
def test_probabilities_are_averaged_over_the_views(kind: str, count: int) -> None:
    images = torch.randn(3, 3, 32, 48)
    network = AveragedViews(Corner(), kind)
    views = list(network.views(images))
    assert len(views) == len({view.numpy().tobytes() for view in views}) == count
    assert all(view.shape == images.shape for view in views)
    expected = torch.stack([Corner()(view).softmax(1) for view in views]).mean(0)
    torch.testing.assert_close(network(images).softmax(1), expected)
    if "flip" in kind:
        assert torch.equal(views[1], images.flip(3))
    if "shifts" in kind:
        inner = images[:, :, 4:-4, 4:-4]
        assert any(torch.equal(view[:, :, 4:-4, 7:-1], inner) for view in views), "moved by 3 pixels of 48"


def test_a_zoom_shows_the_middle_larger() -> None:
    across = torch.linspace(-1, 1, 40).expand(1, 3, 20, 40)
    nearer = zoomed(across, 0.8)
    assert nearer.shape == across.shape
    torch.testing.assert_close(nearer[..., 5:-5], 0.8 * across[..., 5:-5])


def test_a_run_is_measured_over_views_and_so_is_its_evaluation(colors: Path, tmp_path: Path) -> None:
    options = ("trainer.max_epochs=1", "trainer.precision=32-true", "test_time_augmentation=flip_and_shifts")
    words = words_of(colors, tmp_path / "run", *options)
    expected = train(compose_config("train", *words)).metrics
    run = f"run={tmp_path / 'run'}"
    again = evaluate(compose_config("evaluate", run, "evaluation=short", f"output={tmp_path / 'again'}")).metrics
    assert again == {name: value for name, value in expected.items() if name.startswith("test/")}
    plain = compose_config("evaluate", run, f"output={tmp_path / 'plain'}", "test_time_augmentation=none")
    assert evaluate(plain).metrics["test/loss"] != again["test/loss"]
    classes = sorted(folder.name for folder in (colors / "test").iterdir())
    files = {name: sorted((colors / "test" / name).iterdir()) for name in classes}
    predictions = FinishedRun.open(tmp_path / "run" / "model", "cpu", "32-true").predict(
        [file for name in classes for file in files[name]]
    )
    answers = torch.from_numpy(predictions.probabilities)
    labels = torch.tensor([number for number, name in enumerate(classes) for _ in files[name]])
    nll = -answers.gather(1, labels[:, None]).log().mean()
    assert float(nll) == pytest.approx(expected["test/nll_calibrated"], rel=1e-4), (
        "the model answers as it was measured"
    )


def test_a_mirror_image_of_an_arrow_is_no_view_of_it(colors: Path, tmp_path: Path) -> None:
    words = words_of(colors, tmp_path / "run", "test_time_augmentation=flip", "data.orientation_matters=true")
    with pytest.raises(BadInput, match="test_time_augmentation=flip: a mirror image has another class"):
        train(compose_config("train", *words))


@pytest.mark.parametrize("precision", ["32-true", pytest.param("bf16-true", marks=pytest.mark.slow)])
def test_the_best_checkpoints_are_averaged_if_that_is_no_worse(precision: str, colors: Path, tmp_path: Path) -> None:
    words = words_of(
        colors, tmp_path / "run", "trainer.max_epochs=4", "checkpoint.average_best=3", "checkpoint.keep=all"
    )
    result = train(compose_config("train", *words, "checkpoint.monitor=val/loss", f"trainer.precision={precision}"))
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["averaged"]
    paths = [tmp_path / "run" / "checkpoints" / name for name in facts["checkpoints"]]
    assert len(paths) == 3
    weights = [load_model(path).network.state_dict()["fc.weight"] for path in paths]
    mean = average_checkpoints(paths).state_dict()
    torch.testing.assert_close(mean["fc.weight"], torch.stack(weights).mean(0))
    best = load_model(tmp_path / "run" / "checkpoints" / "best.ckpt").network.state_dict()
    saved = load_model(tmp_path / "run").network.state_dict()
    assert facts["used"] == (facts["score"] <= facts["best"])
    assert torch.equal(saved["fc.weight"], (mean if facts["used"] else best)["fc.weight"])
    if facts["used"]:
        assert not torch.equal(saved["bn1.running_mean"], mean["bn1.running_mean"]), "measured, not averaged"
    expected = facts["score"] if facts["used"] else facts["best"]
    assert result.metrics["val/loss"] == pytest.approx(expected, rel=1e-5)


def test_the_average_sees_images_augmented_in_whole_numbers(colors: Path, tmp_path: Path) -> None:
    options = ("trainer.precision=bf16-mixed", "augmentation=signs", "augmentation.batch.before.blur.p=1")
    words = words_of(colors, tmp_path / "run", "trainer.max_epochs=2", "checkpoint.average_best=2", *options)
    train(compose_config("train", *words, "stages=[fit]"))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "finished"
    assert len(record["averaged"]["checkpoints"]) == 2


def test_images_on_the_device_are_the_same_images(colors: Path, tmp_path: Path) -> None:
    """The weights after an epoch are those of a run that reads them in every epoch, to the last bit."""
    more = ("augmentation=signs", "trainer.max_epochs=2", "data.sampler=balanced")
    hashes = []
    for name, words in (("read", more), ("kept", (*more, "data.device_cache=true"))):
        train(compose_config("train", *words_of(colors, tmp_path / name, *words)))
        hashes.append((tmp_path / name / "model" / "model.safetensors").read_bytes())
    assert hashes[0] == hashes[1]


def test_images_on_the_device_are_read_once(colors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sightline.data.datamodule as datamodule_module

    reads = []
    read = datamodule_module.ImageDataset._read
    monkeypatch.setattr(
        datamodule_module.ImageDataset, "_read", lambda self, *given: reads.append(len(given[1])) or read(self, *given)
    )
    words = ("augmentation=none", "trainer.max_epochs=3", "data.device_cache=true", "stages=[fit]")
    train(compose_config("train", *words_of(colors, tmp_path / "run", *words)))
    assert sum(reads) == 60, "each of the training and validation images once"


def test_the_device_cache_is_refused_where_it_cannot_be(colors: Path, tmp_path: Path) -> None:
    words = words_of(colors, tmp_path / "run", "data.device_cache=true")
    with pytest.raises(BadInput, match="data.device_cache=true: this augmentation changes images on the processor"):
        train(compose_config("train", *words, "augmentation=light"))
    cfg = compose_train(*words, "augmentation=none")
    opened = open_data(cfg)
    datamodule = opened.make_datamodule(cfg, make_classifier(RECIPE_FOR_STEPS).spec)
    batch = DeviceDataset(datamodule.train, torch.device("cpu")).__getitems__([(0, 3), (1, 5)])  # pyright: ignore
    assert torch.equal(batch[0], datamodule.train.__getitems__([(0, 3), (1, 5)])[0])  # pyright: ignore


def test_a_compiled_network_sees_batches_of_one_size() -> None:
    torch.manual_seed(0)
    classifier = make_classifier(RECIPE_FOR_STEPS).eval()
    batches = [torch.randn(count, 3, 32, 32) for count in (6, 6, 2)]
    with torch.no_grad():
        expected = [classifier(batch) for batch in batches]
    graphs = []
    classifier.compile_backbone(backend=lambda graph, inputs: graphs.append(inputs) or graph.forward)
    with torch.no_grad():
        got = [classifier._forward_filled(batch) for batch in batches]
    assert len(graphs) == 1, "not compiled again for the last batch"
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_images_that_training_kept_decoded_are_not_decoded_again(colors: Path, tmp_path: Path) -> None:
    kept = f"paths.cache={tmp_path / 'cache'}"
    train(compose_config("train", *words_of(colors, tmp_path / "run", kept, "trainer.max_epochs=1", "stages=[fit]")))

    def loader_with(*words: str) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
        cfg = compose_task("evaluate", f"run={tmp_path / 'run'}", "split=val", *words)
        run = FinishedRun.open(cfg.run)
        return make_loader_of(cfg, run, find_images(cfg, run), "val")

    from_store, from_files = loader_with(kept), loader_with(f"paths.cache={tmp_path / 'other'}")
    assert from_store.dataset.store is not None  # pyright: ignore[reportAttributeAccessIssue]
    assert from_files.dataset.store is None  # pyright: ignore[reportAttributeAccessIssue]
    assert (from_store.num_workers, loader_with(kept, "data.num_workers=1").num_workers) == (0, 1)
    for (pixels, labels), (decoded, same_labels) in zip(from_store, from_files, strict=True):
        assert torch.equal(pixels, decoded)
        assert torch.equal(labels, same_labels)
    assert not (tmp_path / "other").exists(), "evaluation keeps nothing"
    without = words_of(colors, tmp_path / "off", "data.cache=off", "trainer.max_epochs=1", "stages=[fit]")
    train(compose_config("train", *without))
    assert loader_with(kept, f"run={tmp_path / 'off'}").dataset.store is None  # pyright: ignore[reportAttributeAccessIssue]
