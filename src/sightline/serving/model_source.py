"""Where the image's model comes from: a folder, an archive, S3 or an address of the web."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from sightline.errors import BadInput
from sightline.models.exported import EXPORT, FILES, VERSION
from sightline.runs.archives import in_units, is_archive, unpack

if TYPE_CHECKING:
    from sightline.serve_settings import ServeSettings
    from sightline.serving.runtime_predictor import RuntimePredictor

OPT_ML_MODEL = "/opt/ml/model"
"""Where a SageMaker endpoint finds what its model.tar.gz held."""
SOURCE, SHA256 = "MODEL_URI", "MODEL_SHA256"
"""Variables of the image."""
MAX_BYTES = 2_000_000_000
"""Of an archive, and of what is in it: an ONNX file cannot be larger."""
CHUNK_BYTES = 1 << 20
REMOTE = ("s3", "http", "https")
SECONDS = 60.0
"""Without a byte, after which a download is given up."""
EXPECTED = (
    "a folder, file://…, s3://bucket/prefix, or an archive like s3://bucket/model.tar.gz or https://…/model.tar.gz"
)


def is_remote(source: str) -> bool:
    """Whether it is fetched."""
    return urlsplit(source).scheme in REMOTE


def open_model(
    settings: "ServeSettings", source: str = OPT_ML_MODEL, sha256: str = "", num_threads: int = 1
) -> "RuntimePredictor":
    """Open the model of a source in the precision of the settings; what was fetched for it is removed again.

    Raises: BadInput that names the variable of the image for what cannot be.
    """
    from sightline.serving.runtime_predictor import RuntimePredictor

    with model_folder(source, FILES[settings.precision], sha256) as folder:
        return RuntimePredictor.open(folder, settings.precision, num_threads, settings.max_pixels)


@contextmanager
def model_folder(source: str, file_name: str, sha256: str = "") -> Iterator[Path]:
    """A folder with the model file of a source, for as long as it is needed.

    `sha256` is that of the archive, or where there is none that of the model file; "" is not compared.

    Raises: BadInput that names the variable for a source that cannot be read, or is not what was expected.
    """
    url = urlsplit(source)
    shown = f"{SOURCE}={url._replace(query='').geturl()}"  # the query of a signed address is a secret
    local = Path(unquote(url.path)) if url.scheme == "file" else Path(source)
    is_far = is_remote(source)
    if url.scheme not in ("", "file") and not is_far:
        raise BadInput(f"{shown}: not a place that is known; give {EXPECTED}")
    with tempfile.TemporaryDirectory(prefix="sightline-model-") as made:
        scratch = Path(made)
        if is_archive(url.path):
            archive = scratch / Path(url.path).name if is_far else local
            if is_far:
                _download(source, archive, shown)
            _check(archive, sha256, shown)
            unpacked = scratch / "unpacked"
            unpacked.mkdir()
            unpack(archive, unpacked, title=shown, max_bytes=MAX_BYTES)
            if is_far:
                archive.unlink()
            yield _find(unpacked, file_name, shown)
            return
        if is_far:
            _download_files(source, scratch, file_name, shown)
        folder = _find(scratch if is_far else local, file_name, shown)
        _check(folder / file_name, sha256, shown)
        yield folder


def _find(folder: Path, file_name: str, shown: str) -> Path:
    """The folder itself or its `model/`, whichever has the file."""
    try:
        for each in (folder, folder / "model"):
            if (each / file_name).is_file():
                return each
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) if folder.is_dir() else ""
    except PermissionError as error:
        raise BadInput(f"{shown}: user {os.getuid()} may not read it; chmod -R a+rX lets everybody read it") from error
    if not folder.is_dir():
        raise BadInput(f"{shown}: no such folder; mount the model there, or give {EXPECTED}")
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise BadInput(
        f"{shown}: has no {file_name} and no model/{file_name} (it has {there}); export.py run=RUN writes it"
    )


def _check(file: Path, sha256: str, shown: str) -> None:
    if not file.is_file():
        raise BadInput(f"{shown}: no such file")
    if not os.access(file, os.R_OK):
        raise BadInput(f"{shown}: user {os.getuid()} may not read {file.name}; chmod a+r lets everybody read it")
    if not sha256:
        return
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != sha256.lower():
        raise BadInput(f"{SHA256}={sha256}: {file.name} of {shown} has {found}; give the one that was meant")


def _download(source: str, file: Path, shown: str) -> None:
    """Raises: BadInput for what is not there, or is too large."""
    if source.startswith("s3://"):
        if not _s3(lambda storage: storage.download_file(source, file), shown):
            raise BadInput(f"{shown}: there is no such object")
        return
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(source, timeout=SECONDS) as answer, file.open("wb") as target:
            while chunk := answer.read(CHUNK_BYTES):
                if target.tell() + len(chunk) > MAX_BYTES:
                    raise BadInput(f"{shown}: is larger than the {in_units(MAX_BYTES)} that are allowed")
                target.write(chunk)
    except urllib.error.HTTPError as error:
        error.close()
        raise BadInput(f"{shown}: answered {error.code} {error.reason}") from error
    except OSError as error:
        raise BadInput(f"{shown}: cannot be fetched ({error})") from error


def _download_files(source: str, folder: Path, file_name: str, shown: str) -> None:
    """Get the model file below an address of S3, or its `model/`, and what makes it a registered version."""
    if not source.startswith("s3://"):
        raise BadInput(f"{shown}: an address of the web must be that of an archive, like https://…/model.tar.gz")
    place = source.rstrip("/")
    for below in ("", "model/"):
        address = f"{place}/{below}{file_name}"
        if _s3(lambda storage, address=address: storage.download_file(address, folder / file_name), shown):
            _download_descriptions(place, below, folder)
            return
    raise BadInput(f"{shown}: has no {file_name} and no model/{file_name}; export.py run=RUN writes it")


def _download_descriptions(place: str, below: str, folder: Path) -> None:
    """Get what tells of a model file, as far as it is there and may be read: answers do not depend on it."""
    for address in (f"{place}/{below}{EXPORT}", f"{place.removesuffix('/model')}/{VERSION}"):
        with suppress(BadInput):
            file = folder / address.rsplit("/", 1)[-1]
            _s3(lambda storage, address=address, file=file: storage.download_file(address, file), address)


def _s3(get: Any, shown: str) -> bool:
    from sightline.aws.clients import make_client
    from sightline.aws.s3 import Storage

    client = make_client("s3", needs=f"{shown}: reading from S3 needs boto3; pip install boto3")
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return get(Storage(client))
    except (BotoCoreError, ClientError) as error:
        raise BadInput(f"{shown}: cannot be read ({error})") from error
