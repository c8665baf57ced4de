"""How long, where and how carefully a network is fitted: Lightning's trainer, checkpoints and divergence."""

import ast
import functools
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sightline.config.constraints import Needs, UnknownKey, key, only_with
from sightline.config.instantiation import check_targets
from sightline.config.schema.own_code import is_own
from sightline.errors import BadInput
from sightline.metrics import FIT_METRICS

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
MEASURED_PRECISIONS = (*PRECISIONS, "int8")
"""Of what is measured or predicted: int8 is the exported model's own file."""
PRECISION = "of what is measured or predicted, whatever the training used, so that any machine gives the same rows"
MEASURED_PRECISION = f"{PRECISION}; int8: the exported model of that precision"
RUNTIMES = ("auto", "torch", "compiled", "onnx")
RUNTIME = "what computes; auto: the exported model on a processor, where it is there and agrees, else torch"
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
"""How several processes may train one network."""
SEVERAL = Needs(
    "trainer.devices=2 or more",
    lambda cfg: (cfg.trainer.num_devices() or 2) * cfg.trainer.num_nodes > 1,  # all of the machine may be several
    may_stay=True,
)
EARLY_END = Needs(
    "callbacks=early_stopping or trainer.max_time=…",
    lambda cfg: bool(cfg.trainer.max_time) or bool(cfg.callbacks),
    may_stay=True,
)
OURS = {
    "callbacks": "add them with +callbacks.NAME._target_=…, or choose callbacks=…",
    "logger": "add one with +logger.NAME._target_=…, or choose logger=…",
    "default_root_dir": "name the run folder with output=FOLDER",
    "enable_checkpointing": "checkpoints are what a run goes on from; checkpoint.keep=weights leaves small ones",
    "fast_dev_run": "type debug=one_batch",
    "barebones": "type logger=none trainer.enable_progress_bar=false, and debug=profile to measure",
}
"""Arguments of Lightning's trainer that the run folder depends on, and what to type instead."""
NO_OVERFITTING = only_with("trainer.overfit_batches", 0)
ROLLBACK = only_with("divergence.action", "rollback")


@dataclass
class TrainerConfig:
    """Arguments of `pytorch_lightning.Trainer`, by Lightning's own names; `precision: auto` is ours.

    Those that have a rule here stand here; any other one is taken, too, and lies in `further`.
    """

    accelerator: str = key("auto", "auto: the best that this machine has")
    strategy: Any = key("auto", f"of several processes: {', '.join(STRATEGIES)}; or a `_target_` node", needs=SEVERAL)
    devices: Any = key(
        1, "processes on each machine, one a device; auto: all GPUs; or a list that names them, like [2]"
    )
    num_nodes: int = key(1, "machines")
    precision: str = key(
        "auto", "auto: bf16 mixed where the device has it in hardware, else 32 bits", choices=PRECISIONS
    )
    max_epochs: int | str | None = key(10, "auto: by the number of training images, see docs/recipe.md")
    min_epochs: int | None = key(None, "before anything else may end the training", needs=EARLY_END)
    max_steps: int = key(-1, "the training ends with these or with max_epochs, whichever come first; -1: no limit")
    min_steps: int | None = key(None, "before anything else may end the training", needs=EARLY_END)
    max_time: str | None = key(None, "DD:HH:MM:SS")
    limit_train_batches: int | float | None = key(None, needs=NO_OVERFITTING)
    limit_val_batches: int | float | None = key(None, needs=NO_OVERFITTING)
    limit_test_batches: int | float | None = key(
        None, needs=Needs("test in stages", lambda cfg: "test" in cfg.stages, may_stay=True)
    )
    overfit_batches: int | float = 0.0
    val_check_interval: int | float | None = None
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int = 0
    log_every_n_steps: int = key(10, needs=only_with("logger", may_stay=True))
    enable_progress_bar: bool = True
    enable_model_summary: bool = False
    accumulate_grad_batches: int = key(1, minimum=1)
    gradient_clip_val: int | float | None = None
    gradient_clip_algorithm: str | None = key(None, needs=only_with("trainer.gradient_clip_val"))
    deterministic: bool | str | None = key(None, 'true, false or "warn"')
    benchmark: bool | None = None
    inference_mode: bool = True
    use_distributed_sampler: bool = True
    profiler: Any = key(None, "simple, advanced or pytorch; or a `_target_` node")
    detect_anomaly: bool = False
    sync_batchnorm: bool = key(False, needs=SEVERAL)
    further: dict[str, Any] = key({}, "any other argument of the trainer, typed trainer.NAME=… as these are", rest=True)

    def check(self) -> None:
        self._check_further()
        check_targets({"strategy": self.strategy, "profiler": self.profiler, **self.further}, "trainer")
        if isinstance(self.max_epochs, str) and self.max_epochs != "auto":
            raise BadInput(f"trainer.max_epochs={self.max_epochs}: must be a number, or auto")
        max_epochs = 1 if isinstance(self.max_epochs, str) else self.max_epochs or -1
        if self.max_steps < 1 and (self.max_steps == 0 or max_epochs < 1):
            raise BadInput(
                f"trainer.max_epochs={self.max_epochs} trainer.max_steps={self.max_steps}: training would "
                "never end or never begin; set trainer.max_epochs to 1 or more, or trainer.max_steps "
                "(trainer.max_time may end either early)"
            )
        for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches"):
            if (limit := getattr(self, name)) is not None and (limit <= 0 or (isinstance(limit, float) and limit > 1)):
                raise BadInput(
                    f"trainer.{name}={limit}: must be a number of batches, 1 or more, or a share of them up to 1.0"
                )
        if self.check_val_every_n_epoch and self.check_val_every_n_epoch > max_epochs > 0:
            raise BadInput(
                f"trainer.check_val_every_n_epoch={self.check_val_every_n_epoch}: with trainer.max_epochs="
                f"{self.max_epochs} there would be no validation to choose the best checkpoint by; make it smaller"
            )
        if self.accelerator == "cpu" and self.precision.startswith("16-"):
            raise BadInput(
                f"trainer.precision={self.precision}: 16-bit floats need a GPU; "
                "with trainer.accelerator=cpu use bf16-mixed or 32-true"
            )
        self.num_devices()

    def _check_further(self) -> None:
        """Raises: BadInput for what is no argument of Lightning's trainer, or is for the run to say."""
        for name, value in self.further.items():
            if name in OURS:
                raise BadInput(f"trainer.{name}={value}: is made by the run; {OURS[name]}")
            if name not in trainer_arguments():
                known = [each.name for each in fields(self) if not each.metadata.get("rest")]
                raise UnknownKey(f"trainer.{name}", list(dict.fromkeys([*known, *trainer_arguments()])))

    def num_devices(self) -> int | None:
        """How many devices a machine is to use; None for all that it has.

        Raises: BadInput when `trainer.devices` says nothing of the kind.
        """
        devices = self.devices
        if str(devices) in ("auto", "-1"):
            return None
        named = devices if isinstance(devices, list) else str(devices).strip(",").split(",")
        if not named or not all(str(each).strip().isdigit() for each in named) or self.num_nodes < 1:
            raise BadInput(
                f"trainer.devices={devices} trainer.num_nodes={self.num_nodes}: give numbers, 1 or more, "
                "a list that names devices, like trainer.devices=[0,2], or auto"
            )
        count = len(named) if isinstance(devices, list) or "," in str(devices) else int(named[0])
        if count < 1:
            raise BadInput(f"trainer.devices={devices}: must be 1 or more")
        return count


