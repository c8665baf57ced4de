"""The files below a table's folder: each folder is listed once, and a name is found however a system writes it."""

import os
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from sightline.data.collection.image_files import ImageSearch, has_image_suffix, is_folder

NUM_THREADS = 8


class _Folder(NamedTuple):
    """What lies in a folder."""

    names: frozenset[str]
    alike: dict[str, str]
    """Each file by how names are compared, where no other is called alike …"""
    folders: dict[str, str]
    """… and each folder in it."""
    suffixes: dict[str, list[str]]
    """Those of the images of one name, by that name."""


class Files(ABC):
    """The files below a table's folder, here or at an address; each folder is listed once, when it is asked for."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        """How the folder itself may stand at the beginning of a path."""
        self._listed: dict[str, _Folder] = {}

    @abstractmethod
    def list_folder(self, folder: str) -> tuple[list[str], list[str]]:
        """The names of the files and of the folders in a folder, "" for the top; none where there is no such folder."""

    @abstractmethod
    def list_all(self) -> Iterable[str]:
        """Every image, as a POSIX path."""

    def find(self, paths: Sequence[str]) -> list[str | None]:
        """The file that each path names, maybe in another Unicode form or case; None where there is none."""
        parted = [path.rpartition("/")[::2] for path in paths]
        folders = {folder for folder, _ in parted}
        self._list(folders)
        real = {folder: self._real(folder) for folder in folders}
        found: list[str | None] = []
        for folder, name in parted:
            known = self._listed[real[folder]]
            file = name if name in known.names else known.alike.get(_alike(name))
            found.append(file and (f"{real[folder]}/{file}" if folder else file))
        return found

    def suffixes(self, path: str) -> list[str]:
        """What must be added to a path so that it names an image."""
        folder, _, name = path.rpartition("/")
        return self._listed[self._real(folder)].suffixes.get(name, [])

    def names_in(self, folder: str) -> Iterable[str]:
        return self._listed[self._real(folder)].names

    def places(self, path: str) -> list[tuple[str, str]]:
        """Each folder below which a path names an image, and the suffix that it lacks there, mostly none."""
        above, _, name = path.rpartition("/")
        places = self._by_name.get(name, [])
        if not above:
            return places
        return [(folder[: -len(above) - 1], suffix) for folder, suffix in places if folder.endswith(f"/{above}")]

    @cached_property
    def _by_name(self) -> dict[str, list[tuple[str, str]]]:
        """The folder of each image by its name, and by its name without the suffix, which is then told."""
        found: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for file in self.list_all():
            folder, _, name = file.rpartition("/")
            stem, suffix = os.path.splitext(name)  # noqa: PTH122
            found[name].append((folder, ""))
            if suffix:
                found[stem].append((folder, suffix))
        return found

    def _list(self, folders: Iterable[str]) -> None:
        wanted = [folder for folder in folders if folder not in self._listed]
        if not wanted:
            return
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            for folder, (names, inner) in zip(wanted, pool.map(self.list_folder, wanted), strict=True):
                stems: dict[str, list[str]] = defaultdict(list)
                for name in names:
                    stem, suffix = os.path.splitext(name)  # noqa: PTH122
                    if has_image_suffix(name):
                        stems[stem].append(suffix)
                self._listed[folder] = _Folder(frozenset(names), _by_likeness(names), _by_likeness(inner), stems)

    def _real(self, folder: str) -> str:
        """The folder as it is called, which may have another Unicode form, or another case."""
        self._list([folder])
        here = self._listed[folder]
        if not folder or here.names or here.folders:
            return folder
        above, _, name = folder.rpartition("/")
        real = self._real(above)
        found = self._listed[real].folders.get(_alike(name))
        if found is None:
            return folder
        path = f"{real}/{found}" if real else found
        self._list([path])
        return path


def _by_likeness(names: Sequence[str]) -> dict[str, str]:
    """Names by how they are compared, where no other is called alike."""
    alike = [_alike(name) for name in names]
    counts = Counter(alike)
    return {key: name for key, name in zip(alike, names, strict=True) if counts[key] == 1}


def _alike(name: str) -> str:
    """Systems differ in whether they tell names apart by their Unicode form and their case."""
    return unicodedata.normalize("NFC", name).lower()


class LocalFiles(Files):
    """The files below a folder of this disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.as_posix(), folder.resolve().as_posix(), folder.absolute().as_uri())
        self.folder = folder

    def list_folder(self, folder: str) -> tuple[list[str], list[str]]:
        names: tuple[list[str], list[str]] = ([], [])
        try:
            with os.scandir(self.folder / folder) as entries:
                for entry in entries:
                    if is_folder(entry):
                        names[1].append(entry.name)
                    elif os.path.isfile(entry.path):  # noqa: PTH113
                        names[0].append(entry.name)
        except (OSError, ValueError):  # no such folder, or no name of any
            pass
        return names

    def list_all(self) -> Iterable[str]:
        return ImageSearch().find(self.folder)


class NamedFiles(Files):
    """Files that are known by their paths alone: they are still to come."""

    def __init__(self, paths: Sequence[str], address: str) -> None:
        super().__init__(address)
        self.paths = paths
        self._names: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            folder, _, name = path.rpartition("/")
            self._names[folder].append(name)

    def list_folder(self, folder: str) -> tuple[list[str], list[str]]:
        return self._names.get(folder, []), []

    def list_all(self) -> Iterable[str]:
        return self.paths
