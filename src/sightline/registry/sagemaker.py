"""Versions as model packages of one SageMaker group: the service has number, status and card, S3 the files and history.

Beside a version's model.tar.gz, as a pipeline on SageMaker leaves it, too: `package/` (what the console links to, and
files.json), `facts.json` (what was said when it was added) and `history/<number>.json`.
"""

import gzip
import hashlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from sightline.aws.clients import Clients, find_region
from sightline.aws.ecr import find_digest
from sightline.aws.names import PUSHED_IMAGE
from sightline.aws.request_check import check_request
from sightline.aws.s3 import MISSING, Storage, split_address
from sightline.errors import BadInput
from sightline.registry.local import check_files
from sightline.registry.model_package import check_group, image_digest, make_request
from sightline.registry.package import Package, find_differences, identity, read_files_json
from sightline.registry.package_state import (
    ARCHIVE,
    CHANGED,
    DOCUMENTS,
    FACTS,
    FACTS_FILE,
    SHOWN_FOLDER,
    STATUS_OF,
    after_all,
    done_elsewhere,
    make_registration,
    make_update,
    stages_after,
)
from sightline.registry.rules import event
from sightline.registry.stored import MAX_TRIES
from sightline.registry.version import FILES_FILE, VERSION_FILE, Version, broken
from sightline.runs.archives import unpack
from sightline.runs.files import whole_folder, write_json

PLACE = re.compile(r"sagemaker:(?P<group>[^@/]+)(?:@(?P<files>s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[^\s?#]*)?))?")
BESIDE = (*DOCUMENTS.values(), "metrics.json", "gate.json", "run.json", "manifest.csv", "model/model_card.md")
"""Files of a package that lie outside its archive, too."""
MAX_BYTES = 20_000_000_000
"""Of what an archive holds."""
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
NEEDS_BOTO3 = "a registry of SageMaker needs boto3: pip install 'sightline-vision[sagemaker]'"


