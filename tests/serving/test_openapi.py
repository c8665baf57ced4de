"""The OpenAPI document: valid, and true of what a service takes and answers."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tests.serving.made_pictures import noise

from sightline.serve_settings import ServeSettings
from sightline.serving.contract import Request, Response
from sightline.serving.openapi import openapi_document
from sightline.serving.runtime_predictor import RuntimePredictor
from sightline.serving.service import Service

jsonschema = pytest.importorskip("jsonschema")
validator = pytest.importorskip("openapi_spec_validator")


@pytest.fixture(scope="module")
def service(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    settings = ServeSettings(output=str(tmp_path_factory.mktemp("kept")))
    return Service(RuntimePredictor.open(exported), settings)


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    return openapi_document(service.answerer.describe(), needs_token=True)


def check(document: dict[str, Any], response: Response, path: str, method: str = "post") -> None:
    """That a response is one that the document announces: status, content type and schema."""
    announced = document["paths"][path][method]["responses"]
    assert str(response.status) in announced, response.body
    content = announced[str(response.status)]["content"]
    kind = response.content_type.split(";")[0]
    assert kind in content
    if kind.endswith("json"):
        schema = {**content[kind]["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(json.loads(response.body))


def test_the_document_is_valid_with_and_without_a_model(document: dict[str, Any]) -> None:
    validator.validate(document)
    validator.validate(openapi_document())
    assert document["components"]["schemas"]["Feedback"]["properties"]["label"]["enum"] == ["a", "b"]
    assert "features" not in json.dumps(document["components"]["schemas"]["Answer"])
    assert "security" not in document["paths"]["/ping"]["get"]
    assert document["paths"]["/invocations"]["post"]["responses"]["401"]


def test_answers_are_what_the_document_says(document: dict[str, Any], service: Service) -> None:
    picture = base64.b64encode(noise()).decode()
    bodies: list[Any] = [{"image": picture}, {"images": [picture, "?"]}, {"image": "?"}, {"images": []}, {"x": 1}, []]
    for body in bodies:
        for accept in ("application/json", "text/csv", "text/plain"):
            headers = {"content-type": "application/json", "accept": accept}
            check(document, service.invoke(Request(json.dumps(body).encode(), headers)), "/invocations")
    check(document, service.invoke(Request(noise(), {"content-type": "text/plain"})), "/invocations")
    for accept in ("image/png", "application/json"):
        check(document, service.explain(Request(noise(), {"accept": accept})), "/explain")
    for feedback in ({"id": "x", "label": "a"}, {"id": "x", "label": "c"}):
        check(document, service.feedback(Request(json.dumps(feedback).encode())), "/feedback")
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [picture]}
    for inputs in ([tensor], []):
        response = service.infer(Request(json.dumps({"inputs": inputs}).encode()), "tiny")
        check(document, response, "/v2/models/{name}/infer")
    check(document, service.model_metadata("tiny"), "/v2/models/{name}", "get")
    check(document, service.model_ready("other"), "/v2/models/{name}/ready", "get")
    check(document, service.describe_model(), "/model", "get")


def test_the_examples_are_answered(document: dict[str, Any], service: Service) -> None:
    content = document["paths"]["/invocations"]["post"]["requestBody"]["content"]
    assert set(service.answerer.describe()["content_types"]) < set(content)
    headers = {"content-type": "application/json"}
    for example in content["application/json"]["examples"].values():
        assert service.invoke(Request(json.dumps(example["value"]).encode(), headers)).status == 200
    infer = document["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]["application/json"]
    assert service.infer(Request(json.dumps(infer["example"]).encode()), "tiny").status == 200
