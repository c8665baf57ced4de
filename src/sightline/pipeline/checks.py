"""What is looked at before the first step of a pipeline: everything that can be wrong with its input."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.command import compose
from sightline.config import (
    TASKS,
    PipelineConfig,
    PrepareConfig,
    check_overrides,
    did_you_mean,
    is_own,
    refuse_unknown_keys,
    to_plain,
    validate_task,
)
from sightline.data.collection.image_files import find_named
from sightline.data.manifest import SPLITS, Manifest
from sightline.data.opening import find_root, list_and_split
from sightline.data.prepare import fetch_missing
from sightline.data.versions.checkout import open_checkout, read_checkout
from sightline.errors import BadInput
from sightline.evaluation.metric_names import evaluators_of, is_reported, known_names
from sightline.pipeline.champion import find_champion
from sightline.pipeline.steps import Champion, Step, make_steps
from sightline.registry.packages import SAGEMAKER, Registry, open_registry
from sightline.registry.version import check_name
from sightline.runs.files import read_json
from sightline.runs.override_text import key_of, override
from sightline.training.prerequisites import check_prerequisites

OF_A_PIPELINE = {
    "stages": "a pipeline has steps of its own: prepare, train, export, evaluate, explain, gate",
    "resume": "the same command goes on with a pipeline that was interrupted, and output=FOLDER with that one",
    "precision": "the training is measured in fp32; what is served, and evaluated, is pipeline.precision",
    "runtime": "what is evaluated is the exported model, by onnxruntime",
}
"""Keys of a training that no step of a pipeline takes, and what to know instead."""
PLACES = ("paths", "local")
NOT_YET_MADE = "/not/made/yet"
"""Stands for the folder of a step that has not run."""


@dataclass(frozen=True)
class Composed:
    """A step with the configuration that its program will have."""

    step: Step
    config: Any = field(repr=False)
    """The dataclass of the task."""


@dataclass(frozen=True)
class Checked:
    """A pipeline with nothing wrong that can be known before it runs."""

    steps: tuple[Composed, ...]
    model: str
    """Its name in the registry."""
    registry: Registry
    champion: Champion | None
    images: Manifest
    """By their names, without a look into them."""


def check(cfg: PipelineConfig, typed: Sequence[str]) -> Checked:
    """Compose every step, and look for all that would stop one of them later; data that have an address are fetched.

    Raises: BadInput with the key, the value and the change to make.
    """
    check_typed(cfg, typed)
    check_gates(cfg)
    check_prerequisites(cfg)
    model = check_name(cfg.pipeline.model or cfg.name)
    registry = _open_registry(cfg)
    champion = find_champion(cfg, registry, model)
    choice, images = _chosen_data(cfg, typed)
    steps = tuple(_composed(each, typed) for each in make_steps(cfg, typed, choice, images, champion))
    manifest = check_images(steps[0].config)
    if champion is not None:
        _check_classes(champion, manifest)
    return Checked(steps, model, registry, champion, manifest)


def _open_registry(cfg: PipelineConfig) -> Registry:
    """Raises: BadInput for a registry that takes no new version."""
    place, image = cfg.paths.registry, cfg.pipeline.serving_image
    if place.startswith(SAGEMAKER) and not image:
        raise BadInput(
            f"paths.registry={place}: SageMaker wants to know which image serves the model; give its address by "
            "pipeline.serving_image=… or SAGEMAKER_SERVING_IMAGE in .env"
        )
    bucket = cfg.launch.get("bucket")
    registry = open_registry(place, Path(cfg.paths.cache), bucket=bucket, serving_image=image)
    registry.check_writable()
    return registry


def check_typed(cfg: PipelineConfig, typed: Sequence[str]) -> None:
    """Raises: BadInput for a parameter that no step takes, or that has no effect beside the others."""
    for each in typed:
        if (why := OF_A_PIPELINE.get(key_of(each))) is not None:
            raise BadInput(f"{each}: {why}; leave {key_of(each)} out")
    for key, node in (("datamodule", cfg.datamodule), ("module", cfg.module)):
        if is_own(node):
            raise BadInput(
                f"{key}={node['_target_']}: a pipeline prepares, exports and measures what it knows; train with "
                f"train.py, and register the run with registry.py add RUN NAME"
            )
    if cfg.data.source in ("synthetic", "shards"):
        raise BadInput(
            f"data.source={cfg.data.source}: a pipeline prepares images in files; name a folder with data.root=FOLDER"
        )
    if cfg.data.num_folds is not None:
        raise BadInput(
            f"data.num_folds={cfg.data.num_folds}: a pipeline makes one model; compare folds with train.py -m, and "
            "leave num_folds out here"
        )
    check_overrides(cfg, typed)


def check_gates(cfg: PipelineConfig) -> None:
    """Raises: BadInput for a gate on a metric that the evaluation will not report."""
    evaluation = cfg.evaluation
    for name, bound in cfg.pipeline.bounds().items():
        if not math.isfinite(bound):
            raise BadInput(f"pipeline.gates: {name}: {bound} is no bound; give a number")
        if is_reported(name, evaluation, "test", against=cfg.pipeline.champion != "none") is not False:
            continue
        if name.startswith("test/") and (by := evaluators_of(name)):
            raise BadInput(
                f"pipeline.gates: {name} is not measured by this evaluation, which lacks {' or '.join(by)}; set "
                "evaluation=full, or drop the gate"
            )
        known = sorted({f"test/{each}" for each in known_names(evaluation)})
        hint = did_you_mean(name, known) or f"; there are {', '.join(known)}, and what evaluation.metrics adds"
        raise BadInput(f"pipeline.gates: {name}: no metric of the evaluation{hint}")


def _check_explained(images: str | None) -> None:
    """Raises: BadInput for a folder of pictures that is not here, or has none; an address is read by its step."""
    if images is None or "://" in images:
        return
    try:
        find_named(images)
    except BadInput as error:
        raise BadInput(str(error).replace("images=", "pipeline.explain_images=", 1)) from error


def check_images(prepared: PrepareConfig) -> Manifest:
    """List and split the images of the step `prepare` by their names, fetched where they are not here.

    Raises: BadInput where a split has none.
    """
    fetch_missing(prepared)
    data, root = prepared.data, find_root(prepared)
    manifest = open_checkout(root) if read_checkout(root) else list_and_split(data, root)[1].manifest
    counts = manifest.num_images
    for name in SPLITS:
        if not counts[name]:
            more = {"test": "what is registered is measured on test images", "val": "the best epoch is chosen by them"}
            raise BadInput(
                f"data.root={data.root}: no {name} images, and {more.get(name, 'nothing is learned without')}; add "
                f"{name}/<class>/…, or set data.{name}_fraction=0.15"
            )
    return manifest


def _check_classes(champion: Champion, images: Manifest) -> None:
    known = read_json(Path(champion.run) / "model" / "task_spec.json").get("class_names")
    if known is not None and tuple(known) != images.class_names:
        differing = ", ".join(sorted(set(known) ^ set(images.class_names))[:5]) or "the same in another order"
        raise BadInput(
            f"pipeline.champion={champion.name}: it knows other classes than {images.root} has ({differing}); set "
            "pipeline.champion=none, or register it by another name with pipeline.model=NAME"
        )


def _chosen_data(cfg: PipelineConfig, typed: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    """The file of `configs/data/` that is chosen, and its values as prepare.py composes them, but for the root."""
    whole = compose("pipeline", typed, with_hydra=True)
    choice = str(whole.hydra.runtime.choices["data"])
    there = compose("prepare", [f"data={choice}", override("data.root", cfg.data.root), *places(typed)])
    values = to_plain(validate_task(there, TASKS["prepare"]))["data"]
    return choice, {name: value for name, value in values.items() if name != "root"}


def places(typed: Iterable[str]) -> list[str]:
    """The overrides that say where this machine reads and writes."""
    return [each for each in typed if key_of(each).split(".")[0].split("/")[0] in PLACES]


def _composed(step: Step, typed: Sequence[str]) -> Composed:
    """Raises: BadInput, or Hydra's own error, as the program itself would."""
    task = Path(step.script).stem
    inputs = [f"{key}={NOT_YET_MADE}/{each.step}/{each.path}".rstrip("/") for key, each in step.inputs.items()]
    cfg = compose(task, [*step.overrides, *places(typed), *inputs])
    refuse_unknown_keys(cfg)
    return Composed(step, validate_task(cfg, TASKS[task]))
