"""Images per second of predict.py by each runtime, side by side in one run.

    python scripts/benchmark_predict.py [--model mobilenetv2_100] [--size 224] [--images 2000] [--turns 5]

A folder of JPEGs of the network's size (about 11 kB each) is made, and a model with random weights with its exported
graph. Each side is a process of its own that has done some images before; turn by turn all of them predict the whole
folder as predict.py does, results written, start not counted. `reading` decodes and prepares alone: the limit of any
runtime. `--before FOLDER` names a checkout of an earlier commit, whose predict.py is one more side, the first. Beside
the rate stands the processor time of an image, which another load on the machine changes less.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

SIDES = {
    "torch": ("runtime=torch",),
    "torch bf16": ("runtime=torch", "precision=bf16-mixed"),
    "onnx": ("runtime=onnx",),
    "compiled": ("runtime=compiled",),
    "reading": (),
    "before": (),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="further ones of predict.py, like num_workers=1")
    parser.add_argument("--model", default="mobilenetv2_100")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--sides", default="torch,onnx,reading", help=f"of {', '.join(SIDES)}")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    arguments = parser.parse_args()
    sides = [*(["before"] if arguments.before else []), *arguments.sides.split(",")]
    projects = dict.fromkeys(sides, PROJECT) | {"before": arguments.before}
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        write_images(Path(place, "few"), 96, arguments.size)
        write_images(Path(place, "images"), arguments.images, arguments.size)
        write_model(Path(place, "model"), arguments.model, arguments.size)
        spawn = multiprocessing.get_context("spawn")
        pools = {
            side: stack.enter_context(ProcessPoolExecutor(1, spawn, use_project, (projects[side],))) for side in sides
        }
        print(
            f"{date.today()}  {arguments.model} {arguments.size} px, {arguments.images} JPEGs, {os.cpu_count()} cores"
        )
        for side, pool in pools.items():
            pool.submit(time_side, side, place, "few", arguments.overrides).result()
        found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for _ in range(arguments.turns):
            for side, pool in pools.items():
                seconds, processor = pool.submit(time_side, side, place, "images", arguments.overrides).result()
                found[side].append((arguments.images / seconds, 1e3 * processor / arguments.images))
    for side, turns in found.items():
        rates, costs = zip(*turns, strict=True)
        ratio = [mine / theirs[0] for mine, theirs in zip(rates, found[sides[0]], strict=True)]
        print(
            f"{side:12} {statistics.median(rates):7.0f} images/s ({min(rates):.0f} to {max(rates):.0f}), "
            f"{statistics.median(costs):6.2f} ms of a core an image, "
            f"{statistics.median(ratio):5.2f} times {sides[0]} ({min(ratio):.2f} to {max(ratio):.2f})"
        )


def use_project(project: Path) -> None:
    """In a process of its own: the code of a checkout."""
    global PROJECT
    PROJECT = project.resolve()
    sys.path.insert(0, str(PROJECT / "src"))
    multiprocessing.set_start_method("fork", force=True)  # of what it starts itself, as in a command


def write_images(folder: Path, count: int, size: int) -> None:
    """JPEGs of blurred noise, as large on the disk as photos of that size."""
    import numpy as np
    from PIL import Image, ImageFilter

    folder.mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.2)).save(folder / f"{number:05d}.jpg", quality=85)


def write_model(folder: Path, name: str, size: int) -> None:
    """A model folder with random weights and its exported graph."""
    import torch

    from sightline.models.backbones import create_backbone
    from sightline.models.checkpoint import load_model, save_model
    from sightline.models.exported import FILES
    from sightline.models.onnx_graph import write_onnx
    from sightline.task_spec import TaskSpec

    torch.manual_seed(0)
    network, architecture = create_backbone(name, 6)
    classes = tuple(f"class {number}" for number in range(6))
    save_model(folder, network.eval(), TaskSpec(classes, size, (0.5,) * 3, (0.25,) * 3), architecture)
    saved = load_model(folder)
    sha256 = json.loads((folder / "model.json").read_text())["sha256"]
    write_onnx(folder / FILES["fp32"], saved.network, saved.spec, {"sha256": sha256})
    (folder / "export.json").write_text(json.dumps({"fp32": {"max_probability_difference": 0.0}, "sha256": sha256}))


def time_side(side: str, place: str, images: str, overrides: list[str]) -> tuple[float, float]:
    """Seconds, and seconds of processors, in which a side has done a folder."""
    from hydra import compose, initialize_config_dir

    from sightline.config import TASKS, validate_task
    from sightline.serving.predict import predict

    with tempfile.TemporaryDirectory() as output:
        words = [f"run={place}/model", f"images={place}/{images}", f"output={output}/run", "accelerator=cpu"]
        with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
            cfg = validate_task(compose("predict", [*words, *SIDES[side], *overrides]), TASKS["predict"])
        start, before = time.perf_counter(), processor_seconds()
        if side == "reading":
            read(cfg, Path(place, "model"))
        else:
            predict(cfg)
        return time.perf_counter() - start, processor_seconds() - before


def read(cfg: Any, folder: Path) -> None:
    """Every batch, and nothing done with it."""
    from sightline.data.collection.image_files import find_files
    from sightline.data.pictures import PictureBatches
    from sightline.task_spec import TaskSpec

    spec = TaskSpec.load(folder / "task_spec.json")
    for _ in PictureBatches(find_files(Path(cfg.images)), spec, batch_size=cfg.batch_size, num_workers=cfg.num_workers):
        pass


def processor_seconds() -> float:
    """Of this process and its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main()
