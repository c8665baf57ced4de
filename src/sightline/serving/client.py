"""A client of what is deployed: a server, a SageMaker endpoint or a Lambda function, asked as the contract says."""

import base64
import json
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from multiprocessing.pool import AsyncResult, ThreadPool
from pathlib import Path
from typing import Any

from sightline.errors import BadInput
from sightline.runs.files import read_json
from sightline.serving.contract import Answer, HeatMap, ModelIdentity, Problem, Timings
from sightline.serving.endpoint_transport import UNREACHABLE, HttpTransport, Reply, Transport

CONNECTIONS, RETRIES, TIMEOUT_SECONDS = 8, 8, 60.0
FORMS = "http://HOST:PORT, https://…, sagemaker:NAME, lambda:NAME or deployment:NAME/STAGE"
TOKEN = "SIGHTLINE_SERVE_TOKEN"


class Endpoint:
    """An endpoint that is asked like a model; several requests are under way at a time."""

    def __init__(self, address: str, transport: Transport, connections: int = CONNECTIONS) -> None:
        self.address, self.transport, self.connections = address, transport, connections

    def answer(self, pictures: Sequence[bytes], ids: Sequence[str]) -> list[Answer | Problem]:
        """An answer for each picture's bytes in order, or the problem in its place."""
        if len(pictures) == 1:
            return [self.ask(pictures[0], ids[0])]
        with ThreadPool(self.connections) as pool:
            return pool.starmap(self.ask, zip(pictures, ids, strict=True), chunksize=1)

    def answer_each(self, reads: Iterable[Callable[[], bytes]]) -> Iterator[Answer | Problem]:
        """The same for any number of pictures, of which a few are in memory; what a read raises is its answer."""

        def ask(read: Callable[[], bytes]) -> Answer | Problem:
            try:
                return self.ask(read(), uuid.uuid4().hex)
            except Problem as problem:
                return problem

        waiting: deque[AsyncResult[Answer | Problem]] = deque()
        with ThreadPool(self.connections) as pool:  # of daemons: a program that is told to end waits for no answer
            for read in reads:
                waiting.append(pool.apply_async(ask, (read,)))
                if len(waiting) >= 2 * self.connections:
                    yield waiting.popleft().get()
            while waiting:
                yield waiting.popleft().get()

    def ask(self, picture: bytes, own_id: str) -> Answer | Problem:
        """The answer to one picture, or the problem."""
        headers = {"Content-Type": "application/octet-stream", "Accept": "application/json", "X-Request-Id": own_id}
        try:
            reply = self.transport.send("POST", "/invocations", picture, headers)
            return read_answer(self._read(reply))
        except Problem as problem:
            return problem

    def explain(self, picture: bytes) -> HeatMap:
        """Raises: Problem, 501 where the endpoint has no such door."""
        headers = {"Content-Type": "application/octet-stream", "Accept": "application/json"}
        said = self._read(self.transport.send("POST", "/explain", picture, headers))
        try:
            png = base64.b64decode(said["image"].partition("base64,")[2], validate=True)
            return HeatMap(png, said["label"], float(said["probability"]), float(said["drop"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._stranger("no heat map came back") from error

    def describe(self) -> dict[str, Any]:
        """What the endpoint says of itself; of one that has the door of answers alone, what an answer says.

        Raises: BadInput where there is no endpoint of ours, or it wants a token.
        """
        return dict(self._described)

    @cached_property
    def _described(self) -> dict[str, Any]:
        try:
            said = self._read(self.transport.send("GET", "/model", b"", {"Accept": "application/json"}))
            if not {"name", "sha256", "classes"} <= said.keys():
                raise self._stranger("GET /model does not name a model")
            return said
        except Problem as problem:
            if problem.status == 501:
                return self._described_by_an_answer()
            raise self._refused(problem) from problem

    def _described_by_an_answer(self) -> dict[str, Any]:
        answer = self.ask(_made_picture(), uuid.uuid4().hex)
        if isinstance(answer, Problem):
            raise self._refused(answer) from answer
        unknown = dict.fromkeys(("created", "precision", "accuracy", "classes", "image_size", "channels", "bit_depth"))
        return {**vars(answer.model), **unknown, "threshold": answer.threshold}

    def _refused(self, problem: Problem) -> BadInput:
        hint = f"; set {TOKEN} to its token" if problem.status == 401 else ""
        hint = hint or (f"; is it one of ours, and does it run? Give {FORMS}" if problem.status != 503 else "")
        return BadInput(f"endpoint={self.address}: {problem.detail}{hint}")

    def _read(self, reply: Reply) -> dict[str, Any]:
        """The JSON of a good reply.

        Raises: Problem, the endpoint's own where it is one.
        """
        try:
            said = json.loads(reply.body)
        except ValueError:
            said = None
        if reply.status < 300 and isinstance(said, dict):
            return said
        said = said if isinstance(said, dict) and "detail" in said else {}
        if reply.status < 300 or not said:
            raise self._stranger(f"its answer is no JSON of ours (status {reply.status})", reply.status)
        after = reply.headers.get("retry-after", "")
        retry_after = int(after) if after.isdecimal() else None
        title = str(said.get("title", "Refused"))
        raise Problem(reply.status, title, str(said["detail"]), said.get("field"), retry_after)

    def _stranger(self, what: str, status: int = UNREACHABLE) -> Problem:
        return Problem(status if status >= 400 else UNREACHABLE, "Not a Sightline service", f"{self.address}: {what}")


def read_answer(said: Mapping[str, Any]) -> Answer:
    """An answer from its JSON.

    Raises: Problem for JSON that is none.
    """
    try:
        model, timings = ModelIdentity(**said["model"]), Timings(**said.get("timings", {}))
        probabilities = {str(name): float(share) for name, share in said["probabilities"].items()}
        rest = (bool(said["unsure"]), said["threshold"], model, timings)
        return Answer(said["id"], said["label"], float(said["probability"]), probabilities, *rest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Problem(
            UNREACHABLE, "Not a Sightline service", f"the answer is none of the contract ({error!r})"
        ) from error


def _made_picture() -> bytes:
    """A grey picture, to ask who answers."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(buffer, "PNG")
    return buffer.getvalue()


# where it is


def open_endpoint(
    address: str,
    token: str | None = None,
    *,
    runs: Path = Path("runs"),
    connections: int = CONNECTIONS,
    retries: int = RETRIES,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Endpoint:
    """The endpoint at an address; nothing is sent yet. `runs` has the deployments, whose addresses they name.

    Raises: BadInput for an address of another form, a deployment that there is not, or a library that is missing.
    """
    kind, _, name = address.partition(":")
    if kind == "deployment":
        found = _address_of(address, name, runs)
        options = {"connections": connections, "retries": retries, "timeout_seconds": timeout_seconds}
        return open_endpoint(found, token, **options)
    if kind in ("http", "https"):
        transport: Transport = HttpTransport(address, token, connections, retries, timeout_seconds)
    elif kind in ("sagemaker", "lambda") and name:
        from sightline.serving.aws_transport import LambdaTransport, SageMakerTransport

        made = SageMakerTransport if kind == "sagemaker" else LambdaTransport
        transport = made(name, token, connections, retries, timeout_seconds)
    else:
        raise BadInput(f"endpoint={address}: no address of an endpoint; give {FORMS}")
    return Endpoint(address, transport, connections)


def _address_of(address: str, name: str, runs: Path) -> str:
    deployment, _, stage = name.partition("/")
    record = runs / "deployments" / deployment / f"{stage}.json"
    if not stage or "/" in stage or ".." in (deployment, stage):
        raise BadInput(f"endpoint={address}: give the deployment and its stage, like deployment:{deployment}/staging")
    found = read_json(record).get("address")
    if not found:
        there = sorted(each.stem for each in record.parent.glob("*.json"))
        known = f"its stages are {', '.join(there)}" if there else "nothing of this name is deployed from here"
        raise BadInput(f"endpoint={address}: {record} names no address; {known}")
    return str(found)
