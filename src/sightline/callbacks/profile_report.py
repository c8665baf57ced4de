"""The profile of a run: its numbers, the bottleneck as text, and one HTML page that needs no network."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sightline.callbacks.step_times import PARTS, Step
from sightline.runs.files import write_text
from sightline.runs.pages import render

TEMPLATE = "profile.html.j2"
MAX_COLUMNS = 160
"""Steps, or groups of them, that the page draws."""
WORTH_NAMING = 0.15
"""Share of a step from which a part besides the bottleneck is worth a line."""
TITLES = {
    "data": "Waiting for data",
    "transfer": "Transfer and preparation",
    "forward": "Forward and loss",
    "backward": "Backward",
    "optimizer": "Optimizer",
    "callbacks": "Callbacks",
    "logging": "Logging and the loop",
}
MEANINGS = {
    "data": "from asking for a batch until it is there: reading, decoding, augmenting, or waiting for the workers",
    "transfer": "to the device, and normalising there",
    "forward": "the network, the loss, and the metrics of the step",
    "backward": "the gradients",
    "optimizer": "the step of the weights, clipping, and the schedule",
    "callbacks": "progress, checkpoints and whatever callbacks=… adds",
    "logging": "loggers, and Lightning's own work between the other parts",
}


@dataclass(frozen=True)
class Setting:
    """The settings of a run that advice depends on."""

    device: str
    precision: str
    cores: int
    batch_size: int
    num_workers: int
    is_cached: bool


def summarise(
    steps: Sequence[Step], samples: Sequence[dict[str, float]], setting: Setting, action_seconds: float
) -> dict[str, Any]:
    """The contents of `profile.json`; milliseconds are means over the steps."""
    count = max(1, len(steps))
    total = sum(step.seconds for step in steps)
    seconds = {part: sum(step.parts[part] for step in steps) for part in PARTS}
    callbacks: dict[str, float] = defaultdict(float)
    for step in steps:
        for name, own in step.callbacks.items():
            callbacks[name] += own
    shares = {part: seconds[part] / total if total else 0.0 for part in PARTS}
    overhead = action_seconds * sum(step.num_actions for step in steps) / count
    return {
        "bottleneck": find_bottleneck(shares, setting, callbacks),
        "num_steps": len(steps),
        "step_ms": _ms(total / count),
        "median_step_ms": _ms(statistics.median([step.seconds for step in steps] or [0.0])),
        "images_per_second": round(setting.batch_size * len(steps) / total, 2) if total else 0.0,
        "parts": {part: {"ms": _ms(seconds[part] / count), "share": round(shares[part], 4)} for part in PARTS},
        "callbacks_ms": {name: _ms(own / count) for name, own in sorted(callbacks.items(), key=lambda item: -item[1])},
        "setting": asdict(setting),
        "waits_for_device": setting.device == "cuda",
        "watching_ms": _ms(overhead),
        "resources": _summarise_resources(samples),
        "steps": [{part: _ms(step.parts[part]) for part in PARTS} for step in steps],
        "samples": list(samples),
    }


def _summarise_resources(samples: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    names = dict.fromkeys(name for sample in samples for name in sample if name != "seconds")
    values = {name: [sample[name] for sample in samples if name in sample] for name in names}
    return {
        name: {"mean": round(statistics.fmean(numbers), 3), "max": max(numbers)} for name, numbers in values.items()
    }


def find_bottleneck(shares: dict[str, float], setting: Setting, callbacks: dict[str, float]) -> dict[str, Any]:
    """The largest part of a step as text, and the settings to change; forward and backward count as one part."""
    groups = {name: shares[name] for name in PARTS if name not in ("forward", "backward")}
    groups["network"] = shares["forward"] + shares["backward"]
    part = max(groups, key=lambda name: groups[name])
    advice = {name: _advise(name, setting, callbacks) for name in groups}
    titles = {
        **{name: title.lower() for name, title in TITLES.items()},
        "network": "the network (forward and backward)",
    }
    others = sorted(
        (name for name in groups if name != part and groups[name] >= WORTH_NAMING), key=lambda n: -groups[n]
    )
    return {
        "part": part,
        "share": round(groups[part], 4),
        "text": f"{titles[part].capitalize()} takes {groups[part]:.0%} of a step: {advice[part]}.",
        "also": [f"{titles[name].capitalize()} takes {groups[name]:.0%}: {advice[name]}." for name in others],
    }


def _advise(part: str, setting: Setting, callbacks: dict[str, float]) -> str:
    if part == "data":
        return _advise_data(setting)
    if part == "network":
        return _advise_network(setting)
    if part == "callbacks":
        slowest = max(callbacks, key=lambda name: callbacks[name], default="a callback")
        return f"{slowest} is the slowest; let it run less often, or leave it out of callbacks=…"
    if part == "logging":
        return "raise trainer.log_every_n_steps, or data.batch_size so that there are fewer steps"
    if part == "optimizer":
        return "its cost does not depend on the batch: raise data.batch_size or trainer.accumulate_grad_batches"
    return "make data.image_size smaller, or look for what else uses the device"


def _advise_data(setting: Setting) -> str:
    changes = []
    if not setting.is_cached:
        changes.append("set data.cache=always, so that images are decoded once")
    if setting.num_workers < setting.cores:
        changes.append(f"raise data.num_workers from {setting.num_workers} to {setting.cores}, one for each core")
    if not changes:
        changes.append("choose a lighter augmentation=…, a smaller data.image_size, or a machine with more cores")
    return ", or ".join(changes)


def _advise_network(setting: Setting) -> str:
    is_full = setting.precision.startswith(("32", "64"))
    if setting.device == "cpu":
        faster = "trainer.precision=bf16-mixed where the processor has it, " if is_full else ""
        return f"{faster}a smaller data.image_size or model.name, or a GPU makes it faster"
    faster = "trainer.precision=bf16-mixed, " if is_full else ""
    return f"the device is busy, as it should be; {faster}model.compile=true or a larger data.batch_size may help"


def write_page(profile: dict[str, Any], path: Path) -> None:
    """Write the page from the contents of `profile.json`."""
    page = render(
        "sightline.callbacks",
        TEMPLATE,
        profile=profile,
        parts=PARTS,
        titles=TITLES,
        meanings=MEANINGS,
        columns=_columns(profile["steps"]),
        charts=_charts(profile["samples"], profile["setting"]["cores"]),
    )
    write_text(path, page)


def _columns(steps: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Stacked columns of the steps, or of groups of them, in percent of the slowest."""
    width = max(1, -(-len(steps) // MAX_COLUMNS))
    groups = [steps[start : start + width] for start in range(0, len(steps), width)]
    means = [{part: statistics.fmean(step[part] for step in group) for part in PARTS} for group in groups]
    highest = max((sum(mean.values()) for mean in means), default=0.0) or 1.0
    columns = []
    for number, mean in enumerate(means):
        bottom, boxes = 100.0, []
        for part in PARTS:
            height = 100 * mean[part] / highest
            bottom -= height
            boxes.append({"part": part, "top": round(bottom, 2), "height": round(height, 2)})
        columns.append({"x": number, "boxes": boxes, "ms": round(sum(mean.values()), 1)})
    return {"columns": columns, "steps_each": width, "highest_ms": round(highest, 1)}


def _charts(samples: Sequence[dict[str, float]], cores: int) -> list[dict[str, Any]]:
    """Lines over time: points of an SVG that is 600 wide and 100 high."""
    wanted = (
        ("cores", f"Cores kept busy, of {cores}", float(cores)),
        ("memory_gb", "Memory of this process and its workers, GB", 0.0),
        ("gpu_percent", "GPU in use, percent", 100.0),
        ("gpu_memory_gb", "GPU memory, GB", 0.0),
    )
    charts = []
    for name, title, least_top in wanted:
        points = [(sample["seconds"], sample[name]) for sample in samples if name in sample]
        if len(points) < 2:
            continue
        top = max(least_top, 1.15 * max(value for _, value in points)) or 1.0
        last = points[-1][0]
        line = " ".join(f"{600 * when / last:.1f},{100 - 100 * value / top:.1f}" for when, value in points)
        mean = statistics.fmean(value for _, value in points)
        charts.append(
            {
                "title": title,
                "line": line,
                "first": f"{600 * points[0][0] / last:.1f}",
                "top": f"{top:.3g}",
                "last": f"{last:.0f}",
                "mean": f"{mean:.2f}",
                "max": f"{max(value for _, value in points):.2f}",
            }
        )
    return charts


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
