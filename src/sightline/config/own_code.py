"""Code of one's own: where a `_target_` may come from, and the hash of what it comes from. Standard library alone."""

import hashlib
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sightline.config.location import locate
from sightline.errors import BadInput
from sightline.runs.content_hash import files_of
from sightline.runs.project import PROGRAMS

TRUSTED_PACKAGES = ("torch", "timm", "pytorch_lightning", "torchmetrics", "albumentations", "captum", "sightline")
"""Packages that a `_target_` may name, whoever wrote the configuration."""
EXTENSIONS = "extensions"
"""The key that names a folder of own code, and the name of that folder among packages."""
IN_CONFIGURATION = (".yaml", ".yml")
"""What such files say is in a run's configuration, not in its code."""

_imported: dict[Path, str] = {}
"""The hash of each folder as this process imports from it: a notebook lives longer than a version of its files."""


@dataclass(frozen=True)
class OwnCode:
    """The packages beyond ours that a configuration takes objects from."""

    paths: Mapping[str, str] = field(default_factory=dict)
    """Where each lies, by its name; `extensions` is the folder of that key."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """The hash of its files, by its name."""

    def describe(self) -> dict[str, dict[str, str]]:
        """For run.json: `path` and `sha256` by package."""
        return {name: {"path": self.paths[name], "sha256": digest} for name, digest in self.sha256.items()}


def open_code(
    targets: Mapping[str, str],
    extensions: str | Path | None = None,
    *,
    known: Mapping[str, str] | None = None,
    trusts: bool = False,
) -> OwnCode:
    """Make the code that `targets` (`_target_` by the key that has it) name importable, and hash it.

    `known` are the hashes that a request or a record states: what it does not state, or states otherwise, is refused
    unless the user `trusts` it. None: the user has typed the configuration, and whatever it names is his own.

    Raises: BadInput for a folder or a package that is not there, or code that is not to be trusted.
    """
    folder = None if extensions is None else _check_folder(Path(extensions).expanduser().absolute())
    paths, digests = {}, {}
    if folder is not None:
        paths[EXTENSIONS], digests[EXTENSIONS] = str(folder), hash_code(folder)
    for key, target in targets.items():
        package = target.split(".")[0]
        if package in TRUSTED_PACKAGES:
            continue
        spec = None if folder is None else PathFinder.find_spec(package, [str(folder)])
        name = package if spec is None else EXTENSIONS
        if name not in digests:
            paths[name], digests[name] = _find_package(package, key, target, extensions)
        if known is not None and not trusts:
            _refuse_unknown(key, target, name, known, digests[name], paths[name])
    if known is not None and not trusts:
        _refuse_foreign(targets)
    if folder is not None:
        _import_from(folder, digests[EXTENSIONS])
    return OwnCode(paths, digests)


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


def targets_of(node: Any, key: str = "") -> dict[str, str]:
    """Every `_target_` of plain values, by the dotted key of its node."""
    return dict(_targets(node, key))


def _targets(node: Any, key: str) -> Iterator[tuple[str, str]]:
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, value in children:
        if name == "_target_" and value is not None:
            yield key, str(value)
        yield from _targets(value, f"{key}.{name}" if key else str(name))


def _check_folder(folder: Path) -> Path:
    """Raises: BadInput for what is no folder, or has a module that would hide one that is installed."""
    if not folder.is_dir():
        what = "is a file; name its folder" if folder.exists() else "no such folder; name the one that your code is in"
        raise BadInput(f"extensions={folder}: {what}")
    for name in _modules_in(folder):
        other = _find(name)
        origin = None if other is None else other.origin
        if other is not None and not _lies_in(other, folder) and not _lies_in(other, PROGRAMS):
            raise BadInput(
                f"extensions={folder}: {name} is the name of a module that is there already ({origin}); rename yours"
            )
    return folder


def _modules_in(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        is_module = path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").is_file())
        if is_module and path.stem.isidentifier():
            yield path.stem


def _find(name: str) -> ModuleSpec | None:
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


def _find_package(package: str, key: str, target: str, extensions: str | Path | None) -> tuple[str, str]:
    """Where an installed package lies, and its hash.

    Raises: BadInput when there is none of that name.
    """
    spec = _find(package) if package.isidentifier() else None
    if spec is None:
        where = "name the folder that it is in with extensions=FOLDER" if extensions is None else f"nor in {extensions}"
        raise BadInput(f"{key}._target_={target}: there is no module {package} here; {where}, or install it")
    places = [Path(each) for each in spec.submodule_search_locations or ()] or [Path(str(spec.origin))]
    hashes = [hash_code(place) for place in places if place.exists()]
    return str(places[0]), hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _refuse_unknown(key: str, target: str, name: str, known: Mapping[str, str], digest: str, path: str) -> None:
    """Raises: BadInput for code that is not the one that is known."""
    if known.get(name) == digest:
        return
    if name in known:
        raise BadInput(
            f"{key}._target_={target}: the code in {path} has changed since (sha256 {known[name][:12]}…, now "
            f"{digest[:12]}…); put it back, or take it as it is now with trust_code=true"
        )
    raise BadInput(
        f"{key}._target_={target}: this configuration was not typed here, and may take objects from "
        f"{', '.join(TRUSTED_PACKAGES)} alone; where you know the code in {path}, add trust_code=true"
    )


def _refuse_foreign(targets: Mapping[str, str]) -> None:
    """Look where the objects of trusted packages are defined: `torch.os.system` begins with torch and is none of it.

    Raises: BadInput for one that a trusted package only passes on.
    """
    for key, target in targets.items():
        if target.split(".")[0] not in TRUSTED_PACKAGES:
            continue
        home = str(getattr(locate(target, key), "__module__", ""))
        if home.split(".")[0] not in TRUSTED_PACKAGES:
            raise BadInput(
                f"{key}._target_={target}: is defined in {home}, and not in {', '.join(TRUSTED_PACKAGES)}; where you "
                "know what it does, add trust_code=true"
            )


def _import_from(folder: Path, digest: str) -> None:
    """Let `import` find what lies in the folder, in the version that it is in now."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    if _imported.get(folder, digest) != digest:
        for name in [*_stale(folder)]:
            del sys.modules[name]
    _imported[folder] = digest
    importlib.invalidate_caches()


def _stale(folder: Path) -> Iterable[str]:
    for name, module in [*sys.modules.items()]:
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder):
            yield name
