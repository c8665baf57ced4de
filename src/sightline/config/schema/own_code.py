"""The keys of own code: whose code a task may run, and the module or data module that stands in place of ours."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sightline.config.constraints import Needs, validate_choice
from sightline.config.instantiation import check_targets
from sightline.errors import BadInput
from sightline.metrics import FINAL_METRICS, FIT_METRICS

EXTENSIONS = "a folder of own code: its modules can be named by `_target_`, and its configs/ are searched"
TRUST_CODE = "true: also run code that a run or a job names and nobody here has typed, or that has changed since"
CODE_SHA256 = "of a job or a run: the hash of each package of own code, as it was then"
MODULE = "a LightningModule of own code that trains in place of ours: its `_target_`, and arguments beside it"
DATAMODULE = "the same of a LightningDataModule, whose batches are (images, labels)"
OUR_MODULE = Needs(
    "module._target_=null",
    lambda cfg: not is_own(cfg.module),
    besides=("model.lr", "model.tf32", "model.channels_last"),
)
"""What a module of own code does in its own way."""
OF_ANY_DATA = "name root image_size mean std interpolation crop orientation_matters batch_size num_workers".split()
OUR_DATA = Needs(
    "datamodule._target_=null",
    lambda cfg: not is_own(cfg.datamodule),
    besides=tuple(f"data.{name}" for name in OF_ANY_DATA),
)
"""What a data module of own code does in its own way."""
OUR_IMAGES = replace(
    OUR_DATA, besides=tuple(f"augmentation.{name}" for name in ("mixup", "cutmix", "mix_probability", "start_size"))
)
"""The same of changes of images; but for those that our own module makes, whoever made the batches."""


def is_own(node: Mapping[str, Any]) -> bool:
    """Whether a node names own code that stands in place of ours."""
    return node.get("_target_") is not None


def _check_node(node: Mapping[str, Any], key: str) -> None:
    """Raises: BadInput for a node without a target, or a target that is no name."""
    arguments = [name for name in node if name != "_target_"]
    if arguments and not is_own(node):
        raise BadInput(f"{key}.{arguments[0]}={node[arguments[0]]}: of which class? Add {key}._target_=my_code.MyClass")
    check_targets(dict(node), key)


def check_own_code(cfg: Any) -> None:
    """What a module or a data module of own code has no place for; and metrics that we do not measure."""
    _check_node(cfg.module, "module")
    _check_node(cfg.datamodule, "datamodule")
    if is_own(cfg.datamodule):
        for name, value, off in (
            ("data.batch_size", cfg.data.batch_size == "auto", "64"),
            ("trainer.overfit_batches", bool(cfg.trainer.overfit_batches), "0"),
        ):
            if value:
                raise BadInput(f"{name}: not with a data module of your own, which makes the batches; set {name}={off}")
    if cfg.runtime in ("compiled", "onnx"):
        for name, node in (("module", cfg.module), ("datamodule", cfg.datamodule)):
            if is_own(node):
                raise BadInput(
                    f"runtime={cfg.runtime}: not with {name}._target_={node['_target_']}, whose validation is its own; "
                    f"leave it at auto here, and measure with evaluate.py run=RUN runtime={cfg.runtime}"
                )
    if not is_own(cfg.module):
        own = cfg.evaluation.metrics_of("val")
        validate_choice("checkpoint.monitor", cfg.checkpoint.monitor, (*FIT_METRICS, *own))
        validate_choice("optimized_metric", cfg.optimized_metric, (*FINAL_METRICS, *own))
        return
    for name, value in (("model.lr", cfg.model.lr), ("data.batch_size", cfg.data.batch_size)):
        if value == "auto":
            raise BadInput(f"{name}=auto: is found by our own training step; with a module of your own give a number")
    monitor, count = cfg.checkpoint.monitor, cfg.checkpoint.average_best
    if count > 1 and monitor not in FIT_METRICS:
        raise BadInput(
            f"checkpoint.average_best={count} checkpoint.monitor={monitor}: an average is judged by what we measure; "
            f"set checkpoint.average_best=1, or choose one of {', '.join(FIT_METRICS)}"
        )
