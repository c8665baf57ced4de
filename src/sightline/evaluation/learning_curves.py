"""Learning curves: what each epoch of a run gave on training and on validation, and how far the two are apart."""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sightline.evaluation.evaluation_input import Section
from sightline.evaluation.intervals import wilson
from sightline.evaluation.wording import counted, percent
from sightline.metrics import mode_of
from sightline.runs.drawn_names import drawable, plain_text
from sightline.runs.files import read_json

NAME = "learning_curves"
SPLIT = re.compile(r"^(train|val)(?:id|idation|ing)?[/_.]?(.+)$")
"""`train/loss`, `val_f1`, `valid_loss`: the split, and what was measured."""
MOST_PANELS = 3
MOST_MARKED = 30
"""Epochs, each of which is a point of its own."""
RISE = 1.05
"""Losses differ from epoch to epoch: what is called a rise is more than that."""
Rows = Sequence[Mapping[str, float]]


def learning_curves(folder: Path) -> Section | None:
    """The section of a training's report, from `metrics.csv` and `run.json` in its folder; None without an epoch."""
    rows = _read_rows(folder / "metrics.csv")
    if not rows:
        return None
    monitor, best = _best_row(rows, read_json(folder / "run.json").get("config", {}))
    figure = _draw(rows, _panels(rows, monitor), best)
    text = f"{describe_curves(folder)} Dotted: the epoch that is kept."
    return Section("Learning curves", text=text, figures={NAME: figure})


def describe_curves(folder: Path) -> str:
    """The gap between training and validation in sentences; nothing without an epoch."""
    rows, record = _read_rows(folder / "metrics.csv"), read_json(folder / "run.json")
    if not rows:
        return ""
    config = record.get("config", {})
    monitor, best = _best_row(rows, config)
    told = (_describe_gap(rows, best, monitor, record), _describe_rise(rows), _describe_losses(config))
    return " ".join(filter(None, told))


