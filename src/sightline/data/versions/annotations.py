"""Annotations as people and Label Studio hand them over, read into one form: which image, which class, who and when."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from sightline.data.collection.image_files import has_image_suffix
from sightline.data.collection.table_columns import plain
from sightline.errors import BadInput

IMAGES = ("image", "img", "path", "file", "filename", "url", "picture", "photo")
"""Names under which a task or a row says where its image is, the usual ones first."""
LABELS = ("label", "class", "choice", "choices", "category")
CONTROLS = ("label", "class", "choice", "choices", "category")
"""Names of a labelling control that surely hold the class."""
OF_JSON_MIN = ("annotation_id", "annotator", "created_at", "updated_at", "lead_time", "id")
"""What JSON_MIN has beside the data of a task and the values of its controls."""


@dataclass(frozen=True)
class Annotation:
    """What one person said about one image."""

    where: str
    """The file, and the task or the line in it."""
    sha256: str | None
    image: str | None
    """As the task names it: a path, an address, or Label Studio's own."""
    labels: tuple[str, ...]
    """The classes that were chosen; none where the task was skipped."""
    by: str
    at: str
    """ISO time, or nothing."""
    group: str | None = None
    decides: bool = False
    """Whether it is marked as the ground truth."""


class Source(Protocol):
    """Files of annotations, and the images beside them."""

    address: str

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of each file that may hold annotations, sorted by name.

        Raises: BadInput when there is nothing.
        """
        ...

    def read_image(self, image: str) -> bytes | None:
        """The bytes of an image that an annotation names; None where it is not found."""
        ...


class LocalSource:
    """A file, or a folder with files of annotations and perhaps images."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.path = Path(address.removeprefix("file://")).expanduser().absolute()
        self.folder = self.path if self.path.is_dir() else self.path.parent

    def files(self) -> Iterator[tuple[str, bytes]]:
        if self.path.is_file():
            yield self.path.name, self.path.read_bytes()
            return
        if not self.path.is_dir():
            raise BadInput(f"annotations={self.address}: no such file or folder; name one that is there, or s3://…")
        found = sorted(path for path in self.path.rglob("*") if path.is_file())
        for path in found:
            name = path.relative_to(self.path).as_posix()
            if _may_hold_annotations(name):
                yield name, path.read_bytes()

    def read_image(self, image: str) -> bytes | None:
        if image.startswith("s3://"):
            return read_s3(image)
        path = self.folder / Path(image.removeprefix("file://")).expanduser()
        try:
            return path.read_bytes() if path.is_file() else None
        except OSError:
            return None


class BucketSource:
    """An object of S3, or those below a prefix, as Label Studio's target storage writes them."""

    def __init__(self, address: str) -> None:
        self.address = address

    def files(self) -> Iterator[tuple[str, bytes]]:
        from concurrent.futures import ThreadPoolExecutor

        from sightline.aws.s3 import split_address

        storage, (bucket, prefix) = _storage(self.address), split_address(self.address)
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        keys = [
            each.key
            for each in storage.find(bucket, prefix)
            if (each.key == prefix or each.key.startswith(folder)) and not each.key.endswith("/")
        ]
        keys = [key for key in sorted(keys) if _may_hold_annotations(key)]
        if not keys:
            raise BadInput(f"annotations={self.address}: there is nothing below it; correct the bucket or the prefix")
        with ThreadPoolExecutor(16) as pool:
            contents = pool.map(lambda key: storage.read(f"s3://{bucket}/{key}", MAX_BYTES), keys)
            for key, content in zip(keys, contents, strict=True):
                yield key.removeprefix(folder), content

    def read_image(self, image: str) -> bytes | None:
        is_address = image.startswith("s3://")
        if not is_address and ("://" in image or image.startswith("/")):
            return None
        return read_s3(image if is_address else f"{self.address.rstrip('/')}/{image}")


MAX_BYTES = 1_000_000_000


