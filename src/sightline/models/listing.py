"""A table of timm's models, to choose one from."""

import csv
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import ModelsConfig, validate_task
from sightline.runs.record import open_folder

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)
TABLE_WIDTH = 140
SPEEDS = ("train_images_per_second", "predict_images_per_second")


def list_models(cfg: "DictConfig | ModelsConfig") -> list[dict[str, Any]]:
    """Print what the pattern matches, the smallest first, and return it; with `time=true` how fast each is here.

    Raises: BadInput when nothing matches.
    """
    cfg = validate_task(cfg, ModelsConfig)
    from rich.progress import track

    from sightline.models.catalogue import describe, images_per_second, matching
    from sightline.models.inference import choose_device, choose_precision

    names = matching(cfg.pattern)
    if len(names) > cfg.limit:
        log.warning("%d models match, the first %d are shown: narrow pattern=, or raise limit=", len(names), cfg.limit)
    device = choose_device(cfg.accelerator)
    precision = choose_precision(cfg.precision, device)
    rows = []
    for name in track(names[: cfg.limit], "Describing", transient=True):
        entry = describe(name, cfg.image_size)
        speeds: Sequence[float] = ()
        if cfg.time:
            size = entry.image_size
            speeds = images_per_second(name, size, batch_size=cfg.batch_size, device=device, precision=precision)
        rows.append({**asdict(entry), **dict(zip(SPEEDS, speeds, strict=False))})
    rows.sort(key=lambda row: row["parameters"])
    where = f"{device}, {precision}, batches of {cfg.batch_size}" if cfg.time else ""
    _print(rows, where)
    if cfg.output is not None:
        _write(open_folder(Path("runs"), "models", "models", cfg.output) / "models.csv", rows)
    return rows


def _print(rows: list[dict[str, Any]], where: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), caption=where or None)
    headings = ["model", "pixels", "parameters (M)", "multiply-adds (G)", "weights"]
    headings += ["train images/s", "predict images/s"] if where else []
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number in (0, 4) else "right", no_wrap=True)
    for row in rows:
        work = row["multiply_adds"]
        cells = [row["name"], str(row["image_size"]), f"{row['parameters'] / 1e6:.2f}"]
        cells += ["?" if work is None else f"{work / 1e9:.2f}", row["weights"]]
        table.add_row(*cells, *(f"{row[name]:,.0f}" for name in SPEEDS if name in row))
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_WIDTH)  # a pipe has no width of its own
    console.print(table)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
