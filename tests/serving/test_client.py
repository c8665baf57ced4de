"""A folder through what is deployed: a server, a SageMaker endpoint and a Lambda function, all of them answering."""

import csv
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import COLORS, PROJECT, Cli, compose_config, write_image
from tests.serving.endpoints import aws, aws_environment, guarded, served, wait_until

from sightline.errors import BadInput
from sightline.runs.invocation import Invocation
from sightline.serving.answering import EndpointLost
from sightline.serving.client import Endpoint, open_endpoint
from sightline.serving.contract import Answer, Problem
from sightline.serving.predict import predict
from sightline.serving.predict_result import PredictResult
from sightline.serving.runtime_predictor import RuntimePredictor

TOKEN = "a token of this test"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine photos, one file that is none, and one that is too large to be sent."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(9):
        name, color = list(COLORS.items())[number % 3]
        write_image(folder / name / f"{number}.png", color, seed=number, size=(40, 30))
    (folder / "green" / "broken.png").write_bytes(b"no picture")
    (folder / "red" / "large.png").write_bytes((folder / "red" / "2.png").read_bytes() + bytes(200_000))
    return folder


@pytest.fixture(scope="module")
def server(exported: Path) -> Iterator[str]:
    with served(lambda: RuntimePredictor.open(exported), TOKEN, max_bytes=100_000) as address:
        yield address


@pytest.fixture(scope="module")
def stand_in(exported: Path) -> Iterator[str]:
    with aws(RuntimePredictor.open(exported), TOKEN) as address:
        yield address


