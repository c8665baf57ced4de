"""`docker run IMAGE selftest`: whether the model opens, and what is made of a picture at every door."""

import base64
import json
import platform
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sightline.errors import FAILED, BadInput
from sightline.serve_settings import PREFIX, ServeSettings
from sightline.serving.contract import Problem
from sightline.serving.lambda_handler import LambdaHandler
from sightline.serving.made_model import write_made_model
from sightline.serving.model_source import OPT_ML_MODEL, SOURCE
from sightline.serving.pool import count_cores
from sightline.serving.readiness import Readiness, describe, made_picture
from sightline.serving.runtime_predictor import RuntimePredictor

PACKAGES = ("onnxruntime", "numpy", "pillow", "fastapi", "uvicorn", "awslambdaric", "boto3")
MOST_DIFFERENCE = 1e-4
"""Between the probabilities that two doors give for the same picture."""
SECONDS = 30.0
Opener = Callable[[Mapping[str, str], ServeSettings], Callable[[], RuntimePredictor]]
"""The entry point's: variables and settings to what opens the model, as the user that is to answer."""


def selftest(environment: Mapping[str, str], settings: ServeSettings, opener: Opener) -> int:
    """Answer a made picture through every door; 0, or 1 with the reason.

    The model is that of the environment, or a made one where none is given and none is mounted.
    """
    started = time.monotonic()
    print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    print(f"commit {environment.get('SIGHTLINE_COMMIT') or 'unknown'}, {count_cores()} cores", flush=True)
    try:
        with _model_source(environment) as source:
            open_it = opener({**environment, SOURCE: source}, settings)
            answers = _ask_every_door(open_it, environment, replace(settings, capture=None))
    except (BadInput, Problem, OSError) as error:
        print(f"self-test failed: {error}")
        return FAILED
    shares = [each["probability"] for each in answers.values()]
    labels = {each["label"] for each in answers.values()}
    if len(labels) > 1 or max(shares) - min(shares) > MOST_DIFFERENCE:
        print("self-test failed: the doors differ: " + ", ".join(f"{k} {v['label']}" for k, v in answers.items()))
        return FAILED
    print(f"the same answer at {', '.join(answers)}\nself-test passed in {time.monotonic() - started:.1f} s")
    return 0


@contextmanager
def _model_source(environment: Mapping[str, str]) -> Iterator[str]:
    source = environment.get(SOURCE) or OPT_ML_MODEL
    mounted = Path(OPT_ML_MODEL)
    if environment.get(SOURCE) or (mounted.is_dir() and any(mounted.iterdir())):
        yield source
        return
    print(f"no model: {SOURCE} is not set and nothing is in {OPT_ML_MODEL}; a made one stands in")
    folder = Path(tempfile.mkdtemp(prefix="sightline-selftest-"))
    try:
        yield str(write_made_model(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # it is root's, and by now we may be somebody else


def _ask_every_door(
    open_it: Callable[[], RuntimePredictor], environment: Mapping[str, str], settings: ServeSettings
) -> dict[str, dict[str, Any]]:
    """What the model itself, the server and the function say of a made picture."""
    readiness = Readiness(settings)
    readiness.load(open_it)
    if readiness.service is None:
        raise readiness.error or BadInput(readiness.reason)
    model = readiness.service.answerer
    assert isinstance(model, RuntimePredictor)
    print(f"model {describe(model)}, {settings.precision}, {len(model.spec.class_names)} classes")
    picture, token = made_picture(model.spec), environment.get(f"{PREFIX}TOKEN", "")
    (itself,) = model.answer([picture], ["selftest"])
    if isinstance(itself, Problem):
        raise itself
    handler = LambdaHandler(readiness.service, token)
    in_base64 = base64.b64encode(picture).decode()
    event = {
        "version": "2.0",
        "rawPath": "/invocations",
        "requestContext": {"http": {"method": "POST"}, "stage": "$default"},
        "headers": {"content-type": "application/octet-stream", "authorization": f"Bearer {token}"},
        "body": in_base64,
        "isBase64Encoded": True,
    }
    answers = {
        "model": itself.to_dict(),
        "direct call": handler({"image": in_base64}, None),
        "HTTP API": json.loads(handler(event, None)["body"]),
        "server": _ask_server(model, settings, token, picture),
    }
    for door, answer in answers.items():
        if "label" not in answer:
            raise BadInput(f"{door}: {answer.get('detail', answer)}")
    return answers


def _ask_server(model: RuntimePredictor, settings: ServeSettings, token: str, picture: bytes) -> dict[str, Any]:
    """The answer of a server that runs for one request."""
    import uvicorn

    from sightline.serving.app import make_app
    from sightline.serving.http_server import address_of, listen

    opened = listen(replace(settings, host="127.0.0.1", port=0))
    config = uvicorn.Config(make_app(lambda: model, settings, token), log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([opened],), daemon=True)
    thread.start()
    try:
        headers = {"Content-Type": "application/octet-stream", "Authorization": f"Bearer {token}"}
        address, until = address_of(opened), time.monotonic() + SECONDS
        while _status(f"{address}/ping") != 200:
            if time.monotonic() > until:
                raise BadInput(f"the server is not ready after {SECONDS:.0f} s")
            time.sleep(0.02)
        asked = urllib.request.Request(f"{address}/invocations", picture, headers)
        with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
            return json.load(answer)
    finally:
        server.should_exit = True
        thread.join(SECONDS)


def _status(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
