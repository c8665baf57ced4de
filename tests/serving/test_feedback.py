"""What a service is told, and where it is kept."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sightline.serve_settings import ServeSettings
from sightline.serving.contract import Problem, Request, Response
from sightline.serving.feedback import FolderOutput, append_line, open_output
from sightline.serving.runtime_predictor import RuntimePredictor
from sightline.serving.service import Service


@pytest.fixture
def service(exported: Path, tmp_path: Path) -> Service:
    return Service(RuntimePredictor.open(exported), ServeSettings(output=str(tmp_path / "kept")))


def tell(service: Service, value: Any, content_type: str = "application/json") -> Response:
    return service.feedback(Request(json.dumps(value).encode(), {"content-type": content_type}))


def kept(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in folder.glob("feedback/*.jsonl") for line in file.read_text().splitlines()]


def test_feedback_is_kept_with_the_model_it_is_about(service: Service, tmp_path: Path) -> None:
    response = tell(service, {"id": "x-1", "label": "b", "comment": "Es ist ein b, =wirklich\n"})
    assert (response.status, json.loads(response.body)) == (201, {"id": "x-1", "label": "b"})
    assert tell(service, {"id": "x-2", "label": "a"}).status == 201
    first, second = kept(tmp_path / "kept")
    assert (first["id"], first["label"], first["comment"]) == ("x-1", "b", "Es ist ein b, =wirklich\n")
    assert first["model"]["name"] == "tiny"
    assert second["comment"] is None
    assert first["time"] <= second["time"]


@pytest.mark.parametrize(
    ("value", "field", "said"),
    [
        ({"id": "x", "label": "B"}, "label", "no such class"),
        ({"id": "x", "label": 1}, "label", "must be a text"),
        ({"label": "a"}, "id", "id is missing"),
        ({"id": "x y\n", "label": "a"}, "id", "visible characters"),
        ({"id": "x", "label": "a", "coment": "?"}, "coment", "did you mean comment?"),
        ({"id": "x", "label": "a", "comment": "x" * 2001}, "comment", "at most 2,000"),
        ([], "body", "an object"),
    ],
)
def test_what_is_no_feedback_names_the_field(
    service: Service, tmp_path: Path, value: Any, field: str, said: str
) -> None:
    response = tell(service, value)
    found = json.loads(response.body)
    assert (response.status, found["field"]) == (422, field)
    assert said in found["detail"]
    assert not (tmp_path / "kept").exists()


def test_feedback_without_a_place_says_what_to_set(exported: Path) -> None:
    response = tell(Service(RuntimePredictor.open(exported), ServeSettings()), {"id": "x", "label": "a"})
    assert response.status == 409
    assert "serve.output" in json.loads(response.body)["detail"]


def test_feedback_is_json(service: Service) -> None:
    assert tell(service, {"id": "x", "label": "a"}, "text/plain").status == 415


def test_a_place_that_takes_nothing_is_a_503(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    service = Service(RuntimePredictor.open(exported), ServeSettings(output=str(tmp_path / "file")))
    response = tell(service, {"id": "x", "label": "a"})
    assert response.status == 503
    assert response.headers["Retry-After"] == "5"
    assert str(tmp_path) not in response.body.decode()


def test_many_threads_and_processes_keep_whole_lines(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from sightline.serving.feedback import FolderOutput\n"
        "for number in range(100): FolderOutput(Path(sys.argv[1])).write('feedback', {'n': number, 'x': 'y' * 9000})\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(2)]
    output = FolderOutput(tmp_path)
    threads = [
        threading.Thread(
            target=lambda: [output.write("feedback", {"n": number, "x": "z" * 9000}) for number in range(50)]
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in started] == [0, 0]
    assert len(kept(tmp_path)) == 400


def test_a_half_line_is_closed_and_a_full_disk_leaves_none(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b'{"whole": 1}\n{"hal')
    append_line(file, b'{"whole": 2}\n')
    assert file.read_bytes().splitlines()[2] == b'{"whole": 2}'
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from sightline.serving.feedback import append_line\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"  # files end there, as on a disk that is full
        "file = Path(sys.argv[1])\n"
        "append_line(file, b'a' * 59 + b'\\n')\n"
        "try: append_line(file, b'b' * 59 + b'\\n')\n"
        "except OSError: print('refused')\n"
    )
    full = tmp_path / "full.jsonl"
    done = subprocess.run([sys.executable, "-c", program, str(full)], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
    assert full.read_bytes() == b"a" * 59 + b"\n"


def test_feedback_in_s3(s3: Any, exported: Path) -> None:
    s3.create_bucket(Bucket="feedback")
    service = Service(RuntimePredictor.open(exported), ServeSettings(output="s3://feedback/kept/"))
    for number in range(2):
        assert tell(service, {"id": f"x-{number}", "label": "a"}).status == 201
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket="feedback", Prefix="kept/feedback/")["Contents"]]
    assert len(keys) == 2
    found = [json.loads(s3.get_object(Bucket="feedback", Key=key)["Body"].read()) for key in keys]
    assert {each["id"] for each in found} == {"x-0", "x-1"}
    lost = open_output("s3://no-such-bucket/kept")
    assert lost is not None
    with pytest.raises(Problem, match="cannot be kept now"):
        lost.write("feedback", {})
