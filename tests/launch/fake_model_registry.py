"""Model package groups and their versions as the API of SageMaker keeps them; docs/registry.md says what it knows."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sightline.aws.request_check import check_request
from sightline.errors import BadInput
from sightline.registry.model_package import clean_metadata

ACCOUNT = "arn:aws:sagemaker:eu-west-1:123456789012"


class Refused(Exception):
    """What the service answers with: a code, and why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ModelRegistry:
    """`packages` has the versions of each group by number; a number is never given twice."""

    def __init__(self) -> None:
        self.packages: dict[str, dict[int, dict[str, Any]]] = {}
        self._last: dict[str, int] = {}
        self._tokens: dict[str, str] = {}
        self.refused: set[str] = set()
        """Operations that these credentials may not call."""
        self._registry = threading.Lock()

    def CreateModelPackageGroup(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        _check("CreateModelPackageGroup", request)
        name = request["ModelPackageGroupName"]
        with self._registry:
            if name in self.packages:
                raise _invalid(f"Model Package Group already exists: {_group_arn(name)}")
            self.packages[name], self._last[name] = {}, 0
        return {"ModelPackageGroupArn": _group_arn(name)}

    def DescribeModelPackageGroup(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = request["ModelPackageGroupName"]
        if name not in self.packages:
            raise _invalid(f"ModelPackageGroup {_group_arn(name)} does not exist.")
        return {
            "ModelPackageGroupName": name,
            "ModelPackageGroupArn": _group_arn(name),
            "CreationTime": time.time(),
            "CreatedBy": {},
            "ModelPackageGroupStatus": "Completed",
        }

    def CreateModelPackage(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        _check("CreateModelPackage", request)
        name = request["ModelPackageGroupName"]
        with self._registry:
            if name not in self.packages:
                raise _invalid(f"Model Package Group {_group_arn(name)} does not exist.")
            token = request.get("ClientToken", "")
            if token in self._tokens:
                return {"ModelPackageArn": self._tokens[token]}
            self._last[name] += 1
            number = self._last[name]
            arn = f"{ACCOUNT}:model-package/{name.lower()}/{number}"
            kept = {key: value for key, value in request.items() if key not in ("Tags", "ClientToken")}
            self.packages[name][number] = {
                **kept,
                "ModelPackageArn": arn,
                "ModelPackageVersion": number,
                "ModelPackageName": name,
                "ModelPackageStatus": "Completed",
                "ModelPackageStatusDetails": {"ValidationStatuses": [{"Name": arn, "Status": "NotStarted"}]},
                "CreationTime": time.time(),
            }
            if token:
                self._tokens[token] = arn
        return {"ModelPackageArn": arn}

    def DescribeModelPackage(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._find_package(request["ModelPackageName"])

    def ListModelPackages(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        """In pages of two, which whoever asks has to turn."""
        _check("ListModelPackages", request)
        found = list(self.packages.get(request["ModelPackageGroupName"], {}).values())
        if status := request.get("ModelApprovalStatus"):
            found = [each for each in found if each.get("ModelApprovalStatus") == status]
        if request.get("SortOrder") != "Ascending":
            found.reverse()
        begin = int(request.get("NextToken", 0))
        shown = ("ModelPackageGroupName", "ModelPackageVersion", "ModelPackageArn", "ModelPackageDescription")
        shown += ("CreationTime", "ModelPackageStatus", "ModelApprovalStatus", "ModelLifeCycle")
        rows = [{key: each[key] for key in shown if key in each} for each in found[begin : begin + 2]]
        more = {"NextToken": str(begin + 2)} if begin + 2 < len(found) else {}
        return {"ModelPackageSummaryList": rows, **more}

    def UpdateModelPackage(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        _check("UpdateModelPackage", request)
        with self._registry:
            package = self._find_package(request["ModelPackageArn"])
            metadata = {
                **package.get("CustomerMetadataProperties", {}),
                **request.get("CustomerMetadataProperties", {}),
            }
            for name in request.get("CustomerMetadataPropertiesToRemove", ()):
                metadata.pop(name, None)
            changes = ("ModelApprovalStatus", "ApprovalDescription", "ModelLifeCycle", "ModelCard")
            package |= {key: request[key] for key in changes if key in request}
            package |= {"CustomerMetadataProperties": metadata, "LastModifiedTime": time.time(), "LastModifiedBy": {}}
        return {"ModelPackageArn": package["ModelPackageArn"]}

    def DeleteModelPackage(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        package = self._find_package(request["ModelPackageName"])
        with contextlib.suppress(KeyError):
            del self.packages[package["ModelPackageGroupName"]][package["ModelPackageVersion"]]
        return {}

    def _find_package(self, arn: str) -> dict[str, Any]:
        for versions in self.packages.values():
            for package in versions.values():
                if package["ModelPackageArn"] == arn:
                    return package
        raise _invalid(f"ModelPackage {arn} does not exist.")


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, ModelRegistry]]:
    """The address of an API that has model packages alone, and what it keeps."""
    registry = ModelRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            operation = self.headers["X-Amz-Target"].split(".")[1]
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                if operation in registry.refused:
                    raise Refused("AccessDeniedException", f"not authorized to perform: sagemaker:{operation}")
                code, answer = 200, getattr(registry, operation)(request)
            except Refused as refused:
                code, answer = 400, {"__type": refused.code, "message": str(refused)}
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the tests say what went wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", registry
    finally:
        server.shutdown()
        server.server_close()


def _group_arn(name: str) -> str:
    return f"{ACCOUNT}:model-package-group/{name}"


def _invalid(message: str) -> Refused:
    return Refused("ValidationException", message)


def _check(operation: str, request: dict[str, Any]) -> None:
    """What the service would refuse, by botocore's model and by the pattern of metadata, which `re` cannot read."""
    try:
        check_request(operation, request)
    except BadInput as problem:
        raise _invalid(str(problem)) from problem
    metadata = request.get("CustomerMetadataProperties", {})
    if clean_metadata(metadata) != metadata:
        raise _invalid(f"CustomerMetadataProperties: {metadata} failed to satisfy constraint")
