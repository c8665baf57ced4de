"""Requests that are damaged at random: each is answered, or its sender is told; none is the service's fault."""

import base64
import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.serving.made_pictures import noise, npy

from sightline.serve_settings import ServeSettings
from sightline.serving.contract import Request, Response
from sightline.serving.runtime_predictor import RuntimePredictor
from sightline.serving.service import Service

PICTURES = [noise(0, kind, (40, 30)) for kind in ("JPEG", "PNG", "WEBP", "BMP")] + [npy((30, 40, 3))]
ODD = [None, 0, -1, 1.5, "", [], {}, True, "x" * 200, [[1]], [{}], {"a": 1}, float("nan"), 10**30, "\ud800"]
SIZES = [0, 1, 65_536, 0x7FFFFFFF, 0xFFFFFFFF]


@pytest.fixture(scope="module")
def service(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    settings = ServeSettings(output=str(tmp_path_factory.mktemp("kept")))
    return Service(RuntimePredictor.open(exported), settings)


def damage(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, sizes replaced, parts cut out or sent twice; more often near the beginning."""
    damaged = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8])):
        start = chance.randrange(min(len(damaged), chance.choice([64, 256, 10_000])) or 1)
        part = [
            chance.randbytes(1),
            struct.pack(chance.choice("<>") + "I", chance.choice(SIZES)),
            b"",
            bytes(damaged[start : start + 30]) * 2,
        ]
        kind = chance.randrange(4)
        damaged[start : start + (1, 4, 20, 30)[kind]] = part[kind]
    return bytes(damaged[: chance.randrange(len(damaged) + 1)]) if chance.random() < 0.2 else bytes(damaged)


def change(value: Any, chance: random.Random) -> Any:
    """A value of JSON with parts of it replaced."""
    if chance.random() < 0.1:
        return chance.choice(ODD)
    if isinstance(value, dict):
        names = (name if chance.random() > 0.03 else chance.choice(["id", "x", "\ud800"]) for name in value)
        return {name: change(each, chance) for name, each in zip(names, value.values(), strict=True)}
    return [change(each, chance) for each in value] if isinstance(value, list) else value


def check(response: Response) -> int:
    assert response.status < 500, response.body
    for text in response.headers.values():
        assert text.isascii()
    if response.content_type.endswith("json"):
        json.loads(response.body)
    return response.status


@pytest.mark.parametrize("seed", range(4))
def test_damaged_pictures(service: Service, seed: int) -> None:
    chance = random.Random(seed)
    statuses = {check(service.invoke(Request(damage(chance.choice(PICTURES), chance)))) for _ in range(100)}
    assert {200, 400} <= statuses


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bodies_around_pictures(service: Service, seed: int) -> None:
    chance, picture = random.Random(seed), base64.b64encode(PICTURES[0]).decode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [picture], "parameters": {"a": 1}}
    output = {"name": "label", "parameters": {"binary_data": True}}
    values = [
        (service.invoke, {"image": picture, "id": "x"}),
        (service.invoke, {"images": [picture, picture]}),
        (service.feedback, {"id": "x", "label": "a", "comment": "y"}),
        (lambda asked: service.infer(asked, "tiny"), {"inputs": [tensor], "outputs": [output], "id": "z"}),
    ]
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    form = head + PICTURES[0] + b'\r\n--b\r\nContent-Disposition: form-data; name="id"\r\n\r\nabc\r\n--b--\r\n'
    statuses = set()
    for _ in range(100):
        door, value = chance.choice(values)
        body = json.dumps(change(value, chance)).encode()
        body = damage(body, chance) if chance.random() < 0.3 else body
        statuses.add(check(door(Request(body, {"content-type": "application/json"}))))
        headers = {"content-type": "multipart/form-data; boundary=b"}
        statuses.add(check(service.invoke(Request(damage(form, chance), headers))))
    assert {200, 400, 422} <= statuses
