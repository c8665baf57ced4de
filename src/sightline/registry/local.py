"""Versions in a folder: each appears by one rename, and one writer of a name at a time."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sightline.errors import BadInput
from sightline.registry.package import Package, copy_package, find_differences
from sightline.registry.version import NAME, VERSION_FILE, Version, broken, read_version
from sightline.runs.files import write_json

ADDING = ".adding-"
LOCK = ".lock"
LOCK_SECONDS = 600


class LocalStore:
    """A folder of this machine, or one that several machines share."""

    def __init__(self, place: Path) -> None:
        self.folder, self.place = place, str(place)

    def check_writable(self, version: Version | None = None) -> None:
        del version  # all lie in one place
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise BadInput(
                f"paths.registry={self.folder}: cannot be written ({error.strerror}); name another folder"
            ) from error

    def names(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if NAME.fullmatch(path.name) and self._numbers(path))

    def numbers(self, name: str) -> list[int]:
        return self._numbers(self.folder / name)

    @staticmethod
    def _numbers(folder: Path) -> list[int]:
        if not folder.is_dir():
            return []
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isascii() and path.name.isdigit())

    def read(self, name: str, number: int) -> tuple[Version, str]:
        folder = self.folder / name / str(number)
        version = read_version(folder)
        if version is None:
            raise broken(str(folder), f"no {VERSION_FILE}")
        if (version.name, version.number) != (name, number):
            raise broken(str(folder / VERSION_FILE), f"it is of {version.spelled()}")
        return version, ""

    def write(self, version: Version, mark: str) -> bool:
        del mark  # the lock keeps others away
        with _saying(self.folder):
            write_json(self.folder / version.name / str(version.number) / VERSION_FILE, version.to_dict())
        return True

    @contextmanager
    def changing(self, name: str) -> Iterator[None]:
        from filelock import FileLock, Timeout

        with _saying(self.folder):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / name / LOCK, timeout=LOCK_SECONDS)
            try:
                lock.acquire()
            except Timeout as error:
                raise BadInput(
                    f"{self.folder / name}: another process writes there; try again when it is done"
                ) from error
        try:
            for left in (self.folder / name).glob(f"{ADDING}*"):  # of processes that were killed: they had this lock
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            lock.release()

    def put(self, package: Package, name: str, make: Callable[[int], Version]) -> Version | None:
        parent = self.folder / name
        version = make(max(self.numbers(name), default=0) + 1)
        with _saying(self.folder):
            partial = Path(tempfile.mkdtemp(prefix=ADDING, dir=parent))
            try:
                copy_package(package, partial)
                for file in partial.rglob("*"):
                    if file.is_file():
                        file.chmod(0o444)
                write_json(partial / VERSION_FILE, version.to_dict())
                partial.chmod(0o755)
                os.rename(partial, parent / str(version.number))  # noqa: PTH104 (whole or not at all)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return version

    def fetch(self, version: Version) -> Path:
        folder = self.folder / version.name / str(version.number)
        check_files(folder, version)
        return folder

    def differences(self, version: Version) -> list[str]:
        folder = self.folder / version.name / str(version.number)
        return find_differences(folder, version.sha256, version.files_sha256)

    def remove(self, version: Version) -> None:
        folder = self.folder / version.name / str(version.number)
        hidden = folder.with_name(f"{ADDING}{folder.name}")  # out of sight at once; the next writer removes a rest
        with _saying(self.folder):
            os.rename(folder, hidden)  # noqa: PTH104
            shutil.rmtree(hidden)


def check_files(folder: Path, version: Version, place: str = "") -> None:
    """Raises: BadInput for a version whose files, those of a place, are not as they were registered."""
    if found := find_differences(folder, version.sha256, version.files_sha256):
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise BadInput(
            f"registry:{version.spelled()}: {place or folder} is not as it was registered ({found[0]}{more}); "
            f"python src/registry.py verify {version.spelled()} names all; restore it, or use another version"
        )


@contextmanager
def _saying(folder: Path) -> Iterator[None]:
    """What the disk refuses, in our words."""
    try:
        yield
    except OSError as error:
        why = ": ".join(str(each) for each in (error.strerror, error.filename) if each)
        raise BadInput(
            f"paths.registry={folder}: cannot be written ({why}); make room there, or name another folder"
        ) from error
