"""Image files by class: the form in which every layout is listed."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sightline.runs.guesses import Guess

SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2")
)


@dataclass(frozen=True)
class ClassFiles:
    """Images of one class, one split and one folder."""

    split: str  # train, val or test
    label: str  # the class as people call it
    folder: str  # POSIX path below the root that the names are relative to; "" for the root itself
    names: list[str]  # POSIX paths below the folder, sorted
    groups: list[str] | None = None  # the group of each name, where the layout states them


@dataclass(frozen=True)
class Listing:
    """What was found at a data root, and how it was understood."""

    root: Path  # the folder that all paths are relative to
    files: list[ClassFiles]
    guesses: tuple[Guess, ...] = ()
    passed_over: dict[str, int] = field(default_factory=dict)  # by suffix: files of class folders that are no images
    unlabelled: list[str] = field(default_factory=list)  # POSIX paths of test images whose class nobody tells, sorted


@dataclass(frozen=True)
class LayoutRule:
    """What is told about how pictures lie; the rest is found out."""

    origin: str = ""  # where to get them, for the error where there are none
    class_pattern: str | None = None  # regular expression: its bracket holds the class in a class folder's name


FOUND_OUT = LayoutRule()
"""Nothing is told: all of it is found out."""


def find_files(folder: Path) -> Iterator[Path]:
    """Image files below a folder, sorted, links followed, hidden ones left out."""
    for directory, subdirectories, names in os.walk(folder, followlinks=True):
        subdirectories[:] = sorted(name for name in subdirectories if not is_hidden(name))
        for name in sorted(names):
            if not is_hidden(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122 (hot loop)
                yield Path(directory, name)


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
