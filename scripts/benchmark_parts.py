"""What belongs to training besides its steps, each in turns with what it is measured against.

    python scripts/benchmark.py validation experiment=gtsrb data.root=FOLDER [--turns 5 --steps 30]
    python scripts/benchmark.py logging [… --turns 5 --steps 60]
    python scripts/benchmark.py start [experiment=gtsrb data.root=FOLDER …]
    python scripts/benchmark.py parquet [--turns 5 --images 6000 model.name=… data.num_workers=…]

The first: images per second of the validation inside train.py's fit, metrics and averaged weights included, against
the bare forward pass. The second: of train.py's fit with its logger and progress bar, against the same fit without
them. The third: seconds from the start of a process to the end of its first step, and to its own end once the step is
saved; the first time it makes the cache of images, then it finds it. The fourth: images per second of train.py's first
epoch on the images of a parquet file, against those of a folder that holds the same files, without a cache of decoded
images; of reading alone, by processor time (with data.num_workers=0); and the seconds that it takes to unpack them.
"""

import argparse
import copy
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import benchmark
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from sightline.config import TrainConfig
from sightline.data.collection.sources import localise
from sightline.data.opening import open_files
from sightline.data.training_data import NUM_SYNTHETIC_CLASSES
from sightline.models.backbones import create_backbone
from sightline.models.classifier import Classifier
from sightline.models.inference import autocast
from sightline.training.train import train


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("overrides", nargs="*", help="as on the command line of train.py")
    parser.add_argument("--turns", type=int, default=5, help="how often the two sides alternate (default 5)")
    parser.add_argument("--steps", type=int, default=30, help="counted steps of each side in a turn (default 30)")
    parser.add_argument("--images", type=int, default=6000, help="of the parquet file (default 6000)")
    arguments = parser.parse_intermixed_args(words)
    PARTS[arguments.part](arguments)


def benchmark_validation(arguments: argparse.Namespace) -> None:
    cfg = benchmark.compose_train([*arguments.overrides, "stages=[fit]", "trainer.max_epochs=1"])
    cfg.trainer.limit_train_batches, cfg.trainer.limit_val_batches = 1, arguments.steps
    device, precision = benchmark.where(cfg)
    print(f"validation: {benchmark.describe(cfg, device, precision)}", flush=True)
    benchmark.take_turns(
        arguments.turns,
        bare=lambda: time_bare_forward(cfg, device, precision, arguments.steps),
        ours={"validation": lambda: time_validation(cfg)},
    )


def time_bare_forward(cfg: TrainConfig, device: torch.device, precision: str, steps: int) -> float:
    """Images per second of the forward pass on one batch in memory."""
    network, _ = create_backbone(cfg.model.name, NUM_SYNTHETIC_CLASSES, arguments=cfg.model.timm_arguments())
    layout = torch.channels_last if cfg.model.channels_last else torch.contiguous_format
    network = network.to(device, memory_format=layout).eval()  # pyright: ignore[reportCallIssue]
    batch, size = int(cfg.data.batch_size), cfg.data.image_size
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=layout)
    with torch.inference_mode(), autocast(precision, device):
        for _ in range(benchmark.WARM_UP):
            network(images)
        benchmark.synchronize(device)
        start = time.perf_counter()
        for _ in range(steps):
            network(images)
        benchmark.synchronize(device)
    return steps * batch / (time.perf_counter() - start)


