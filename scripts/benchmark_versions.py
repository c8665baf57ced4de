"""What versions of data cost: create, a version with some changes, a difference and a checkout, timed as commands.

    python scripts/benchmark_versions.py [FOLDER] [--images 39209] [--changes 100]

Without a folder of images, small PPM files are drawn, as many as GTSRB has and of its sizes, in 43 classes and tracks
of 30.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
NUM_CLASSES, PER_TRACK = 43, 30


def draw(root: Path, num_images: int) -> None:
    """Frames of tracks: smooth pictures, each track with its own, each frame a little brighter."""
    random = np.random.default_rng(0)
    num_tracks = -(-num_images // PER_TRACK)
    for track in range(num_tracks):
        folder = root / "train" / f"{track % NUM_CLASSES:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 256, (6, 6, 3)).astype(np.uint8))
        for frame in range(min(PER_TRACK, num_images - track * PER_TRACK)):
            side = 30 + 2 * frame
            picture = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)
            picture = (picture + random.integers(-6, 7, picture.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / f"{track:05d}_{frame:05d}.ppm")


def change(root: Path, count: int) -> None:
    """A third of the changes each: images that are gone, of another class, and new; some of them in validation."""
    files = sorted((root / "train").rglob("*.*"))[:: max(1, 40_000 // max(1, count))]
    classes = sorted(each for each in (root / "train").iterdir())
    random = np.random.default_rng(1)
    for number in range(count):
        file = files[number % len(files)]
        if number % 3 == 0 and file.is_file():
            file.unlink()
        elif number % 3 == 1 and file.is_file():
            file.rename(classes[number % len(classes)] / f"90000_{number:05d}{file.suffix}")
        else:
            picture = random.integers(0, 256, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(picture).save(classes[number % len(classes)] / f"91{number:03d}_00000.png")


def timed(title: str, *words: str) -> None:
    command = [sys.executable, str(PROJECT / "src" / "data_versions.py"), *words]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode:
        sys.exit(done.stderr)
    said = done.stdout.strip().splitlines()
    print(f"{title:40} {seconds:7.2f} s ({processor:.2f} s of processors): {said[0] if said else ''}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--images", type=int, default=39_209)
    parser.add_argument("--changes", type=int, default=100)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sightline-versions-") as place:
        root = Path(place) / "images"
        if told.folder is None:
            draw(root, told.images)
        else:
            shutil.copytree(told.folder, root)
        where = [f"paths.{name}={place}/{name}" for name in ("cache", "runs", "data_versions")]
        images = [f"data.root={root}", r"data.group_pattern='(\d+)_\d+'", "data.test_fraction=0", *where]
        print(f"load before: {os.getloadavg()[0]:.1f}")
        timed("create", "create", "signs", *images)
        timed("create, nothing changed", "create", "signs", *images)
        change(root, told.changes)
        timed(f"create, {told.changes} changes", "create", "signs", *images, "allow_test_changes=true")
        timed("diff", "diff", "signs/1", "signs/2", *where)
        timed("diff with pictures", "diff", "signs/1", "signs/2", f"report={place}/diff.html", *where)
        timed("list", "list", *where)
        timed("checkout", "checkout", "signs/2", f"into={place}/out", *where)


if __name__ == "__main__":
    main()
