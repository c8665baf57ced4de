"""What a sweep costs: waiting at 4 slots, and epochs with and without pruning, on an objective with known curves.

    python scripts/benchmark.py sweep [--trials 60] [--slots 4]

Each trial sleeps through 10 epochs; how long an epoch is, how good it gets and how fast follow from its point alone.
Ideal is the time that the trials' own sleep takes when a free place gets the next one with no delay. The batches are
those of a sweeper that asks for as many points as there are slots and waits for all of them.
"""

import argparse
import csv
import heapq
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
NUM_EPOCHS = 10


def epoch_seconds(x: float) -> float:
    """From 0.08 to 0.4 s: most trials are short, some are long."""
    return 0.08 + 0.32 * (97 * x % 1) ** 2


def value_after(x: float, y: float, num_epochs: int) -> float:
    best = 1 - (x - 0.3) ** 2 - 0.5 * (y - 0.6) ** 2
    return best * (1 - math.exp(-num_epochs / (1.5 + 2 * (53 * y % 1))))


def objective(words: Sequence[str]) -> None:
    """The program of a trial."""
    given = dict(word.split("=", 1) for word in words)
    x, y, output = float(given["x"]), float(given["y"]), Path(given["output"])
    rows = ["epoch,step,val/accuracy"]
    for epoch in range(NUM_EPOCHS):
        time.sleep(epoch_seconds(x))
        rows.append(f"{epoch},{epoch},{value_after(x, y, epoch + 1)}")
        (output / "partial").write_text("\n".join(rows) + "\n")
        (output / "partial").replace(output / "metrics.csv")
    (output / "metrics.json").write_text(f'{{"val/accuracy": {value_after(x, y, NUM_EPOCHS)}}}')


def main(words: Sequence[str]) -> None:
    sys.path.insert(0, str(PROJECT / "src"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--slots", type=int, default=4)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        points, seconds, best, epochs = run(Path(folder) / "all", given, None)
        ideal = schedule([NUM_EPOCHS * epoch_seconds(x) for x, _ in points], given.slots)
        print(
            f"{given.trials} trials at {given.slots} slots: {seconds:.1f} s, "
            f"{seconds / ideal:.3f} of the ideal {ideal:.1f} s"
        )
        batches = run_in_batches(Path(folder) / "batches", points, given.slots)
        print(f"the same points in batches of {given.slots}: {batches:.1f} s, {batches / ideal:.3f} of the ideal")
        pruner = {"_target_": "optuna.pruners.SuccessiveHalvingPruner", "min_resource": 2, "reduction_factor": 2}
        _, pruned_seconds, pruned_best, pruned_epochs = run(Path(folder) / "pruned", given, pruner)
        print(
            f"with pruning: {pruned_seconds:.1f} s, {pruned_epochs} of {epochs} epochs ({pruned_epochs / epochs:.0%}), "
            f"best {pruned_best:.6f} (without {best:.6f})"
        )


def run(
    folder: Path, given: argparse.Namespace, pruner: dict[str, object] | None
) -> tuple[list[tuple[float, float]], float, float, int]:
    """The points in order, the seconds of all trials together, the best value, and the epochs that were run."""
    from sightline.launch.backend import LaunchSettings
    from sightline.launch.local.backend import LocalProcess
    from sightline.sweeping.settings import Settings
    from sightline.sweeping.space import parse_space
    from sightline.sweeping.sweep import sweep

    space = parse_space({"x": {"interval": [0, 1]}, "y": {"interval": [0, 1]}})
    settings = Settings(
        "benchmark",
        folder,
        "scripts/benchmark_sweep.py",
        (),
        space,
        {"val/accuracy": "maximize"},
        n_trials=given.trials,
        n_parallel=given.slots,
        pruner=pruner,
        sampler={"_target_": "optuna.samplers.RandomSampler", "seed": 0},
    )
    results = sweep(settings, LocalProcess(folder, LaunchSettings(n_parallel=given.slots, preload=["json"])))
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    points = [(float(row["params_x"]), float(row["params_y"])) for row in rows]
    tables = [folder / row["run"] / "metrics.csv" for row in rows]
    epochs = sum(len(table.read_text().splitlines()) - 1 for table in tables if table.is_file())
    return points, results["seconds"], results["best_value"], epochs


def schedule(durations: Sequence[float], slots: int) -> float:
    """When the last one ends if each begins at the first free place with no delay."""
    free = [0.0] * slots
    for duration in durations:
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)


def run_in_batches(folder: Path, points: Sequence[tuple[float, float]], slots: int) -> float:
    """The same points, so many at once, and nothing new before the slowest has ended."""
    from sightline.launch.backend import LaunchSettings
    from sightline.launch.job import Job
    from sightline.launch.local.backend import LocalProcess

    backend = LocalProcess(folder, LaunchSettings(n_parallel=slots, preload=["json"]))
    jobs = [
        Job(f"trial-{number}", "scripts/benchmark_sweep.py", (f"x={x}", f"y={y}"))
        for number, (x, y) in enumerate(points)
    ]
    start = time.perf_counter()
    for first in range(0, len(jobs), slots):
        job_ids = [backend.submit(backend.plan(job)) for job in jobs[first : first + slots]]
        while not all(backend.status(job_id).is_over for job_id in job_ids):
            time.sleep(backend.poll_seconds)
    seconds = time.perf_counter() - start
    backend.close()
    return seconds


if __name__ == "__main__":
    objective(sys.argv[1:])
