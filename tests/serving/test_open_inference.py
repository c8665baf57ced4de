"""The Open Inference Protocol v2, as its clients speak it."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serving.made_pictures import noise, picture

from sightline.serve_settings import ServeSettings
from sightline.serving.contract import Request, Response
from sightline.serving.runtime_predictor import RuntimePredictor
from sightline.serving.service import Service


@pytest.fixture(scope="module")
def service(exported: Path) -> Service:
    return Service(RuntimePredictor.open(exported), ServeSettings())


def infer(service: Service, inputs: Any, *, name: str = "tiny", version: str | None = None, **further: Any) -> Response:
    return service.infer(Request(json.dumps({"inputs": inputs, **further}).encode()), name, version)


def tensor(*pictures: bytes, **further: Any) -> dict[str, Any]:
    data = [base64.b64encode(each).decode() for each in pictures]
    return {"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": data, **further}


def outputs_of(response: Response) -> dict[str, list[Any]]:
    assert response.status == 200, response.body
    return {each["name"]: each["data"] for each in json.loads(response.body)["outputs"]}


def test_a_tensor_of_pictures_is_answered_as_by_invocations(service: Service) -> None:
    response = infer(service, [tensor(noise(0), b"none", noise(1))], id="mine", parameters={"priority": 1})
    found = outputs_of(response)
    head = json.loads(response.body)
    assert (head["model_name"], head["model_version"], head["id"]) == ("tiny", "1", "mine")
    for number, seed in ((0, 0), (2, 1)):
        answer = json.loads(service.invoke(Request(noise(seed))).body)
        assert found["label"][number] == answer["label"]
        assert found["probability"][number] == pytest.approx(answer["probability"], abs=1e-6)
        assert found["classes"][2 * number : 2 * number + 2] == list(answer["probabilities"])
        assert found["unsure"][number] is answer["unsure"]
    assert [bool(each) for each in found["error"]] == [False, True, False]
    shapes = {each["name"]: each["shape"] for each in head["outputs"]}
    assert (shapes["label"], shapes["probabilities"]) == ([3], [3, 2])


def test_outputs_are_chosen_by_name(service: Service) -> None:
    found = outputs_of(infer(service, [tensor(picture())], outputs=[{"name": "probability"}], version="1"))
    assert list(found) == ["probability"]


def test_the_binary_extension_both_ways(service: Service) -> None:
    files = [noise(0), noise(1)]
    data = b"".join(struct.pack("<I", len(each)) + each for each in files)
    inputs = [{"name": "image", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(data)}}]
    asked = [{"name": "label"}, {"name": "probability", "parameters": {"binary_data": True}}]
    for outputs in (asked, []):
        head = json.dumps({"inputs": inputs, "outputs": outputs, "parameters": {"binary_data_output": True}}).encode()
        headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
        response = service.infer(Request(head + data, headers), "tiny")
        length = int(response.headers["Inference-Header-Content-Length"])
        answered, rest = json.loads(response.body[:length])["outputs"], response.body[length:]
        arrays = {}
        for each in answered:
            size = each["parameters"]["binary_data_size"]
            arrays[each["name"]], rest = rest[:size], rest[size:]
        assert rest == b""
        expected = outputs_of(infer(service, [tensor(*files)]))
        np.testing.assert_allclose(np.frombuffer(arrays["probability"], "<f4"), expected["probability"], atol=1e-6)
        assert arrays["label"] == b"".join(struct.pack("<I", 1) + label.encode() for label in expected["label"])


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"name": "picture"}, 422, "inputs[0].name"),
        ({"datatype": "UINT8"}, 422, "inputs[0].datatype"),
        ({"shape": [2]}, 422, "inputs[0].shape"),
        ({"shape": [-1]}, 422, "inputs[0].shape"),
        ({"shape": None}, 422, "inputs[0].shape"),
        ({"data": [1]}, 422, "inputs[0].data"),
        ({"data": []}, 422, "inputs[0].data"),
        ({"data": ["?"]}, 400, "inputs[0].data[0]"),
        ({"parameters": []}, 200, None),
        ({"parameters": [1]}, 422, "inputs[0].parameters"),
        ({"parameters": {"binary_data_size": 3}}, 400, "inputs[0].parameters.binary_data_size"),
        ({"shape": [1, 1], "data": [[base64.b64encode(picture()).decode()]]}, 200, None),
    ],
)
def test_what_is_wrong_is_named(service: Service, change: dict[str, Any], status: int, field: str | None) -> None:
    response = infer(service, [{**tensor(picture()), **change}])
    assert response.status == status
    if status != 200:
        found = json.loads(response.body)
        assert found["field"] == field
        assert found["error"].startswith(f"{field}: ")  # what clients of the protocol show


@pytest.mark.parametrize("length", ["x", "-1", "1000000", "²"])
def test_a_wrong_length_of_the_json_is_named(service: Service, length: str) -> None:
    response = service.infer(Request(b"{}", {"inference-header-content-length": length}), "tiny")
    assert response.status == 400
    assert json.loads(response.body)["field"] == "inference-header-content-length"


def test_binary_data_that_end_early(service: Service) -> None:
    data = struct.pack("<I", 100) + b"short"
    inputs = [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data)}}]
    head = json.dumps({"inputs": inputs}).encode()
    response = service.infer(Request(head + data, {"inference-header-content-length": str(len(head))}), "tiny")
    assert response.status == 400
    assert "within an element" in json.loads(response.body)["detail"]


def test_other_inputs_and_outputs(service: Service) -> None:
    for inputs in ([], [tensor(picture())] * 2, "image", [1], None):
        assert json.loads(infer(service, inputs).body)["field"] == "inputs"
    assert json.loads(infer(service, [tensor(picture())], outputs=[{"name": "x"}]).body)["field"] == "outputs[0].name"
    assert json.loads(infer(service, [tensor(picture())], outputs="x").body)["field"] == "outputs"


def test_models_by_name_and_version(service: Service) -> None:
    metadata = json.loads(service.model_metadata("tiny").body)
    assert (metadata["name"], metadata["versions"]) == ("tiny", ["1"])
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert service.model_ready("tiny", "1").status == 200
    for name, version in (("other", None), ("tiny", "2")):
        for response in (service.model_metadata(name, version), service.model_ready(name, version)):
            assert response.status == 404
        assert infer(service, [tensor(picture())], name=name, version=version).status == 404
    assert json.loads(service.server_metadata().body)["extensions"] == ["binary_tensor_data"]
