"""Code of one's own: where a `_target_` may come from, and the hash of what it comes from. Standard library alone."""

import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config.code_folder import check_folder, find_module, hash_code, import_from
from sightline.config.code_of_run import EXTENSIONS, KEPT, is_published, keep_code, where_kept
from sightline.config.location import locate
from sightline.errors import BadInput
from sightline.runs.content_hash import files_of

if TYPE_CHECKING:
    from sightline.runs.record import RunRecord

TRUSTED_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "pytorch_lightning",
    "torchmetrics",
    "albumentations",
    "captum",
    "sightline",
)
"""Packages that are no code of one's own."""
_MODULES_OF_CLASSES = {
    "torch": "nn optim utils.data.sampler utils.data.distributed",
    "torchvision": "models ops transforms",
    "timm": "layers loss models optim scheduler",
    "pytorch_lightning": "callbacks core loggers plugins profilers strategies",
    "torchmetrics": "aggregation classification clustering collections nominal regression wrappers",
    "albumentations": "augmentations core pytorch",
    "captum": "attr",
    "sightline": "callbacks data.batch_augmentation evaluation models",
}
TRUSTED_CLASSES = tuple(f"{name}.{part}" for name, parts in _MODULES_OF_CLASSES.items() for part in parts.split())
"""Where the classes are defined that any configuration may name, whoever wrote it.

Others of these packages open pickles, or import what their arguments name: data sets, pipes, command lines.
"""
TRUSTED_FUNCTIONS = ("torch.nn.functional", "torch.nn.init", "torch.optim", "torchvision.models")
TRUSTED_FUNCTIONS += ("timm.models._factory", "sightline.models.schedules")
"""The same for functions, methods aside: those that load and run what their arguments name are not among them."""


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

    def save(self, record: "RunRecord") -> None:
        """Write it into the record of a run, and the files of `extensions` into its folder."""
        if self.sha256:
            record.update(**{KEPT: self.describe()})
        if EXTENSIONS in self.paths:
            keep_code(Path(self.paths[EXTENSIONS]), record.folder)


def open_code(
    targets: Mapping[str, str],
    extensions: str | Path | None = None,
    *,
    known: Mapping[str, str] | None = None,
    record: Path | None = None,
    trusts: bool = False,
) -> OwnCode:
    """Make the code that `targets` (`_target_` by the key that has it) name importable, and hash it.

    `known` are the hashes that a request or a record states: what it does not state, or states otherwise, is refused
    unless the user `trusts` it. None: the user has typed the configuration, and whatever it names is his own. `record`
    is the run whose record states them: what is published for everybody is not trusted for a hash that anybody knows.

    Raises: BadInput for a folder or a package that is not there, or code that is not to be trusted.
    """
    folder = None if extensions is None else check_folder(Path(extensions).expanduser().absolute())
    held_to = None if trusts else known
    paths, digests = {}, {}
    if folder is not None:
        paths[EXTENSIONS], digests[EXTENSIONS] = str(folder), hash_code(folder)
        if held_to and held_to.get(EXTENSIONS, digests[EXTENSIONS]) != digests[EXTENSIONS]:
            _refuse_changed(f"{EXTENSIONS}={folder}", held_to[EXTENSIONS], digests[EXTENSIONS], str(folder), record)
    for key, target in targets.items():
        package = target.split(".")[0]
        if package in TRUSTED_PACKAGES:
            continue
        spec = None if folder is None else PathFinder.find_spec(package, [str(folder)])
        name = package if spec is None else EXTENSIONS
        if name not in digests:
            paths[name], digests[name] = _find_package(package, key, target, extensions)
        if held_to is not None:
            _refuse_unknown(f"{key}._target_={target}", name, held_to, digests[name], paths[name], record)
    if held_to is not None:
        _refuse_foreign(targets)
    if folder is not None:
        import_from(folder, digests[EXTENSIONS])
    return OwnCode(paths, digests)


