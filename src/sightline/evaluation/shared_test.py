"""Two runs on the test images that both have: what `registry.py compare` says."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import EvaluateConfig, EvaluationConfig, PathsConfig, RegistryConfig
from sightline.errors import BadInput
from sightline.evaluation.wording import describe_interval
from sightline.registry.registry import find_folders
from sightline.runs.invocation import UNTOLD, Invocation

if TYPE_CHECKING:
    import numpy as np

    from sightline.data.manifest import Manifest

log = logging.getLogger(__name__)
EVALUATORS: dict[str, Any] = {"scores": {"_target_": "sightline.evaluation.evaluators.Scores"}}
AGAINST = "test/against/"


@dataclass(frozen=True)
class SharedTest:
    """The paired difference of two runs; positive where the first is better."""

    first: str
    second: str
    num_images: int
    num_test: tuple[int, int]
    """Test images of each."""
    metrics: dict[str, float]
    sentence: str
    run_dir: Path


def compare(cfg: RegistryConfig, a: str, b: str) -> SharedTest:
    """The paired difference of two versions on the test images that both have."""
    return compare_on_shared(find_folders(cfg, a, b), (a, b), cfg.paths)


def print_compared(found: SharedTest) -> None:
    print(f"{found.sentence}\nresults: {found.run_dir}")


def compare_on_shared(
    folders: tuple[Path, Path], names: tuple[str, str], paths: PathsConfig, invocation: Invocation = UNTOLD
) -> SharedTest:
    """Measure two runs on the test images of both: of the same bytes and class, and in no other split of either.

    Raises: BadInput where they share none, or one has no list of its images.
    """
    from sightline.evaluation.evaluate import evaluate

    first, second = (_manifest(folder, name) for folder, name in zip(folders, names, strict=True))
    rows = shared_rows(first, second)
    if not len(rows):
        raise BadInput(f"{names[0]} and {names[1]}: no test image is of both; compare versions of the same data")
    cfg = EvaluateConfig(
        run=str(folders[0]), against=str(folders[1]), paths=paths, evaluation=EvaluationConfig(evaluators=EVALUATORS)
    )
    result = evaluate(cfg, invocation, rows)
    counts = first.num_images["test"], second.num_images["test"]
    sentence = _sentence(names, len(rows), result.metrics)
    return SharedTest(*names, len(rows), counts, result.metrics, sentence, result.run_dir)


def shared_rows(first: "Manifest", second: "Manifest") -> "np.ndarray":
    """Rows of the first manifest: its test images that are test images of the second, and nothing else of either."""
    import numpy as np

    others = {split: _labels(second, split) for split in ("train", "val", "test")}
    seen = {**_labels(first, "train"), **_labels(first, "val"), **others["train"], **others["val"]}
    kept = [
        row
        for row in first.select("test").rows
        if (digest := first.digests[row].tobytes()) not in seen
        and others["test"].get(digest) == first.class_names[first.labels[row]]
    ]
    return np.array(kept, dtype=np.int64)


def _labels(manifest: "Manifest", split: str) -> dict[bytes, str]:
    return {
        manifest.digests[row].tobytes(): manifest.class_names[manifest.labels[row]]
        for row in manifest.select(split).rows
    }


def _manifest(folder: Path, name: str) -> "Manifest":
    from sightline.data.manifest import Manifest

    table = folder / "manifest.csv"
    if not table.is_file():
        raise BadInput(f"{name}: has no manifest.csv, so nobody knows its test images; compare others")
    return Manifest.load(table, folder)


def _sentence(names: tuple[str, str], count: int, metrics: dict[str, float]) -> str:
    gain, low, high = (metrics[f"{AGAINST}accuracy_difference{end}"] for end in ("", "_low", "_high"))
    verdict = "is better than" if low > 0 else "is worse than" if high < 0 else "is not shown to differ from"
    interval = describe_interval(low, high, " with 95 % confidence", sign="+")
    return f"{names[0]} {verdict} {names[1]} on {count} shared test images: accuracy {gain:+.4f} {interval}"
