"""The Lambda door, asked by AWS's own runtime client in a process of its own, as the service asks it."""

import base64
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.serving.runtime_api import Function, function
from tests.serving.serving_image import in_base64, picture

from sightline.errors import BadInput
from sightline.serving.lambda_handler import open_handler
from sightline.serving.made_model import write_made_model

BUCKET = "photos"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_model(tmp_path_factory.mktemp("made") / "model")


@pytest.fixture(scope="module")
def running(model: Path) -> Iterator[Function]:
    with function({"MODEL_URI": str(model)}) as started:
        yield started


def http(path: str, method: str = "POST", body: bytes = b"", stage: str = "$default", **headers: str) -> dict[str, Any]:
    """An event of an HTTP API, payload 2.0; `content_type` is the header content-type."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {name.replace("_", "-"): value for name, value in headers.items()},
        "requestContext": {"http": {"method": method, "path": path}, "stage": stage, "requestId": "JKJaXmPLvHcESHA="},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def test_an_http_event_is_answered_by_what_the_contract_says(running: Function) -> None:
    """Cold, and warm by the same process."""
    for name in ("red", "green", "blue"):
        said = running(http("/invocations", body=picture(name, "JPEG"), content_type="image/jpeg", x_request_id=name))
        assert (said["statusCode"], said["isBase64Encoded"]) == (200, False)
        assert said["headers"]["content-type"] == "application/json"
        answer = json.loads(said["body"])
        assert (answer["id"], answer["label"], answer["unsure"]) == (name, name, False)
    said = running(http("/prod/invocations", body=picture(), stage="prod", content_type="image/png", accept="text/csv"))
    assert said["headers"]["content-type"].startswith("text/csv")
    assert "red" in said["body"].splitlines()[1]


def test_a_direct_call_takes_the_contracts_json(running: Function) -> None:
    assert running({"image": in_base64("green"), "id": "mine"})["label"] == "green"
    several = running({"images": [in_base64("red"), "bm8=", in_base64("blue")]})["predictions"]
    assert [each.get("label", each.get("status")) for each in several] == ["red", 400, "blue"]
    problem = running({"image": "bm8=", "id": "mine"})
    assert (problem["status"], problem["field"]) == (400, "image")
    assert running({"image": in_base64(), "colour": "red"})["status"] == 422


def test_the_sender_gets_problems_and_never_an_error(running: Function) -> None:
    damaged = {**http("/invocations", content_type="image/png"), "body": "%%%"}
    cases = {
        400: damaged,
        404: http("/nothing", "GET"),
        405: http("/invocations", "GET"),
        413: http("/invocations", body=bytes(4_000_001), content_type="image/png"),
        415: http("/invocations", body=b"a", content_type="text/plain"),
    }
    for status, event in cases.items():
        said = running(event)
        assert (said["statusCode"], json.loads(said["body"])["status"]) == (status, status)
        assert said["headers"]["content-type"] == "application/problem+json"


def test_page_model_ping_and_heat_map(running: Function) -> None:
    page = running(http("/", "GET"))
    assert page["headers"]["content-type"].startswith("text/html")
    assert "<html" in page["body"]
    assert running(http("/page.js", "GET"))["statusCode"] == 200
    for path in ("/../entrypoint.py", "/entrypoint.py", "/page/index.html"):
        assert running(http(path, "GET"))["statusCode"] == 404, path
    assert running(http("/ping", "GET"))["statusCode"] == 200
    assert json.loads(running(http("/model", "GET"))["body"])["classes"] == ["blue", "green", "red"]
    found = running(http("/explain", body=picture(), content_type="image/png"))
    assert (found["statusCode"], found["isBase64Encoded"]) == (200, True)
    assert base64.b64decode(found["body"]).startswith(b"\x89PNG")
    assert found["headers"]["x-sightline-label"] == "red"


def test_the_open_inference_protocol_has_its_doors(running: Function) -> None:
    assert json.loads(running(http("/v2/health/ready", "GET"))["body"])["ready"]
    assert json.loads(running(http("/v2/models/made", "GET"))["body"])["name"] == "made"
    assert running(http("/v2/models/made/versions/0/ready", "GET"))["statusCode"] == 200
    asked = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [in_base64("blue")]}]}
    said = running(http("/v2/models/made/infer", body=json.dumps(asked).encode(), content_type="application/json"))
    assert said["statusCode"] == 200, said
    assert "blue" in said["body"]
    assert running(http("/v2/models/other", "GET"))["statusCode"] == 404


def test_an_event_of_another_kind_is_the_callers_error_and_the_next_is_answered(running: Function) -> None:
    with pytest.raises(RuntimeError, match="BadInput") as failed:
        running({"picture": "a"})
    assert "an event with picture" in json.loads(str(failed.value))["errorMessage"]
    for event in ([], "s3://photos/in/a.png", None):
        with pytest.raises(RuntimeError, match="BadInput"):
            running(event)
    with pytest.raises(RuntimeError, match="payload"):
        running({"httpMethod": "POST", "path": "/invocations", "body": ""})
    assert running({"image": in_base64("green")})["label"] == "green"
    assert running.process.poll() is None


def test_awss_client_calls_it(running: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    client = boto3.client("lambda", region_name="eu-west-1", endpoint_url=f"http://{running.api.address}")
    found = client.invoke(FunctionName="sightline", Payload=json.dumps({"image": in_base64("blue")}).encode())
    assert json.load(found["Payload"])["label"] == "blue"
    assert "FunctionError" not in found
    assert client.invoke(FunctionName="sightline", Payload=b"{}")["FunctionError"] == "Unhandled"


def test_a_token_guards_the_http_doors_and_not_the_page(model: Path) -> None:
    with function({"MODEL_URI": str(model), "SIGHTLINE_SERVE_TOKEN": "geheim é"}) as guarded:
        asked: dict[str, Any] = {"body": picture(), "content_type": "image/png"}
        refused: list[dict[str, Any]] = [{}, {"authorization": "Bearer geheim"}, {"authorization": "geheim é"}]
        for given in refused:
            said = guarded(http("/invocations", **asked, **given))
            assert (said["statusCode"], json.loads(said["body"])["title"]) == (401, "Unauthorized")
            assert said["headers"]["www-authenticate"] == "Bearer"
        assert guarded(http("/invocations", **asked, authorization="bearer geheim é"))["statusCode"] == 200
        assert guarded(http("/", "GET"))["statusCode"] == guarded(http("/ping", "GET"))["statusCode"] == 200
        assert guarded(http("/model", "GET"))["statusCode"] == 401
        assert guarded({"image": in_base64()})["label"] == "red", "who may call the function directly, AWS decides"


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"MODEL_URI": "/nowhere"}, "MODEL_URI=/nowhere: no such folder"),
        ({"SIGHTLINE_SERVE_CAPTURE": "/tmp/capture"}, "SIGHTLINE_SERVE_CAPTURE: is not for Lambda"),
        ({"SIGHTLINE_SERVE_THREAD": "2"}, "SIGHTLINE_SERVE_THREAD: no such setting"),
        (
            {"SIGHTLINE_SERVE_OUTPUT": "s3://photos/in/out", "SIGHTLINE_SERVE_S3_PREFIXES": '["s3://photos/in"]'},
            "answered again",
        ),
    ],
)
def test_what_cannot_be_opened_is_the_error_of_the_init(environment: dict[str, str], reason: str) -> None:
    with function(environment) as failing:
        failing.process.communicate(timeout=60)
        assert failing.process.returncode == 1
        assert not failing.api.asked.is_set()
        assert failing.api.init_error is not None
        assert failing.api.init_error["errorType"] == "BadInput"
        assert reason in failing.api.init_error["errorMessage"]


def test_what_would_take_longer_than_the_function_may_is_a_problem(model: Path) -> None:
    """Lambda itself would end the process, and tell the sender nothing."""

    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 100

    handler = open_handler({"MODEL_URI": str(model)})
    for path in ("/invocations", "/explain"):
        said = handler(http(path, body=picture(), content_type="image/png"), Context())
        assert (said["statusCode"], json.loads(said["body"])["title"]) == (503, "Took too long")
    assert handler({"image": in_base64()}, Context())["status"] == 503


def test_events_come_from_several_threads_at_once(model: Path) -> None:
    handler = open_handler({"MODEL_URI": str(model)})
    names = ["red", "green", "blue"] * 20
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda name: handler({"image": in_base64(name), "id": name}, None), names))
    assert [(each["id"], each["label"]) for each in answers] == [(name, name) for name in names]


def test_the_first_answer_loads_no_server_and_no_client_of_aws(model: Path) -> None:
    """What a cold start waits for."""
    program = (
        "import base64, json, sys\n"
        "from sightline.serving import lambda_handler\n"
        f"answer = lambda_handler.handle({{'image': {in_base64()!r}}}, None)\n"
        "assert answer['label'] == 'red', answer\n"
        "print(sorted({'fastapi', 'starlette', 'uvicorn', 'boto3', 'botocore', 'torch', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"MODEL_URI": str(model)}, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr


# events of S3


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, str]]]:
    """A client, and the variables with which a function finds the same S3."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    known = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    known |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    client = boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    for key, body in {"in/a b+ü.png": picture("blue"), "in/text.png": b"no picture", "other/c.png": picture()}.items():
        client.put_object(Bucket=BUCKET, Key=key, Body=body)
    yield client, {**known, "SIGHTLINE_SERVE_S3_PREFIXES": f'["s3://{BUCKET}/in"]'}
    server.stop()