def targets_of(node: Any, key: str = "") -> dict[str, str]:
    """Every `_target_` of plain values, by the dotted key of its node."""
    return dict(_targets(node, key))


def are_of_trusted_packages(targets: Mapping[str, str]) -> bool:
    """Whether none of them needs a folder of own code."""
    return all(target.split(".")[0] in TRUSTED_PACKAGES for target in targets.values())


def _targets(node: Any, key: str) -> Iterator[tuple[str, str]]:
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, value in children:
        if name == "_target_" and value is not None:
            yield key, str(value)
        yield from _targets(value, f"{key}.{name}" if key else str(name))


def _find_package(package: str, key: str, target: str, extensions: str | Path | None) -> tuple[str, str]:
    """Where an installed package lies, and its hash.

    Raises: BadInput when there is none of that name.
    """
    spec = find_module(package) if package.isidentifier() else None
    if spec is None:
        where = "name the folder that it is in with extensions=FOLDER" if extensions is None else f"nor in {extensions}"
        raise BadInput(f"{key}._target_={target}: there is no module {package} here; {where}, or install it")
    places = [Path(each) for each in spec.submodule_search_locations or ()] or [Path(str(spec.origin))]
    hashes = [hash_code(place) for place in places if place.exists()]
    return str(places[0]), hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _refuse_unknown(
    what: str, name: str, known: Mapping[str, str], digest: str, path: str, record: Path | None
) -> None:
    """Raises: BadInput for code that is not the one that is known, or that anybody's record could name."""
    if name in known and known[name] != digest:
        _refuse_changed(what, known[name], digest, path, record)
    if name not in known:
        raise BadInput(
            f"{what}: this configuration was not typed here, and states no hash of {path}; where you know that code, "
            "add trust_code=true"
        )
    if record is not None and name != EXTENSIONS and (name in sys.stdlib_module_names or is_published(Path(path))):
        raise BadInput(
            f"{what}: {record} names it, and {name} is installed for everybody; where you know what it does, add "
            "trust_code=true"
        )


def _refuse_changed(what: str, before: str, now: str, path: str, record: Path | None) -> None:
    changes = _name_changes(Path(path), record, before)
    raise BadInput(
        f"{what}: the code in {path} has changed since (sha256 {before[:12]}…, now {now[:12]}…{changes}); put it back"
        f"{where_kept(record)}, or take it as it is now with trust_code=true"
    )


def _name_changes(folder: Path, record: Path | None, before: str) -> str:
    """The files that differ from the copy that the run keeps, where that is what the hash was made of."""
    copy = None if record is None else record / KEPT
    if copy is None or not copy.is_dir() or not folder.is_dir() or hash_code(copy) != before:
        return ""
    was, is_now = ({name: file.read_bytes() for name, file in files_of(place)} for place in (copy, folder))
    changed = sorted(name for name in {*was, *is_now} if was.get(name) != is_now.get(name))
    return f": {', '.join(changed[:3])}{' …' if len(changed) > 3 else ''}" if changed else ""


def _refuse_foreign(targets: Mapping[str, str]) -> None:
    """Look where the objects of trusted packages are defined: `torch.os.system` begins with torch and is none of it.

    Raises: BadInput for one that is not among those that any configuration may name.
    """
    for key, target in targets.items():
        if target.split(".")[0] not in TRUSTED_PACKAGES:
            continue
        found = locate(target, key)
        home = f"{getattr(found, '__module__', '')}."
        trusted = TRUSTED_CLASSES if isinstance(found, type) else TRUSTED_FUNCTIONS
        is_method = not isinstance(found, type) and "." in getattr(found, "__qualname__", "")
        if is_method or not home.startswith(tuple(f"{each}." for each in trusted)):
            raise BadInput(
                f"{key}._target_={target}: this configuration was not typed here, and what is defined in {home[:-1]} "
                "is not among what any may name; where you know what it does, add trust_code=true"
            )
