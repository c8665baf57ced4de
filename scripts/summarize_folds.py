"""Mean and 95 % interval of the metrics over the folds of a cross-validation.

    python src/train.py -m data.fold=0,1,2,3,4 data.num_folds=5 experiment=…
    python scripts/summarize_folds.py runs/train/NAME/*

The interval is Student's t over the folds. Their training sets overlap, so it is somewhat too narrow (Bengio and
Grandvalet, JMLR 5, 2004: no unbiased estimate of this variance exists).
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class NotOneCrossValidation(ValueError):
    """The runs cannot be summarised together; the message says why."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="the run folder of each fold")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    try:
        folds = read_folds(arguments.runs)
    except NotOneCrossValidation as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    summary = {name: summarize(values) for name, values in folds.items()}
    if arguments.json:
        print(json.dumps(summary, indent=2))
        return 0
    width = max(map(len, summary))
    print(f"{'':{width}}  {'mean':>9}  {'95 % interval':>21}  {'deviation':>9}")
    for name, row in summary.items():
        interval = f"{row['low']:.4f} to {row['high']:.4f}"
        print(f"{name:{width}}  {row['mean']:9.4f}  {interval:>21}  {row['deviation']:9.4f}")
    return 0


def read_folds(runs: Sequence[Path]) -> dict[str, list[float]]:
    """The values of every metric that all folds have, fold by fold.

    Raises: NotOneCrossValidation unless the runs are all the folds of one configuration, finished.
    """
    records = {run: _read(run, "run.json") for run in runs}
    for run, record in records.items():
        if record.get("status") != "finished":
            raise NotOneCrossValidation(f"{run}: its status is {record.get('status')}; leave it out or run it again")
        if _data(record).get("num_folds") is None:
            raise NotOneCrossValidation(f"{run}: trained without data.num_folds; leave it out")
    first_run, first = next(iter(records.items()))
    for run, record in records.items():
        if differing := _differing(first["config"], record["config"]):
            raise NotOneCrossValidation(f"{run}: differs from {first_run} in {', '.join(differing)}; leave one out")
    wanted = set(range(_data(first)["num_folds"]))
    numbers = [_data(record)["fold"] for record in records.values()]
    if len(numbers) != len(set(numbers)) or set(numbers) != wanted:
        raise NotOneCrossValidation(
            f"folds {sorted(numbers)} are given; name one run for each of {sorted(wanted)} (lacking: "
            f"{sorted(wanted - set(numbers)) or 'none'})"
        )
    metrics = [_read(run, "metrics.json") for run in runs]
    shared = [name for name in metrics[0] if all(name in other for other in metrics)]
    return {name: [fold[name] for fold in metrics] for name in shared}


def _read(run: Path, name: str) -> dict[str, Any]:
    try:
        return json.loads((run / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotOneCrossValidation(f"{run}: {name} cannot be read ({error}); name the folders of runs") from error


def _data(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return record.get("config", {}).get("data", {})


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys whose values differ, the fold and the output folder left out."""
    found = []
    for key in sorted(set(one) | set(other)):
        name, left, right = f"{prefix}{key}", one.get(key), other.get(key)
        if name in ("data.fold", "output"):
            continue
        if isinstance(left, dict) and isinstance(right, dict):
            found += _differing(left, right, f"{name}.")
        elif left != right:
            found.append(name)
    return found


def summarize(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation and the 95 % interval of the mean."""
    from scipy.stats import t

    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    reach = float(t.ppf(0.975, len(values) - 1)) * deviation / len(values) ** 0.5
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "deviation": deviation}


if __name__ == "__main__":
    sys.exit(main())