def _read_rows(path: Path) -> list[dict[str, float]]:
    """An epoch a row, without what was not measured in it or is no number."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return [{name: value for name, value in row.items() if math.isfinite(value)} for row in rows]


def _best_row(rows: Rows, config: Mapping[str, Any]) -> tuple[str | None, int]:
    """The metric that chose the checkpoint, and the row of that epoch; without one the last row."""
    checkpoint, keeps_last = config.get("checkpoint", {}), config.get("data", {}).get("with_validation", False)
    monitor = checkpoint.get("monitor", "val/accuracy")
    measured = [index for index, row in enumerate(rows) if monitor in row]
    if keeps_last or not measured:
        return None, len(rows) - 1
    sign = 1 if (checkpoint.get("mode") or mode_of(monitor)) == "max" else -1
    return monitor, max(measured, key=lambda index: (sign * rows[index][monitor], -index))


def _panels(rows: Rows, monitor: str | None) -> list[tuple[str, dict[str, str]]]:
    """What is drawn, the loss first: a title, and the column of each split."""
    by_title: dict[str, dict[str, str]] = {}
    for column in dict.fromkeys(name for row in rows for name in row):
        if found := SPLIT.match(column):
            by_title.setdefault(found[2], {}).setdefault(found[1], column)
    paired = [title for title, columns in by_title.items() if len(columns) == 2]
    decides = [title for title, columns in by_title.items() if monitor in columns.values()]
    chosen = sorted(dict.fromkeys([*paired, *decides]), key=lambda title: (title != "loss", title != "accuracy"))
    return [(title, dict(sorted(by_title[title].items()))) for title in (chosen or list(by_title))[:MOST_PANELS]]


def _draw(rows: Rows, panels: Sequence[tuple[str, Mapping[str, str]]], best: int) -> Figure:
    """A panel for each pair of columns and one for the learning rate, all by epoch, from 1."""
    curves = [*panels]
    if any("lr" in row for row in rows):
        curves.append(("learning rate", {"": "lr"}))
    figure = Figure(figsize=(0.6 + 3.9 * len(curves), 3.1))
    inches = figure.get_figwidth()
    figure.subplots_adjust(left=0.65 / inches, right=1 - 0.15 / inches, bottom=0.17, top=0.88, wspace=0.27)
    colors = {"train": "tab:blue", "val": "tab:orange", "": "0.45"}
    titles = [drawable(title) for title, _ in curves]
    with plain_text(titles):
        for axes, title, (_, columns) in zip(
            figure.subplots(1, len(curves), squeeze=False)[0], titles, curves, strict=True
        ):
            for split, name in columns.items():
                points = [(row["epoch"] + 1, row[name]) for row in rows if name in row]
                marker = "o" if len(rows) <= MOST_MARKED else ""
                xs, ys = [x for x, _ in points], [y for _, y in points]
                label = {"train": "training", "val": "validation"}.get(split)
                axes.plot(xs, ys, marker=marker, markersize=4, color=colors[split], label=label)
            axes.axvline(rows[best]["epoch"] + 1, color="0.6", linestyle=":", linewidth=1.2, zorder=0)
            if len(rows) <= MOST_MARKED:
                axes.set_xlim(rows[0]["epoch"] + 0.5, rows[-1]["epoch"] + 1.5)
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("epoch", fontsize=9)
            axes.tick_params(labelsize=8)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.25)
            if "" not in columns:
                axes.legend(fontsize=8)
    return figure


def _describe_gap(rows: Rows, best: int, monitor: str | None, record: Mapping[str, Any]) -> str:
    """How far training and validation are apart in the epoch that is kept, and what may be read from that."""
    row, config = rows[best], record.get("config", {})
    place = f"In epoch {row['epoch'] + 1:.0f} of {rows[-1]['epoch'] + 1:.0f}, "
    place += f"the best by {monitor}," if monitor else "the last, which is kept,"
    if config.get("data", {}).get("with_validation"):
        return f"{place} no gap can be told: the validation images were trained on too."
    pairs = {title: columns for title, columns in _panels(rows, monitor) if {"train", "val"} <= columns.keys()}
    pairs = {title: columns for title, columns in pairs.items() if all(name in row for name in columns.values())}
    if not pairs:
        return f"{place} no gap can be told: no number of training has a counterpart of validation."
    if "accuracy" not in pairs or config.get("module", {}).get("_target_"):
        title = "accuracy" if "accuracy" in pairs else next(iter(pairs))
        train, val = pairs[title]["train"], pairs[title]["val"]
        return (
            f"{place} {train} is {row[train]:.4g} and {val} {row[val]:.4g}. Whether the two were measured alike, the "
            "code that logs them tells."
        )
    train, val = row["train/accuracy"], row["val/accuracy"]
    count = record.get("data", {}).get("num_images", {}).get("val") or 0
    gap = f"{100 * abs(train - val):.2g} percentage points " + ("fewer" if train > val else "more")
    text = (
        f"{place} {percent(train)} of the training images and {percent(val)} of the validation images were answered "
        f"right{f': {gap} of validation' if train != val else ', as many of the one as of the other'}. Training "
        f"accuracy was taken {_how_trained(config)}, so the two are not alike."
    )
    trainer = config.get("trainer", {})
    if not count or trainer.get("limit_val_batches") is not None or trainer.get("overfit_batches"):
        return text
    low, high = wilson(round(val * count), count)
    bounds = f"95 % interval of validation, {counted(count, 'image')}: {low:.4f} to {high:.4f}"
    if train > high:
        return f"{text} The network knows its training images better than new ones ({bounds})."
    if train < low:
        return f"{text} Training was the harder of the two ({bounds}): this does not exclude overfitting."
    return f"{text} So many images cannot tell this from no gap at all ({bounds})."


def _how_trained(config: Mapping[str, Any]) -> str:
    """What makes a training accuracy another number than a validation accuracy, by the configuration."""
    model, augmentation = config.get("model", {}), config.get("augmentation", {})
    ways = ["while the weights were still changing"]
    if augmentation.get("mixup") or augmentation.get("cutmix"):
        ways.append("on images mixed with others, of which the larger share is to be named")
    if _augments(augmentation):
        ways.append("on augmented images")
    if augmentation.get("start_size", 1) != 1:
        ways.append("on smaller images in the earlier epochs")
    arguments = {**model.get("arguments_for", {}).get(model.get("name"), {}), **model.get("arguments", {})}
    if any({**model, **arguments}.get(rate) for rate in ("drop_rate", "drop_path_rate")):
        ways.append("with dropout")
    if config.get("data", {}).get("sampler", "shuffled") != "shuffled":
        ways.append("on images drawn by a sampler of its own")
    if model.get("ema_decay"):
        ways.append("and validation of an average of the weights")
    return ", ".join(ways)


def _augments(augmentation: Mapping[str, Any]) -> bool:
    """Whether single images or batches are changed."""
    batch = augmentation.get("batch", {})
    crops = any(list(batch.get(name) or (1, 1)) != [1, 1] for name in ("crop_scale", "crop_ratio"))
    turns = any(batch.get(name) for name in ("rotate_degrees", "shear_degrees", "horizontal_flip", "before", "after"))
    own = augmentation.get("crop_scale") or augmentation.get("horizontal_flip") or augmentation.get("transforms")
    return bool(crops or turns or own)


def _describe_losses(config: Mapping[str, Any]) -> str:
    """Where training minimises another loss than the cross entropy that validation takes."""
    model, augmentation = config.get("model", {}), config.get("augmentation", {})
    if config.get("module", {}).get("_target_") or not model:
        return ""
    reasons = {
        "label smoothing": model.get("label_smoothing"),
        "a loss of another kind": model.get("loss", "cross_entropy") != "cross_entropy",
        "weights of the classes": model.get("class_weights", "none") != "none",
        "a teacher": model.get("teacher"),
        "mixed images": augmentation.get("mixup") or augmentation.get("cutmix"),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if not found:
        return ""
    return f"The losses differ by what they count ({', '.join(found)}): compare their courses and not their heights."


def _describe_rise(rows: Rows) -> str:
    """A sign of overfitting: validation's loss grew while that of training went on falling."""
    measured = [row for row in rows if "train/loss" in row and "val/loss" in row]
    if len(measured) < 2:
        return ""
    lowest, last = min(measured, key=lambda row: row["val/loss"]), measured[-1]
    if last["val/loss"] < RISE * lowest["val/loss"] or last["train/loss"] >= lowest["train/loss"]:
        return ""
    return (
        f"The loss of validation was lowest in epoch {lowest['epoch'] + 1:.0f} ({lowest['val/loss']:.4g}) and "
        f"{last['val/loss']:.4g} at the end, while that of training fell further: a sign of overfitting."
    )
