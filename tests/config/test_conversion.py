"""What Hydra composed as dataclasses: values, references, paths, and the way back to plain values."""

import pickle
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from sightline.config import TASKS, path_keys, save_yaml, to_plain, validate, with_value
from sightline.errors import BadInput
from tests.conftest import compose_config, compose_train


def test_a_typed_configuration_has_the_values_of_the_composed_one() -> None:
    composed = compose_config("train", "experiment=gtsrb_best", "data=folder", "data.root=signs")
    assert to_plain(validate(composed)) == OmegaConf.to_container(composed, resolve=True)


def test_what_refers_to_a_key_follows_it() -> None:
    """`model.optimizer.lr` is `${model.lr}`; a key that has a value of its own keeps it."""
    before = compose_train("model.lr=auto", "model.optimizer.weight_decay=0.3")
    after = with_value(before, "model.lr", 0.25)
    assert (after.model.lr, after.model.optimizer["lr"], after.model.scheduler["max_lr"]) == (0.25, 0.25, 0.25)
    assert after.model.optimizer["weight_decay"] == 0.3
    assert (before.model.lr, before.model.optimizer["lr"]) == ("auto", "auto")
    again = with_value(with_value(after, "data.name", "signs"), "trainer.devices", 2)
    assert (again.model.optimizer["lr"], again.trainer.devices) == (0.25, 2)
    own = with_value(with_value(before, "model.optimizer.lr", 7.0), "model.lr", 1.0)
    assert (own.model.optimizer["lr"], own.model.scheduler["max_lr"]) == (7.0, 1.0)


def test_a_typed_configuration_is_checked_again_and_travels_to_other_processes() -> None:
    cfg = compose_train()
    copied = pickle.loads(pickle.dumps(cfg))
    assert validate(copied) == cfg
    assert with_value(copied, "model.lr", 0.5).model.optimizer["lr"] == 0.5
    copied.seed = -1
    with pytest.raises(BadInput, match="seed=-1: must be 0 or more"):
        validate(copied)


def test_dataclasses_of_ones_own_are_a_configuration_too() -> None:
    """References in them count, and what is missing is named."""
    cfg = TASKS["train"]()
    with pytest.raises(BadInput, match=r"data.name, data.root, paths.cache, .*: no value is set"):
        validate(cfg)
    filled = TASKS["train"](**{name: getattr(compose_train(), name) for name in ("paths", "data", "model")})
    filled.evaluation.evaluators = compose_train().evaluation.evaluators
    assert validate(filled).name == "digits"


def test_yaml_reads_back_with_the_same_types(tmp_path: Path) -> None:
    cfg = compose_train("name=1e3", "trainer.max_time=00:01:00:00", r"data.origin='\${x}'", "+callbacks.a={b: 'true'}")
    save_yaml(cfg, tmp_path / "config.yaml")
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == asdict(cfg)
    assert cfg.data.origin == with_value(cfg, "model.lr", 0.5).data.origin == "${x}"


def test_keys_that_name_a_place_are_told_apart() -> None:
    kinds = path_keys()
    runs = {"run", "against", "resume", "model.teacher", "pipeline.champion"}
    assert {key for key, kind in kinds.items() if kind == "run"} == runs
    assert {key for key, kind in kinds.items() if kind == "stays"} == {
        *("output", "into", "report"),
        *(f"paths.{name}" for name in ("data", "cache", "inputs", "runs", "registry", "data_versions")),
    }
    assert {key for key, kind in kinds.items() if kind == "target"} == {"shards", "serve.output", "serve.capture"}
    assert {"data.root", "data.own_root", "data.manifest", "model.weights", "images"} <= kinds.keys()
