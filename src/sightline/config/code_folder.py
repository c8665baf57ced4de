"""A folder of code of one's own: its hash, and how `import` finds what lies in it. Standard library alone."""

import hashlib
import importlib
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sightline.errors import BadInput
from sightline.runs.content_hash import files_of
from sightline.runs.project import PROGRAMS

IN_CONFIGURATION = (".yaml", ".yml")
"""What such files say is in a run's configuration, not in its code."""

_imported: dict[Path, str] = {}
"""The hash of each folder as this process imports from it: a notebook lives longer than a version of its files."""


def hash_code(path: Path) -> str:
    """sha256 over the names and bytes of the files of a folder, or of one file.

    Hidden files, compiled ones and configurations do not count.
    """
    total = hashlib.sha256()
    for name, file in files_of(path):
        if file.suffix not in IN_CONFIGURATION:
            total.update(
                f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode("utf-8", "surrogateescape")
            )
    return total.hexdigest()


def check_folder(folder: Path) -> Path:
    """Raises: BadInput for what is no folder, or has a module that would hide one that is installed."""
    if not folder.is_dir():
        what = "is a file; name its folder" if folder.exists() else "no such folder; name the one that your code is in"
        raise BadInput(f"extensions={folder}: {what}")
    for name in _modules_in(folder):
        other = find_module(name)
        if other is None or (other.origin and Path(other.origin).parent == PROGRAMS):
            continue
        if not any(_lies_in(other, each) for each in (folder, *_imported)):
            raise BadInput(
                f"extensions={folder}: {name} is the name of a module that is there already "
                f"({other.origin or 'a folder of Python'}); rename yours"
            )
    return folder


def _modules_in(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        is_module = path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").is_file())
        if is_module and path.stem.isidentifier():
            yield path.stem


def find_module(name: str) -> ModuleSpec | None:
    """Where a module that is not ours would be imported from; nothing is run."""
    if name in sys.stdlib_module_names:
        return find_spec(name)
    loaded = sys.modules.pop(name, None)  # without a spec, or a version of before
    try:
        return find_spec(name)
    except (ImportError, ValueError):
        return None
    finally:
        if loaded is not None:
            sys.modules[name] = loaded


def _lies_in(spec: ModuleSpec, folder: Path) -> bool:
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])]
    return any(Path(place).is_relative_to(folder) for place in places)


class _Source(SourceFileLoader):
    """Compiles the file that is hashed, and not what an earlier version, or somebody else, left in `__pycache__`."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _finder(path: str) -> FileFinder:
    """An entry of `sys.path_hooks`. Raises: ImportError for folders that are not ours to look into."""
    if not any(Path(path).is_relative_to(folder) for folder in _imported):
        raise ImportError(path)
    return FileFinder(path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Source, SOURCE_SUFFIXES))


def import_from(folder: Path, digest: str) -> None:
    """Let `import` find what lies in the folder, in the version that it is in now, before what others have."""
    if _finder not in sys.path_hooks:
        sys.path_hooks.insert(0, _finder)
    for name in [*_stale(folder, is_changed=_imported.get(folder, digest) != digest)]:
        del sys.modules[name]
    if folder not in _imported:
        for path in [each for each in sys.path_importer_cache if Path(each).is_relative_to(folder)]:
            del sys.path_importer_cache[path]
    _imported[folder] = digest
    sys.path[:] = [str(folder), *(each for each in sys.path if each != str(folder))]
    importlib.invalidate_caches()


def _stale(folder: Path, *, is_changed: bool) -> Iterable[str]:
    """Loaded modules that an import must find anew: of an earlier version, or of another folder with the same names."""
    names = {*_modules_in(folder)}
    for name, module in [*sys.modules.items()]:
        file = getattr(module, "__file__", None)
        if file is None or name == "__main__":
            continue
        is_here = Path(file).is_relative_to(folder)
        is_of_another = name.split(".")[0] in names and any(Path(file).is_relative_to(each) for each in _imported)
        if (is_here and is_changed) or (is_of_another and not is_here):
            yield name
