"""A server in front of what is deployed: it answers what that answers, problems included."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from tests.serving.endpoints import aws, aws_environment, guarded, served
from tests.serving.test_service import picture

from sightline.serving.contract import Problem
from sightline.serving.remote import RemoteAnswerer
from sightline.serving.runtime_predictor import RuntimePredictor


@pytest.fixture(scope="module")
def behind(exported: Path) -> Iterator[str]:
    with served(lambda: RuntimePredictor.open(exported), "secret") as address:
        yield address


def ask(address: str, path: str, body: bytes) -> tuple[int, dict[str, object]]:
    headers = {"Content-Type": "application/octet-stream", "X-Request-Id": "mine", "Accept": "application/json"}
    found = urllib3.request("POST", f"{address}{path}", body=body, headers=headers, retries=False)
    return found.status, json.loads(found.data)


def test_a_server_in_front_answers_as_the_one_behind(behind: str, exported: Path) -> None:
    with (
        served(lambda: RemoteAnswerer.open(behind, "secret")) as front,
        served(lambda: RuntimePredictor.open(exported)) as direct,
    ):
        for path in ("/invocations", "/explain"):
            for body in (picture(), b"no picture"):
                (status, found), (expected_status, expected) = ask(front, path, body), ask(direct, path, body)
                assert status == expected_status
                assert {k: v for k, v in found.items() if k != "timings"} == {
                    k: v for k, v in expected.items() if k != "timings"
                }
        models = [json.loads(urllib3.request("GET", f"{each}/model").data) for each in (front, direct)]
    assert models[0] == models[1]


def test_a_busy_endpoint_is_passed_on(exported: Path) -> None:
    asked: list[bytes] = []

    def refuse(body: bytes) -> None:
        asked.append(body)
        if len(asked) > 2:  # one each of the two servers' own
            raise Problem(429, "Too many requests", "come back later", retry_after=0)

    with served(lambda: guarded(exported, refuse)) as behind, served(lambda: RemoteAnswerer.open(behind)) as front:
        status, problem = ask(front, "/invocations", picture())
    assert (status, problem["detail"]) == (429, "come back later")


def test_an_endpoint_that_is_busy_at_first_is_asked_again(exported: Path) -> None:
    asked: list[bytes] = []

    def refuse(body: bytes) -> None:
        asked.append(body)
        if 1 < len(asked) < 4:  # the server behind has asked itself once
            raise Problem(503, "Not ready", "wait", retry_after=0)

    with served(lambda: guarded(exported, refuse)) as behind, served(lambda: RemoteAnswerer.open(behind)) as front:
        status, answer = ask(front, "/invocations", picture())
    assert (status, len(asked)) == (200, 5), answer


def test_an_endpoint_with_the_door_of_answers_alone(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with aws(RuntimePredictor.open(exported)) as address:
        for name, text in aws_environment(address).items():
            monkeypatch.setenv(name, text)
        remote = RemoteAnswerer.open("sagemaker:live")
        assert (remote.model.name, remote.model.version) == ("tiny", "1")
        assert remote.spec.channels == 3
        (answer,) = remote.answer([picture()], ["mine"])
        assert getattr(answer, "label", None) in ("a", "b")
        with pytest.raises(Problem) as raised:
            remote.explain(picture())
        assert raised.value.status == 501
