"""What a fine-tuning begins from, and for how long it trains, where the configuration leaves either to `auto`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from sightline.config import TrainConfig, is_own, with_value
from sightline.errors import BadInput
from sightline.runs.files import read_json
from sightline.runs.guesses import Guess, announce
from sightline.training.build import check_network, with_img_size

Training = TypeVar("Training", bound=TrainConfig)
IMAGES_TO_SEE = {True: 3_000, False: 60_000}
"""Training images that all epochs together show, from published weights and from scratch: docs/recipe.md."""
EPOCHS = {True: (5, 30), False: (15, 200)}
"""The fewest and the most epochs of either."""


def found_before(folder: Path | None) -> dict[str, Any]:
    """What `auto` stood for in a run that is to be continued, by key.

    Before there was `data.channels` every image was prepared as red, green and blue of 8 bits.
    """
    record = {} if folder is None else read_json(folder / "run.json")
    is_older = bool(record) and "channels" not in record.get("config", {}).get("data", {})
    return {**({"data.channels": 3, "data.bit_depth": 8} if is_older else {}), **record.get("found", {})}


def with_network(cfg: Training, before: Mapping[str, Any]) -> tuple[Training, list[Guess]]:
    """The configuration with the network that it means, of the size of the images, and what that begins from.

    What can be known without published weights is looked at before they are asked for. `before` is of `found_before`.

    Raises: BadInput when there is no such network, or its arguments, its weights or the device do not fit.
    """
    cfg, sized = with_img_size(cfg)
    check_network(cfg)
    if is_own(cfg.module):
        from sightline.training.own_module import check_module

        check_module(cfg)
        return cfg, []
    cfg, guesses = with_pretrained(cfg, before)
    return cfg, sized + guesses


def with_pretrained(cfg: Training, before: Mapping[str, Any]) -> tuple[Training, list[Guess]]:
    """The configuration with what `model.pretrained=auto` stands for; a run that goes on keeps what it began with.

    Raises: BadInput when there are no weights and the backbone is to be frozen.
    """
    model, key = cfg.model, "model.pretrained"
    if model.pretrained != "auto":
        return cfg, []
    if model.weights_file() is not None or model._target_ is not None:
        return with_value(cfg, key, False), []
    if key in before:
        guess = Guess(key, before[key], "as this run began")
    else:
        from sightline.models.backbones import fetch_pretrained

        try:
            fetch_pretrained(model.name, model.timm_arguments())
            guess = Guess(key, True, f"the published weights of {model.name} are here")
        except BadInput as error:
            problem = str(error).partition(": ")[2].partition(";")[0]
            guess = Guess(
                key, False, f"from scratch: {problem}; few photos need them, a file will do: model.weights=FILE"
            )
    announce([guess])
    cfg = with_value(cfg, key, guess.value)
    cfg.model.check()
    return cfg, [guess]


def with_max_epochs(cfg: Training, num_images: int | None) -> tuple[Training, list[Guess]]:
    """The configuration with what `trainer.max_epochs=auto` stands for with so many training images."""
    if cfg.trainer.max_epochs != "auto":
        return cfg, []
    if num_images is None:
        raise BadInput("trainer.max_epochs=auto: nobody knows how many training images there are; give a number")
    is_timm = cfg.model._target_ is None and not is_own(cfg.module)
    is_pretrained = (cfg.model.pretrained is True and is_timm) or cfg.model.weights_file() is not None
    fewest, most = EPOCHS[is_pretrained]
    epochs = min(max(round(IMAGES_TO_SEE[is_pretrained] / num_images), fewest), most)
    begins = "from published weights" if is_pretrained else "from scratch"
    guess = Guess("trainer.max_epochs", epochs, f"{num_images:,} training images, {begins}")
    announce([guess])
    return with_value(cfg, guess.key, epochs), [guess]
