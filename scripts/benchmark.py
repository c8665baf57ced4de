"""Speed side by side in one run, because shared machines drift: ratios are taken turn by turn.

    python scripts/benchmark.py [model.name=resnet18 data.image_size=64 data.batch_size=128 …]
    python scripts/benchmark.py data --root FOLDER [experiment=gtsrb …]
    python scripts/benchmark.py explain --root FOLDER --weights FILE [--images 3]
    python scripts/benchmark.py evaluate --run RUN
    python scripts/benchmark.py sweep [--trials 60 --places 4]
    python scripts/benchmark.py validation|logging|start|parquet [experiment=gtsrb …]
    python scripts/benchmark.py trial [--trials 5]
    python scripts/benchmark.py serve [--parts rate start memory lambda overload]

The first: images per second of train.py's own fit against the bare PyTorch step, in one process. Both sides train the
same network on synthetic images with the same size, batch, precision, memory format and optimizer.
The bare side is the loop that one would write by hand: forward, loss, backward, step, on one batch that is ready in
memory. Ours is `train(cfg)` with its default callbacks, logger and progress bar, as
`train/images_per_second` counts it. On processors train.py takes convolutions that train faster than torch's
(`model.fast_convolutions`): like is compared with like by train.py without them, and by the bare step with them.

The second, on the images of a folder: reading alone (without augmentation and with `augmentation=albumentations`)
against the bare step of resnet18; `train.py` end to end with the experiment's own network and augmentation against
the bare step of that network; the audit's seconds; and the bytes of the main process for each image of a manifest.

The third: integrated gradients of a trained mobilenetv2_100 (ImageNet weights, 224 px, float32) on photos: captum's
plain call with 200 steps against ours with 200 steps, and ours until its tolerance. Each side runs in a process of its
own, whose peak memory counts everything in it.

The fourth: images per second of evaluate.py, with and without corruptions, against bare forward passes.

The fifth is in benchmark_sweep.py: what a sweep waits, and what pruning saves; what a trial costs beside its training
is in benchmark_trial.py, and the service in benchmark_serve.py. The others are in benchmark_parts.py: the rate of
validation, what logging costs, the seconds until a first step, and a parquet file against a folder.
"""

import argparse
import copy
import gc
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from sightline.config import TASKS, TrainConfig, build, validate, validate_task, with_value  # noqa: E402
from sightline.data.manifest import Manifest  # noqa: E402
from sightline.data.opening import image_cache, open_files  # noqa: E402
from sightline.data.training_data import NUM_SYNTHETIC_CLASSES, FolderData  # noqa: E402
from sightline.data.transforms import normalise  # noqa: E402
from sightline.models.backbones import create_backbone  # noqa: E402
from sightline.models.cpu.depthwise import speed_up_strided_depthwise  # noqa: E402
from sightline.models.cpu.small_maps import speed_up_small_maps  # noqa: E402
from sightline.models.inference import autocast, choose_device, choose_precision, keep_freed_memory  # noqa: E402
from sightline.task_spec import TaskSpec  # noqa: E402
from sightline.training.train import train  # noqa: E402

WARM_UP = 10
"""Steps that neither side counts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as on the command line of train.py")
    parser.add_argument("--turns", type=int, default=5, help="how often the two sides alternate (default 5)")
    parser.add_argument("--steps", type=int, default=30, help="counted steps of each side in a turn (default 30)")
    parser.add_argument("--root", help="data.root of `benchmark.py data`, photos of `benchmark.py explain`")
    parser.add_argument("--weights", help="safetensors file of mobilenetv2_100 for `benchmark.py explain`")
    parser.add_argument("--images", type=int, default=3, help="how many photos are explained (default 3)")
    parser.add_argument("--run", help="a finished run for `benchmark.py evaluate`")
    parser.add_argument(
        "--evaluations", nargs="+", default=["short", "default"], help="of `benchmark.py evaluate` (short default)"
    )
    parser.add_argument("--split", default="test", help="of that run (default test)")
    arguments = parser.parse_intermixed_args()
    if arguments.overrides[:1] == ["data"]:
        if arguments.root is None:
            parser.error("benchmark.py data: name the images with --root FOLDER")
        return benchmark_data(arguments)
    if arguments.overrides[:1] == ["explain"]:
        if arguments.root is None or arguments.weights is None:
            parser.error("benchmark.py explain: name photos with --root FOLDER and weights with --weights FILE")
        return benchmark_explain(arguments)
    if arguments.overrides[:1] == ["evaluate"]:
        if arguments.run is None:
            parser.error("benchmark.py evaluate: name a finished run with --run RUN")
        return benchmark_evaluate(arguments)
    return benchmark_step(arguments)


def benchmark_step(arguments: argparse.Namespace) -> None:
    """train.py's own fit on random pixels against the bare step."""
    cfg = compose_synthetic(arguments.overrides, arguments.steps)
    device, precision = where(cfg)
    plain = with_value(cfg, "model.fast_convolutions", False)
    print(describe(cfg, device, precision), flush=True)
    take_turns(
        arguments.turns,
        bare=lambda: time_bare_step(cfg, device, precision, arguments.steps),
        ours={
            "train.py": lambda: time_train(cfg),
            "train.py with torch's convolutions": lambda: time_train(plain),
            "bare with fast convolutions": lambda: time_bare_step(cfg, device, precision, arguments.steps, fast=True),
        },
    )


