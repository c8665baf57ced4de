"""The model group: the network, its weights, its loss and how it is optimised."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.config.constraints import Needs, key, only_with, validate_choice
from sightline.config.instantiation import check_targets
from sightline.errors import BadInput

LOSSES = ("cross_entropy", "bce", "focal")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
OF_TIMM = only_with("model._target_", None)
"""Of keys that stand for what timm publishes, or for arguments that its networks share."""


@dataclass
class ModelConfig:
    """A network by timm's name, or of own code, and how it is trained."""

    _target_: str | None = key(None, "own code that returns a torch.nn.Module, like my_code.MyNet; null: timm's name")
    name: str = key("", "any timm backbone", needs=OF_TIMM)
    arguments: dict[str, Any] = key({}, "of timm.create_model, or of own code")
    arguments_for: dict[str, dict[str, Any]] = key({}, "the same, for the model of that name alone", needs=OF_TIMM)
    pretrained: bool | str = key(
        False,
        "weights from timm's hub; auto: where they are in the cache, or can be fetched; else from scratch",
        needs=(OF_TIMM, Needs("model.weights=null", lambda cfg: cfg.model.weights_file() is None, may_stay=True)),
    )
    weights: str | None = key(
        None,
        "local safetensors file; beats `pretrained`",
        path="path",
        needs=Needs(
            "no file for this model in model.weights_for", lambda cfg: cfg.model.weights == cfg.model.weights_file()
        ),
    )
    weights_for: Any = key(
        None, "{name: file}: the same for the model of that name alone; null there: no file for it", needs=OF_TIMM
    )
    drop_rate: float = key(
        0.0,
        "dropout before the head, as timm's argument of that name",
        minimum=0,
        below=1,
        needs=(OF_TIMM, Needs("no drop_rate in model.arguments", lambda cfg: cfg.model.uses("drop_rate"))),
    )
    drop_path_rate: float = key(
        0.0,
        "stochastic depth: how often the last block is left out",
        minimum=0,
        below=1,
        needs=(OF_TIMM, Needs("no drop_path_rate in model.arguments", lambda cfg: cfg.model.uses("drop_path_rate"))),
    )
    freeze: str = key(
        "none",
        "backbone: train the head alone; gradual: then one more stage every …",
        choices=("none", "backbone", "gradual"),
    )
    unfreeze_every_epochs: int = key(1, "… so many epochs", minimum=1, needs=only_with("model.freeze", "gradual"))
    lr: float | int | str = key(
        1e-3,
        "auto: found by a short training whose rate grows, and recorded",
        above=0,
        words=("auto",),
        noun="a number",
    )
    loss: Any = key(
        "cross_entropy",
        "or focal, or bce: each class for itself; or a `_target_` node of a class, which is made, or of a function: "
        "either is called with logits and labels, or shares of the classes",
    )
    label_smoothing: float = key(0.0, "share of the label that all classes get", minimum=0, below=1)
    focal_gamma: float = key(
        2.0, "the larger, the less what is already right counts", minimum=0, needs=only_with("model.loss", "focal")
    )
    bce_target_threshold: float | None = key(
        None,
        "mixed shares above it count as 1, the others as 0",
        above=0,
        below=1,
        hint=", like 0.2, or null for none",
        needs=only_with("model.loss", "bce"),
    )
    class_weights: str = key(
        "none",
        "of the loss; balanced: one over a class's number of images; effective: milder",
        choices=("none", "balanced", "effective"),
    )
    norm_weight_decay: bool = key(True, "false: no weight decay on norms and biases")
    layer_lr_decay: float | None = key(
        None,
        "the learning rate of each layer is that share of the one above it",
        above=0,
        below=1,
        hint=", like 0.75, or null for none",
        needs=only_with("model.freeze", "none", "gradual"),
    )
    ema_decay: float | None = key(
        None,
        "validate and save an average of the weights; 0.999 for a few thousand steps",
        above=0,
        below=1,
        hint=", like 0.999, or null for none",
    )
    teacher: str | None = key(None, "a run whose answers this one learns from, too", path="run")
    teacher_weight: float = key(0.5, "their share of the loss", minimum=0, maximum=1, needs=only_with("model.teacher"))
    teacher_temperature: float = key(
        2.0, "divides both logits", above=0, hint=", like 2", needs=only_with("model.teacher")
    )
    channels_last: bool = key(True, "memory format of images and weights")
    fast_convolutions: bool = key(
        True, "on processors, convolutions that train faster than torch's (the same but for rounding); false: torch's"
    )
    compile: bool = key(False, "torch.compile")
    compile_mode: str | None = key(
        None,
        "of torch.compile: reduce-overhead (CUDA graphs), max-autotune",
        choices=COMPILE_MODES,
        needs=only_with("model.compile", True),
    )
    tf32: bool = key(True, "on a GPU, 32-bit products with a mantissa of 10 bits; false: of 23")
    optimizer: dict[str, Any] = key({}, "a `_partial_` object that takes the parameters")
    scheduler: dict[str, Any] = key({}, "a `_partial_` object that takes the optimizer")

    def __post_init__(self) -> None:
        if self._target_ is not None:
            self.name = self._target_.rpartition(".")[2]

    def check(self) -> None:
        if not self.name:
            raise BadInput("model.name: no value is set; add model.name=…, or model._target_=MODULE.CLASS of own code")
        if self._target_ is not None:
            check_targets({"_target_": self._target_}, "model")
        if self.pretrained not in (True, False, "auto"):
            raise BadInput(f"model.pretrained={self.pretrained}: must be true, false or auto")
        if not isinstance(self.weights_for or {}, dict):
            raise BadInput(f"model.weights_for={self.weights_for}: must be files by model, like {{resnet18: FILE}}")
        weights = self.weights_file()
        if weights is not None and not Path(weights).expanduser().is_file():
            name = f"model.weights_for.{self.name}" if self.name in (self.weights_for or {}) else "model.weights"
            raise BadInput(f"{name}={weights}: no such file; give the path of a safetensors file")
        if self.freeze != "none" and weights is None and (self._target_ is not None or not self.pretrained):
            published = "" if self._target_ is not None else " or model.pretrained=true"
            raise BadInput(
                f"model.freeze={self.freeze}: with random weights the frozen backbone knows nothing; "
                f"add model.weights=FILE{published}, or set model.freeze=none"
            )
        if isinstance(self.loss, dict):
            if "_target_" not in self.loss:
                raise BadInput(f"model.loss={self.loss}: no _target_ is set; add model.loss._target_=MODULE.CLASS")
            check_targets(self.loss, "model.loss")
        else:
            validate_choice("model.loss", self.loss, LOSSES)
        for name, node in (("optimizer", self.optimizer), ("scheduler", self.scheduler)):
            if "_target_" not in node:
                raise BadInput(f"model.{name}: no _target_ is set; choose one, like model/{name}=… (see --help)")
            check_targets(node, f"model.{name}")
        self._check_rates()

    def _check_rates(self) -> None:
        """`model.lr` is the learning rate, which optimizer and scheduler refer to; another one there would hide it."""
        for name, node, rate in (("optimizer", self.optimizer, "lr"), ("scheduler", self.scheduler, "max_lr")):
            if rate in node and node[rate] != self.lr:
                raise BadInput(
                    f"model.{name}.{rate}={node[rate]} model.lr={self.lr}: the learning rate is model.lr, which "
                    f"optimizer and scheduler follow; set model.lr={node[rate]} and leave model.{name}.{rate} out"
                )

    def uses(self, rate: str) -> bool:
        """Whether `drop_rate` or `drop_path_rate` counts: an argument of that name goes first."""
        return self.timm_arguments().get(rate) == getattr(self, rate)

    def weights_file(self) -> str | None:
        """The file for the model of this name, else the one for any."""
        return (self.weights_for or {}).get(self.name, self.weights)

    def timm_arguments(self) -> dict[str, Any]:
        """Arguments of `timm.create_model`: those for the model of this name, then those for any."""
        rates = {"drop_rate": self.drop_rate, "drop_path_rate": self.drop_path_rate}
        rates = {name: rate for name, rate in rates.items() if rate > 0}
        return {**rates, **self.arguments_for.get(self.name, {}), **self.arguments}