def open_source(address: str) -> Source:
    """The annotations at a file, a folder or an s3:// address.

    Raises: BadInput for another address.
    """
    if address.startswith("s3://"):
        return BucketSource(address)
    if "://" in address and not address.startswith("file://"):
        raise BadInput(f"annotations={address}: must be a file, a folder or s3://bucket/prefix")
    return LocalSource(address)


def _storage(address: str) -> Any:
    from sightline.aws.clients import make_client
    from sightline.aws.s3 import Storage

    return Storage(make_client("s3", needs=f'annotations={address}: pip install "sightline-vision[s3]"'))


def read_s3(address: str) -> bytes | None:
    """An object's bytes; None where it is not there, or these credentials may not read it."""
    from botocore.exceptions import ClientError

    try:
        return _storage(address).read(address, MAX_BYTES)
    except ClientError:
        return None


def _may_hold_annotations(name: str) -> bool:
    path = PurePosixPath(name)
    return not (path.name.startswith(".") or has_image_suffix(name)) and path.suffix.lower() in ("", ".json", ".csv")


def read_annotations(source: Source, control: str | None = None) -> list[Annotation]:
    """Every annotation of a source; `control` names the labelling control that holds the class.

    Taken are Label Studio's JSON, JSON_MIN, one task or annotation a file, and CSV with a path or sha256 and a label.

    Raises: BadInput for a file that is none of these, or where several controls could be meant.
    """
    found: list[Annotation] = []
    num_files = 0
    for name, content in source.files():
        num_files += 1
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise _refuse(source, name, f"is no text ({error.reason})") from error
        if name.lower().endswith(".csv"):
            found += _read_csv(source, name, text)
        else:
            found += _read_json(source, name, text, control)
    if not num_files:
        raise BadInput(f"annotations={source.address}: holds no .json or .csv file; name an export of Label Studio")
    return found


def _refuse(source: Source, name: str, why: str) -> BadInput:
    place = source.address if name == PurePosixPath(source.address).name else f"{source.address.rstrip('/')}/{name}"
    return BadInput(
        f"annotations={place}: {why}; export JSON, JSON_MIN or CSV from Label Studio, or write a CSV with path,label"
    )


# CSV


def _read_csv(source: Source, name: str, text: str) -> Iterator[Annotation]:
    rows = csv.DictReader(io.StringIO(text))
    columns = {plain(column): column for column in rows.fieldnames or ()}
    image = next((columns[each] for each in IMAGES if each in columns), None)
    label = next((columns[each] for each in LABELS if each in columns), None)
    digest = columns.get("sha256")
    by, at = (
        _first(columns, "by", "annotator", "author", "user"),
        _first(columns, "at", "updatedat", "createdat", "date"),
    )
    if label is None or (image is None and digest is None):
        raise _refuse(
            source, name, f"its columns are {', '.join(rows.fieldnames or ['none'])}: path or sha256 and label"
        )
    for row in rows:
        chosen = (row[label] or "").strip()
        yield Annotation(
            f"{name} line {rows.line_num}",
            _sha256(row.get(digest) if digest else None),
            (row.get(image) or None) if image else None,
            (chosen,) if chosen else (),
            str((row.get(by) if by else None) or ""),
            str((row.get(at) if at else None) or ""),
        )


def _first(columns: Mapping[str, str], *names: str) -> str | None:
    return next((columns[name] for name in names if name in columns), None)


def _sha256(text: Any) -> str | None:
    text = str(text or "").strip().lower()
    return text if len(text) == 64 and all(letter in "0123456789abcdef" for letter in text) else None


# Label Studio


def _read_json(source: Source, name: str, text: str, control: str | None) -> Iterator[Annotation]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise _refuse(source, name, f"is no JSON ({error})") from error
    items = value if isinstance(value, list) else [value]
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise _refuse(source, name, f"its entry {number} is no object")
        where = name if not isinstance(value, list) else f"{name} task {item.get('id', number)}"
        if "annotations" in item or "completions" in item:
            data = item.get("data") or {}
            for each in item.get("annotations") or item.get("completions") or ():
                yield _of_result(source, name, where, data, each, control)
        elif isinstance(item.get("result"), list):
            task = item.get("task")
            data = (task.get("data") if isinstance(task, dict) else None) or item.get("data") or {}
            yield _of_result(source, name, where, data, item, control)
        elif "data" in item:
            continue  # a task that nobody has annotated
        else:
            yield _of_min(source, name, where, item, control)