def take_turns(turns: int, bare: Callable[[], float], ours: Mapping[str, Callable[[], float]]) -> None:
    """Print images per second of each side, and their ratio to the bare step of the same turn."""
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in ours}
    for turn in range(turns):
        reference = bare()
        line = f"turn {turn + 1}: bare {reference:.1f}"
        for name, measure in ours.items():
            rate = measure()
            rows[name].append((rate, rate / reference))
            line += f"  {name} {rate:.1f} ({rate / reference:.3f})"
        print(line, flush=True)
    for name, measured in rows.items():
        ratios = sorted(ratio for _, ratio in measured)
        print(
            f"{name}: {statistics.median(rate for rate, _ in measured):.1f} images/s, "
            f"ratio {statistics.median(ratios):.3f} (from {ratios[0]:.3f} to {ratios[-1]:.3f})",
            flush=True,
        )


def benchmark_data(arguments: argparse.Namespace) -> None:
    """Reading, training from files, the audit and the memory of a manifest."""
    words = [f"data.root={arguments.root}", *arguments.overrides[1:]]
    if not any(word.startswith("experiment=") for word in words):
        words.insert(0, "experiment=gtsrb")
    with tempfile.TemporaryDirectory() as folder:
        words.append(f"paths.cache={folder}")
        experiment = compose_train(words)
        start = time.perf_counter()
        opened = open_files(experiment)
        images = len(opened.manifest)
        print(f"audit: {images:,} files in {time.perf_counter() - start:.1f} s ({os.cpu_count()} cores)", flush=True)
        print_reading(words, opened.manifest, arguments)
        print_training(experiment, arguments)
    print_memory()


def print_reading(words: list[str], manifest: Manifest, arguments: argparse.Namespace) -> None:
    """Reading alone against resnet18 at 64 px."""
    words = [
        "~experiment",
        "data=gtsrb",
        *(word for word in words if not word.startswith("experiment=")),
        "data.image_size=64",
        "data.batch_size=128",
        "data.num_workers=2",
        "data.cache=always",
    ]
    plain = compose_train([*words, "augmentation=none"])
    augmented = compose_train([*words, "augmentation=albumentations"])
    cfg = compose_synthetic(["data.image_size=64"], arguments.steps)
    device, precision = where(cfg)
    print(f"reading alone, two workers, against {describe(cfg, device, precision)}", flush=True)
    loaders = {name: reader(setting, manifest) for name, setting in (("none", plain), ("albumentations", augmented))}
    take_turns(
        arguments.turns,
        bare=lambda: time_bare_step(cfg, device, precision, arguments.steps),
        ours={f"augmentation={name}": partial(time_epoch, loader) for name, loader in loaders.items()},
    )


def reader(cfg: TrainConfig, manifest: Manifest) -> DataLoader:
    # an experiment's own list of transforms would be added to the group's
    spec = TaskSpec(manifest.class_names, cfg.data.image_size, (0.5,) * 3, (0.25,) * 3)
    cache = image_cache(Path(cfg.paths.cache), cfg.data.cache_gb, cfg.data.cache)
    return FolderData(manifest, cache=cache).make_datamodule(cfg, spec).train_dataloader()


