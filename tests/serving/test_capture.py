"""What is asked and answered, captured beside the service."""

import base64
import hashlib
import json
import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serving.servers import HeldUp, Served, serving, wait_until

from sightline.serving.capture import MOST_BYTES, Capture, is_sampled

KIND = "application/octet-stream"
BUCKET = "captured"


def ask(served: Served, *ids: str) -> None:
    for own_id in ids:
        reply = served.ask("POST", "/invocations", f"picture {own_id}".encode(), Content_Type=KIND, X_Request_Id=own_id)
        assert reply.status == 200


def counted(served: Served, outcome: str) -> float:
    text = served.ask("GET", "/metrics").body.decode()
    found = re.search(rf'sightline_capture_total{{outcome="{outcome}"}} (\S+)', text)
    return float(found[1]) if found else 0.0


def records(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.rglob("*.jsonl"))
    assert all(re.fullmatch(r"\d{4}/\d\d/\d\d/\d\d/[^/]+", str(file.relative_to(folder))) for file in files)
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_answers_are_captured_in_sagemakers_format(tmp_path: Path) -> None:
    with serving(HeldUp, capture=str(tmp_path)) as served:
        ask(served, "1", "2")
        wait_until(lambda: counted(served, "written") == 2)
    first, second = records(tmp_path)
    assert first["eventVersion"] == "0"
    assert first["eventMetadata"]["inferenceId"] == "1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first["eventMetadata"]["inferenceTime"])
    assert first["eventMetadata"]["eventId"] != second["eventMetadata"]["eventId"]
    asked, answered = first["captureData"]["endpointInput"], first["captureData"]["endpointOutput"]
    sha256 = hashlib.sha256(b"picture 1").hexdigest()
    assert (asked["mode"], asked["encoding"]) == ("INPUT", "JSON")
    assert json.loads(asked["data"]) == {"sha256": sha256, "bytes": len("picture 1")}
    assert (answered["mode"], answered["encoding"]) == ("OUTPUT", "JSON")
    said = json.loads(answered["data"])
    assert said["id"] == "1"
    assert said["class"] in ("a", "b")
    assert said["confidence"] in (0.55, 0.9)
    assert said["threshold"] == 0.6
    assert said["sha256"] == sha256
    assert said["model"] == {"name": "held-up", "version": "7", "sha256": "c0ffee"}
    assert np.frombuffer(base64.b64decode(said["features"]), "<f2").tolist() == [1.0, 2.0]


def test_pictures_are_captured_where_that_is_said(tmp_path: Path) -> None:
    jpeg = b"\xff\xd8 not really"
    with serving(HeldUp, capture=str(tmp_path), capture_images=True) as served:
        assert served.ask("POST", "/invocations", jpeg, Content_Type=KIND).status == 200
        wait_until(lambda: counted(served, "written") == 1)
    asked = records(tmp_path)[0]["captureData"]["endpointInput"]
    assert (asked["observedContentType"], asked["encoding"]) == ("image/jpeg", "BASE64")
    assert base64.b64decode(asked["data"]) == jpeg


def test_several_pictures_of_one_request_are_records_of_their_own(tmp_path: Path) -> None:
    images = [base64.b64encode(f"picture {number}".encode()).decode() for number in range(3)]
    with serving(HeldUp, capture=str(tmp_path)) as served:
        body = json.dumps({"images": images})
        reply = served.ask("POST", "/invocations", body, Content_Type="application/json", X_Request_Id="many")
        wait_until(lambda: counted(served, "written") == 3)
    ids = [each["id"] for each in reply.json["predictions"]]
    assert [each["eventMetadata"]["inferenceId"] for each in records(tmp_path)] == ids


def test_a_share_of_the_answers_is_captured_the_same_each_time(tmp_path: Path) -> None:
    ids = [str(number) for number in range(60)]
    wanted = [own_id for own_id in ids if is_sampled(own_id, 30)]
    assert 5 < len(wanted) < 40
    assert {*wanted} <= {own_id for own_id in ids if is_sampled(own_id, 60)}
    assert all(is_sampled(own_id, 100) and not is_sampled(own_id, 0) for own_id in ids)
    with serving(HeldUp, capture=str(tmp_path), capture_percent=30) as served:
        ask(served, *ids)
    assert [each["eventMetadata"]["inferenceId"] for each in records(tmp_path)] == wanted


def test_what_waits_is_written_at_the_end(tmp_path: Path) -> None:
    with serving(HeldUp, capture=str(tmp_path)) as served:
        ask(served, *(str(number) for number in range(20)))
    assert len(records(tmp_path)) == 20


def test_a_disk_that_takes_nothing_fails_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with serving(HeldUp, capture=str(blocked)) as served:
        ask(served, "1", "2", "3")
        wait_until(lambda: counted(served, "failed") == 3)
        assert served.ask("GET", "/ping").status == 200
        blocked.unlink()
        ask(served, "4")
        wait_until(lambda: counted(served, "written") == 1)
    assert "not written" in caplog.text


@pytest.fixture
def silent_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        set_credentials(monkeypatch)
        yield


def set_credentials(patch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "testing")
    patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        patch.setenv(name, "/nonexistent")


@pytest.mark.usefixtures("silent_s3")
def test_an_s3_that_hangs_delays_no_answer_and_what_it_cannot_take_is_dropped() -> None:
    counts = {"written": 0, "dropped": 0, "failed": 0}

    def count(outcome: str, number: int) -> None:
        counts[outcome] += number

    capture = Capture("s3://captured/here", count, has_pictures=True)
    answer = HeldUp().answer([b"x"], ["first"])[0]
    assert not isinstance(answer, Exception)
    big = bytes(MOST_BYTES // 4)
    for _ in range(10):
        capture.take(big, answer)
    assert counts["dropped"] >= 5, "memory is bounded"
    capture.close(seconds=0.1)
    capture.take(b"x", answer)
    assert counts["written"] == 0
    assert counts["dropped"] >= 6


def test_answers_are_captured_in_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server.start()
    try:
        import boto3

        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        set_credentials(monkeypatch)
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        with serving(HeldUp, capture=f"s3://{BUCKET}/below/") as served:
            ask(served, "1", "2", "3")
        (listed,) = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        assert re.fullmatch(r"below/\d{4}/\d\d/\d\d/\d\d/[^/]+\.jsonl", listed["Key"])
        lines = s3.get_object(Bucket=BUCKET, Key=listed["Key"])["Body"].read().splitlines()
        assert [json.loads(line)["eventMetadata"]["inferenceId"] for line in lines] == ["1", "2", "3"]
    finally:
        server.stop()
