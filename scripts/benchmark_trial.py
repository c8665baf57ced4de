"""What a trial of a sweep costs beside its training: from a preloaded process, and in a process of its own.

    python scripts/benchmark.py trial [--trials 5]

Runs `hparams_search=optuna experiment=digits` one trial at a time, with one small network and three short epochs. Of
each trial the time between the ends of two trials is taken, from which `train/seconds` (all epochs with their
validation and checkpoints) is subtracted. The first trial prepares what the others find: it is left out.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
WORDS = (
    "hparams_search=optuna experiment=digits model.name=resnet18 model/optimizer=adam trainer.max_epochs=3 "
    "trainer.limit_train_batches=8 hydra.sweeper.pruner=null hydra.sweeper.n_parallel=1"
).split()


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5)
    given = parser.parse_args(words)
    for title, more in (("preloaded process", []), ("own process", ["hydra.sweeper.preload=[]"])):
        with tempfile.TemporaryDirectory() as folder:
            beside = measure(Path(folder), given.trials + 1, more)
        listed = ", ".join(f"{seconds:.2f}" for seconds in beside)
        print(f"{title}: {statistics.median(beside):.2f} s beside the training of a trial (each: {listed})")


def measure(folder: Path, n_trials: int, more: Sequence[str]) -> list[float]:
    """Seconds beside the training of every trial but the first."""
    paths = [f"paths.{name}={folder / name}" for name in ("runs", "cache")]
    command = [sys.executable, str(PROJECT / "src" / "train.py"), *WORDS, *more, *paths]
    done = subprocess.run([*command, f"hydra.sweeper.n_trials={n_trials}"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    (sweep,) = (folder / "runs" / "sweeps").iterdir()
    with (sweep / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    runs = [sweep / row["run"] for row in rows]
    ended = [json.loads((run / ".job" / "state.json").read_text())["ended"] for run in runs]
    trained = [json.loads((run / "metrics.json").read_text())["train/seconds"] for run in runs]
    return [ended[n] - ended[n - 1] - trained[n] for n in range(1, len(rows))]


if __name__ == "__main__":
    main(sys.argv[1:])