def time_epoch(loader: DataLoader) -> float:
    """Images per second of an epoch, the first batches left out: the workers start with them."""
    count, start = 0, 0.0
    for number, (images, *_) in enumerate(loader):
        if number == WARM_UP:
            start = time.perf_counter()
        elif number > WARM_UP:
            count += len(images)
    return count / (time.perf_counter() - start)


def print_training(experiment: TrainConfig, arguments: argparse.Namespace) -> None:
    """`train.py` from files to weights against the bare step of the same network."""
    cfg = copy.deepcopy(experiment)
    cfg.trainer.max_epochs, cfg.trainer.limit_train_batches = 1, 5 * arguments.steps
    cfg.trainer.limit_val_batches = 1
    cfg.stages = ["fit"]
    device, precision = where(cfg)
    print(f"{cfg.name} end to end against the bare step: {describe(cfg, device, precision)}", flush=True)
    take_turns(
        arguments.turns,
        bare=lambda: time_bare_step(cfg, device, precision, arguments.steps),
        ours={"train.py": lambda: time_train(cfg)},
    )


def print_memory(few: int = 20_000, many: int = 120_000) -> None:
    """Bytes that the main process grows by for each further image, the shared mappings of the cache left out."""
    grown = {}
    for count in (few, many):
        with tempfile.TemporaryDirectory() as folder:
            write_links(Path(folder) / "images", count)
            grown[count] = int(subprocess.check_output([sys.executable, __file__, "memory", folder]))
    print(
        f"main process: {(grown[many] - grown[few]) / (many - few):.0f} bytes for each image, from {few:,} to {many:,}"
    )


def measure_memory(folder: str) -> None:
    """Print the bytes of this process's own memory that opening a folder's images and an epoch of them leave."""
    import psutil

    root = f"data.root={folder}/images"
    words = ["~experiment", "data=folder", root, f"paths.cache={folder}/cache", "augmentation=none"]
    cfg = compose_train([*words, "data.image_size=16", "data.batch_size=256", "data.cache=always"])
    before = psutil.Process().memory_full_info().uss
    manifest = open_files(cfg).manifest
    loader = reader(cfg, manifest)
    for _ in loader:
        pass
    gc.collect()
    print(psutil.Process().memory_full_info().uss - before)


def write_links(root: Path, count: int) -> None:
    """A data set of many names for a few files."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    for label in range(2):
        folder = root / "train" / f"class_{label}"
        folder.mkdir(parents=True)
        Image.fromarray(pixels[label]).save(root / f"{label}.png")
        for number in range(count // 2):
            (folder / f"image_{number:08d}.png").hardlink_to(root / f"{label}.png")


STEPS = 200
"""Of captum's plain call, as people make it."""


def benchmark_explain(arguments: argparse.Namespace) -> None:
    """Seconds, peak memory and completeness error of integrated gradients, ours and captum's plain call."""
    print(f"{date.today()}  {torch.get_num_threads()} threads  mobilenetv2_100, 224 px, float32", flush=True)
    found = {}
    for side in ("plain", "equal", "tolerance"):
        words = [sys.executable, __file__, "explain-side", side, arguments.root, arguments.weights]
        output = subprocess.check_output([*words, str(arguments.images)], text=True)
        found[side] = json.loads(output.splitlines()[-1])
        print(f"{SIDES[side]}: {describe_side(found[side])}", flush=True)
    ratio = found["plain"]["seconds"] / found["equal"]["seconds"]
    print(f"captum's time over ours at {STEPS} steps: {ratio:.2f}")
    ratio = found["plain"]["seconds"] / found["tolerance"]["seconds"]
    print(f"captum's time with {STEPS} steps over ours until 1 %: {ratio:.2f}")


SIDES = {
    "plain": f"captum, plain call, {STEPS} steps",
    "equal": f"ours, {STEPS} steps",
    "tolerance": "ours until 1 %, at most 1,024 steps",
}


def describe_side(side: dict[str, Any]) -> str:
    errors = ", ".join(f"{100 * error:.2f}" for error in side["errors"])
    steps = ", ".join(str(number) for number in side["steps"])
    return f"{side['seconds']:.2f} s an image, peak {side['peak_gb']:.2f} GB, errors {errors} %, steps {steps}"


