"""A version as one file, to carry it from one registry to another."""

import gzip
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sightline.errors import BadInput
from sightline.registry.package import all_files, find_differences
from sightline.registry.sources import MAX_BYTES
from sightline.registry.version import VERSION_FILE, Registry, Version, read_version
from sightline.runs.archives import unpack
from sightline.runs.files import whole_file

SUFFIXES = (".tar.gz", ".tgz")


def export_version(registry: Registry, version: Version, file: Path) -> None:
    """Write a version's files as a tar.gz, the same bytes for the same files and state; hashes are verified first.

    Raises: BadInput for a name that is no archive's, or is taken.
    """
    if not file.name.endswith(SUFFIXES):
        raise BadInput(f"{file}: name it {version.name}-{version.number}{SUFFIXES[0]}")
    if file.exists():
        raise BadInput(f"{file}: is there already; name another file, or remove it first")
    folder = registry.fetch(version)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with (
            whole_file(file) as partial,
            partial.open("wb") as raw,
            gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for name, path in sorted(all_files(folder)):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = path.stat().st_size, 0o644
                with path.open("rb") as source:
                    archive.addfile(entry, source)
    except OSError as error:
        raise BadInput(f"{file}: cannot be written ({error.strerror}); name another file") from error


@contextmanager
def imported_version(file: Path) -> Iterator[tuple[Version, Path]]:
    """A version that `export_version` wrote, and a folder with its files, whose hashes are as recorded.

    Raises: BadInput for an archive that is damaged, harmful, or not what was exported.
    """
    if not file.name.endswith(SUFFIXES):
        raise BadInput(f"{file}: no version's archive; give a {SUFFIXES[0]} that registry.py export wrote")
    with TemporaryDirectory(prefix="sightline-registry-") as scratch:
        folder = Path(scratch)
        unpack(file, folder, title=str(file), max_bytes=MAX_BYTES)
        version = read_version(folder)
        if version is None:
            raise BadInput(
                f"{file}: has no {VERSION_FILE}; give a file that registry.py export wrote, or add any other archive "
                f"with python src/registry.py add {file} NAME"
            )
        if found := find_differences(folder, version.sha256, version.files_sha256):
            raise BadInput(f"{file}: is not as it was exported ({'; '.join(found[:10])}); export it again")
        yield version, folder
