"""Triton's own client against a server of ours: the Open Inference Protocol over HTTP."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serving.made_pictures import noise
from tests.serving.servers import Served, serving

from sightline.serving.runtime_predictor import RuntimePredictor

http = pytest.importorskip("tritonclient.http")
errors = pytest.importorskip("tritonclient.utils")


@pytest.fixture(scope="module")
def served(exported: Path) -> Iterator[Served]:
    with serving(lambda: RuntimePredictor.open(exported)) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    opened = http.InferenceServerClient(served.host)
    yield opened
    opened.close()


def tensor(*elements: bytes, is_binary: bool) -> Any:
    image = http.InferInput("image", [len(elements)], "BYTES")
    image.set_data_from_numpy(np.array(elements, dtype=np.object_), binary_data=is_binary)
    return image


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("tiny", "1")
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("wants_binary", [True, False, None])
def test_pictures_as_bytes(served: Served, client: Any, *, is_binary: bool, wants_binary: bool | None) -> None:
    files = [noise(0), noise(1)]
    elements = files if is_binary else [base64.b64encode(each) for each in files]
    names = ("label", "probability", "classes", "probabilities", "unsure", "error")
    outputs = [http.InferRequestedOutput(name, binary_data=wants_binary) for name in names]
    asked = {} if wants_binary is None else {"outputs": outputs}
    found = client.infer("tiny", [tensor(*elements, is_binary=is_binary)], request_id="mine", **asked)
    assert found.get_response()["id"] == "mine"
    answers = [json.loads(served.ask("POST", "/invocations", file, content_type="image/jpeg").body) for file in files]

    def texts(name: str) -> list[str]:
        values = found.as_numpy(name).ravel()
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]

    assert texts("label") == [answer["label"] for answer in answers]
    assert texts("classes") == [name for answer in answers for name in answer["probabilities"]]
    assert texts("error") == ["", ""]
    assert list(found.as_numpy("unsure")) == [answer["unsure"] for answer in answers]
    expected = [list(answer["probabilities"].values()) for answer in answers]
    np.testing.assert_allclose(found.as_numpy("probabilities"), expected, atol=1e-4)


def test_problems_are_said_in_the_clients_error(client: Any) -> None:
    with pytest.raises(errors.InferenceServerException, match="first bytes are of no picture") as raised:
        client.infer("tiny", [tensor(b"no picture", is_binary=True)])
    assert raised.value.status() == "400"
    with pytest.raises(errors.InferenceServerException, match="there is no such model here; tiny in version 1 is"):
        client.infer("other", [tensor(noise(), is_binary=True)])