def measure_side(side: str, root: str, weights: str, count: int) -> None:
    """Print what one side took, as JSON."""
    from sightline.data.collection.image_files import find_files
    from sightline.data.transforms import load_rgb, prepare

    network, _ = create_backbone("mobilenetv2_100", 1000, weights=weights)
    spec = TaskSpec(tuple(str(n) for n in range(1000)), 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    files = list(find_files(Path(root)))
    chosen = [files[place] for place in np.random.default_rng(0).choice(len(files), count, replace=False)]
    pixels = torch.from_numpy(np.stack([prepare(load_rgb(file), spec) for file in chosen]))
    explain = explain_plainly if side == "plain" else partial(explain_ours, equal=side == "equal")
    found = explain(network.eval(), spec, pixels)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({**found, "peak_gb": peak}))


def explain_plainly(network: torch.nn.Module, spec: TaskSpec, pixels: torch.Tensor) -> dict[str, Any]:
    from captum.attr import IntegratedGradients

    images, baseline = normalise(pixels, spec), normalise(torch.zeros_like(pixels[:1]), spec)
    with torch.no_grad():
        logits, start_score = network(images), network(baseline)
    method, errors = IntegratedGradients(network), []
    start = time.perf_counter()
    for image, scores in zip(images, logits, strict=True):
        label = int(scores.argmax())
        found = method.attribute(image[None], baseline, target=label, n_steps=STEPS)
        difference = float(scores[label] - start_score[0, label])
        errors.append(abs(float(found.sum()) - difference) / abs(difference))
    seconds = (time.perf_counter() - start) / len(images)
    return {"seconds": seconds, "errors": errors, "steps": [STEPS] * len(images)}


def explain_ours(network: torch.nn.Module, spec: TaskSpec, pixels: torch.Tensor, equal: bool) -> dict[str, Any]:
    from sightline.explanation.attribution import Cases, Explainer
    from sightline.explanation.path_integral import Settings

    keep_freed_memory()
    settings = Settings(tolerance=0.0, max_steps=STEPS) if equal else Settings()
    explainer = Explainer(network, spec, torch.device("cpu"), settings=settings, memory_gb=0.6)
    classes = explainer.logits(pixels).argmax(dim=1)
    start = time.perf_counter()
    found = explainer.explain("integrated_gradients", Cases(pixels, classes))
    seconds = (time.perf_counter() - start) / len(pixels)
    return {
        "seconds": seconds,
        "errors": [explained.completeness_error for explained in found],
        "steps": [explained.steps for explained in found],
    }


