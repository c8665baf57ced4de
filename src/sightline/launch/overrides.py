"""The overrides that a job gets where it runs, and the keys in them that are paths."""

import functools
import os
import re
from collections.abc import Iterable, Mapping
from glob import has_magic
from pathlib import Path
from typing import Any

from sightline.aws.names import ADDRESS
from sightline.errors import BadInput
from sightline.runs.files import read_json
from sightline.runs.folder import named_path, run_folder
from sightline.runs.override_text import PLAIN, in_quotes, key_of, quoted, unquoted

SUBMITTER_GROUPS = ("launch", "hydra", "hparams_search")
"""Groups that say where and how often to run: the far side must not submit again or begin a sweep of its own."""
NOT_PATHS = ("null", "auto", "none", "")
"""Values of path keys that name nothing."""
MAX_CHANNELS = 20
"""What SageMaker takes."""
INTERPOLATION = re.compile(r"(?<!\\)\$\{")
DATA_VERSIONS = "paths.data_versions"
"""A place that other machines see, too, where it is an address."""
PATHS_GROUP = "paths"
"""Chooses where this machine reads and writes; the far side has a choice of its own."""


@functools.cache
def path_keys() -> dict[str, str]:
    """Keys whose value is a path, and its kind.

    `path` becomes a channel, `run` may also name a run, `target` is written, `stays` is of this machine.
    """
    from sightline import config  # here: the entry point of a container quotes, and needs nothing else

    return config.path_keys()


def without_submitter(overrides: Iterable[str]) -> list[str]:
    """The overrides that say what to run, without those that say where and how often."""
    return [each for each in overrides if re.split(r"[./]", key_of(each), maxsplit=1)[0] not in SUBMITTER_GROUPS]


def remote_overrides(overrides: Iterable[str]) -> list[str]:
    """Overrides for the process that runs the job: without those of the submitter, with `launch=here`."""
    return [*without_submitter(overrides), "launch=here", "hydra.mode=RUN"]


def with_absolute_paths(overrides: Iterable[str], folder: Path, runs: Path | None = None) -> list[str]:
    """The same paths for a process in another folder of this machine.

    Relative ones start at `folder`; a run that is named, like `latest`, is the one below `runs` that it means now.
    """
    return [_with_absolute_path(override, folder, runs) for override in overrides]


def _with_absolute_path(override: str, folder: Path, runs: Path | None) -> str:
    key, equals, value = override.partition("=")
    kind, text = path_keys().get(key_of(override)), unquoted(value)
    kind = "path" if key_of(override).startswith("model.weights_for.") else kind
    is_list = value.startswith("[")  # of absolute paths: `with_composed_paths` has seen to that
    if kind is None or not equals or not _is_path(value) or is_list or "://" in text or text.startswith("~"):
        return override
    if kind == "run" and not Path(text).is_absolute():
        needs_model = key_of(override) != "resume"
        named = named_path(text, folder if runs is None else runs, needs_model=needs_model, folder=folder)
        return override if named is None else f"{key}={quoted(str(named))}"
    return override if Path(text).is_absolute() else f"{key}={quoted(str(folder / text))}"


def with_weights_files(overrides: Iterable[str], files: Mapping[str, str | None], folder: Path) -> list[str]:
    """The overrides with absolute paths in `model.weights_for={name: file}`, which composes to `files`."""
    texts = {
        name: "null" if file is None else quoted(str(folder / Path(file).expanduser())) for name, file in files.items()
    }
    anew = "{" + ",".join(f"{name}:{text}" for name, text in texts.items()) + "}"
    kept = []
    for override in overrides:
        key, _, value = override.partition("=")
        kept.append(f"{key}={anew}" if key_of(override) == "model.weights_for" and value.startswith("{") else override)
    return kept


def with_composed_paths(overrides: Iterable[str], composed: Mapping[str, Any], runs: Path, folder: Path) -> list[str]:
    """The overrides with every path that the composed configuration names, absolute, whoever set it.

    `composed` holds the value of each path key that the task has. A path that is not on this machine is left to the far
    side, unless an override named it.

    Raises: BadInput for what begins like an s3:// address and is none.
    """
    kinds = path_keys()
    sent = {key for key, kind in kinds.items() if kind != "stays"}
    rewritten = [each for each in overrides if key_of(each) not in sent]
    given = {key_of(each) for each in overrides} & sent
    for key, value in composed.items():
        if key not in sent or value is None or str(value) in NOT_PATHS:
            continue
        if isinstance(value, list):
            paths = [quoted(_absolute(key, each, runs, folder)) for each in value]
            rewritten.append(f"{key}=[{','.join(paths)}]")
            continue
        if str(value).lower().startswith("s3:") and not ADDRESS.fullmatch(str(value)):
            raise BadInput(f"{key}={value}: must be s3://bucket/folder, the bucket as AWS allows it")
        path = _absolute(key, str(value), runs, folder)
        if key in given or "://" in path or Path(path).exists():
            rewritten.append(f"{key}={quoted(path)}")
    name_nothing = given - {key_of(each) for each in rewritten}
    return [*rewritten, *(each for each in overrides if key_of(each) in name_nothing)]


