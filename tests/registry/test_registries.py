"""Registries in a folder and in S3: what they keep, who has a stage, and what they refuse."""

import hashlib
import subprocess

import pytest
from tests.made_packages import MakePackage

from sightline.errors import BadInput
from sightline.registry.packages import Registry
from sightline.registry.rules import find_previous


def test_a_version_holds_the_files_of_the_run_and_who_added_it(registry: Registry, make_package: MakePackage) -> None:
    facts = {"commit": "abc", "data": {"sha256": "d"}, "gate": None, "run": "runs/train/digits/1"}
    added = registry.add(make_package(), "digits", facts=facts, by="ann@host")
    assert added == registry.get("digits", "1")
    assert (added.number, added.status, added.stages, added.spelled()) == (1, "pending", (), "digits/1")
    assert (added.commit, added.data, added.gate) == ("abc", {"sha256": "d"}, None)
    assert added.facts == {"run": "runs/train/digits/1"}
    assert added.metrics["test/accuracy"] == 0.9
    assert [(each["by"], each["what"]) for each in added.history] == [("ann@host", "add")]
    folder = registry.fetch(added)
    kept = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"version.json", "files.json", "run.json", "model/model.onnx", "code/mine.py"} <= kept
    assert not {name for name in kept if name.startswith(("checkpoints", "tensorboard")) or "__pycache__" in name}


def test_the_hash_is_what_sha256sum_says_of_the_files_that_matter(
    registry: Registry, make_package: MakePackage
) -> None:
    package = make_package()
    added = registry.add(package, "digits", facts={}, by="ann")
    names = "manifest.csv model/model.json model/model.onnx model/model.safetensors model/task_spec.json"
    printed = subprocess.run(["sha256sum", *names.split()], cwd=package, capture_output=True, check=True).stdout
    assert added.sha256 == hashlib.sha256(printed).hexdigest()


def test_the_same_model_is_the_same_version(registry: Registry, make_package: MakePackage) -> None:
    package = make_package()
    first = registry.add(package, "digits", facts={}, by="ann")
    (package / "run.json").write_text('{"seconds": 2}')
    assert registry.add(package, "digits", facts={}, by="bob") == first
    second = registry.add(make_package("second"), "digits", facts={}, by="bob")
    assert (second.number, [each.number for each in registry.versions("digits")]) == (2, [1, 2])
    assert registry.add(package, "digits", facts={}, by="bob").number == 3


def test_a_name_alone_is_the_newest_that_is_approved(registry: Registry, make_package: MakePackage) -> None:
    for weights in "abc":
        registry.add(make_package(weights), "digits", facts={}, by="ann")
    with pytest.raises(BadInput, match=r"registry.py approve digits/3 approves it, registry:digits/3 names it"):
        registry.get("digits")
    registry.change(registry.get("digits", "2"), "approve", "bob", "looks right")
    assert registry.get("digits").number == 2
    assert registry.get("digits").history[-1]["why"] == "looks right"


def test_a_stage_moves_and_goes_back(registry: Registry, make_package: MakePackage) -> None:
    for weights in "abc":
        version = registry.add(make_package(weights), "digits", facts={}, by="ann", status="approved")
        registry.change(version, "stage:production", "ann", None)
    stages = [each.stages for each in registry.versions("digits")]
    assert stages == [(), (), ("production",)]
    assert registry.get("digits", "2").history[-1]["what"] == "replaced:production"
    for expected in (2, 1):
        previous = find_previous(registry.versions("digits"), "production")
        assert previous.number == expected
        registry.change(previous, "rollback:production", "bob", "errors")
        assert registry.get("digits", "production").number == expected
    with pytest.raises(BadInput, match="no version of digits had it before digits/1"):
        find_previous(registry.versions("digits"), "production")


def test_a_rollback_passes_over_a_version_that_was_rejected_since(
    registry: Registry, make_package: MakePackage
) -> None:
    for weights in "abc":
        version = registry.add(make_package(weights), "digits", facts={}, by="ann", status="approved")
        registry.change(version, "stage:production", "ann", None)
    registry.change(registry.get("digits", "2"), "reject", "ann", "wrong classes")
    assert find_previous(registry.versions("digits"), "production").number == 1


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("stage:production", "only an approved version goes to production"),
        ("stage:prodution", "did you mean production"),
        ("unstage:staging", "digits/1 is not in staging"),
        ("publish", "no such change"),
    ],
)
def test_what_a_pending_version_may_not(registry: Registry, make_package: MakePackage, what: str, said: str) -> None:
    version = registry.add(make_package(), "digits", facts={}, by="ann")
    with pytest.raises(BadInput, match=said):
        registry.change(version, what, "ann", None)
    assert registry.get("digits", "1") == version


def test_a_staged_version_is_not_rejected_and_a_rejected_one_not_staged(
    registry: Registry, make_package: MakePackage
) -> None:
    version = registry.add(make_package(), "digits", facts={}, by="ann")
    staged = registry.change(version, "stage:staging", "ann", None)
    with pytest.raises(BadInput, match="digits/1 is in staging"):
        registry.change(staged, "reject", "ann", None)
    registry.change(staged, "unstage:staging", "ann", None)
    registry.change(staged, "reject", "ann", "no")
    with pytest.raises(BadInput, match="digits/1 was rejected"):
        registry.change(staged, "stage:staging", "ann", None)
