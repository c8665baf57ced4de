"""Paths of this machine as channels of a job: what is named here is mounted or uploaded, and named anew over there."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sightline.errors import BadInput
from sightline.launch.job import PATHS_ON_DISK, key_of
from sightline.runs.files import read_json

STAYS_HERE = ("output", "paths", "paths.data", "paths.cache", "paths.runs", "paths.inputs")
"""Where this machine reads and writes; the far side has places of its own."""
PATH_KEYS = tuple(key for key in PATHS_ON_DISK if key not in STAYS_HERE)
"""Keys whose value becomes a channel."""
NOT_PATHS = ("null", "auto", "none", "")
"""Values of such keys that name nothing."""
RUN_KEYS = ("run", "against", "resume", "model.teacher")
"""Keys whose value may also be a path below the folder of runs."""
MAX_CHANNELS = 20
"""What SageMaker takes."""
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
ADDRESS = re.compile(rf"s3://{BUCKET.pattern}/.+")
PLAIN = re.compile(r"[\w./@-]+", re.ASCII)


def resolve_paths(overrides: Iterable[str], composed: Mapping[str, Any], runs: Path, folder: Path) -> list[str]:
    """The overrides with every place that the composed configuration names, absolute, whoever set it.

    `composed` holds the value of each key of `PATH_KEYS` that the task has. A place that is not on this machine is left
    to the far side, unless an override named it.

    Raises: BadInput for what begins like an s3:// address and is none.
    """
    words = [word for word in overrides if key_of(word) not in PATH_KEYS]
    given = {key_of(word) for word in overrides} & set(PATH_KEYS)
    for key, value in composed.items():
        if key not in PATH_KEYS or value is None or str(value) in NOT_PATHS:
            continue
        if str(value).lower().startswith("s3:") and not ADDRESS.fullmatch(str(value)):
            raise BadInput(f"{key}={value}: must be s3://bucket/folder, the bucket as AWS allows it")
        place = _absolute(key, str(value), runs, folder)
        if key in given or "://" in place or Path(place).exists():
            words.append(f"{key}={quoted(place)}")
    named_nothing = [word for word in overrides if key_of(word) in given - {key_of(each) for each in words}]
    return [*words, *named_nothing]


def find_own_data(run: str) -> str | None:
    """Where the images of a run lie, if they are here and its folder tells; `run` is what `run=` means, absolute."""
    for folder in (Path(run), *Path(run).parents[:2]):
        root = read_json(folder / "run.json").get("data", {}).get("root") if folder.is_dir() else None
        if root is not None:
            return root if "://" in root or Path(root).exists() else None
    return None


def split_channels(overrides: Iterable[str], folder: Path) -> tuple[list[str], dict[str, str]]:
    """The far side's overrides, and for each channel what lies in it: an absolute path here, or an s3:// address.

    A folder becomes `key=${paths.inputs}/<channel>`, a file `key=${paths.inputs}/<channel>/<its name>`; `output` and
    `paths` stay here. Relative paths start at `folder`.

    Raises: BadInput for a place that is not there, or for too many.
    """
    rewritten, channels = [], {}
    for word in overrides:
        key, equals, value = word.partition("=")
        place = unquoted(value)
        if key_of(word) in STAYS_HERE:
            continue
        if key_of(word) not in PATH_KEYS or not equals or not _is_place(place):
            rewritten.append(word)
            continue
        channel = key_of(word).replace(".", "_")
        channels[channel], inside = _locate(key_of(word), place, folder)
        rewritten.append(f"{key}={_far_place(channel, inside)}")
    if len(channels) > MAX_CHANNELS:
        raise BadInput(f"{', '.join(channels)}: {len(channels)} places, and a job has {MAX_CHANNELS} channels")
    return rewritten, channels


def _is_place(value: str) -> bool:
    is_elsewhere = "://" in value and not value.startswith("s3://")
    return value not in NOT_PATHS and not value.startswith("${") and not is_elsewhere


def _locate(key: str, place: str, folder: Path) -> tuple[str, str | None]:
    """What a channel holds, and the path in it of what is meant, if that is not all of it."""
    if place.startswith("s3://"):
        name = place.rstrip("/").rsplit("/", 1)[-1]
        is_file = not place.endswith("/") and "." in name and name.count("/") == 0 and place.count("/") > 2
        return place, name if is_file else None
    path = folder / Path(place).expanduser()
    if not path.exists():
        raise BadInput(f"{key}={place}: no such file or folder; name one that is here, or an s3:// address")
    path = path.resolve()
    home = next((folder for folder in path.parents[:2] if (folder / "run.json").is_file()), None)
    if key in RUN_KEYS and home is not None:  # what lies in a run's folder means little without it
        return str(home), path.relative_to(home).as_posix()
    return str(path), path.name if path.is_file() else None


def _far_place(channel: str, inside: str | None) -> str:
    place = f"${{paths.inputs}}/{channel}"
    if inside is None:
        return place
    name = inside.replace("${", "\\${")  # no interpolation: it is a name
    return f"{place}/{name}" if PLAIN.fullmatch(name) else _in_quotes(f"{place}/{name}")


def _absolute(key: str, value: str, runs: Path, folder: Path) -> str:
    if "://" in value:
        return value
    path = folder / Path(value).expanduser()
    if key in RUN_KEYS and not path.exists():
        path = runs / value
    return str(path)


def quoted(text: str) -> str:
    """A text as an override's value that Hydra reads as just this text."""
    return text if PLAIN.fullmatch(text) else _in_quotes(text.replace("${", "\\${"))


def _in_quotes(text: str) -> str:
    """In single quotes; backslashes are doubled where Hydra takes one off, before a quote."""
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{escaped[len(escaped) - trailing :]}'"


def unquoted(value: str) -> str:
    """The text that Hydra reads in an override's value."""
    quote = value[:1]
    if len(value) >= 2 and quote in "'\"" and value.endswith(quote):
        inner = re.sub(rf"(\\+)({quote}|$)", lambda found: found[1][: len(found[1]) // 2] + found[2], value[1:-1])
        return inner.replace("\\${", "${")
    return re.sub(r"\\([\\()\[\]{}:=, \t])", r"\1", value)
