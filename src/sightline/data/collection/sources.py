"""Making `data.root` local: archives are unpacked and remote data copied once, below a cache folder."""

import glob
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sightline.config import PARQUET_SUFFIX, TABLE_SUFFIXES
from sightline.data.collection.archives import extract
from sightline.data.collection.download import DownloadFailed, download, show_progress
from sightline.data.collection.image_files import FOUND_OUT, LayoutRule
from sightline.data.collection.parquet_images import unpack
from sightline.data.collection.table_files import Files
from sightline.data.collection.table_parquet import find_packed, find_parquet, is_parquet, read_parquet
from sightline.data.collection.tables import is_table, list_table_paths, understand_parquet
from sightline.errors import BadInput
from sightline.runs.archives import ARCHIVE_SUFFIXES, in_units, is_archive
from sightline.runs.files import whole_file

NUM_THREADS = 8
EXTRAS = {"s3": "sightline-vision[s3]", "s3a": "sightline-vision[s3]"}
"""What to install where the library for a scheme is missing."""


def localise(root: str, cache: Path, rule: LayoutRule = FOUND_OUT) -> Path:
    """The folder or table on this disk that `data.root` means: what is there already, unpacked, or copied.

    The rule says how the paths of a remote table are read, whose files are copied with it.

    Two processes may ask at once: one works, the other waits. A copy follows its origin: what changed there is copied
    again, what is gone there is removed.

    Raises: BadInput when there is nothing of that name, or it cannot be reached with these credentials.
    """
    if "://" in root and not root.startswith("file://"):
        return _with_images(_unpacked(_copy_remote(root, cache, rule), cache), cache, rule, root)
    path = Path(root.removeprefix("file://")).expanduser().absolute()
    return _with_images(_unpacked(path, cache), cache, rule, str(path))


def _unpacked(path: Path, cache: Path) -> Path:
    if path.is_dir() or is_table(path.name):
        return path
    if not is_archive(path.name):
        if not path.exists():
            return path  # the layouts say what it should hold
        raise BadInput(
            f"data.root={path}: neither a folder nor a file that can hold a data set; "
            f"set it to a folder, a table ({' '.join(TABLE_SUFFIXES)}) or an archive ({' '.join(ARCHIVE_SUFFIXES)})"
        )
    if not path.is_file():
        raise BadInput(f"data.root={path}: no such file; correct it, or set it to a folder")
    folder = _extracted(cache, path, [path])
    with _lock(folder):
        return extract(path, folder)


def _with_images(path: Path, cache: Path, rule: LayoutRule, address: str) -> Path:
    """The folder of the images that lie in parquet files; any other path as it is.

    Raises: BadInput where the files cannot be read, or do not say what is what, before anything is written.
    """
    files = find_parquet(path, rule, address)
    if files is None or rule.layout != "auto" or rule.name_pattern is not None or (rule.tables and path.is_file()):
        return path  # where these keys cannot be, the layouts say so
    column = find_packed(files, rule.columns)
    if column is None:
        return path
    folder = _extracted(cache, path, files.paths, column)
    with _lock(folder):
        if folder.exists():
            return folder
        table = read_parquet(files, rule.columns)
        understand_parquet(table, rule, table.files(files), needs="train")
        return unpack(files, table, folder)


def _extracted(cache: Path, path: Path, files: Iterable[Path], column: str = "") -> Path:
    """Where what files hold is unpacked: another folder where one of them has changed."""
    facts = [f"{file}\n{(state := file.stat()).st_size}\n{state.st_mtime_ns}" for file in files]
    key = _hash("\n".join(facts + [column] * bool(column)))
    return cache / "extracted" / f"{path.name.partition('.')[0]}-{key}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Only one process at a time works on a folder of the cache; what a killed one has left there goes."""
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        for left_over in folder.parent.glob(f".{glob.escape(folder.name)}-*"):
            shutil.rmtree(left_over)
        yield


def _copy_remote(url: str, cache: Path, rule: LayoutRule) -> Path:
    """The local copy of a remote prefix, archive or table, brought up to date."""
    folder = cache / "remote" / _hash(url)
    scheme, _, below = url.partition("://")
    name = PurePosixPath(below).name
    if scheme in ("http", "https"):
        return _download(url, folder, name.partition("?")[0])
    remote = _Remote.open(url)
    with _lock(folder), remote.explained():
        if is_archive(name) or is_table(name):
            return _copy_file(remote, folder, name, rule)
        files = remote.find()
        if not files:
            raise BadInput(f"data.root={url}: there is nothing below it; correct the bucket or the prefix")
        _copy(remote, files, folder)
        _remove_others(folder, files)
    return folder


def _download(url: str, folder: Path, name: str) -> Path:
    if not (is_archive(name) or is_parquet(name)):
        suffixes = " ".join((*ARCHIVE_SUFFIXES, PARQUET_SUFFIX))
        raise BadInput(f"data.root={url}: over http only an archive or a parquet file can be fetched ({suffixes})")
    return download(url, folder / name)


@dataclass(frozen=True)
class _File:
    """A remote file: its whole path, its size, and its time of change in seconds, if known."""

    path: str
    size: int
    changed: float | None


