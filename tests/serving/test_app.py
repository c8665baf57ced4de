"""The service over HTTP: real servers, real sockets."""

import io
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.serving.servers import SECONDS, HeldUp, Reply, Served, serving, wait_until

from sightline.errors import BadInput
from sightline.serve_settings import ServeSettings
from sightline.serving.body import BodyReader
from sightline.serving.readiness import Readiness
from sightline.serving.runtime_predictor import RuntimePredictor

KIND = "application/octet-stream"


def picture(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def server(exported: Path) -> Iterator[Served]:
    with serving(lambda: RuntimePredictor.open(exported), threads=2) as served:
        yield served


def later(pool: ThreadPoolExecutor, served: Served, own_id: str) -> "Future[Reply]":
    return pool.submit(served.ask, "POST", "/invocations", b"picture", Content_Type=KIND, X_Request_Id=own_id)


def test_a_picture_is_answered(server: Served) -> None:
    reply = server.ask("POST", "/invocations", picture(), Content_Type="image/png", X_Request_Id="mine")
    assert reply.status == 200
    assert reply.json["id"] == "mine"
    assert reply.json["model"]["name"] == "tiny"
    assert sum(reply.json["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_one_connection_serves_many_requests(server: Served) -> None:
    connection = server.connect()
    sockets = set()
    for own_id in ("1", "2", "3"):
        connection.request("POST", "/invocations", picture(), {"Content-Type": "image/png", "X-Request-Id": own_id})
        sockets.add(connection.sock)
        assert Reply.of(connection.getresponse()).json["id"] == own_id
    connection.close()
    assert len(sockets) == 1


def test_the_routes_tell_of_the_model_and_of_the_limits(server: Served) -> None:
    assert server.ask("GET", "/model").json["classes"] == ["a", "b"]
    parameters = server.ask("GET", "/execution-parameters").json
    assert parameters == {"MaxConcurrentTransforms": 4, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 4}
    assert server.ask("GET", "/v2/health/live").status == server.ask("GET", "/v2/health/ready").status == 200
    assert server.ask("GET", "/v2/models/tiny/versions/1/ready").status == 200
    assert server.ask("GET", "/v2/models/other").status == 404


def test_a_heat_map_is_a_png_with_its_numbers(server: Served) -> None:
    reply = server.ask("POST", "/explain", picture(), Content_Type="image/png")
    assert reply.status == 200
    assert Image.open(io.BytesIO(reply.body)).format == "PNG"
    assert 0 <= float(reply.headers["x-sightline-drop"]) <= float(reply.headers["x-sightline-probability"])
    assert reply.headers["x-sightline-label"] in ("a", "b")


def test_the_page_comes_from_here_alone(server: Served) -> None:
    page = server.ask("GET", "/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert server.ask("GET", "/page.js").status == 200


def test_the_routes_are_described_by_the_server_itself(server: Served) -> None:
    document = server.ask("GET", "/openapi.json").json
    there = {getattr(route, "path", "") for route in server.server.app.routes}
    page = server.ask("GET", "/docs")
    assert {*document["paths"]} <= there
    assert page.headers["content-type"].startswith("text/html")
    for path in document["paths"]:
        assert path in page.body.decode()
    assert b"http://" not in page.body, "nothing is asked for from outside"
    assert b"https://" not in page.body
    assert b"<script" not in page.body


def test_what_there_is_not_is_a_problem(server: Served) -> None:
    lacking, wrong = server.ask("GET", "/nothing"), server.ask("GET", "/invocations")
    assert (lacking.status, wrong.status) == (404, 405)
    assert lacking.headers["content-type"] == wrong.headers["content-type"] == "application/problem+json"
    assert wrong.headers["allow"] == "POST"


def test_requests_and_answers_are_counted(exported: Path) -> None:
    with serving(lambda: RuntimePredictor.open(exported)) as served:
        answers = [served.ask("POST", "/invocations", picture(color)).json for color in ("red", "blue")]
        assert served.ask("POST", "/invocations", b"no picture").status == 400
        lines = served.ask("GET", "/metrics").body.decode().splitlines()
    assert 'sightline_requests_total{route="/invocations",status="200"} 2.0' in lines
    assert 'sightline_requests_total{route="/invocations",status="400"} 1.0' in lines
    assert 'sightline_request_seconds_count{route="/invocations"} 3.0' in lines
    assert "sightline_queue_length 0.0" in lines
    assert f"sightline_unsure_total {float(sum(each['unsure'] for each in answers))}" in lines
    assert f'sightline_answers_total{{label="{answers[0]["label"]}"}}' in "".join(lines)
    assert 'sightline_model_info{name="tiny",precision="fp32"' in "".join(lines)


def test_a_full_queue_refuses_and_ping_answers() -> None:
    held = HeldUp(is_open=False)
    with serving(lambda: held, queue=2) as served, ThreadPoolExecutor(3) as pool:
        taken = [later(pool, served, "0")]
        wait_until(lambda: held.asked == ["0"])
        taken += [later(pool, served, own_id) for own_id in ("1", "2")]
        wait_until(lambda: served.server.doors.pool.num_waiting == 2)
        for path in ("/invocations", "/explain", "/v2/models/held-up/infer"):
            refused = served.ask("POST", path, b"picture", Content_Type=KIND)
            assert refused.status == 429
            assert int(refused.headers["retry-after"]) >= 1
        refused_twice = served.connect()  # and goes on with the same connection, whose bodies were not read
        refused_twice.connect()
        opened = refused_twice.sock
        for _ in range(2):
            refused_twice.request("POST", "/invocations", b"x" * 100_000, {"Content-Type": KIND})
            assert Reply.of(refused_twice.getresponse()).status == 429
        refused_twice.request("GET", "/ping")
        assert Reply.of(refused_twice.getresponse()).status == 200
        assert refused_twice.sock is opened
        refused_twice.close()
        assert b"sightline_queue_length 2.0" in served.ask("GET", "/metrics").body
        held.gate.set()
        assert [each.result().status for each in taken] == [200, 200, 200]
    assert sorted(held.asked) == ["0", "1", "2"]


def test_a_request_whose_client_left_is_not_computed() -> None:
    held = HeldUp(is_open=False)
    with serving(lambda: held) as served, ThreadPoolExecutor(1) as pool:
        first = later(pool, served, "0")
        wait_until(lambda: held.asked == ["0"])
        leaving = served.connect()
        leaving.request("POST", "/invocations", b"picture", {"Content-Type": KIND, "X-Request-Id": "left"})
        wait_until(lambda: served.server.doors.pool.num_waiting == 1)
        leaving.close()
        wait_until(lambda: served.server.doors.pool.num_waiting == 0)
        held.gate.set()
        assert first.result().status == 200
        assert later(pool, served, "1").result().status == 200
    assert held.asked == ["0", "1"]


def test_a_request_that_waited_too_long_is_not_computed() -> None:
    held = HeldUp(is_open=False)
    with serving(lambda: held, deadline_seconds=0.05) as served, ThreadPoolExecutor(1) as pool:
        first = later(pool, served, "0")
        wait_until(lambda: held.asked == ["0"])
        late = served.ask("POST", "/invocations", b"picture", Content_Type=KIND, X_Request_Id="late")
        assert late.status == 503
        assert int(late.headers["retry-after"]) >= 1
        held.gate.set()
        assert first.result().status == 200, "what a thread has begun is answered, however long it takes"
    assert held.asked == ["0"]


def exchange(served: Served, *parts: bytes) -> bytes:
    """What comes back for bytes that are sent as they are, until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", int(served.host.rpartition(":")[2])), timeout=SECONDS) as opened:
        for part in parts:
            opened.sendall(part)
        received = b""
        while part := opened.recv(65536):
            received += part
        return received


def head(*lines: str) -> bytes:
    return "\r\n".join(("POST /invocations HTTP/1.1", "Host: x", f"Content-Type: {KIND}", *lines, "", "")).encode()


@pytest.mark.parametrize("length", [1001, 10**15])
def test_a_body_that_is_said_to_be_too_large_is_refused_unread(length: int) -> None:
    with serving(HeldUp, max_bytes=1000) as served:
        said = exchange(served, head(f"Content-Length: {length}", "Expect: 100-continue"))
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in said


def test_a_body_that_becomes_too_large_is_refused_while_it_comes() -> None:
    """The sender sends all of it before it reads, as most do, and still gets the answer."""
    with serving(HeldUp, max_bytes=1000) as served:
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        said = exchange(served, head("Transfer-Encoding: chunked"), *[chunk] * 20, b"0\r\n\r\n")
        assert served.ask("GET", "/ping").status == 200
    assert said.startswith(b"HTTP/1.1 413 ")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["title"] == "Too large"


def test_who_waits_for_100_continue_gets_it() -> None:
    with serving(HeldUp) as served:
        said = exchange(served, head("Content-Length: 3", "Expect: 100-continue", "Connection: close"), b"abc")
    assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_a_body_that_is_cut_is_not_computed() -> None:
    held = HeldUp()
    with serving(lambda: held) as served:
        with socket.create_connection(("127.0.0.1", int(served.host.rpartition(":")[2]))) as opened:
            opened.sendall(head("Content-Length: 100") + b"half of it")
            wait_until(lambda: served.server.doors.num_taken == 1)
        wait_until(lambda: served.server.doors.num_taken == 0)
    assert held.asked == []


def test_a_body_that_does_not_come_ends_the_connection() -> None:
    with serving(HeldUp) as served:
        served.server.doors.bodies = BodyReader(1000, seconds=0.05)
        said = exchange(served, head("Content-Length: 100"), b"half of it")
    assert said.startswith(b"HTTP/1.1 408 ")


def test_a_head_that_does_not_come_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.serving.http_server.HEAD_SECONDS", 0.2)
    with serving(HeldUp) as served:
        assert exchange(served) == b""
        assert exchange(served, b"POST /invocations HTTP/1.1\r\nHost: ") == b""
        connection = served.connect()
        connection.request("GET", "/ping")
        assert connection.getresponse().read()
        connection.sock.sendall(b"GET /pi")
        assert connection.sock.recv(100) == b""
        connection.close()


def test_bodies_together_have_a_limit() -> None:
    with serving(HeldUp) as served:
        served.server.doors.bodies = BodyReader(1000, most_held=150)
        with socket.create_connection(("127.0.0.1", int(served.host.rpartition(":")[2]))) as opened:
            opened.sendall(head("Content-Length: 200") + b"x" * 100)
            wait_until(lambda: served.server.doors.num_taken == 1)
            wait_until(lambda: served.ask("POST", "/invocations", b"y" * 100, Content_Type=KIND).status == 429)
        wait_until(lambda: served.server.doors.num_taken == 0)
        assert served.ask("POST", "/invocations", b"y" * 100, Content_Type=KIND).status == 200


def test_the_token_is_asked_for_everywhere_but_at_ping_and_page() -> None:
    with serving(HeldUp, token="päss") as served:
        for method, path in (
            *(("GET", path) for path in ("/model", "/metrics", "/execution-parameters", "/v2/models/held-up")),
            *(("POST", path) for path in ("/invocations", "/explain", "/feedback", "/v2/models/held-up/infer")),
        ):
            for shown in (
                {},
                {"Authorization": "Bearer pass"},
                {"Authorization": "Basic päss".encode().decode("latin-1")},
            ):
                refused = served.ask(method, path, b"x" if method == "POST" else None, **shown)
                assert refused.status == 401, path
                assert refused.headers["www-authenticate"] == "Bearer"
        shown = {"Authorization": "Bearer päss".encode().decode("latin-1"), "Content_Type": KIND}
        assert served.ask("POST", "/invocations", b"x", **shown).status == 200
        assert served.ask("GET", "/").status == served.ask("GET", "/ping").status == 200


def test_a_fault_of_the_server_is_a_problem_that_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    held = HeldUp()
    held.error = RuntimeError("the secret of /srv/model")
    with serving(lambda: held) as served:
        failed = served.ask("POST", "/invocations", b"x", Content_Type=KIND, X_Request_Id="mine")
        held.error = None
        assert served.ask("POST", "/invocations", b"x", Content_Type=KIND).status == 200
    assert failed.status == 500
    assert b"secret" not in failed.body
    assert "secret" in caplog.text
    assert "mine" in caplog.text


def test_ping_says_why_the_model_does_not_answer(tmp_path: Path) -> None:
    with serving(lambda: RuntimePredictor.open(tmp_path / "nowhere"), waits=False) as served:
        wait_until(lambda: "model.onnx" in served.ask("GET", "/ping").json["detail"])
        refused = served.ask("GET", "/ping")
        assert refused.status == 503
        assert str(tmp_path) not in refused.json["detail"]
        assert served.ask("POST", "/invocations", b"x", Content_Type=KIND).status == 503
        assert served.ask("GET", "/v2/health/ready").status == 503
        assert served.ask("GET", "/v2/health/live").status == 200


def test_ping_answers_503_while_the_model_is_loaded() -> None:
    loaded = threading.Event()

    def open_answerer() -> HeldUp:
        assert loaded.wait(SECONDS)
        return HeldUp()

    with serving(open_answerer, waits=False) as served:
        assert served.ask("GET", "/ping").status == 503
        assert "loaded" in served.ask("POST", "/invocations", b"x", Content_Type=KIND).json["detail"]
        loaded.set()
        wait_until(lambda: served.ask("GET", "/ping").status == 200)


@pytest.mark.parametrize(("flags", "is_fit"), [({"avx2", "fma"}, False), ({"avx2", "avx_vnni"}, True)])
def test_int8_needs_a_processor_for_it(flags: set[str], is_fit: bool) -> None:
    readiness = Readiness(ServeSettings(precision="int8"))
    readiness.load(HeldUp, flags)
    assert (readiness.service is not None) == is_fit
    assert is_fit or "avx_vnni" in readiness.reason


def test_what_was_taken_is_answered_before_the_end() -> None:
    held = HeldUp(is_open=False)
    with serving(lambda: held) as served, ThreadPoolExecutor(2) as pool:
        taken = [later(pool, served, own_id) for own_id in ("0", "1")]
        wait_until(lambda: served.server.doors.num_taken == 2)
        served.stop()
        stopping = served.ask("GET", "/ping")
        assert stopping.status == 503
        assert "stopping" in stopping.json["detail"]
        assert served.ask("POST", "/invocations", b"x", Content_Type=KIND).status == 503
        held.gate.set()
        assert [each.result().status for each in taken] == [200, 200]
        served.thread.join(SECONDS)
        assert not served.thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        served.ask("GET", "/ping")


def test_the_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.serving.http_server.DRAIN_SECONDS", 0.1)
    monkeypatch.setattr("sightline.serving.http_server.CLOSE_SECONDS", 1)
    held = HeldUp(is_open=False)
    with serving(lambda: held) as served, ThreadPoolExecutor(2) as pool:
        taken = [later(pool, served, own_id) for own_id in ("0", "1")]
        wait_until(lambda: served.server.doors.num_taken == 2)
        served.stop()
        served.thread.join(SECONDS)
        assert not served.thread.is_alive()
        assert [each.result().status for each in taken] == [503, 503]
        assert taken[0].result().json["title"] == "Stopping"
    held.gate.set()
    assert held.asked in (["0"], ["1"]), "the other one was never begun"


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"host": "0.0.0.0"}, "SIGHTLINE_SERVE_TOKEN"), ({"host": "no.such.host.invalid"}, "serve.host")],
)
def test_an_address_that_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said), serving(HeldUp, **settings):
        pass


@pytest.mark.parametrize(("token", "settings"), [("secret", {}), (None, {"open": True})])
def test_others_may_ask_with_a_token_or_where_it_is_said(token: str | None, settings: dict[str, Any]) -> None:
    with serving(HeldUp, token, host="0.0.0.0", **settings) as served:
        assert served.ask("GET", "/ping").status == 200


def test_a_port_that_is_taken_is_named() -> None:
    with serving(HeldUp) as served:
        port = int(served.host.rpartition(":")[2])
        with pytest.raises(BadInput, match=f"serve.port={port}"), serving(HeldUp, port=port):
            pass
