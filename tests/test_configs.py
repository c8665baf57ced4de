"""Every group option composes, and every experiment builds and takes a step on a tiny data set."""

import itertools
from pathlib import Path

import pytest
import timm
from omegaconf import OmegaConf
from safetensors.torch import save_file

from sightline.config import to_plain, validate
from sightline.evaluation.evaluate import evaluate
from sightline.training.train import train
from tests.conftest import BARE, PROJECT, TINY, compose_config

CONFIGS = PROJECT / "configs"
GROUPS = [
    "data",
    "model",
    "model/optimizer",
    "model/scheduler",
    "augmentation",
    "trainer",
    "callbacks",
    "logger",
    "evaluation",
    "explanation",
    "debug",
]
OPTIONS = [
    (group, file.stem)
    for group in (*GROUPS, "experiment", "paths", "launch", "hparams_search")
    for file in sorted((CONFIGS / group).glob("*.yaml"))
]
EXPERIMENTS = [name for group, name in OPTIONS if group == "experiment"]


@pytest.mark.structure
@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes(group: str, option: str) -> None:
    overrides = [f"{group}={option}"]
    if option in ("folder", "shards", "photos"):
        overrides.append("data.root=somewhere")
    if (group, option) == ("model", "default"):
        overrides.append("model.name=resnet18")
    if option == "intel_distilled":
        overrides.append("model.teacher=latest")
    cfg = compose_config("train", *overrides)
    if option != "dogs" or group != "experiment":
        validate(cfg)
    assert to_plain(cfg)


@pytest.mark.structure
def test_no_config_depends_on_hydra_at_run_time() -> None:
    """`train(cfg)` works from a notebook: nothing resolves through `${hydra:…}`."""
    for file in CONFIGS.rglob("*.yaml"):
        if "hydra" not in file.parts:
            assert "${hydra" not in file.read_text(encoding="utf-8"), file


@pytest.mark.structure
def test_resolved_configuration_is_plain() -> None:
    plain = to_plain(compose_config("train"))
    assert plain["model"]["optimizer"]["lr"] == plain["model"]["lr"]
    assert not any(OmegaConf.is_config(value) for value in plain.values())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return path


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_takes_a_step(
    experiment: str, colors: Path, weights: Path, trained: Path, tmp_path: Path
) -> None:
    overrides = [f"experiment={experiment}", "debug=one_batch", f"output={tmp_path / 'run'}", f"paths.data={tmp_path}"]
    if experiment != "digits":
        overrides += [f"data.root={colors}", "data.group_pattern=null", f"model.weights={weights}"]
    if experiment == "intel_distilled":
        overrides.append(f"model.teacher={trained}")
    result = train(compose_config("train", *overrides, *BARE))
    assert 0 <= result.metrics["val/accuracy"] <= 1
    assert (result.run_dir / "model" / "model.safetensors").is_file()


SETTINGS = [
    *itertools.product(["model/optimizer"], ["adam", "sgd", "rmsprop", "lamb", "muon"]),
    *itertools.product(["model/scheduler"], ["cosine", "plateau", "constant", "warmup_cosine"]),
    *itertools.product(["augmentation"], ["none", "albumentations", "strong", "a3"]),
    *itertools.product(["logger"], ["none", "csv"]),
    ("callbacks", "early_stopping"),
    ("debug", "profile"),
    ("debug", "limit"),
    ("trainer.gradient_clip_val", "1.0"),
    ("trainer.max_steps", "1"),
    *itertools.product(["trainer.precision"], ["32-true", "bf16-true", "64-true"]),
]


@pytest.mark.parametrize(("group", "option"), SETTINGS)
def test_every_setting_takes_a_step(group: str, option: str, colors: Path, tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={colors}", f"output={tmp_path / 'run'}", f"{group}={option}"]
    words += TINY if group == "trainer.precision" else BARE
    if group != "debug":
        words.append("debug=one_batch")
    assert train(compose_config("train", *words)).checkpoint is not None


def test_overfit_learns_one_batch_by_heart(colors: Path, tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={colors}", f"output={tmp_path / 'run'}", "debug=overfit", "model.lr=0.01"]
    tiny = [word for word in BARE if "max_epochs" not in word]
    result = train(compose_config("train", *words, *tiny, "trainer.max_epochs=25"))
    assert result.metrics["train/loss"] < 0.05


def test_evaluation_repeats_the_limits_of_a_debug_run(colors: Path, tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={colors}", f"output={tmp_path / 'run'}", "debug=one_batch", *TINY]
    expected = train(compose_config("train", *words)).metrics
    again = evaluate(compose_config("evaluate", f"run={tmp_path / 'run'}", f"output={tmp_path / 'again'}"))
    own = {name: value for name, value in expected.items() if name.startswith("test/")}
    assert {name: again.metrics[name] for name in own} == own


def test_arguments_for_a_model_stay_with_its_name(colors: Path, tmp_path: Path) -> None:
    """`model=resnet18_half` narrows resnet18, and no other name given on top of it."""
    words = ["data=folder", f"data.root={colors}", "model=resnet18_half", "debug=one_batch", *BARE]
    narrow = train(compose_config("train", *words, "model.name=resnet18", f"output={tmp_path / 'narrow'}"))
    other = train(compose_config("train", *words, f"output={tmp_path / 'other'}"))
    assert narrow.metrics["num_parameters"] < 3e6
    expected = sum(p.numel() for p in timm.create_model("test_resnet", num_classes=3).parameters())
    assert other.metrics["num_parameters"] == expected


@pytest.mark.structure
@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml")))
def test_another_augmentation_leaves_nothing_of_the_experiments_own(experiment: str) -> None:
    augmentation = compose_config("train", f"experiment={experiment}", "augmentation=none").augmentation
    assert (augmentation.crop_scale, augmentation.horizontal_flip, augmentation.transforms) == (None, 0.0, {})