@dataclass(frozen=True)
class _Remote:
    """A remote location, through fsspec."""

    url: str
    system: Any
    path: str

    @classmethod
    def open(cls, url: str) -> "_Remote":
        from fsspec.core import url_to_fs

        scheme = url.partition("://")[0]
        try:
            system, path = url_to_fs(url)
        except ImportError as error:
            fix = f'pip install "{EXTRAS[scheme]}"' if scheme in EXTRAS else str(error)
            raise BadInput(f"data.root={url}: {scheme}:// needs a library that is not installed; {fix}") from error
        except ValueError as error:
            raise BadInput(f"data.root={url}: {error}; use s3://, https:// or a folder") from error
        system.invalidate_cache()
        return cls(url, system, path.rstrip("/"))

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Errors of the remote side as BadInput, where a change of the command mends them."""
        try:
            yield
        except FileNotFoundError as error:
            raise BadInput(f"data.root={self.url}: no such file or bucket; correct it") from error
        except PermissionError as error:
            raise BadInput(
                f"data.root={self.url}: these credentials may not read it ({error}); ask its owner, or use others"
            ) from error
        except _library_errors() as error:
            if "redential" in type(error).__name__ or "ProfileNotFound" in type(error).__name__:
                raise BadInput(
                    f"data.root={self.url}: no credentials ({error}); set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY"
                ) from error
            raise DownloadFailed(
                f"{self.url}: {error}; run the same command again to go on with the missing files"
            ) from error

    def find(self) -> dict[str, _File]:
        """Every file below the prefix by its path relative to it."""
        listed = self.system.find(self.path, detail=True)
        files = {path: _file(info) for path, info in listed.items() if not path.endswith("/")}
        return {_relative(self.url, path, self.path): file for path, file in files.items()}


def _library_errors() -> tuple[type[Exception], ...]:
    try:
        from botocore.exceptions import BotoCoreError
    except ImportError:
        return (OSError,)
    return (OSError, BotoCoreError)


def _file(info: Mapping[str, Any]) -> _File:
    changed = info.get("LastModified", info.get("mtime"))
    return _File(info["name"], info["size"], changed.timestamp() if hasattr(changed, "timestamp") else changed)


def _relative(url: str, path: str, prefix: str) -> str:
    below = PurePosixPath(path).relative_to(prefix)
    if ".." in below.parts or not below.name:
        raise BadInput(f"data.root={url}: {path} would be written outside the cache; rename it there")
    return below.as_posix()


def _copy_file(remote: _Remote, folder: Path, name: str, rule: LayoutRule) -> Path:
    """An archive, or a table with the files that it names."""
    file = _file(remote.system.info(remote.path))
    _copy(remote, {name: file}, folder)
    if is_table(name):
        beside = _RemoteFiles(remote)
        names = list_table_paths(folder / name, rule, beside)
        _copy(remote, {name: beside.known[name] for name in names}, folder)
    return folder / name


class _RemoteFiles(Files):
    """The files below the folder of a remote table; each folder that the table names is listed once."""

    def __init__(self, table: _Remote) -> None:
        self.top = PurePosixPath(table.path).parent
        super().__init__(table.url.rpartition("/")[0], str(self.top))
        self.system = table.system
        self.known: dict[str, _File] = {}
        """Those that were listed, by their path below the top."""

    def list_folder(self, folder: str) -> tuple[list[str], list[str]]:
        try:
            infos = self.system.ls(str(self.top / folder), detail=True)
        except FileNotFoundError:
            return [], []
        files = [_file(info) for info in infos if info["type"] == "file"]
        self.known |= {PurePosixPath(file.path).relative_to(self.top).as_posix(): file for file in files}
        folders = [PurePosixPath(info["name"]).name for info in infos if info["type"] == "directory"]
        return [PurePosixPath(file.path).name for file in files], folders

    def list_all(self) -> list[str]:
        return [PurePosixPath(path).relative_to(self.top).as_posix() for path in self.system.find(str(self.top))]


def _copy(remote: _Remote, files: Mapping[str, _File], folder: Path) -> None:
    """Fetch those that are not here yet, several at once; each takes its name when it is whole."""
    missing = {name: file for name, file in files.items() if not _is_here(folder / name, file)}
    total = sum(file.size for file in missing.values())
    folder.mkdir(parents=True, exist_ok=True)
    if total > (free := shutil.disk_usage(folder).free):
        raise DownloadFailed(
            f"{remote.url}: {in_units(total)} are to come and {folder} has {in_units(free)} free; make room there"
        )
    if not missing:
        return
    with show_progress(f"copying {remote.url}", total) as advance, ThreadPoolExecutor(NUM_THREADS) as pool:
        waiting = [pool.submit(_get, remote, file, folder / name, advance) for name, file in missing.items()]
        try:
            for one in waiting:
                one.result()
        finally:
            for one in waiting:
                one.cancel()


def _is_here(path: Path, file: _File) -> bool:
    if not path.is_file():
        return False
    state = path.stat()
    return state.st_size == file.size and (file.changed is None or int(state.st_mtime) == int(file.changed))


def _get(remote: _Remote, file: _File, target: Path, advance: Callable[[int], None]) -> None:
    from fsspec.callbacks import Callback

    class Counter(Callback):
        def relative_update(self, inc: int = 1) -> None:
            advance(inc)

    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as partial:
        remote.system.get_file(file.path, str(partial), callback=Counter())
        if file.changed is not None:
            os.utime(partial, (file.changed, file.changed))


def _remove_others(folder: Path, files: Mapping[str, _File]) -> None:
    """What is gone at the origin goes here too."""
    for path in list(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in files:
            path.unlink()