def benchmark_evaluate(arguments: argparse.Namespace) -> None:
    """Images that evaluate.py classifies in a second, all else included, against bare forward passes.

    Those have a process of their own each: one as PyTorch comes, one that keeps freed memory, as evaluate.py does.
    """
    from sightline.evaluation.evaluate import evaluate

    words = [f"run={arguments.run}", f"split={arguments.split}", *arguments.overrides[1:]]

    def ours(name: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            chosen = compose_task("evaluate", [*words, f"evaluation={name}", f"output={folder}/run"])
            start = time.perf_counter()
            evaluate(chosen)
            seconds = time.perf_counter() - start
            record = json.loads((Path(folder) / "run" / "run.json").read_text())
            images = record["data"]["num_images"][arguments.split]
            forwards = images + (min(images, 1000) * 15 if name == "default" else 0)
            return forwards / seconds

    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as plain, ProcessPoolExecutor(1, spawn, keep_freed_memory) as keeping:

        def bare(pool: ProcessPoolExecutor) -> float:
            return pool.submit(time_forward, words).result()

        for warm_up in (partial(bare, plain), partial(bare, keeping), partial(ours, "short")):
            warm_up()
        sides = {name: lambda name=name: ours(name) for name in arguments.evaluations}
        sides = {"bare that keeps freed memory": lambda: bare(keeping), **sides}
        take_turns(arguments.turns, lambda: bare(plain), sides)


def time_forward(words: list[str]) -> float:
    """Images per second of a run's network over equal batches in memory, about 2,000 images in all."""
    from sightline.finished_run import FinishedRun, find_images, make_loader_of
    from sightline.models.inference import run_network

    cfg = compose_task("evaluate", words)
    run = FinishedRun.open(cfg.run, cfg.accelerator, cfg.precision, runs=cfg.paths.runs)
    pixels = next(iter(make_loader_of(cfg, run, find_images(cfg, run), cfg.split)))[0]
    batches, images = max(1, 2000 // len(pixels)), normalise(pixels, run.task_spec)
    start = time.perf_counter()
    run_network(
        run.saved.network,
        (images for _ in range(batches)),
        device=run.device,
        precision=run.precision,
        prepare=lambda batch: batch,
        channels_last=run.channels_last,
    )
    return batches * len(pixels) / (time.perf_counter() - start)


def compose_task(task: str, words: list[str]) -> Any:
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        return validate_task(compose(task, words), TASKS[task])


def where(cfg: TrainConfig) -> tuple[torch.device, str]:
    device = choose_device(cfg.trainer.accelerator)
    return device, choose_precision(cfg.trainer.precision, device)


def compose_train(words: list[str]) -> TrainConfig:
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        return validate(compose("train", words))


def compose_synthetic(overrides: list[str], steps: int) -> TrainConfig:
    """The configuration of train.py with random pixels, long enough for the counted steps."""
    words = ["~experiment", "stages=[fit]", "data=synthetic", "model=resnet18", "model.name=resnet18", *overrides]
    images = (steps + WARM_UP) * compose_train(words).data.batch_size
    return compose_train([*words, f"data.num_synthetic={images}", "trainer.max_epochs=1"])


def describe(cfg: TrainConfig, device: torch.device, precision: str) -> str:
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    layout = "channels_last" if cfg.model.channels_last else "contiguous"
    return (
        f"{date.today()}  {device.type} ({where}, {platform.machine()})  torch {torch.__version__}\n"
        f"{cfg.model.name}, {cfg.data.image_size} px, batch {cfg.data.batch_size}, {precision}, {layout}"
    )


def time_bare_step(cfg: TrainConfig, device: torch.device, precision: str, steps: int, *, fast: bool = False) -> float:
    """Images per second of forward, loss, backward and optimizer step on one batch in memory.

    With `fast` its convolutions are those of `model.fast_convolutions=true`.
    """
    torch.manual_seed(0)
    network, _ = create_backbone(cfg.model.name, NUM_SYNTHETIC_CLASSES, arguments=cfg.model.timm_arguments())
    if fast:
        speed_up_strided_depthwise(network)
        speed_up_small_maps(network)
    layout = torch.channels_last if cfg.model.channels_last else torch.contiguous_format
    network = network.to(device, memory_format=layout).train()  # pyright: ignore[reportCallIssue]
    if cfg.model.compile:
        network.compile()
    optimizer = build(cfg.model.optimizer, "model.optimizer")(network.parameters())
    batch, size = int(cfg.data.batch_size), cfg.data.image_size
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=layout)
    labels = torch.randint(0, NUM_SYNTHETIC_CLASSES, (batch,), device=device)

    def step() -> None:
        with autocast(precision, device):
            loss = torch.nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(WARM_UP):
        step()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    synchronize(device)
    return steps * batch / (time.perf_counter() - start)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_train(cfg: TrainConfig) -> float:
    """`train/images_per_second` of a whole run into a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        cfg.output = str(Path(folder) / "run")
        return train(cfg).metrics["train/images_per_second"]


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        measure_memory(sys.argv[2])
    elif sys.argv[1:2] == ["explain-side"]:
        measure_side(*sys.argv[2:5], count=int(sys.argv[5]))
    elif sys.argv[1:2] == ["sweep"]:
        import benchmark_sweep

        benchmark_sweep.main(sys.argv[2:])
    elif sys.argv[1:2] in (["validation"], ["logging"], ["start"], ["parquet"]):
        os.execv(sys.executable, [sys.executable, str(Path(__file__).with_name("benchmark_parts.py")), *sys.argv[1:]])
    elif sys.argv[1:2] == ["serve"]:
        os.execv(sys.executable, [sys.executable, str(Path(__file__).with_name("benchmark_serve.py")), *sys.argv[2:]])
    elif sys.argv[1:2] == ["trial"]:
        import benchmark_trial

        benchmark_trial.main(sys.argv[2:])
    else:
        main()
