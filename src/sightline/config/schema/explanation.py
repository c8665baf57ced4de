"""The explanation group: which parts of an image made the model say what it says."""

from dataclasses import dataclass
from typing import Any

from sightline.config.constraints import Needs, key
from sightline.config.instantiation import check_targets
from sightline.errors import BadInput

METHODS = ("integrated_gradients", "grad_cam", "occlusion", "smooth_grad")
GRADIENTS = Needs(
    "integrated_gradients in explanation.methods", lambda cfg: "integrated_gradients" in cfg.explanation.methods
)


@dataclass
class ExplanationConfig:
    """Which parts of an image made the model say what it says."""

    methods: list[str] = key(["integrated_gradients", "grad_cam"], "in this order", choices=METHODS)
    own: dict[str, Any] = key(
        {},
        "further methods by name, by `_target_`: captum's classes, or functions of the network, images and classes "
        "that return a map of each image",
    )
    num_images: int = key(
        12,
        "chosen over the classes; representative: right and wrong, sure and unsure",
        minimum=1,
        needs=Needs("images=null", lambda cfg: getattr(cfg, "images", None) is None),
    )
    choice: str = key(
        "representative",
        "fixed: by their names and classes alone, so that all models of a data set are explained on the same images",
        choices=("representative", "fixed"),
        needs=Needs("images=null", lambda cfg: getattr(cfg, "images", None) is None),
    )
    target: str = key(
        "prediction",
        "the class that is explained; label, or both where they differ",
        choices=("prediction", "label", "both"),
    )
    baseline: str = key(
        "black",
        "where integrated gradients begin; blurred, mean (colour) or random_average",
        choices=("black", "blurred", "mean", "random_average"),
        needs=GRADIENTS,
    )
    tolerance: float = key(
        0.01,
        "completeness error at which an image of integrated gradients is done …",
        above=0,
        hint=", like 0.01 for one percent",
        needs=GRADIENTS,
    )
    min_steps: int = key(16, "… after so many gradients at least …", minimum=2, needs=GRADIENTS)
    max_steps: int = key(1024, "… or marked, after so many", needs=GRADIENTS)
    memory_gb: float | None = key(
        None,
        "the most that gradients and activations may take; null: a quarter of what is free",
        minimum=0.05,
        hint=", or null",
    )
    seed: int = key(0, "of the choice of images and of random baselines", minimum=0)

    def check(self) -> None:
        for name, node in self.own.items():
            key = f"explanation.own.{name}"
            if not name.isidentifier() or name in (*METHODS, "random"):
                raise BadInput(f"{key}: {name} is a method already, or no name of letters, digits and _; rename it")
            if node is not None and (not isinstance(node, dict) or "_target_" not in node):
                raise BadInput(f"{key}={node}: no _target_ is set; write {{_target_: MODULE.CLASS}}")
        check_targets(self.own, "explanation.own")
        if self.max_steps < self.min_steps:
            raise BadInput(f"explanation.max_steps={self.max_steps}: must be {self.min_steps} or more")

    def own_methods(self) -> dict[str, Any]:
        """The nodes of the further methods that are on, by name."""
        return {name: node for name, node in self.own.items() if node is not None}
