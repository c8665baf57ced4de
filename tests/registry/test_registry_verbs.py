"""What `python src/registry.py` does and says, in this process."""

import json
import runpy
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.commands import PROJECT
from tests.conftest import Cli
from tests.made_packages import MakePackage

from sightline.command.verbs import do_verb
from sightline.errors import BadInput, Damaged
from sightline.runs.files import read_json, write_json

Do = Callable[..., None]


@pytest.fixture
def do(tmp_path: Path) -> Do:
    """Does a verb on the registry of a folder of runs."""
    verbs = runpy.run_path(str(PROJECT / "src" / "registry.py"))["verbs"]()

    def run(*words: str) -> None:
        do_verb(verbs, [*words, f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}"])

    (tmp_path / "runs").mkdir()
    return run


Said = pytest.CaptureFixture[str]


def test_from_a_run_to_production_and_back(do: Do, make_package: MakePackage, capsys: Said) -> None:
    for weights in ("first", "second"):
        do("add", str(make_package(weights)), "digits", "by=ann")
    assert "approve it with python src/registry.py approve digits/1, serve it with" in capsys.readouterr().out
    for number in (1, 2):
        do("approve", f"digits/{number}", "by=bob", "why='looks right'")
        do("stage", f"digits/{number}", "production")
    capsys.readouterr()
    do("rollback", "digits", "production", "why=errors")
    assert capsys.readouterr().out.startswith("digits/1 is approved, in production: rollback:production by ")
    do("show", "digits/1")
    shown = capsys.readouterr().out
    assert all(each in shown for each in ("looks right", "bob", "errors", "digits/2 took its place", "0.9000"))
    do("list")
    assert capsys.readouterr().out.splitlines()[1].split() == ["digits", "2", "2", "-", "1", "-"]
    do("list", "digits", "--json")
    assert [each["stages"] for each in json.loads(capsys.readouterr().out)] == [["production"], []]


@pytest.mark.parametrize("why", ["errors, at night: many (30)", "it's fine", "a=b", '"in quotes"', "12", "[x"])
def test_a_reason_is_any_text(do: Do, make_package: MakePackage, tmp_path: Path, why: str) -> None:
    do("add", str(make_package()), "digits", "by=Ann Müller <ann@x.org>")
    do("approve", "digits/1", f"why={why}")
    history = read_json(tmp_path / "runs" / "registry" / "digits" / "1" / "version.json")["history"]
    assert (history[0]["by"], history[1]["why"]) == ("Ann Müller <ann@x.org>", why.strip('"'))


def test_a_job_that_was_fetched_is_added_by_its_name(
    do: Do, make_package: MakePackage, tmp_path: Path, capsys: Said
) -> None:
    jobs = tmp_path / "runs" / "jobs"
    jobs.mkdir()
    write_json(jobs / "digits-1.json", {"name": "digits-1"})
    with pytest.raises(BadInput, match="python src/jobs.py fetch digits-1 gets them"):
        do("add", "digits-1", "digits")
    shutil.copytree(make_package(), jobs / "digits-1")
    do("add", "digits-1", "digits", "--json")
    assert json.loads(capsys.readouterr().out)["facts"]["run"] == str((jobs / "digits-1").resolve())


def test_what_is_not_exported_or_has_no_test_numbers(do: Do, make_package: MakePackage, capsys: Said) -> None:
    raw = make_package("raw", is_exported=False)
    with pytest.raises(BadInput, match=f"is not exported .*python src/export.py run={raw}"):
        do("add", str(raw), "digits")
    do("add", str(make_package("unmeasured", accuracy=None)), "digits")
    assert "digits/1 has no test metrics" in capsys.readouterr().err
    with pytest.raises(BadInput, match="no such run folder"):
        do("add", "nothing", "digits")


def test_an_archive_of_a_whole_run_and_one_of_a_model_alone(
    do: Do, make_package: MakePackage, tmp_path: Path, bucket: str, capsys: Said
) -> None:
    package = make_package()
    for name, inside in (("whole", package), ("model", package / "model")):
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as archive:
            archive.add(inside, ".")
    do("add", str(tmp_path / "whole.tar.gz"), "digits")
    import boto3

    name = bucket.removeprefix("s3://")
    boto3.client("s3").upload_file(str(tmp_path / "model.tar.gz"), name, "job/output/model.tar.gz")
    do("add", f"{bucket}/job/output/model.tar.gz", "digits")
    assert "digits/2 is pending" in capsys.readouterr().out
    with pytest.raises(BadInput, match="there is no such object"):
        do("add", f"{bucket}/job/output/other.tar.gz", "digits")


def test_a_version_moves_to_another_registry(do: Do, make_package: MakePackage, tmp_path: Path, capsys: Said) -> None:
    do("add", str(make_package()), "digits", "by=ann")
    do("approve", "digits/1")
    files = [tmp_path / f"{name}.tar.gz" for name in ("one", "two")]
    for file in files:
        do("export", "digits/1", str(file))
    assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(BadInput, match="is there already"):
        do("export", "digits/1", str(files[0]))
    other = f"paths.registry={tmp_path / 'other'}"
    capsys.readouterr()
    do("import", str(files[0]), "numbers", other, "--json")
    found = json.loads(capsys.readouterr().out)
    original = read_json(tmp_path / "runs" / "registry" / "digits" / "1" / "version.json")
    assert (found["name"], found["version"], found["status"]) == ("numbers", 1, "pending")
    assert (found["sha256"], found["files_sha256"]) == (original["sha256"], original["files_sha256"])
    assert found["facts"]["imported"]["version"] == "digits/1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "model" / "model.onnx").write_text("x"), "model/model.onnx: was changed"),
        (lambda folder: (folder / "extra").write_text("x"), "extra: was not there"),
        (lambda folder: (folder / "version.json").unlink(), "has no version.json"),
        (lambda folder: (folder / "files.json").unlink(), "files.json: is gone"),
    ],
)
def test_an_archive_that_was_changed_is_not_imported(
    do: Do, make_package: MakePackage, tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    do("add", str(make_package()), "digits")
    folder = tmp_path / "unpacked"
    shutil.copytree(tmp_path / "runs" / "registry" / "digits" / "1", folder)
    for file in folder.rglob("*"):
        file.chmod(0o755)
    change(folder)
    with tarfile.open(tmp_path / "changed.tar.gz", "w:gz") as archive:
        archive.add(folder, ".")
    with pytest.raises(BadInput, match=said):
        do("import", str(tmp_path / "changed.tar.gz"), "other")
    assert not (tmp_path / "runs" / "registry" / "other").exists()


def test_an_archive_that_leads_out_of_its_folder_is_refused(do: Do, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../evil"))
    with pytest.raises(BadInput, match="would be written outside the folder"):
        do("import", str(tmp_path / "evil.tar.gz"))
    with pytest.raises(BadInput, match="would be written outside the folder"):
        do("add", str(tmp_path / "evil.tar.gz"), "digits")


def test_old_versions_are_removed_but_never_an_approved_one(do: Do, make_package: MakePackage, capsys: Said) -> None:
    for weights in "abcde":
        do("add", str(make_package(weights)), "digits")
    do("approve", "digits/1")
    do("stage", "digits/2", "staging")
    capsys.readouterr()
    do("prune", "digits", "keep=1", "dry_run=true")
    assert capsys.readouterr().out == ("would be removed: digits/3, digits/4; kept: digits/1, digits/2, digits/5\n")
    do("prune", "digits", "keep=1")
    do("list", "digits", "--json")
    assert [each["version"] for each in json.loads(capsys.readouterr().out.partition("\n")[2])] == [1, 2, 5]
    with pytest.raises(BadInput, match="keep=0"):
        do("prune", "digits", "keep=0")
    do("add", str(make_package("f")), "digits")
    assert "digits/6 is pending" in capsys.readouterr().out


def test_verify_names_every_file_and_ends_with_1(
    do: Do, make_package: MakePackage, tmp_path: Path, cli: Cli, capsys: Said
) -> None:
    do("add", str(make_package()), "digits")
    do("verify", "digits")
    assert capsys.readouterr().out.endswith("digits/1: as it was registered\n")
    folder = tmp_path / "runs" / "registry" / "digits" / "1"
    for name in ("run.json", "config.yaml"):
        (folder / name).unlink()
    with pytest.raises(Damaged, match="digits/1: config.yaml: is gone; digits/1: run.json: is gone"):
        do("verify", "digits/1")
    done = cli("registry", "verify", "digits", "--json", f"paths.runs={tmp_path / 'runs'}")
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["differences"] == ["config.yaml: is gone", "run.json: is gone"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("approve", "digits"), "say which version: digits/NUMBER"),
        (("approve", "digits/x"), "'x' is no version; write digits/3"),
        (("show", "../x"), "no name of a model"),
        (("list", "digit"), r"no model of that name in .* \(did you mean digits\?\)"),
        (("stage", "digits/1", "prod"), "no such stage"),
        (("rollback", "digits", "production"), "no version of digits was ever there"),
        (("rollback", "digits/1", "production"), "name the model alone, digits"),
        (("show", "digits/7"), "no such version in .*; there are 1"),
        (("export", "digits/1", "out.zip"), "name it digits-1.tar.gz"),
        (("import", "missing.tar.gz"), "no such file"),
        (("list", "paths.registry=http://x/y"), "no place of a registry"),
    ],
)
def test_what_is_mistyped(do: Do, make_package: MakePackage, words: tuple[str, ...], said: str) -> None:
    do("add", str(make_package()), "digits")
    with pytest.raises(BadInput, match=said):
        do(*words)


def test_a_place_that_cannot_be_written_is_said_before_a_run_is_looked_for(do: Do, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="paths.registry=.*file: cannot be written"):
        do("add", "no-such-run", "digits", f"paths.registry={tmp_path / 'file'}")
