"""The code of one's own that a run was made with: where its record says it lies, and the copy that the run keeps."""

import logging
import re
import shutil
from pathlib import Path

from sightline.config.code_folder import hash_code
from sightline.errors import BadInput
from sightline.runs.content_hash import files_of
from sightline.runs.files import read_json
from sightline.runs.override_text import typed
from sightline.runs.project import PROGRAMS

log = logging.getLogger(__name__)
EXTENSIONS = "extensions"
"""The key that names a folder of own code, and the name of that folder among packages."""
KEPT = "code"
"""In run.json, what own code a run has; and the folder of the run with a copy of the files of `extensions`."""
MAX_KEPT_BYTES = 20_000_000


def keep_code(folder: Path, run: Path) -> None:
    """Copy the files of `extensions` into a run's folder: an edit does not take away what the run was made of."""
    copy = run / KEPT
    if copy.is_dir() and (copy.samefile(folder) or hash_code(copy) == hash_code(folder)):
        return
    files = list(files_of(folder))
    size = sum(file.stat().st_size for _, file in files)
    shutil.rmtree(copy, ignore_errors=True)
    if size > MAX_KEPT_BYTES:
        limit = MAX_KEPT_BYTES / 1e6
        log.info("extensions=%s: the run keeps no copy of it (%.0f MB, of at most %.0f)", folder, size / 1e6, limit)
        return
    for name, file in files:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy / name)


def find_code_of_run(run: Path, *, trusts: bool = False) -> Path | None:
    """The folder of own code that the record of a run names, where it need not be named again; None without any.

    Raises: BadInput when it is gone, or came with the run.
    """
    recorded = read_json(run / "run.json").get(KEPT, {}).get(EXTENSIONS, {}).get("path")
    if recorded is None:
        return None
    place = Path(recorded)
    if trusts and not place.is_dir() and (run / KEPT).is_dir():
        return run / KEPT
    check_place(place, run, trusts=trusts)
    return place


def check_place(place: Path, run: Path, *, trusts: bool = False) -> None:
    """Look whether a folder that only the record of a run names is here, and is the user's own.

    Raises: BadInput when it is not.
    """
    if not place.is_absolute() or not place.is_dir():
        raise BadInput(
            f"{run}: its own code was in {place}, and is not there; name its folder with extensions=FOLDER"
            f"{where_kept(run)}"
        )
    came_along = place.resolve().is_relative_to(run.resolve())
    of_another = any((folder / "run.json").is_file() for folder in place.resolve().parents)
    if (came_along or of_another or is_published(place)) and not trusts:
        whose = "came with it" if came_along else f"is in {place}, which is no folder of your own"
        raise BadInput(f"{run}: its own code {whose}; where you trust it, add {typed(EXTENSIONS, str(place))}")


def where_kept(run: Path | None) -> str:
    return "" if run is None or not (run / KEPT).is_dir() else f" (its copy: {typed(EXTENSIONS, str(run / KEPT))})"


def is_published(path: Path) -> bool:
    """Whether a file is Python's own, ours or of an installed distribution: anybody knows its hash."""
    place = path.resolve()
    is_shared = any(re.fullmatch(r"(site|dist)-packages|python\d[\d.]*", part) for part in place.parts)
    return is_shared or place.is_relative_to(PROGRAMS)
