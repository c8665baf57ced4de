"""Image files by class, the form in which every layout is listed, and the search for them."""

import functools
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

from sightline.config import PARQUET_SUFFIX
from sightline.errors import BadInput
from sightline.runs.guesses import Guess

log = logging.getLogger(__name__)

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""The usual words for each split, in lower case."""
COMMON_SUFFIXES = frozenset(
    ".jpg .jpeg .png .bmp .gif .webp .tif .tiff .ppm .pgm .pbm .pnm .jp2 .npy".split(),
)
"""Suffixes of images that Pillow need not be asked about, or does not know."""
NO_PICTURES = frozenset(("BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "PALM", "PDF", "WMF"))
"""Pillow's formats that are no still pictures of pixels, or that it names and cannot decode by itself."""
SIGNATURE_BYTES = 16
ARRAY_SIGNATURE = b"\x93NUMPY"
PNM_HEADER = re.compile(rb"P[1-6]\s+[\d#]")
SYSTEM_NAMES = {
    "__macosx",
    "desktop.ini",
    "thumbs.db",
    "ehthumbs.db",
    "icon\r",
    "temporary items",
    "network trash folder",
}
SYSTEM_NAMES |= {"@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "recycler", "lost+found"}
SYSTEM_NAMES |= {"system volume information"}
"""Folders and files of operating systems and network disks, in lower case; so are names that begin with a dot."""
MAX_NAMED = 5


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
    layout: str = "table"  # splits, classes, classes_splits, names, a published data set, or a table
    guesses: tuple[Guess, ...] = ()
    passed_over: dict[str, int] = field(default_factory=dict)  # by suffix: files of class folders that are no images
    unlabelled: list[str] = field(default_factory=list)  # POSIX paths of test images whose class nobody tells, sorted
    notes: tuple[str, ...] = ()  # what else a reader should know: a line each


TABLE_KEYS = ("columns", "table_paths", "table_format")
"""The sections of the data group that say how a table is read."""


@dataclass(frozen=True)
class LayoutRule:
    """What is told about how pictures lie; the rest is found out."""

    origin: str = ""  # where to get them, for the error where there are none
    class_pattern: str | None = None  # regular expression: its bracket holds the class in a class folder's name
    name_pattern: str | None = None  # the same in a file's name; folders tell the split alone then
    layout: str = "auto"  # of LAYOUTS in config/schema/data.py
    tables: Sequence[str] = ()  # of a folder of images
    columns: Mapping[str, Any] = field(default_factory=dict)  # of a table: path, label, split and group, if told
    table_paths: Mapping[str, Any] = field(default_factory=dict)  # remove, folder and suffix, if told
    table_format: Mapping[str, Any] = field(default_factory=dict)  # encoding, delimiter and header, if told

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "LayoutRule":
        """What the settings of a data set tell; null tells nothing."""
        told: dict[str, Any] = {each.name: settings[each.name] for each in fields(cls) if each.name in settings}
        for name in TABLE_KEYS:
            told[name] = parts_told(told.get(name, {}))
        return cls(**told)


def parts_told(section: Any) -> dict[str, Any]:
    """The keys of a section of the configuration, or of a saved one, that are not null."""
    parts = section if isinstance(section, dict) else vars(section)
    return {name: value for name, value in parts.items() if value is not None}


FOUND_OUT = LayoutRule()
"""Nothing is told: all of it is found out."""


class _Link(NamedTuple):
    path: str
    parent: str  # the real folder that it lies in
    is_folder: bool


class ImageSearch:
    """Searches folders for images, each file once, and keeps count of what it passes over.

    Links are followed, but for those that lead up, or to what was found already.
    """

    def __init__(self) -> None:
        self.passed_over: Counter[str] = Counter()
        """Number of files that are no images, by suffix."""
        self.links: dict[str, str] = {}
        """Links that were not followed, and where they lead."""
        self.broken: dict[str, str] = {}
        """Links that lead to nothing, and what they say."""

    def find(self, folder: Path) -> Iterator[str]:
        """POSIX paths below a folder: its images, sorted, then those of its subfolders, and what is linked last."""
        start = len(f"{folder}/")
        return (path[start:] for path in self._find(str(folder)))

    def notes(self, root: Path) -> tuple[str, ...]:
        """A line for what was passed over, and one each for links not followed and broken, named below a root."""
        lines = []
        if self.passed_over:
            total = self.passed_over.total()
            are = "files that are no images" if total > 1 else "file that is no image"
            lines.append(f"passed over {total} {are}: {self.by_suffix()}")
        if self.links:
            lines.append(f"not followed, as they lead up or to what is found already: {_named(self.links, root)}")
        if self.broken:
            lines.append(f"links that lead to nothing: {_named(self.broken, root)}")
        return tuple(lines)

    def by_suffix(self) -> str:
        """What was passed over: `12 .dcm, 1 without a suffix`."""
        counts = sorted(self.passed_over.items(), key=lambda item: (-item[1], not item[0], item[0]))
        return ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in counts)

    def _find(self, top: str) -> Iterator[str]:
        links: list[_Link] = []
        visited: set[str] = set()
        linked: set[str] = set()
        yield from self._walk(top, os.path.realpath(top), visited, links)
        for link in links:  # which grow while folders are followed
            target = os.path.realpath(link.path)
            if link.is_folder and target not in visited and not leads_up(target, link.parent):
                yield from self._walk(link.path, target, visited, links)
            elif link.is_folder or target in linked or _is_found(target, visited):
                self.links[link.path] = target
            else:
                linked.add(target)
                yield link.path

    def _walk(self, path: str, real: str, visited: set[str], links: "list[_Link]") -> Iterator[str]:
        """Images of a folder and its subfolders; links are put by."""
        if real in visited:
            return
        visited.add(real)
        images, folders, linked = [], [], []
        for entry in scan(path):
            if entry.is_symlink():
                if not self.leads_somewhere(entry):
                    continue
                if (leads_to_folder := is_folder(entry)) or self._takes(entry):
                    linked.append(_Link(entry.path, real, leads_to_folder))
            elif entry.is_dir():
                folders.append(entry.name)
            elif self._takes(entry):
                images.append(entry.path)
        yield from sorted(images)
        links += sorted(linked)
        for name in sorted(folders):
            yield from self._walk(f"{path}/{name}", f"{real}/{name}", visited, links)

    def leads_somewhere(self, link: os.DirEntry[str]) -> bool:
        """Whether there is something where a link leads; one that is broken is kept in mind."""
        if not (is_whole := os.path.exists(link.path)):  # noqa: PTH110
            self.broken[link.path] = os.readlink(link.path)  # noqa: PTH115
        return is_whole

    def _takes(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry is an image; what is none is counted."""
        is_regular = entry.is_file()
        if is_regular and is_image(entry.name, entry.path):
            return True
        self.passed_over[_suffix(entry.name) if is_regular else "(pipe or device)"] += 1
        return False


def _named(links: Mapping[str, str], root: Path) -> str:
    """Some of the links, by their paths below a root, and where they lead."""
    names = [f"{os.path.relpath(link, root)} → {target}" for link, target in links.items()]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more}"


def _is_found(target: str, visited: set[str]) -> bool:
    """Whether an image is found by itself, in one of the folders that were searched."""
    folder, name = os.path.split(target)
    return folder in visited and not is_hidden(name) and is_image(name, target)


def scan(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder, in no order; what is hidden is left out.

    Raises: BadInput when it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not is_hidden(entry.name))
    except OSError as error:
        raise BadInput(f"{folder}: cannot be read ({error.strerror}); make it readable, or move it away") from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link that leads to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def leads_up(target: str, folder: str) -> bool:
    """Whether a link that lies in a folder, both as real paths, leads to it or to one above."""
    return f"{folder}/".startswith(f"{target.rstrip('/')}/")


def find_files(folder: Path) -> list[Path]:
    """Image files below a folder, those of each folder sorted and before its subfolders.

    Links are followed and each file is named once. A line says what was passed over.
    """
    search = ImageSearch()
    found = [folder / name for name in search.find(folder)]
    for line in search.notes(folder):
        log.info("%s: %s", folder, line)
    return found


def find_named(images: str | Sequence[str]) -> tuple[list[Path], Path]:
    """The pictures that the key `images` names, each once, and the folder that all of them lie below.

    A folder is searched through, a file is taken as it is, and a pattern like `new/*.png` stands for what it matches;
    a list may hold any of them.

    Raises: BadInput for what is not there, or a folder without images.
    """
    files, folders = dict[Path, None](), []
    for given in [images] if isinstance(images, str) else images:
        path = Path(given).expanduser().absolute()
        if path.name.lower().endswith(PARQUET_SUFFIX):
            raise BadInput(
                f"images={given}: is a parquet file, and images are files or folders; write its images into files, or "
                f"measure them, where it tells their classes, with evaluate.py and data.root={given}"
            )
        matches = [path] if os.path.lexists(path) else [*map(Path, sorted(glob(str(path), recursive=True)))]  # noqa: PTH207
        if not matches:
            raise BadInput(f"images={given}: no such file or folder")
        if odd := [each for each in matches if each.exists() and not (each.is_file() or each.is_dir())]:
            raise BadInput(f"images={given}: {odd[0]} is a pipe or a device; name an image or a folder")
        found = [file for each in matches for file in (find_files(each) if each.is_dir() else [each])]
        if not found:
            raise BadInput(f"images={given}: no images found in this folder")
        files |= dict.fromkeys(found)
        folders += [each if each.is_dir() else each.parent for each in matches]
    return list(files), Path(os.path.commonpath(folders))


def split_of(name: str) -> str | None:
    """The split that a word names by itself, in any case."""
    word = name.strip().lower()
    return next((split for split, words in SPLIT_FOLDERS.items() if word in words), None)


def split_in(name: str) -> str | None:
    """The split that one of a name's words names: test for `testLabels` and `test-00000-of-00003`."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return next((split for word in words if (split := split_of(word)) is not None), None)


def is_hidden(name: str) -> bool:
    """Whether a name is of no interest to people: of a system, a network disk or a program."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_image(name: str, path: str) -> bool:
    """Whether a name has the suffix of an image; without a suffix the file's first bytes decide."""
    return has_image_suffix(name) if _suffix(name) else _has_signature(path)


def has_image_suffix(name: str) -> bool:
    suffix = _suffix(name)
    return suffix in COMMON_SUFFIXES or (suffix != "" and suffix in image_suffixes())


def _suffix(name: str) -> str:
    """In lower case; behind a point a number (`image.001`) or more than one word (`Dr. Smith`) is none."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (for every file)
    return suffix if suffix[1:].isalnum() and not suffix[1:].isdigit() else ""


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The suffixes of all still pictures that Pillow opens, and of NumPy's arrays."""
    from PIL import Image

    registered = Image.registered_extensions().items()
    return COMMON_SUFFIXES | {suffix for suffix, name in registered if name not in NO_PICTURES}


def _has_signature(path: str) -> bool:
    """Whether a file begins like an array or one of Pillow's formats, and not like a text that happens to."""
    if not os.path.isfile(path):  # noqa: PTH113 (a pipe would wait for somebody to write into it)
        return False
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return format_of(file.read(SIGNATURE_BYTES)) is not None
    except OSError:
        return False


def format_of(prefix: bytes) -> str | None:
    """Pillow's name of the format that a file's first bytes belong to."""
    from PIL import Image

    is_text = prefix.isascii() and b"\0" not in prefix
    if len(prefix) < SIGNATURE_BYTES or (is_text and not PNM_HEADER.match(prefix)):
        return None
    if prefix.startswith(ARRAY_SIGNATURE):
        return "NPY"
    Image.init()
    accepts = ((name, Image.OPEN[name][1]) for name in Image.ID if name not in NO_PICTURES)
    return next((name for name, accept in accepts if accept is not None and accept(prefix) is True), None)
