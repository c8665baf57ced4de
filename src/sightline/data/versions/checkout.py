"""A version as a folder: checked out, found again, and opened as it is."""

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sightline.config import with_value
from sightline.data.manifest import Manifest
from sightline.data.versions.store import DataVersion, Versions, open_versions
from sightline.errors import BadInput
from sightline.runs.files import read_json, write_json

log = logging.getLogger(__name__)
MARK = "data_version.json"
"""The file in a checked-out folder that says which version it is: `name`, `version` and `sha256`."""
TABLE = "manifest.csv"
Task = TypeVar("Task")


def checkout(versions: Versions, version: DataVersion, folder: Path, *, link: bool = False) -> bool:
    """Make a folder of a version, whole or not at all; False where it is that version already.

    It holds the images, `manifest.csv` (byte for byte the version's table) and `data_version.json`.

    Raises: BadInput for a folder that holds something else, or an image that is gone or damaged.
    """
    if (held := read_checkout(folder)) is not None and held["sha256"] == version.sha256:
        check_files(open_checkout(folder), held)
        return False
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"into={folder}: is not empty; name a new folder")
    hidden = folder.with_name(f".{folder.name}.{version.sha256[:12]}.partial")
    try:
        hidden.mkdir(parents=True, exist_ok=True)  # what a killed one has left there is written over
    except OSError as error:
        raise BadInput(f"into={folder}: cannot be made ({error.strerror}); name another folder") from error
    versions.checkout(version, hidden, link=link)
    shutil.copyfile(version.table, hidden / TABLE)
    write_json(hidden / MARK, version.named())
    hidden.replace(folder)
    return True


def cached_checkout(versions: Versions, version: DataVersion) -> Path:
    """The folder of a version below the cache, made once; other processes wait."""
    from filelock import FileLock

    name = f"{version.name}-{version.number}-{version.sha256[:12]}"
    folder = versions.cache / "data_versions" / name
    if (folder / MARK).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{name}.lock")):
        if not (folder / MARK).is_file():
            checkout(versions, version, folder)
            log.info("%s: %s images checked out to %s", version.spelled(), f"{len(version.manifest):,}", folder)
    return folder


def read_checkout(folder: Path) -> dict[str, Any] | None:
    """Which version a folder holds, as `data_version.json` says; None where it has no such file.

    Raises: BadInput for a file of that name that says something else.
    """
    if not (folder / MARK).is_file():
        return None
    try:
        held = read_json(folder / MARK)
        return {"name": str(held["name"]), "version": int(held["version"]), "sha256": str(held["sha256"])}
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder / MARK}: does not name a version; remove it, or check the version out anew") from error


def open_checkout(folder: Path) -> Manifest:
    """The manifest of a checked-out version: its table says what is in it, whatever the folders are called.

    Raises: BadInput where the table is not the version's.
    """
    held = read_checkout(folder)
    assert held is not None
    if not (folder / TABLE).is_file():
        raise BadInput(f"{folder / TABLE}: is gone; {_mend(folder, held)}")
    manifest = Manifest.load(folder / TABLE, folder)
    if manifest.sha256 != held["sha256"]:
        raise BadInput(
            f"{folder / TABLE}: is not the table of {held['name']}/{held['version']} (the split or a label was "
            f"changed); {_mend(folder, held)}"
        )
    return manifest


def check_files(manifest: Manifest, held: Mapping[str, Any], digests: np.ndarray | None = None) -> None:
    """Hold the files of a checkout to its table; `digests` are theirs, where they are known.

    Raises: BadInput with the first that has changed.
    """
    if digests is None:
        paths = [manifest.file(row) for row in range(len(manifest))]
        gone = next((path for path in paths if not path.is_file()), None)
        if gone is not None:
            raise BadInput(f"{gone}: is gone; {_mend(manifest.root, held)}")
        digests = Manifest(
            manifest.root, manifest.class_names, manifest.paths, manifest.labels, manifest.splits
        ).digests
    wrong = np.flatnonzero((digests != manifest.digests).any(axis=1))
    if len(wrong):
        more = f" (and {len(wrong) - 1} other files)" if len(wrong) > 1 else ""
        raise BadInput(
            f"{manifest.file(wrong[0])}: is not the image of {held['name']}/{held['version']}{more}; "
            f"{_mend(manifest.root, held)}"
        )


def _mend(folder: Path, held: Mapping[str, Any]) -> str:
    return (
        f"check {held['name']}/{held['version']} out anew into another folder, or remove {MARK} to use {folder} as a "
        "folder like any other"
    )


def with_data_version(cfg: Task) -> Task:
    """A task's configuration whose `data.root` holds the version that `data.version` names, and that names its number.

    Nothing is done where it names none, or `data.root` is that version's folder already, as for a job it came with.

    Raises: BadInput when there is no such version, or it cannot be checked out.
    """
    data, paths = cfg.data, cfg.paths  # pyright: ignore[reportAttributeAccessIssue]
    if data.version is None or is_checkout(data.root, data.version):
        return cfg
    versions = open_versions(paths.data_versions, Path(paths.cache))
    version = versions.find(data.version)
    cfg = with_value(cfg, "data.version", version.spelled())
    return with_value(cfg, "data.root", os.fspath(cached_checkout(versions, version)))


def is_checkout(root: str | None, spelled: str) -> bool:
    """Whether a root is the folder of the version `NAME/3`."""
    held = None if root is None else read_checkout(Path(root))
    return held is not None and spelled == f"{held['name']}/{held['version']}"
