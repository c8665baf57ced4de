"""The contract around a model, without transport."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from sightline.serve_settings import ServeSettings
from sightline.serving.contract import Request
from sightline.serving.runtime_predictor import RuntimePredictor
from sightline.serving.service import Service


@pytest.fixture(scope="module")
def service(exported: Path) -> Service:
    return Service(RuntimePredictor.open(exported), ServeSettings())


def picture(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_picture_is_answered(service: Service) -> None:
    response = service.invoke(Request(picture(), {"x-request-id": "mine"}))
    answer = json.loads(response.body)
    assert response.status == 200
    assert answer["id"] == "mine"
    assert answer["probabilities"][answer["label"]] == answer["probability"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert answer["model"]["name"] == "tiny"


def test_what_is_no_picture_is_a_problem(service: Service) -> None:
    response = service.invoke(Request(b"no picture"))
    assert response.status == 400
    assert json.loads(response.body)["field"] == "image"
