"""What can be registered, by what one types: a finished run, a fetched job, an archive here or in S3, a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sightline.errors import BadInput
from sightline.registry.package import EXPORTED, NEEDED
from sightline.runs.archives import is_archive, unpack
from sightline.runs.files import read_json
from sightline.runs.folder import find_run, run_folder

MAX_BYTES = 20_000_000_000
"""Of what an archive holds."""
OF_DATA = ("name", "version", "sha256", "num_images")


@contextmanager
def open_source(text: str, runs: Path) -> Iterator[Path]:
    """The folder of what is to be registered, for as long as it is needed.

    Raises: BadInput where there is nothing of that name, or it holds no model.
    """
    if text.startswith("s3://") or (is_archive(text) and Path(text).is_file()):
        with TemporaryDirectory(prefix="sightline-registry-") as scratch:
            yield _unpacked(text, Path(scratch))
        return
    job = runs / "jobs" / text
    if not (job / "run.json").is_file() and (runs / "jobs" / f"{text}.json").is_file():
        raise BadInput(f"{text}: a job whose results are not here; python src/jobs.py fetch {text} gets them")
    found = find_run(job if job.is_dir() else text, runs)
    folder = run_folder(found) or (found.parent if found.name == "model" else found)
    if not (folder / EXPORTED).is_file() and (folder / NEEDED[0]).is_file():
        raise BadInput(f"{text}: is not exported (no {EXPORTED}); python src/export.py run={text} does that")
    yield folder


def _unpacked(address: str, scratch: Path) -> Path:
    """The package in an archive: all of it, its only folder, or the files of a model alone, as a training job packs."""
    archive = Path(address)
    if address.startswith("s3://"):
        if not is_archive(address):
            raise BadInput(f"{address}: not an archive; name one like s3://bucket/job/output/model.tar.gz")
        archive = scratch / Path(address).name
        download(address, archive)
    folder = scratch / "unpacked"
    folder.mkdir()
    unpack(archive, folder, title=address, max_bytes=MAX_BYTES)
    inside = [*folder.iterdir()]
    if not (folder / "model").is_dir() and len(inside) == 1 and inside[0].is_dir():
        folder = inside[0]
    if (folder / "model.json").is_file():
        whole = scratch / "package"
        whole.mkdir()
        folder.rename(whole / "model")
        folder = whole
    for name in (*NEEDED, EXPORTED):
        if not (folder / name).is_file():
            raise BadInput(f"{address}: has no {name}; name the archive of an exported model")
    return folder


def download(address: str, file: Path) -> None:
    """Raises: BadInput for what is not there, or cannot be read."""
    from sightline.aws.clients import make_client
    from sightline.aws.s3 import Storage

    client = make_client("s3", needs=f"{address}: reading from S3 needs boto3; pip install boto3")
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        is_there = Storage(client).download_file(address, file)
    except (BotoCoreError, ClientError) as error:
        raise BadInput(f"{address}: cannot be read ({error})") from error
    if not is_there:
        raise BadInput(f"{address}: there is no such object")


def facts_of(folder: Path, source: str) -> dict[str, Any]:
    """What version.json keeps of a run that is added outside a pipeline, from its own record.

    `run` is where it lies: its folder, or the archive that the source names.
    """
    try:
        record = read_json(folder / "run.json")
        gate = read_json(folder / "gate.json") or None
    except ValueError as error:
        raise BadInput(f"{folder}: its record cannot be read ({error})") from error
    data = {key: record["data"][key] for key in OF_DATA if key in record.get("data", {})}
    place = source if source.startswith("s3://") or is_archive(source) else str(folder.resolve())
    launch = record.get("launch") or {}
    costs = {key: launch[key] for key in ("image", "cost", "usd") if launch.get(key) is not None}
    seconds = {"seconds": record["seconds"]} if "seconds" in record else {}
    return {"gate": gate, "data": data, "commit": record.get("commit"), "run": place, **seconds, **costs}