@pytest.fixture(params=["http", "sagemaker", "lambda", "deployment"])
def endpoint(
    request: pytest.FixtureRequest, server: str, stand_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Endpoint:
    for name, text in aws_environment(stand_in).items():
        monkeypatch.setenv(name, text)
    record = tmp_path / "deployments" / "colors" / "staging.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"address": server}))
    addresses = {"http": server, "deployment": "deployment:colors/staging"}
    return open_endpoint(addresses.get(request.param, f"{request.param}:live"), TOKEN, runs=tmp_path)


def classify(*words: str, token: str | None = TOKEN) -> PredictResult:
    return predict(compose_config("predict", *words), Invocation(serve_token=token))


def rows_of(table: Path) -> dict[str, dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_every_door_answers_the_same(endpoint: Endpoint, exported: Path, photos: Path) -> None:
    pictures = [file.read_bytes() for file in sorted(photos.glob("*/?.png"))]
    expected = RuntimePredictor.open(exported).answer(pictures, list("abcdefghi"))
    answers = endpoint.answer([*pictures, b"no picture"], list("abcdefghij"))
    for number, each in enumerate(expected):
        found = answers[number]
        assert isinstance(each, Answer)
        assert isinstance(found, Answer)
        assert (found.id, found.label, found.unsure, found.model) == (each.id, each.label, each.unsure, each.model)
        assert found.probabilities == pytest.approx(each.probabilities, abs=1e-6)
    problem = answers[-1]
    assert isinstance(problem, Problem)
    assert (problem.status, problem.field) == (400, "image")
    described = endpoint.describe()
    assert (described["name"], described["version"], described["threshold"]) == ("tiny", "1", 0.6)


def test_torch_the_exported_model_files_and_an_endpoint_agree(
    exported: Path, photos: Path, server: str, tmp_path: Path
) -> None:
    words = [f"images={photos}", f"paths.runs={tmp_path}"]
    here = ["accelerator=cpu", "num_workers=0", f"run={exported}"]
    results = {
        "torch": classify(*words, *here, "runtime=torch", f"output={tmp_path / 'torch'}"),
        "onnx": classify(
            *words, *here, "runtime=onnx", f"output={tmp_path / 'onnx'}", f"paths.cache={tmp_path / 'cache'}"
        ),
        "endpoint": classify(*words, f"endpoint={server}", f"output={tmp_path / 'there'}"),
    }
    tables = {name: rows_of(result.table) for name, result in results.items()}
    answered = {file for file, row in tables["endpoint"].items() if not row["error"]}
    assert len(answered) == 9
    for file in answered:
        rows = [table[file] for table in tables.values()]
        assert len({row["class"] for row in rows}) == 1
        for column in ("probability", "probability_2"):
            assert [float(row[column]) for row in rows] == pytest.approx([float(rows[0][column])] * 3, abs=1e-4)
    with (
        (tmp_path / "torch" / "predictions.csv").open() as torch_table,
        (tmp_path / "there" / "predictions.csv").open() as table,
    ):
        assert next(table).strip() == f"{next(torch_table).strip()},error"


def test_a_folder_is_sent_and_errors_stand_in_their_rows(server: str, photos: Path, cli: Cli, tmp_path: Path) -> None:
    words = [f"endpoint={server}", f"images={photos}", f"paths.runs={tmp_path}", f"output={tmp_path / 'out'}"]
    done = cli("predict", *words, "pictures=true", SIGHTLINE_SERVE_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert rows["green/broken.png"]["error"].startswith("400 ")
    assert rows["red/large.png"]["error"].startswith("413 Too large: ")
    assert not rows["red/large.png"]["class"]
    assert sum(not row["error"] for row in rows.values()) == 9
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["unreadable"] == [str(photos / "green" / "broken.png"), str(photos / "red" / "large.png")]
    assert (record["endpoint"], record["model"]["name"], record["num_images"]) == (server, "tiny", 9)
    unsure = sum(float(row["probability"]) < 0.6 for row in rows.values() if not row["error"])
    assert (
        done.stdout.splitlines()[-1] == f"results: {tmp_path / 'out' / 'predictions.csv'} (9 image(s), {unsure} unsure)"
    )
    assert TOKEN not in done.stdout + done.stderr + (tmp_path / "out" / "run.json").read_text()
    with Image.open(tmp_path / "out" / "pictures" / "red" / "2.png.png") as picture:
        assert picture.height > picture.width * 30 / 40
    assert not (tmp_path / "out" / "pictures" / "red" / "large.png.png").exists()


def test_a_busy_endpoint_is_asked_again_when_it_says(exported: Path, photos: Path, tmp_path: Path) -> None:
    refusals, lock = [503, 429, 429], threading.Lock()

    def refuse(picture: bytes) -> None:
        with lock:
            if len(asked) > 1 and refusals:  # the first one is the server's own
                raise Problem(refusals.pop(), "Too much to do", "come back later", retry_after=0)
            asked.append(picture)

    asked: list[bytes] = []
    with served(lambda: guarded(exported, refuse)) as address:
        result = classify(f"endpoint={address}", f"images={photos / 'blue'}", f"output={tmp_path / 'o'}", token=None)
    assert not refusals
    assert result.num_images == 3
    assert not result.unreadable


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_is_lost_ends_the_command_and_the_rows_stay(
    number: signal.Signals, exported: Path, photos: Path, tmp_path: Path
) -> None:
    """An endpoint that refuses from some picture on, and a killed process: each time the same command goes on."""
    gate, asked, lock = threading.Event(), list[bytes](), threading.Lock()

    def hold_up(picture: bytes) -> None:
        with lock:
            asked.append(picture)
            count = len(asked)
        if count == 5:
            raise Problem(403, "Forbidden", "no more today")
        assert count < 8 or gate.wait(60)

    out = tmp_path / "out"
    with served(lambda: guarded(exported, hold_up), threads=1) as address:
        words = [f"endpoint={address}", f"images={photos}", "connections=1", f"output={out}", f"paths.runs={tmp_path}"]
        with pytest.raises(EndpointLost, match=r"no more today \(status 403, \S+\)"):
            classify(*words, token=None)
        assert json.loads((out / "run.json").read_text())["status"] == "failed"
        command = [sys.executable, str(PROJECT / "src" / "predict.py"), *words]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: len(asked) >= 8 or process.poll() is not None)
        process.send_signal(number)
        assert process.wait(30) == (143 if number == signal.SIGTERM else -number)  # while its request is not answered
        gate.set()
        result = classify(*words, token=None)
    assert result.num_images == 10
    assert list(rows_of(result.table)) == [
        file.relative_to(photos).as_posix() for file in sorted(photos.rglob("*.png"))
    ]
    assert json.loads((out / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ftp://somewhere", "no address of an endpoint; give http://HOST:PORT"),
        ("sagemaker:", "no address of an endpoint"),
        ("deployment:colors", "give the deployment and its stage, like deployment:colors/staging"),
        ("deployment:colors/production", "names no address; its stages are staging"),
        ("deployment:other/staging", "names no address; nothing of this name is deployed from here"),
        ("http://127.0.0.1:{port}", "does not answer"),
    ],
)
def test_an_endpoint_that_is_none_is_said(address: str, reason: str, tmp_path: Path) -> None:
    record = tmp_path / "deployments" / "colors" / "staging.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        with pytest.raises(BadInput, match=reason):
            open_endpoint(address.format(port=unused.getsockname()[1]), runs=tmp_path, retries=0).describe()


def test_a_stranger_and_a_lacking_token_are_said(
    server: str, stand_in: str, monkeypatch: pytest.MonkeyPatch, cli: Cli, photos: Path
) -> None:
    with pytest.raises(BadInput, match="set SIGHTLINE_SERVE_TOKEN to its token"):
        open_endpoint(server).describe()
    with pytest.raises(BadInput, match="no JSON of ours .* is it one of ours"):
        open_endpoint(stand_in, retries=0).describe()
    for name, text in aws_environment(stand_in).items():
        monkeypatch.setenv(name, text)
    with pytest.raises(BadInput, match="endpoint=sagemaker:dead: .*not found"):
        open_endpoint("sagemaker:dead").describe()
    with pytest.raises(BadInput, match="endpoint=lambda:dead: .*not found"):
        open_endpoint("lambda:dead").describe()
    done = cli("predict", f"endpoint={server}", f"images={photos}", SIGHTLINE_SERVE_TOKEN="wrong")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_who_answers_is_said_once(tmp_path: Path, photos: Path) -> None:
    for words, reason in (
        ([f"images={photos}"], "run, endpoint: give one of the two"),
        (["run=a", "endpoint=http://b", f"images={photos}"], "run=a endpoint=http://b: both answer; drop one"),
        (["run=a"], "images: no value is set; add images=FOLDER"),
        (
            ["run=a", f"images={photos}", "part=2", "num_parts=2"],
            "part=2 num_parts=2: parts count from 0; the last one is",
        ),
        (["merge=a", "run=b"], "run=b: merge=a reads parts alone"),
        (["merge=/nowhere"], "merge=/nowhere: no such folder"),
        ([f"merge={tmp_path}"], "no predictions-…-of-… found there"),
    ):
        with pytest.raises(BadInput, match=reason):
            classify(*words)