def _absolute(key: str, value: str, runs: Path, folder: Path) -> str:
    if "://" in value:
        return value
    if path_keys()[key] == "run" and (named := named_path(value, runs, needs_model=key != "resume", folder=folder)):
        return str(named)
    return str(folder / Path(value).expanduser())


def names_several(override: str, folder: Path) -> bool:
    """Whether the value of a path key is a list, or a pattern of names."""
    _, _, value = override.partition("=")
    text = unquoted(value)
    return key_of(override) in path_keys() and (
        value.startswith("[") or (has_magic(text) and not os.path.lexists(folder / Path(text).expanduser()))
    )


def find_own_data(run: str) -> str | None:
    """Where the images of a run lie, if they are here and its folder tells; `run` is what `run=` means, absolute."""
    for folder in (Path(run), *Path(run).parents[:2]):
        root = read_json(folder / "run.json").get("data", {}).get("root") if folder.is_dir() else None
        if root is not None:
            return root if "://" in root or Path(root).exists() else None
    return None


def find_own_code(run: Path, *, trusts: bool) -> Path | None:
    """The folder of the own code of a run, if its folder tells; `run` is as of `find_own_data`.

    Raises: BadInput when it is gone, or came with the run.
    """
    from sightline.config import find_code_of_run

    folder = run_folder(run)
    return None if folder is None else find_code_of_run(folder, trusts=trusts)


def split_channels(overrides: Iterable[str], folder: Path) -> tuple[list[str], dict[str, str]]:
    """The far side's overrides, and for each channel what lies in it: an absolute path here, or an s3:// address.

    A folder becomes `key=${paths.inputs}/<channel>`, a file `key=${paths.inputs}/<channel>/<its name>`; `output` and
    `paths` stay here, but for versions of data in S3. Relative paths start at `folder`.

    Raises: BadInput for a path that is not there, or for too many.
    """
    rewritten, channels, kinds = [], {}, path_keys()
    for override in overrides:
        key, equals, value = override.partition("=")
        kind, text = kinds.get(key_of(override)), unquoted(value)
        if key_of(override) == DATA_VERSIONS and text.startswith("s3://"):
            rewritten.append(override)
            continue
        if kind == "stays" or key_of(override) == PATHS_GROUP:
            continue
        is_elsewhere = "://" in text and not text.startswith("s3://")
        if kind in (None, "target") or not equals or not _is_path(value) or is_elsewhere:
            rewritten.append(override)
            continue
        if names_several(override, folder):
            raise BadInput(
                f"{override}: a job gets one folder or one file for a key; name a folder that holds them all"
            )
        channel = key_of(override).replace(".", "_")
        channels[channel], inside = _locate(key_of(override), kind, text, folder)
        rewritten.append(f"{key}={_far_path(channel, inside)}")
    if len(channels) > MAX_CHANNELS:
        raise BadInput(f"{', '.join(channels)}: {len(channels)} paths, and a job has {MAX_CHANNELS} channels")
    return rewritten, channels


def _is_path(value: str) -> bool:
    return unquoted(value) not in NOT_PATHS and not INTERPOLATION.search(value)


def _locate(key: str, kind: str, text: str, folder: Path) -> tuple[str, str | None]:
    """What a channel holds, and the path in it of what is meant, if that is not all of it."""
    if text.startswith("s3://"):
        name = text.rstrip("/").rsplit("/", 1)[-1]
        is_file = not text.endswith("/") and "." in name and name.count("/") == 0 and text.count("/") > 2
        return text, name if is_file else None
    path = folder / Path(text).expanduser()
    if not path.exists():
        raise BadInput(f"{key}={text}: no such file or folder; name one that is here, or an s3:// address")
    path = path.resolve()
    home = next((folder for folder in path.parents[:2] if (folder / "run.json").is_file()), None)
    if kind == "run" and home is not None:  # what lies in a run's folder means little without it
        return str(home), path.relative_to(home).as_posix()
    return str(path), path.name if path.is_file() else None


def _far_path(channel: str, inside: str | None) -> str:
    path = f"${{paths.inputs}}/{channel}"
    if inside is None:
        return path
    name = inside.replace("${", "\\${")  # no interpolation: it is a name
    return f"{path}/{name}" if PLAIN.fullmatch(name) else in_quotes(f"{path}/{name}")