def _of_result(
    source: Source, name: str, where: str, data: Mapping[str, Any], annotation: Mapping[str, Any], control: str | None
) -> Annotation:
    """An annotation as the export JSON and the target storage have it."""
    chosen: dict[str, list[str]] = {}
    for result in annotation.get("result") or ():
        value = result.get("value") if isinstance(result, dict) else None
        if isinstance(value, dict) and isinstance(value.get("choices"), list):
            chosen.setdefault(str(result.get("from_name", "")), []).extend(map(str, value["choices"]))
    is_skipped = annotation.get("was_cancelled") or annotation.get("skipped")
    labels = [] if is_skipped else _of_control(source, name, chosen, control)
    return Annotation(
        where,
        _sha256(data.get("sha256")),
        _find_image(data),
        tuple(dict.fromkeys(labels)),
        _person(annotation.get("completed_by")),
        str(annotation.get("updated_at") or annotation.get("created_at") or ""),
        None if data.get("group") is None else str(data["group"]),
        bool(annotation.get("ground_truth")),
    )


def _of_control(source: Source, name: str, chosen: Mapping[str, list[str]], control: str | None) -> list[str]:
    if control is not None:
        return list(chosen.get(control, ()))
    if len(chosen) > 1:
        usual = [each for each in chosen if plain(each) in CONTROLS]
        if len(usual) != 1:
            raise _refuse(
                source, name, f"several controls have choices ({', '.join(chosen)}): say which with control=NAME"
            )
        return chosen[usual[0]]
    return next(iter(chosen.values()), [])


def _of_min(source: Source, name: str, where: str, item: Mapping[str, Any], control: str | None) -> Annotation:
    """One of JSON_MIN, in which the data of the task and the values of its controls stand side by side."""
    image = _find_image(item)
    if image is None and _sha256(item.get("sha256")) is None:
        raise _refuse(source, name, f"{where} names no image")
    usual = [each for each in item if plain(each) in LABELS]
    held = control if control is not None else (usual or [None])[0]
    value = None if held is None else item.get(held)
    if isinstance(value, Mapping):
        value = value.get("choices")
    labels = value if isinstance(value, list) else [] if value in (None, "") else [value]
    return Annotation(
        where,
        _sha256(item.get("sha256")),
        image,
        tuple(dict.fromkeys(map(str, labels))),
        _person(item.get("annotator")),
        str(item.get("updated_at") or item.get("created_at") or ""),
        None if item.get("group") is None else str(item["group"]),
    )


def _find_image(data: Mapping[str, Any]) -> str | None:
    for name in IMAGES:
        if isinstance(data.get(name), str) and data[name]:
            return data[name]
    texts = [value for key, value in data.items() if isinstance(value, str) and key not in OF_JSON_MIN]
    return next((text for text in texts if has_image_suffix(text.partition("?")[0])), None)


def _person(who: Any) -> str:
    if isinstance(who, Mapping):
        return str(who.get("email") or who.get("username") or who.get("id") or "")
    return "" if who is None else str(who)


def names_of(image: str) -> Sequence[str]:
    """What an image may be called in a data set, the most telling first: Label Studio's addresses become paths.

    `/data/local-files/?d=signs/a.png` is `signs/a.png`; `/data/upload/3/1a2b3c4d-a.png` is `a.png`, as it was called
    before it was uploaded.
    """
    from urllib.parse import parse_qs, unquote, urlsplit

    parts = urlsplit(image)
    if parts.path.rstrip("/").endswith("/data/local-files") and "d" in (query := parse_qs(parts.query)):
        return [query["d"][0]]
    path = unquote(parts.path) if parts.scheme or "%" in image else image
    name = PurePosixPath(path).name
    if "/data/upload/" in path:
        prefix, dash, rest = name.partition("-")
        return [rest, name] if dash and len(prefix) == 8 else [name]
    return [path.lstrip("/")]
