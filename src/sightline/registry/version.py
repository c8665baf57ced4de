"""A version of a model, what a registry is, and how both are spelled. Standard library alone: services read it, too."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sightline.errors import BadInput
from sightline.runs.files import read_json

STATUSES = ("pending", "approved", "rejected")
STAGES = ("staging", "production")
VERSION_FILE, FILES_FILE = "version.json", "files.json"
REGISTRY = "registry:"
"""How a name of the registry begins where a run may be named: `registry:digits/3`."""
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
"""What file systems, S3 and addresses take; a group of SageMaker takes no underscore beside."""
OWN_KEYS = ("name", "version", "sha256", "status", "stages", "metrics", "gate", "data", "commit", "created", "history")


@dataclass(frozen=True)
class Version:
    """One version of a model; what it holds never changes, its status and its stages do."""

    name: str
    number: int
    """Versions of a name count from 1."""
    sha256: str
    """Of what computes: the weights, their description, the exported models, and the list of images."""
    status: str
    stages: tuple[str, ...]
    metrics: Mapping[str, float]
    gate: Mapping[str, Any] | None
    """What the pipeline's gate decided; None outside a pipeline."""
    data: Mapping[str, Any]
    commit: str | None
    created: str
    history: tuple[dict[str, Any], ...]
    """`{at, by, what, why}`, oldest first."""
    files_sha256: str = ""
    """Of files.json, which has the hash of every file."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else was said when it was added, like `run`, `seconds`, `cost` and `image`."""

    def spelled(self) -> str:
        return f"{self.name}/{self.number}"

    def to_dict(self) -> dict[str, Any]:
        """What version.json holds."""
        rest = {"files_sha256": self.files_sha256, "facts": dict(self.facts)}
        values = {key: getattr(self, "number" if key == "version" else key) for key in OWN_KEYS}
        return {**values, "stages": [*self.stages], "history": [*self.history], **rest}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], place: str) -> "Version":
        """Raises: BadInput that names the place for what no registry wrote."""
        try:
            known = {key: values[key] for key in OWN_KEYS if key != "version"}
            known |= {"stages": tuple(values["stages"]), "history": tuple(values["history"])}
            rest = {"files_sha256": values.get("files_sha256", ""), "facts": values.get("facts") or {}}
            version = cls(number=int(values["version"]), **{**known, **rest})
        except (KeyError, TypeError, ValueError) as error:
            raise broken(place, f"{type(error).__name__} {error}") from error
        if version.status not in STATUSES:
            raise broken(place, f"status {version.status}")
        return version


class Registry(Protocol):
    """Where versions are kept."""

    place: str

    def check_writable(self) -> None:
        """Raises: BadInput for a place that cannot be written, before anything is."""
        ...

    def names(self) -> list[str]: ...

    def versions(self, name: str) -> list[Version]:
        """All of a name, oldest first.

        Raises: BadInput for a name that there is not.
        """
        ...

    def get(self, name: str, which: str | None = None) -> Version:
        """The version of a number or a stage; None: the newest that is approved.

        Raises: BadInput where there is none, with what to type.
        """
        ...

    def add(self, package: Path, name: str, *, facts: Mapping[str, Any], by: str, status: str = "pending") -> Version:
        """Keep a package as the next version; one with the newest's `sha256` is that version, and nothing changes.

        `facts` may hold `gate`, `data`, `commit`, and anything else that JSON takes.

        Raises: BadInput for a folder that is no package, a bad name, or a place that cannot be written.
        """
        ...

    def change(self, version: Version, what: str, by: str, why: str | None) -> Version:
        """`approve`, `reject`, `stage:<stage>`, `unstage:<stage>` or `rollback:<stage>`: written into its history.

        Raises: BadInput for what may not be.
        """
        ...

    def fetch(self, version: Version) -> Path:
        """A local folder with its files, whose hashes are as recorded: the version's own where it is local."""
        ...

    def differences(self, version: Version) -> list[str]:
        """What of its files, where they are kept, is not as it was registered: a line each."""
        ...

    def remove(self, version: Version) -> None:
        """Raises: BadInput for one that is approved or staged, and for the newest: its number would come again."""
        ...


def broken(place: str, problem: str) -> BadInput:
    return BadInput(f"{place}: is not what a registry wrote ({problem}); restore it, or move the version's folder away")


def check_name(name: str) -> str:
    """Raises: BadInput for what is no name of a model."""
    if NAME.fullmatch(name):
        return name
    near = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_")[:63].strip("-_")
    hint = f", like {near}" if near else ""
    raise BadInput(
        f"{name!r}: no name of a model; take up to 63 letters from a to z, digits, - and _, which begin and end "
        f"with a letter or a digit{hint}"
    )


def split_name(text: str) -> tuple[str, str | None]:
    """Name and version of `digits`, `digits/3` or `digits/production`, with or without `registry:` before it.

    Raises: BadInput for a name, a number or a stage that cannot be.
    """
    name, slash, which = text.removeprefix(REGISTRY).partition("/")
    check_name(name)
    if not slash:
        return name, None
    if which in STAGES or re.fullmatch(r"[1-9]\d{0,8}", which):
        return name, which
    raise BadInput(f"{text}: {which!r} is no version; write {name}/3, {name}/{STAGES[1]} or {name}/{STAGES[0]}")


def read_version(folder: Path) -> Version | None:
    """The version that a folder with its files is; None for one that is none.

    Raises: BadInput where its version.json is broken.
    """
    file = folder / VERSION_FILE
    if not file.is_file():
        return None
    try:
        values = read_json(file)
    except (ValueError, UnicodeDecodeError) as error:
        raise broken(str(file), str(error)) from error
    if not isinstance(values, dict):
        raise broken(str(file), "no object")
    return Version.from_dict(values, str(file))
