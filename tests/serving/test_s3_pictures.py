"""Addresses of S3 in a request: what is allowed, what is there, and what is too large."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.serving.made_pictures import noise, picture

from sightline.serve_settings import ServeSettings
from sightline.serving.contract import Request
from sightline.serving.runtime_predictor import RuntimePredictor
from sightline.serving.s3_pictures import is_below
from sightline.serving.service import Service


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [
        ("s3://b/in/a.png", True),
        ("s3://b/in/deep/er/a.png", True),
        ("s3://whole/a.png", True),
        ("s3://b/in", False),
        ("s3://b/inside/a.png", False),
        ("s3://b/in/../out/a.png", False),
        ("s3://b/in//a.png", False),
        ("s3://b/in/./a.png", False),
        ("s3://b/in/", False),
        ("s3://whole.other/a.png", False),
        ("s3://B/in/a.png", False),
        ("s3://b/in/a\n.png", False),
        ("s3://", False),
        ("s3:///in/a.png", False),
    ],
)
def test_prefixes_are_whole_segments(address: str, is_allowed: bool) -> None:
    bucket_of_three = address.replace("s3://b/", "s3://bbb/")
    assert is_below(bucket_of_three, ["s3://bbb/in/", "s3://whole"]) is is_allowed
    assert not is_below(bucket_of_three, [])


def test_pictures_of_a_bucket(s3: Any, exported: Path) -> None:
    s3.create_bucket(Bucket="pictures")
    for key, data in {
        "in/a.jpg": noise(0),
        "in/text.txt": b"text",
        "in/large.bmp": bytes(6000),
        "out.png": picture(),
    }.items():
        s3.put_object(Bucket="pictures", Key=key, Body=data)
    settings = ServeSettings(s3_prefixes=["s3://pictures/in"], max_bytes=5000)
    service = Service(RuntimePredictor.open(exported), settings)
    names = ["in/a.jpg", "in/text.txt", "in/large.bmp", "in/none.png", "out.png"]
    body = json.dumps({"images": [f"s3://pictures/{name}" for name in names]}).encode()
    response = service.invoke(Request(body, {"content-type": "application/json"}))
    found = json.loads(response.body)["predictions"]
    assert [each.get("status") for each in found] == [None, 400, 413, 422, 422]
    assert [each["field"] for each in found[1:]] == [f"images[{number}]" for number in range(1, 5)]
    assert "6,000 bytes are more than 5,000" in found[2]["detail"]
    alone = json.loads(service.invoke(Request(noise(0))).body)
    assert found[0]["probability"] == pytest.approx(alone["probability"], abs=1e-6)


def test_storage_that_cannot_be_reached_is_a_503(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    service = Service(RuntimePredictor.open(exported), ServeSettings(s3_prefixes=["s3://pictures"]))
    body = json.dumps({"images": ["s3://pictures/a.png"]}).encode()
    response = service.invoke(Request(body, {"content-type": "application/json"}))
    assert (response.status, response.headers["Retry-After"]) == (503, "5")
