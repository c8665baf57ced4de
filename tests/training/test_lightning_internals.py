"""What is used of Lightning below its public surface is there in the installed version, and as it was."""

import importlib
import inspect
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger

from sightline.training.lightning_internals import ATTRIBUTES, CHECKPOINT_KEYS, PARAMETERS


def find(path: str) -> Any:
    """An object below pytorch_lightning, by the path of its module and its name there."""
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(("pytorch_lightning", *parts[:length])))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise AssertionError(f"{path} is gone")


@pytest.fixture(scope="module")
def instances() -> dict[type, Any]:
    """One object of each class, as a trainer has them."""
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    made = (
        trainer,
        trainer.fit_loop,
        trainer.fit_loop.epoch_loop,
        trainer.fit_loop.epoch_loop.val_loop,
        trainer._logger_connector,
        ModelCheckpoint("."),
        TensorBoardLogger("."),
    )
    return {type(each): each for each in made}


@pytest.mark.parametrize("path", ATTRIBUTES)
def test_attributes_are_there(path: str, instances: dict[type, Any]) -> None:
    instance = instances[find(path)]
    lacking = [name for name in ATTRIBUTES[path] if not hasattr(instance, name) and name not in LATER]
    assert not lacking


LATER = ("val_check_batch",)
"""A trainer has it once its fit has begun."""


@pytest.mark.parametrize("path", PARAMETERS)
def test_parameters_are_the_same(path: str) -> None:
    assert tuple(inspect.signature(find(path)).parameters) == PARAMETERS[path]


def test_the_state_of_the_fit_loop_has_its_keys() -> None:
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    assert set(CHECKPOINT_KEYS) <= set(trainer.fit_loop.state_dict())
    assert set(trainer.fit_loop.state_dict()["epoch_progress"]["current"]) >= {"processed"}
    assert set(trainer.fit_loop.state_dict()["epoch_loop.batch_progress"]["current"]) >= {"completed", "ready"}
