"""The settings of a run that is gone on with: its own, what is typed beside, and what follows from that."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from tests.conftest import compose_config

from sightline.command import with_settings_of_run
from sightline.config import to_plain, validate
from sightline.errors import BadInput
from sightline.runs.invocation import Invocation


def make_run(folder: Path, *overrides: str, **changed: Any) -> Path:
    """A run folder as training leaves it, with other values by dotted key in its configuration."""
    config = to_plain(validate(compose_config("train", *overrides)))
    for name, value in changed.items():
        section, key = name.split("__")
        config[section][key] = value
    folder.mkdir()
    record = {"task": "train", "overrides": list(overrides), "config": config, "commit": "0123456789abcdef"}
    (folder / "run.json").write_text(json.dumps({**record, "cwd": str(Path.cwd())}))
    return folder


def resumed(run: Path, *typed: str) -> tuple[DictConfig, tuple[str, ...]]:
    words = (f"resume={run}", *typed)
    cfg, invocation = with_settings_of_run(compose_config("train", *words), Invocation(overrides=words))
    validate(cfg)
    return cfg, invocation.overrides


def test_the_runs_own_settings_without_a_word(tmp_path: Path) -> None:
    words = ("experiment=gtsrb", "trainer.max_epochs=12", "+model.arguments.drop_rate=0.3", "callbacks=early_stopping")
    run = make_run(tmp_path / "run", *words, "output=elsewhere", "launch=here", f"paths.data={tmp_path}")
    cfg, overrides = resumed(run)
    expected = compose_config("train", *words, f"paths.data={tmp_path}", f"resume={run}")
    assert to_plain(cfg) == to_plain(expected)
    assert overrides == (*words, f"paths.data={tmp_path}", f"resume={run}")


def test_what_is_typed_beside_it_overrides_and_is_followed(tmp_path: Path) -> None:
    words = ("experiment=gtsrb", "trainer.max_epochs=12", "model.lr=0.1", "+model.arguments.drop_rate=0.3")
    run = make_run(tmp_path / "run", *words)
    typed = ("trainer.max_epochs=14", "model.lr=0.02", "++model.arguments.drop_rate=0.1", "evaluation=full")
    cfg, overrides = resumed(run, *typed)
    assert (cfg.trainer.max_epochs, cfg.model.lr, cfg.model.arguments.drop_rate) == (14, 0.02, 0.1)
    assert cfg.model.optimizer.lr == 0.02, "a reference to what is typed"
    assert cfg.evaluation == compose_config("train", "evaluation=full").evaluation
    assert cfg.data.name == "gtsrb"
    assert overrides == ("experiment=gtsrb", "+model.arguments.drop_rate=0.3", f"resume={run}", *typed)
    assert to_plain(resumed(run, *words)[0]) == to_plain(resumed(run)[0]), "the whole command again is the same"


def test_a_key_without_a_default_may_be_typed_again(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    run = make_run(tmp_path / "run", "data=folder", f"data.root={tmp_path}/here")
    cfg, overrides = resumed(run, f"data.root={tmp_path}/there")
    assert cfg.data.root == f"{tmp_path}/there"
    assert overrides == ("data=folder", f"resume={run}", f"data.root={tmp_path}/there")


def test_a_key_that_the_run_has_and_the_default_has_not(tmp_path: Path) -> None:
    """Hydra composes the words alone first, where the key has to be added."""
    run = make_run(tmp_path / "run", "model/scheduler=plateau", "model.scheduler.patience=2")
    assert resumed(run, "+model.scheduler.patience=5")[0].model.scheduler.patience == 5


def test_the_record_beats_a_configuration_that_has_changed_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what `auto` stood for, and the paths of another working folder."""
    (tmp_path / "net.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    words = ("model.lr=auto", "data.batch_size=auto", "model.weights=net.safetensors")
    run = make_run(tmp_path / "run", *words, model__lr=0.25, data__batch_size=7, trainer__log_every_n_steps=77)
    monkeypatch.chdir(tmp_path.parent)
    cfg, _ = resumed(run)
    assert (cfg.model.lr, cfg.data.batch_size, cfg.trainer.log_every_n_steps) == (0.25, 7, 77)
    assert cfg.model.weights == str(tmp_path / "net.safetensors")
    assert resumed(run, "trainer.log_every_n_steps=5")[0].trainer.log_every_n_steps == 5


def test_a_run_without_overrides_has_its_configuration(tmp_path: Path) -> None:
    """One that a program trained with a configuration of its own."""
    run = make_run(tmp_path / "run", "experiment=gtsrb", "model/optimizer=sgd", "logger=none")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "overrides": []}))
    cfg, _ = resumed(run, "trainer.max_epochs=14")
    expected = compose_config("train", "experiment=gtsrb", "model/optimizer=sgd", "logger=none")
    assert (cfg.data.name, cfg.model.optimizer, cfg.logger) == ("gtsrb", expected.model.optimizer, {})
    assert cfg.trainer.max_epochs == 14


def test_the_paths_of_a_container_stay_there(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", "paths=container", "data.root=${paths.inputs}/data_root", data__root="/here/photos"
    )
    cfg, _ = resumed(run)
    assert cfg.paths == compose_config("train").paths
    assert cfg.data.root == "/here/photos", "which fetching a job has written into its record"


@pytest.mark.parametrize("word", ["model=gone", "model.gone=1"])
def test_settings_that_no_longer_compose(word: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "overrides": [word]}))
    with pytest.raises(BadInput, match=r"resume=.*no longer compose here \(.*gone.*\); .* \(commit 0123456789ab\)"):
        resumed(run)


def test_other_commands_are_as_they_were(tmp_path: Path) -> None:
    for words in ((), ("resume=null",), (f"output={tmp_path}",)):
        cfg, told = compose_config("train", *words), Invocation(overrides=words)
        assert with_settings_of_run(cfg, told) == (cfg, told)
    with pytest.raises(BadInput, match="resume=nothing: no such run folder"):
        resumed(Path("nothing"))