def notification(*keys: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    """S3's own event, with keys as it writes them."""
    records = [
        {
            "eventSource": "aws:s3",
            "eventName": name,
            "s3": {"bucket": {"name": BUCKET}, "object": {"key": key, "sequencer": f"00{number}"}},
        }
        for number, key in enumerate(keys)
    ]
    return {"Records": records}


def test_new_objects_are_answered_into_a_folder(model: Path, s3: tuple[Any, dict[str, str]], tmp_path: Path) -> None:
    output = tmp_path / "answers"
    given = {"MODEL_URI": str(model), **s3[1], "SIGHTLINE_SERVE_OUTPUT": str(output)}
    with function(given) as running:
        event = notification("in/a+b%2B%C3%BC.png", "in/text.png", "other/c.png", "in/gone.png")
        assert running(event) == {"answered": 1, "problems": 3}
        by_eventbridge = {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {"bucket": {"name": BUCKET}, "object": {"key": "in/a b+ü.png", "sequencer": "07"}},
        }
        assert running(by_eventbridge) == {"answered": 1, "problems": 0}
        assert running({"Service": "Amazon S3", "Event": "s3:TestEvent"}) == {"answered": 0, "problems": 0}
        assert running(notification("in/text.png", name="ObjectRemoved:Delete")) == {"answered": 0, "problems": 0}
    (file,) = [path for path in output.rglob("*") if path.is_file()]
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [(each["object"], each["id"], each.get("label", each.get("status"))) for each in records] == [
        (f"s3://{BUCKET}/in/a b+ü.png", "000", "blue"),
        (f"s3://{BUCKET}/in/text.png", "001", 400),
        (f"s3://{BUCKET}/other/c.png", "002", 422),
        (f"s3://{BUCKET}/in/gone.png", "003", 422),
        (f"s3://{BUCKET}/in/a b+ü.png", "07", "blue"),
    ]


def test_answers_go_to_s3_and_a_failure_there_is_an_error_that_lambda_tries_again(
    model: Path, s3: tuple[Any, dict[str, str]]
) -> None:
    client, known = s3
    given = {"MODEL_URI": str(model), **known}
    with function({**given, "SIGHTLINE_SERVE_OUTPUT": f"s3://{BUCKET}/out"}) as running:
        assert running(notification("in/a+b%2B%C3%BC.png")) == {"answered": 1, "problems": 0}
    (key,) = [each["Key"] for each in client.list_objects_v2(Bucket=BUCKET, Prefix="out/")["Contents"]]
    assert json.load(client.get_object(Bucket=BUCKET, Key=key)["Body"])["label"] == "blue"
    with (
        function({**given, "SIGHTLINE_SERVE_OUTPUT": "s3://no-such-bucket/out"}) as running,
        pytest.raises(RuntimeError, match="SIGHTLINE_SERVE_OUTPUT"),
    ):
        running(notification("in/a+b%2B%C3%BC.png"))
    with pytest.raises(BadInput, match="SIGHTLINE_SERVE_OUTPUT: is not set"):
        open_handler({"MODEL_URI": str(model)})(notification("in/a+b%2B%C3%BC.png"), None)
