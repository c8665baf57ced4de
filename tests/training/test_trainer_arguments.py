"""Any argument of Lightning's trainer passes, whether or not it has a key here."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import yaml
from tests.conftest import BARE, Cli, compose_config, compose_train

from sightline.config import validate
from sightline.config.schema.trainer import OURS, trainer_arguments
from sightline.data.opening import open_data
from sightline.distributed.rank import Rank
from sightline.errors import BadInput
from sightline.training.learner import build_learner
from sightline.training.train import train
from sightline.training.trainer import plan_fit

LOOKS = "trainer.reload_dataloaders_every_n_epochs"


def test_the_names_are_those_of_the_installed_trainer() -> None:
    import inspect

    assert [*trainer_arguments()] == [*inspect.signature(pl.Trainer.__init__).parameters][1:]
    assert {*OURS} <= {*trainer_arguments()}


@pytest.mark.parametrize("word", [f"{LOOKS}=1", f"+{LOOKS}=1", "+trainer.further.reload_dataloaders_every_n_epochs=1"])
def test_an_argument_without_a_key_is_handed_over(word: str, colors: Path, tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={colors}", *BARE, "logger=none", word]
    assert compose_train(*words).trainer.further == {"reload_dataloaders_every_n_epochs": 1}
    done = train(compose_config("train", *words, f"output={tmp_path / 'run'}", "trainer.limit_train_batches=1"))
    saved = yaml.safe_load((done.run_dir / "config.yaml").read_text())
    assert saved["trainer"]["further"] == {"reload_dataloaders_every_n_epochs": 1}


def test_a_file_may_name_any_argument(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nname: mine\ntrainer: {max_epochs: 3, reload_dataloaders_every_n_epochs: 2}\n"
    )
    cfg = compose_train("experiment=mine", f"hydra.searchpath=[file://{tmp_path}]")
    assert (cfg.trainer.max_epochs, cfg.trainer.further) == (3, {"reload_dataloaders_every_n_epochs": 2})


def test_what_refers_to_a_key_keeps_referring_to_it() -> None:
    composed = compose_config("train", "+trainer.limit_predict_batches=${data.batch_size}", "data.batch_size=7")
    assert validate(composed).trainer.further == {"limit_predict_batches": 7}


def test_an_argument_may_be_an_object(colors: Path) -> None:
    """A strategy, a profiler or a plugin of one's own, by `_target_`."""
    strategy = "trainer.strategy={_target_: pytorch_lightning.strategies.SingleDeviceStrategy, device: cpu}"
    plugin = "trainer.plugins=[{_target_: lightning_fabric.plugins.environments.LightningEnvironment}]"
    words = ["data=folder", f"data.root={colors}", *BARE, "logger=none", strategy, plugin]
    cfg = compose_train(*words)
    learner, datamodule = build_learner(cfg, open_data(cfg))
    plan = plan_fit(cfg, Rank(), learner, datamodule)
    assert plan.arguments["strategy"]["device"] == "cpu"
    assert len(plan.arguments["plugins"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "trainer.reload_dataloaders_every_n_epoch=1",
            "no such key (did you mean trainer.reload_dataloaders_every_n_epochs=1?)",
        ),
        ("+trainer.max_epoch=3", "trainer.max_epoch=3: no such key (did you mean trainer.max_epochs=3?)"),
        (
            "trainer.callbacks=[a]",
            "trainer.callbacks=['a']: is made by the run; add them with +callbacks.NAME._target_",
        ),
        ("trainer.fast_dev_run=true", "trainer.fast_dev_run=True: is made by the run; type debug=one_batch"),
        ("trainer.model_registry=[1]", "trainer: "),
        (
            "trainer.profiler={_target_:pytorch_lightning.profilers.SimpleProfiler,foo:1}",
            "trainer.profiler (pytorch_lightning.profilers.SimpleProfiler): does not take foo; it takes dirpath=None",
        ),
    ],
)
def test_bad_input(words: str, message: str, cli: Cli, tmp_path: Path) -> None:
    done = cli("train", f"paths.runs={tmp_path / 'runs'}", "model.name=test_resnet", *words.split())
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*"))


def test_an_unknown_argument_from_python_is_named() -> None:
    with pytest.raises(BadInput, match=r"trainer.max_epoch: no such key \(did you mean trainer.max_epochs"):
        compose_train("+trainer.max_epoch=3")