class SageMakerStore:
    """A model package group; the files of new versions go below an address, or into the bucket of SageMaker's tools."""

    def __init__(self, place: str, cache: Path, *, bucket: str | None = None, image: str | None = None) -> None:
        found = PLACE.fullmatch(place)
        if found is None:
            raise BadInput(
                f"paths.registry={place}: must be sagemaker:GROUP, or sagemaker:GROUP@s3://bucket/prefix to say where "
                "the files of new versions go"
            )
        self.group, self.image = found["group"], image
        check_group(self.group)
        self.place, self.cache = f"sagemaker:{self.group}", cache / "registry"
        self._files = found["files"] or (f"s3://{bucket}/sightline/registry" if bucket else None)
        self._region = find_region()
        self._clients = Clients(self._region)
        self._arns: dict[int, str] = {}
        self._known: dict[str, dict[str, Any]] = {}
        """By folder in S3: what never changes of a version."""

    # what the registry asks for

    def check_writable(self, version: Version | None = None) -> None:
        if version is not None:
            return  # its files lie where they lie, and the service says at once who may not
        with self._saying():
            self._put_if(f"{self._root()}/.writable", b"", IfMatch='"never"')  # nothing is: S3 asks who may, first

    def names(self) -> list[str]:
        return [self.group] if self.numbers(self.group) else []

    def numbers(self, name: str) -> list[int]:
        if name != self.group:
            raise BadInput(
                f"{name}: {self.place} holds one model, {self.group}; name that one, or paths.registry=sagemaker:{name}"
            )
        with self._saying():
            pages = self._sagemaker.get_paginator("list_model_packages").paginate(
                ModelPackageGroupName=self.group, SortBy="CreationTime", SortOrder="Ascending"
            )
            rows = [each for page in pages for each in page["ModelPackageSummaryList"]]
        alive = [each for each in rows if each["ModelPackageStatus"] not in ("Failed", "Deleting")]
        self._arns = {each["ModelPackageVersion"]: each["ModelPackageArn"] for each in alive}
        return sorted(self._arns)

    def read(self, name: str, number: int) -> tuple[Version, str]:
        described = self._describe(number)
        root = _root_of(described)
        known = self._known.get(root) or self._known.setdefault(root, self._read_known(root, described))
        history, mark = self._read_history(root, number, described, known)
        version = Version(
            name=self.group,
            number=number,
            status=STATUS_OF.get(described.get("ModelApprovalStatus", ""), "pending"),
            stages=stages_after(history),
            history=tuple(history),
            **known,
        )
        return version, mark

    def write(self, version: Version, mark: str) -> bool:
        described = self._describe(version.number)
        key = f"{_root_of(described)}/history/{version.number}.json"
        content = json.dumps([*version.history], ensure_ascii=False, indent=2).encode()
        with self._saying():
            condition = {"IfMatch": mark} if mark else {"IfNoneMatch": "*"}
            if not (written := self._put_if(key, content, **condition)):
                return False
            try:
                self._tell(make_update(version, described))
            except BaseException:
                before = json.dumps([*version.history[:-1]], ensure_ascii=False, indent=2).encode()
                self._put_if(key, before, IfMatch=written)
                raise
            self._settle(version, described, key, written)
        return True

    def _settle(self, version: Version, described: Mapping[str, Any], key: str, written: str) -> None:
        """Tell the service again where another change came between: the last one of the history counts."""
        for _ in range(MAX_TRIES):
            content, mark = self._get_marked(key)
            if mark == written:
                return
            written = mark
            self._tell(make_update(after_all(version, json.loads(content)), described, is_whole=True))

    def _tell(self, request: dict[str, Any]) -> None:
        check_request("UpdateModelPackage", request)
        self._sagemaker.update_model_package(**request)

    @contextmanager
    def changing(self, name: str) -> Iterator[None]:
        del name  # the service numbers versions, and S3 decides between writers of a history
        yield

    def put(self, package: Package, name: str, make: Callable[[int], Version]) -> Version | None:
        newest = max(self.numbers(name), default=0)
        draft = make(0)
        image = self._serving_image(draft.facts.get("serving_image") or self.image)
        root = f"{self._root()}/{self.group}/{draft.sha256[:16]}-{uuid4().hex[:8]}"
        request = make_request(make_registration(draft, package, self.group, image, root))
        token = hashlib.sha256(f"{self.group} {newest} {draft.files_sha256}".encode()).hexdigest()[:36]
        check_request("CreateModelPackage", {**request, "ClientToken": token})
        with self._saying():
            self._make_group()
            self._send(package, root, draft)
            arn = self._sagemaker.create_model_package(**request, ClientToken=token)["ModelPackageArn"]
            number = int(arn.rpartition("/")[2])
            content = json.dumps([*draft.history], ensure_ascii=False, indent=2).encode()
            self._put_if(f"{root}/history/{number}.json", content, IfNoneMatch="*")
        self._arns[number] = arn
        return self.read(name, number)[0]

    def fetch(self, version: Version) -> Path:
        folder = self.cache / version.name / f"{version.number}-{version.files_sha256[:16]}"
        if folder.is_dir() and find_differences(folder, version.sha256, version.files_sha256):
            shutil.rmtree(folder)
        if not folder.is_dir():
            with whole_folder(folder) as partial:
                self._download(version, partial)
                check_files(partial, version, f"{self.place}/{version.number}")
        write_json(folder / VERSION_FILE, version.to_dict())
        return folder

    def differences(self, version: Version) -> list[str]:
        with TemporaryDirectory(prefix="sightline-registry-") as scratch:
            self._download(version, Path(scratch))
            return find_differences(Path(scratch), version.sha256, version.files_sha256)

    def remove(self, version: Version) -> None:
        root = _root_of(self._describe(version.number))
        with self._saying():
            self._sagemaker.delete_model_package(ModelPackageName=self._arns.pop(version.number))
            if any(_root_of(self._describe(number)) == root for number in self.numbers(self.group)):
                return
            bucket, prefix = split_address(root)
            for found in list(self._storage.find(bucket, f"{prefix}/")):
                self._s3.delete_object(Bucket=bucket, Key=found.key)

    # S3

    def _root(self) -> str:
        """Where the files of new versions go."""
        if self._files is None:
            account = self._clients.get("sts").get_caller_identity()["Account"]
            self._files = f"s3://sagemaker-{self._region}-{account}/sightline/registry"
        return self._files.rstrip("/")

    def _read_known(self, root: str, described: Mapping[str, Any]) -> dict[str, Any]:
        """What never changes of a version; of one that a pipeline's own step registered, by the files it left."""
        metadata = described.get("CustomerMetadataProperties", {})
        content = self._get(f"{root}/{SHOWN_FOLDER}/{FILES_FILE}")
        files = read_files_json(content, f"{root}/{SHOWN_FOLDER}/{FILES_FILE}") if content else {}
        hashes = {
            "sha256": metadata.get("sha256") or (identity(files) if files else ""),
            "files_sha256": metadata.get("files_sha256") or (hashlib.sha256(content).hexdigest() if content else ""),
        }
        if said := self._get_json(f"{root}/{FACTS_FILE}"):
            return {**hashes, **{key: said[key] for key in ("metrics", "gate", "data", "commit", "created", "facts")}}
        record = self._get_json(f"{root}/{SHOWN_FOLDER}/run.json")
        return {
            **hashes,
            "metrics": self._get_json(f"{root}/{SHOWN_FOLDER}/metrics.json"),
            "gate": self._get_json(f"{root}/{SHOWN_FOLDER}/gate.json") or None,
            "data": record.get("data") or {},
            "commit": record.get("commit") or metadata.get("commit"),
            "created": described["CreationTime"].isoformat(),
            "facts": {key: metadata[key] for key in FACTS if key in metadata},
        }

    def _read_history(
        self, root: str, number: int, described: Mapping[str, Any], known: Mapping[str, Any]
    ) -> tuple[list[dict[str, Any]], str]:
        """What happened, and the mark of that state; with what was done elsewhere, as in the console."""
        key = f"{root}/history/{number}.json"
        content, mark = self._get_marked(key)
        metadata = described.get("CustomerMetadataProperties", {})
        created = event("add", metadata.get("by", "SageMaker"), None, known["created"])
        try:
            history = json.loads(content) if content else [created]
            is_ours = metadata.get(CHANGED, history[0]["at"]) == history[-1]["at"]
        except (ValueError, LookupError, TypeError) as error:
            raise broken(key, str(error)) from error
        if is_ours and "LastModifiedTime" in described:
            history += done_elsewhere(described, history)
        return history, mark

    def _send(self, package: Package, root: str, draft: Version) -> None:
        """The files of a version, what says that all are there last.

        Raises: BadInput for a file that changes meanwhile.
        """
        bucket, prefix = split_address(root)
        with TemporaryDirectory(prefix="sightline-registry-") as scratch:
            archive = Path(scratch, ARCHIVE)
            _write_archive(package, archive)
            self._storage.send(archive, bucket, f"{prefix}/{ARCHIVE}")
        for name in BESIDE:
            if name in package.files:
                self._storage.send(package.folder / name, bucket, f"{prefix}/{SHOWN_FOLDER}/{name}")
        self._storage.write(f"{root}/{SHOWN_FOLDER}/{FILES_FILE}", package.files_json)
        said = {key: getattr(draft, key) for key in ("metrics", "gate", "data", "commit", "created", "facts")}
        self._storage.write(f"{root}/{FACTS_FILE}", json.dumps(said, ensure_ascii=False, indent=2).encode())

    def _download(self, version: Version, folder: Path) -> None:
        """Raises: BadInput for an archive that is gone, damaged or harmful, or that no registry of ours wrote."""
        address = self._describe(version.number)["InferenceSpecification"]["Containers"][0].get("ModelDataUrl", "")
        if not version.files_sha256:
            raise BadInput(
                f"registry:{version.spelled()}: {address} has no {SHOWN_FOLDER}/{FILES_FILE} beside it, so nothing "
                "says what its files must be; register it with python src/registry.py add"
            )
        with TemporaryDirectory(prefix="sightline-registry-") as scratch:
            archive = Path(scratch, ARCHIVE)
            with self._saying():
                if not self._storage.download_file(address, archive):
                    raise BadInput(
                        f"registry:{version.spelled()}: {address} is gone; restore it, or use another version"
                    )
            unpack(archive, folder, title=address, max_bytes=MAX_BYTES)

    def _get(self, address: str) -> bytes:
        return self._get_marked(address)[0]

    def _get_marked(self, address: str) -> tuple[bytes, str]:
        """An object's bytes and its ETag; nothing of one that is not there."""
        from botocore.exceptions import ClientError

        bucket, key = split_address(address)
        with self._saying():
            try:
                found = self._s3.get_object(Bucket=bucket, Key=key)
                return found["Body"].read(), found["ETag"]
            except ClientError as error:
                if error.response["Error"]["Code"] in (*MISSING, "NoSuchBucket"):
                    return b"", ""
                raise

    def _get_json(self, address: str) -> dict[str, Any]:
        try:
            found = json.loads(self._get(address) or b"{}")
        except ValueError as error:
            raise broken(address, str(error)) from error
        return found if isinstance(found, dict) else {}

    def _put_if(self, address: str, content: bytes, **condition: str) -> str:
        """The ETag of what was written; "" where the condition did not hold."""
        from botocore.exceptions import ClientError

        bucket, key = split_address(address)
        try:
            return self._s3.put_object(
                Bucket=bucket, Key=key, Body=content, ServerSideEncryption="AES256", **condition
            )["ETag"]
        except ClientError as error:
            if error.response["Error"]["Code"] in (*TAKEN, *MISSING):
                return ""
            raise

    # SageMaker

    def _describe(self, number: int) -> dict[str, Any]:
        if number not in self._arns and number not in self.numbers(self.group):
            raise BadInput(f"{self.group}/{number}: no such version in {self.place}")
        with self._saying():
            return self._sagemaker.describe_model_package(ModelPackageName=self._arns[number])

    def _make_group(self) -> None:
        from botocore.exceptions import ClientError

        request = {
            "ModelPackageGroupName": self.group,
            "ModelPackageGroupDescription": "Image classifiers of Sightline",
        }
        try:
            self._sagemaker.describe_model_package_group(ModelPackageGroupName=self.group)
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
            try:
                self._sagemaker.create_model_package_group(**request)
            except ClientError as second:  # another writer was first
                if "already exists" not in str(second):
                    raise

    def _serving_image(self, image: str | None) -> str:
        """The image with its digest, where the account's registry tells it.

        Raises: BadInput where there is none.
        """
        if not image:
            raise BadInput(
                f"paths.registry={self.place}: SageMaker wants to know which image serves the model; give its address "
                "by serving_image=… or SAGEMAKER_SERVING_IMAGE in .env (make image-serve builds it, and python -m "
                "sightline.launch.container.image push --image serve pushes it and prints the address)"
            )
        pushed = PUSHED_IMAGE.fullmatch(image)
        if pushed is None or image_digest(image):
            return image
        with self._saying():
            digest = find_digest(self._clients.get("ecr"), *pushed.groups())
        if digest is None:
            raise BadInput(
                f"serving_image={image}: is not in the registry; python -m sightline.launch.container.image push "
                "--image serve puts it there"
            )
        return f"{image.rpartition(':')[0]}@{digest}"

    @property
    def _sagemaker(self) -> Any:
        return self._clients.get("sagemaker")

    @property
    def _s3(self) -> Any:
        return self._clients.get("s3")

    @property
    def _storage(self) -> Storage:
        return Storage(self._s3)

    @contextmanager
    def _saying(self) -> Iterator[None]:
        """What AWS refuses, in our words."""
        try:
            from boto3.exceptions import Boto3Error
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise BadInput(f"paths.registry={self.place}: {NEEDS_BOTO3}") from error
        try:
            yield
        except ClientError as error:
            said = error.response["Error"]
            hint = (
                "; docs/sagemaker_registry.md has the policy that is needed" if "Denied" in said.get("Code", "") else ""
            )
            if said.get("Code") == "NoSuchBucket":
                hint = f": {self._files}; make it, or name another by {self.place}@s3://bucket/prefix"
            raise BadInput(
                f"paths.registry={self.place}: {error.operation_name} was refused ({said.get('Code')}: "
                f"{said.get('Message')}){hint}"
            ) from error
        except (BotoCoreError, Boto3Error) as error:
            hint = "; AWS_REGION in .env or `aws configure set region NAME` sets it" if "region" in str(error) else ""
            raise BadInput(f"paths.registry={self.place}: AWS cannot be asked ({error}){hint}") from error


def _root_of(described: Mapping[str, Any]) -> str:
    """The folder of a version's archive."""
    return described["InferenceSpecification"]["Containers"][0].get("ModelDataUrl", "").rpartition("/")[0]


def _write_archive(package: Package, file: Path) -> None:
    """The package as SageMaker unpacks it, and files.json in it; the same bytes for the same files.

    Raises: BadInput for a file that changes meanwhile.
    """
    with (
        file.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, sha256 in sorted(package.files.items()):
            content = (package.folder / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != sha256:
                raise BadInput(
                    f"{package.folder / name}: changed while it was registered; do it again when it is finished"
                )
            _add(archive, name, content)
        _add(archive, FILES_FILE, package.files_json)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))