@dataclass
class CheckpointConfig:
    """Which checkpoints are kept."""

    monitor: str = key(
        "val/accuracy",
        f"the metric that decides which checkpoint is the best: {', '.join(FIT_METRICS)}, or of evaluation.metrics; "
        "of a module of own code, any that it logs",
        chooses=True,
        needs=only_with("data.with_validation", False, may_stay=True),
    )
    mode: str | None = key(
        None,
        "whether its least or its greatest value is the best; null: min where its name ends with loss or error",
        choices=("min", "max"),
        needs=Needs("module._target_=…", lambda cfg: is_own(cfg.module)),
    )
    average_best: int = key(
        1,
        "export the average of so many of the best where validation finds it no worse",
        minimum=1,
        needs=Needs(
            "trainer.max_epochs=2 or more",
            lambda cfg: cfg.checkpoint.average_best == 1 or cfg.trainer.max_epochs != 1,
            may_stay=True,
        ),
    )
    every_minutes: float | None = key(
        10.0,
        "also write last.ckpt this often within an epoch; null: after epochs alone",
        above=0,
        hint=", or null to save after epochs",
    )
    keep: str = key(
        "resumable",
        "of a finished run: last.ckpt whole, to train on from, and the weights of best.ckpt; weights: those of both; "
        "all: every checkpoint with its optimizer",
        choices=("resumable", "weights", "all"),
    )


@dataclass
class DivergenceConfig:
    """What happens when the loss becomes nan or infinite, or explodes."""

    action: str = key(
        "stop",
        "rollback: go on from the last checkpoint with a smaller learning rate …",
        choices=("stop", "rollback"),
    )
    max_rollbacks: int = key(
        3, "… so often at the most …", minimum=1, hint="; to have none set divergence.action=stop", needs=ROLLBACK
    )
    lr_factor: float = key(0.3, "… each time multiplied by this", above=0, below=1, hint=", like 0.3", needs=ROLLBACK)
    explosion_factor: float = key(
        20.0,
        "exploded: above so many times the loss of guessing, as a median of five batches",
        above=1,
        hint=", like 20",
    )
    patience_steps: int | None = key(
        500, "warn once when the loss has not fallen over so many batches; null: never", minimum=4, hint=", or null"
    )


@dataclass
class LrFinderConfig:
    """The sweep of learning rates that `model.lr=auto` and find_lr.py make."""

    lowest: float = 1e-6
    highest: float = 10.0
    num_steps: int = key(120, "of the sweep; it ends earlier when the loss is lost", minimum=20, hint="; 120 is usual")

    def check(self) -> None:
        if not 0 < self.lowest < self.highest:
            raise BadInput(
                f"lr_finder.lowest={self.lowest} lr_finder.highest={self.highest}: "
                "both must be above 0, and the first the smaller"
            )


@functools.cache
def trainer_arguments() -> tuple[str, ...]:
    """What `pytorch_lightning.Trainer` takes, read in its source: to import it takes seconds."""
    spec = find_spec("pytorch_lightning")
    assert spec is not None
    source = Path(str(spec.origin)).with_name("trainer").joinpath("trainer.py").read_text(encoding="utf-8")
    made = next(
        part
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "Trainer"
        for part in node.body
        if isinstance(part, ast.FunctionDef) and part.name == "__init__"
    )
    return tuple(each.arg for each in (*made.args.args[1:], *made.args.kwonlyargs))
