"""Explain what a trained model says about images: the task, and the stage of training."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import ExplainConfig, ExplanationConfig, to_plain, validate_task, with_own_code
from sightline.data.collection.image_files import find_named
from sightline.data.collection.named_pictures import S3, name_pictures
from sightline.data.versions.checkout import with_data_version
from sightline.errors import BadInput
from sightline.finished_run import FinishedRun, find_images, make_loader_of
from sightline.registry.names import with_local_runs
from sightline.runs.file_names import to_text
from sightline.runs.files import write_json
from sightline.runs.guesses import Guess
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.record import RunRecord, open_folder

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from sightline.explanation.attribution import Explainer
    from sightline.models.checkpoint import SavedModel
    from sightline.models.runtimes import Runtime

log = logging.getLogger(__name__)
CANDIDATES_PER_IMAGE = 32
"""Images that are classified for each one that is explained, to choose representative ones."""
MIN_CANDIDATES = 512


@dataclass(frozen=True)
class ExplainResult:
    """What was found, as metrics by name; the files that could not be read; and where everything lies."""

    metrics: dict[str, float]
    unreadable: list[str]
    run_dir: Path


@dataclass(frozen=True)
class Photos:
    """Prepared images, `(N, H, W, C)`, with their names and, where they are known, labels `(N,)`."""

    pixels: "torch.Tensor"
    names: Sequence[str]
    labels: "torch.Tensor | None" = None
    unreadable: list[str] = field(default_factory=list)
    guesses: tuple[Guess, ...] = ()


def explain(cfg: "DictConfig | ExplainConfig", invocation: Invocation = UNTOLD) -> ExplainResult:
    """Write maps and their numbers for the images of a folder, or for representative images of a split.

    Raises: BadInput before anything is written.
    """
    cfg = with_local_runs(with_data_version(validate_task(cfg, ExplainConfig)))
    files, base = _find_files(cfg)
    cfg, code = with_own_code(cfg, invocation)
    places = {"data_root": cfg.data.own_root, "runs": cfg.paths.runs, "extensions": cfg.extensions}
    run = FinishedRun.open(cfg.run, cfg.accelerator, **places, trust_code=cfg.trust_code, runtime=cfg.runtime)
    run = replace(run, cache=Path(cfg.paths.cache))
    runtime = run.make_runtime(views="none")
    named = {file: to_text(file.relative_to(base).as_posix()) for file in files}
    max_pixels = cfg.data.max_pixels or run.max_pixels
    photos = _read_photos(named, run, str(cfg.images), max_pixels) if files else _choose_photos(cfg, run, runtime)
    explainer = make_explainer(run.saved, run.device, cfg.explanation, runtime)
    output = open_folder(Path(cfg.paths.runs), "explain", run.name, cfg.output)
    facts: dict[str, Any] = {
        "task": "explain",
        "name": run.trained.get("name"),
        "run": str(run.path),
        "config": to_plain(cfg),
        "device": str(run.device),
        "precision": run.precision,
        "runtime": runtime.name,
        "model": run.describe_model(),
        "data": {"root": cfg.images or cfg.data.root or run.trained.get("data", {}).get("root")},
        "calibrated": run.uncalibrated is None,
    }
    run.warn_if_uncalibrated()
    with RunRecord(output, invocation, **facts) as record:
        record.update(num_images=len(photos.names), unreadable=photos.unreadable)
        record.add_guesses(photos.guesses)
        code.save(record)
        metrics = explain_photos(output / "explanations", explainer, photos, cfg.explanation, run.name)
        write_json(output / "metrics.json", metrics)
    return ExplainResult(metrics, photos.unreadable, output)


def _find_files(cfg: ExplainConfig) -> tuple[list[Path], Path]:
    """The pictures that `images` names, copied here where they lie in S3, and the folder that all of them lie below."""
    if not cfg.images:
        return [], Path()
    if isinstance(cfg.images, str) and cfg.images.startswith(S3):
        pictures = name_pictures(cfg.images, Path(cfg.paths.cache))
        pictures.fetch(pictures.files)
        return [*pictures.files], pictures.files.base
    return find_named(cfg.images)


def explain_dataset(
    folder: Path,
    dataset: Any,
    saved: "SavedModel",
    device: "torch.device",
    explanation: ExplanationConfig,
    name: str,
    runtime: "Runtime",
) -> dict[str, float]:
    """The stage of training: explain representative images; a method that cannot explain the network is left out."""
    others = [method for method in explanation.methods if method != "grad_cam"]
    try:
        explainer = make_explainer(saved, device, explanation, runtime)
    except BadInput as error:
        log.warning("grad_cam is left out: %s", error)
        explanation = replace(explanation, methods=others or ["integrated_gradients"])
        explainer = make_explainer(saved, device, explanation, runtime)
    photos = choose_photos(dataset, runtime, explanation)
    return explain_photos(folder, explainer, photos, explanation, name)


def make_explainer(
    saved: "SavedModel", device: "torch.device", explanation: ExplanationConfig, runtime: "Runtime"
) -> "Explainer":
    """The object that explains with these settings; where no gradient is needed, the runtime answers.

    Raises: BadInput when a method cannot explain this architecture.
    """
    from sightline.explanation.attribution import Explainer
    from sightline.explanation.own_method import check_own_methods
    from sightline.explanation.path_integral import Settings
    from sightline.models.inference import keep_freed_memory

    keep_freed_memory()
    settings = Settings(explanation.tolerance, explanation.min_steps, explanation.max_steps)
    explainer = Explainer(
        saved.network,
        saved.spec,
        device,
        name=saved.architecture.name,
        settings=settings,
        baseline=explanation.baseline,
        memory_gb=explanation.memory_gb,
        seed=explanation.seed,
    )
    explainer.runtime = None if runtime.name == "torch" else runtime
    explainer.own = explanation.own_methods()
    check_own_methods(explainer.own, saved.network, saved.spec)
    if "grad_cam" in explanation.methods:
        log.debug("grad_cam: %s", explainer.map_layer)  # what it cannot explain is refused before anything is written
    return explainer


def explain_photos(
    folder: Path, explainer: "Explainer", photos: Photos, explanation: ExplanationConfig, name: str
) -> dict[str, float]:
    """Explain images by every method that the settings name, and return the metrics of the whole."""
    import torch

    from sightline.explanation.attribution import Cases
    from sightline.explanation.gallery import Case, write_explanations

    probabilities = (explainer.logits(photos.pixels) / explainer.spec.temperature).softmax(dim=1)
    confidences, predicted = probabilities.max(dim=1)
    names = explainer.spec.class_names
    pairs = [
        (number, target)
        for number in range(len(photos.names))
        for target in _targets(explanation.target, int(predicted[number]), photos.labels, number)
    ]
    known = [
        Case(
            photos.names[number],
            None if photos.labels is None else names[int(photos.labels[number])],
            names[int(predicted[number])],
            names[target],
            float(confidences[number]),
        )
        for number, target in pairs
    ]
    cases = Cases(
        photos.pixels[[number for number, _ in pairs]].contiguous(), torch.tensor([target for _, target in pairs])
    )
    methods = list(dict.fromkeys([*explanation.methods, *explanation.own_methods()]))
    shown = " and ".join(method.replace("_", " ") for method in methods)
    log.info("explaining %d images by %s", len(photos.names), shown)
    summary = write_explanations(folder, explainer, cases, known, methods, name)
    for method, found in summary["verdicts"].items():
        log.info("%s: %s (%s)", method.replace("_", " "), found["sentence"], found["because"])
    return {
        f"explanation/{method}/{key}": float(value)
        for method, found in summary["methods"].items()
        for key, value in found.items()
        if value is not None
    }


def _targets(target: str, predicted: int, labels: "torch.Tensor | None", number: int) -> list[int]:
    """Indices of the classes to explain in one image."""
    if target == "prediction" or labels is None:
        return [predicted]
    label = int(labels[number])
    return [label] if target == "label" or label == predicted else [predicted, label]


def _read_photos(files: dict[Path, str], run: FinishedRun, given: str, max_pixels: int) -> Photos:
    """Every image that can be read."""
    import torch

    from sightline.data.pictures import PictureBatches

    batches = PictureBatches(list(files), run.task_spec, max_pixels=max_pixels)
    pixels, unreadable = list(batches), batches.unreadable
    if not pixels:
        raise BadInput(f"images={given}: none of the {len(files)} file(s) can be read, the first is {unreadable[0]}")
    for error in unreadable.values():
        log.warning("skipped %s", error)
    names = [name for number, name in enumerate(files.values()) if number not in unreadable]
    left_out = [to_text(str(file)) for number, file in enumerate(files) if number in unreadable]
    return Photos(torch.cat(pixels), names, None, left_out)


def _choose_photos(cfg: ExplainConfig, run: FinishedRun, runtime: "Runtime") -> Photos:
    images = find_images(cfg, run)
    loader = make_loader_of(cfg, run, images, cfg.split)
    photos = choose_photos(loader.dataset, runtime, cfg.explanation)
    return replace(photos, guesses=images.guesses)


def choose_photos(dataset: Any, runtime: "Runtime", explanation: ExplanationConfig) -> Photos:
    """Images of a data set, every class in turn: representative ones (right and wrong, sure and unsure), or fixed."""
    import numpy as np
    import torch

    from sightline.explanation.sample_selection import choose_fixed, choose_representative, order_by_name
    from sightline.models.runtimes import compute_logits

    if why := getattr(dataset, "why_unshown", None):
        raise BadInput(f"images=null: nothing can be shown, because {why}; name pictures with images=FOLDER")
    count, is_fixed = explanation.num_images, explanation.choice == "fixed"
    most = max(MIN_CANDIDATES, CANDIDATES_PER_IMAGE * count)
    if is_fixed:
        order = order_by_name([dataset.name(index) for index in range(len(dataset))], explanation.seed)[:most]
    else:
        order = np.random.default_rng(explanation.seed).permutation(len(dataset))[:most]
    labels: list[torch.Tensor] = []

    def batches() -> Iterator[torch.Tensor]:
        for start in range(0, len(order), 64):
            pixels, batch_labels = dataset.__getitems__(order[start : start + 64].tolist())
            labels.append(batch_labels.cpu())
            yield pixels

    if is_fixed:
        for _ in batches():
            pass
        chosen = choose_fixed(torch.cat(labels).numpy(), count)
    else:
        confidences, predicted = compute_logits(runtime, batches()).softmax(dim=1).max(dim=1)
        known = torch.cat(labels).numpy(), predicted.numpy(), confidences.numpy()
        chosen = choose_representative(*known, count, explanation.seed)
    indices = order[chosen].tolist()
    pixels, chosen_labels = dataset.__getitems__(indices)
    return Photos(pixels.cpu(), [dataset.name(index) for index in indices], chosen_labels.cpu())
