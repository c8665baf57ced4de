"""A data set in an archive, unpacked with its progress shown."""

from pathlib import Path

from sightline.data.collection.download import show_progress
from sightline.runs import archives
from sightline.runs.files import whole_folder


def extract(archive: Path, folder: Path, *, max_bytes: int | None = None) -> Path:
    """The folder with what the archive holds, whole or not at all; a folder that is there is taken as it is.

    Raises: BadInput, naming archive and member, for what could write elsewhere, fill the disk, or is damaged.
    """
    if not folder.exists():
        with whole_folder(folder) as partial:
            unpack(archive, partial, max_bytes=max_bytes)
    return folder


def unpack(archive: Path, folder: Path, *, max_bytes: int | None = None) -> None:
    """Write the archive's files below a folder that is there; `extract` says what is refused."""
    size = archive.stat().st_size if archive.is_file() else 0
    with show_progress(f"unpacking {archive.name}", size) as advance:
        archives.unpack(archive, folder, title=f"data.root={archive}", max_bytes=max_bytes, advance=advance)
