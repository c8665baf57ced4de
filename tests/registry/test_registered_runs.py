"""A registered run wherever a run is named: measured, explained, predicted with, served, compared; never changed."""

import json
import shutil
import urllib.request
from pathlib import Path

import pytest
from tests.conftest import Cli
from tests.serving.servers import SECONDS
from tests.serving.test_serve import started

from sightline import FinishedRun
from sightline.errors import BadInput
from sightline.launch.submission import Submission
from sightline.registry.packages import Registry, open_registry
from sightline.registry.transport import export_version
from sightline.runs.files import read_json, write_json
from sightline.runs.override_text import value_of
from sightline.serve_settings import ServeSettings
from sightline.serving.model_source import open_model

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, whose registry has two versions of one model."""
    return tmp_path_factory.mktemp("registered")


@pytest.fixture(scope="module")
def registered(cli: Cli, trained: Path, place: Path) -> Registry:
    """The run on the colours as version 1, which is in production, and the same with other metadata as version 2."""
    done = cli("export", f"run={trained}", f"output={place / 'exported'}", f"paths.runs={place}")
    assert done.returncode == 0, done.stderr
    registry = open_registry(str(place / "registry"), place / "cache")
    first = registry.add(place / "exported", "colors", facts={}, by="ann", status="approved")
    registry.change(first, "stage:production", "ann", None)
    shutil.copytree(place / "exported", place / "second")
    with (place / "second" / "model" / "model.json").open("a") as file:
        file.write("\n")
    registry.add(place / "second", "colors", facts={}, by="ann")
    return registry


def test_it_is_measured_explained_and_predicted_with_by_its_name(cli: Cli, place: Path, colors: Path) -> None:
    words = (f"paths.runs={place}", f"paths.cache={place / 'cache'}")
    tasks: dict[str, tuple[str, ...]] = {
        "evaluate": ("run=registry:colors/2", "against=registry:colors", "evaluation=short"),
        "explain": ("run=registry:colors", f"images={colors / 'test' / 'red'}", "explanation.methods=[grad_cam]"),
        "predict": ("run=registry:colors/production", f"images={colors / 'test'}"),
    }
    expected = {"evaluate": "colors/2", "explain": "colors/1", "predict": "colors/1"}
    for task, typed in tasks.items():
        done = cli(task, *typed, *words, f"output={place / task}")
        assert done.returncode == 0, done.stderr
        assert read_json(place / task / "run.json")["model"]["registry"] == expected[task]
    metrics = read_json(place / "evaluate" / "metrics.json")
    assert metrics["test/against/accuracy_difference"] == 0
    done = cli("registry", "verify", "colors", *words)
    assert done.returncode == 0, done.stderr


def test_two_versions_are_compared_on_the_test_images_of_both(cli: Cli, place: Path) -> None:
    done = cli("registry", "compare", "colors/2", "colors/1", f"paths.runs={place}", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["num_images"], found["num_test"]) == (18, [18, 18])
    assert "colors/2 is not shown to differ from colors/1 on 18 shared test images" in found["sentence"]


def test_python_opens_it_by_its_name(place: Path) -> None:
    run = FinishedRun.open("registry:colors/production", runs=place)
    assert run.describe_model()["registry"] == "colors/1"
    with pytest.raises(BadInput, match=r"run=registry:colours: no model of that name in .*\(did you mean colors\?\)"):
        FinishedRun.open("registry:colours", runs=place)
    with pytest.raises(BadInput, match=r"registry:colors/9: .*no such version in .*; there are 1, 2"):
        FinishedRun.open("registry:colors/9", runs=place)


def test_a_calibration_that_is_measured_later_is_not_written_into_it(
    cli: Cli, place: Path, registered: Registry
) -> None:
    shutil.copytree(place / "exported", place / "uncalibrated")
    spec = place / "uncalibrated" / "model" / "task_spec.json"
    write_json(spec, {**read_json(spec), "calibration": None})
    added = registered.add(place / "uncalibrated", "raw", facts={}, by="ann")
    done = cli("evaluate", "run=registry:raw/1", "runtime=torch", "evaluation=short", f"paths.runs={place}")
    assert done.returncode == 0, done.stderr
    assert registered.differences(added) == []


def test_a_changed_byte_is_refused(place: Path, registered: Registry, tmp_path: Path) -> None:
    shutil.copytree(place / "registry", tmp_path / "registry")
    card = tmp_path / "registry" / "colors" / "1" / "model" / "model_card.md"
    card.chmod(0o644)
    card.write_text(card.read_text() + "!")
    with pytest.raises(BadInput, match=r"model/model_card.md: was changed.*registry.py verify colors/1 names all"):
        FinishedRun.open("registry:colors", runs=tmp_path)


def test_a_version_is_not_exported_again(cli: Cli, place: Path) -> None:
    done = cli("export", "run=registry:colors", f"paths.runs={place}")
    assert (done.returncode, "a registered version never changes" in done.stderr) == (2, True)


def test_a_job_elsewhere_gets_its_folder(place: Path) -> None:
    submission = Submission.open({"backend": "local_process"}, place / "jobs")
    composed = {"run": "registry:colors", "paths.registry": str(place / "registry"), "paths.cache": str(place)}
    overrides = submission.overrides(["run=registry:colors"], composed, place)
    assert overrides == [f"run={place / 'registry' / 'colors' / '1'}"]
    with pytest.raises(BadInput, match="resume=registry:colors: takes no version"):
        submission.overrides(["resume=registry:colors"], {**composed, "run": None, "resume": "registry:colors"}, place)
    far = Submission.open({"backend": "local_container", "allow_dirty": True}, place / "jobs")
    sent = far.overrides(["run=registry:colors"], {**composed, "data.source": "digits"}, place)
    assert value_of(sent, "run") == str(place / "registry" / "colors" / "1")


def test_a_service_says_which_version_answers(place: Path, colors: Path, tmp_path: Path) -> None:
    words = ("run=registry:colors/production", f"paths.runs={place}")
    with started(tmp_path / "log", *words) as (_, address):
        body = next((colors / "test" / "red").iterdir()).read_bytes()
        request = urllib.request.Request(f"http://{address}/invocations", body, {"Content-Type": "image/png"})
        answer = json.load(urllib.request.urlopen(request, timeout=SECONDS))
        assert (answer["model"]["name"], answer["model"]["version"]) == ("colors", "1")
        described = json.load(urllib.request.urlopen(f"http://{address}/model", timeout=SECONDS))
        assert (described["name"], described["version"]) == ("colors", "1")


def test_the_image_says_so_of_an_archive_and_of_an_address_in_s3(
    registered: Registry, bucket: str, tmp_path: Path
) -> None:
    file = tmp_path / "colors-2.tar.gz"
    export_version(registered, registered.get("colors", "2"), file)
    far = open_registry(f"{bucket}/served", tmp_path)
    added = far.add(registered.fetch(registered.get("colors", "1")), "paints", facts={}, by="ann")
    address = f"{bucket}/served/{added.spelled()}"
    for source, expected in {
        str(file): ("colors", "2"),
        address: ("paints", "1"),
        f"{address}/model": ("paints", "1"),
    }.items():
        model = open_model(ServeSettings(), source).model
        assert (model.name, model.version) == expected