def time_validation(cfg: TrainConfig) -> float:
    """Images per second between the first and the last batch of a fit's validation."""
    ends: list[float] = []
    count: list[int] = []
    step = Classifier.validation_step

    def timed(self: Classifier, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        step(self, batch, batch_idx)
        ends.append(time.perf_counter())
        count.append(len(batch[0]))

    with mock.patch.object(Classifier, "validation_step", timed), tempfile.TemporaryDirectory() as folder:
        cfg.output = f"{folder}/run"
        train(cfg)
    return sum(count[1:]) / (ends[-1] - ends[0])


def benchmark_logging(arguments: argparse.Namespace) -> None:
    cfg = benchmark.compose_synthetic(arguments.overrides, arguments.steps)
    silent = copy.deepcopy(cfg)
    silent.logger, silent.trainer.enable_progress_bar = {}, False
    print(f"logging: {benchmark.describe(cfg, *benchmark.where(cfg))}", flush=True)
    benchmark.take_turns(
        arguments.turns,
        bare=lambda: benchmark.time_train(silent),
        ours={"with logger and progress bar": lambda: benchmark.time_train(cfg)},
    )


def benchmark_start(arguments: argparse.Namespace) -> None:
    words = [sys.executable, str(benchmark.PROJECT / "src" / "train.py"), *arguments.overrides, "stages=[fit]"]
    words += ["trainer.max_steps=1", "trainer.limit_val_batches=1", "trainer.log_every_n_steps=1"]
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.turns):
            start, output = time.time(), Path(folder) / str(turn)
            subprocess.run(
                [*words, f"paths.cache={folder}/cache", f"output={output}"], check=True, stdout=subprocess.DEVNULL
            )
            end, cache = time.time(), "cold" if turn == 0 else "warm"
            first = first_step_at(output / "tensorboard") - start
            print(f"{cache} cache: {first:.1f} s to the first step, {end - start:.1f} s for the process", flush=True)


def first_step_at(folder: Path) -> float:
    """Seconds since 1970 at which TensorBoard heard of the first step's loss."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = (EventAccumulator(str(file)).Reload() for file in sorted(folder.glob("events*")))
    return min(
        file.Scalars("train/step_loss")[0].wall_time for file in events if "train/step_loss" in file.Tags()["scalars"]
    )


def benchmark_parquet(arguments: argparse.Namespace) -> None:
    """The first epoch on a parquet file against that on a folder of the same images."""
    words = ["data=folder", "data.image_size=64", "model.name=test_resnet", *arguments.overrides]
    words += ["data.cache=off", "stages=[fit]", "trainer.max_epochs=1", "trainer.limit_val_batches=1"]
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        write_twice(top, arguments.images)
        words.append(f"paths.cache={top / 'cache'}")
        start = time.perf_counter()
        localise(str(top / "images.parquet"), top / "cache")
        print(f"unpacking {arguments.images:,} images: {time.perf_counter() - start:.2f} s", flush=True)
        of_folder, of_parquet = (
            benchmark.compose_train([*words, f"data.root={top / name}"]) for name in ("images", "images.parquet")
        )
        print(f"parquet: {benchmark.describe(of_folder, *benchmark.where(of_folder))}", flush=True)
        benchmark.take_turns(
            arguments.turns,
            bare=lambda: benchmark.time_train(of_folder),
            ours={"parquet": lambda: benchmark.time_train(of_parquet)},
        )
        print("reading alone, images for each second of the processor:", flush=True)
        readers = [benchmark.reader(cfg, open_files(cfg).manifest) for cfg in (of_folder, of_parquet)]
        benchmark.take_turns(
            arguments.turns,
            bare=lambda: time_reading(readers[0]),
            ours={"parquet": lambda: time_reading(readers[1])},
        )


def time_reading(loader: DataLoader) -> float:
    """Images of an epoch for each second that this process had the processor, which other work on it changes little."""
    start = time.process_time()
    count = sum(len(images) for images, *_ in loader)
    return count / (time.process_time() - start)


def write_twice(top: Path, count: int, side: int = 150) -> None:
    """JPEG files of two classes, in a folder and in a parquet file."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    rows = []
    for number in range(count):
        label, written = ("light", "dark")[number % 2], io.BytesIO()
        coarse = np.random.default_rng(number).integers(0, 100, (10, 10, 3)) + 100 * (label == "light")
        Image.fromarray(coarse.astype(np.uint8)).resize((side, side)).save(written, "JPEG", quality=90)
        path = top / "images" / label / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(written.getvalue())
        row = {"image": {"bytes": written.getvalue(), "path": path.name}, "label": label}
        rows.append(row)
    write_table(pa.Table.from_pylist(rows), top / "images.parquet", row_group_size=1000)


PARTS = {
    "validation": benchmark_validation,
    "logging": benchmark_logging,
    "start": benchmark_start,
    "parquet": benchmark_parquet,
}


if __name__ == "__main__":
    main(sys.argv[1:])
