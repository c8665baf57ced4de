"""What a SageMaker group of model packages adds to the rules of every registry: what the service is told, and tells."""

import json
import runpy
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import PROJECT, compose_config
from tests.launch.fake_model_registry import ModelRegistry
from tests.made_packages import MakePackage
from tests.registry.conftest import SERVING_IMAGE

from sightline.command.verbs import do_verb
from sightline.config import PipelineConfig, validate_task
from sightline.errors import BadInput
from sightline.pipeline.checks import check
from sightline.registry.names import find_registered
from sightline.registry.packages import Registry, open_registry

TAGGED = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sightline-serve:0123456789abcdef"
MANIFEST = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}
GATE = {"passed": True, "sentence": "test/accuracy_low 0.97 reaches 0.95 (+0.02)", "conditions": []}
FACTS: dict[str, Any] = {
    "gate": GATE,
    "data": {"name": "digits", "version": 2, "sha256": "d" * 64},
    "commit": "abc",
    "run": "runs/train/digits/1",
    "seconds": {"whole": 12.5, "train": 7},
    "cost": {"usd": 0.01},
}


@pytest.fixture
def files(bucket: str) -> str:
    """An address for the files of versions."""
    return f"{bucket}/{uuid4().hex}"


@pytest.fixture
def group(model_packages: ModelRegistry, files: str, tmp_path: Path) -> Registry:
    del model_packages
    return open_group(files, tmp_path)


def open_group(files: str, tmp_path: Path, **more: Any) -> Registry:
    return open_registry(f"sagemaker:digits@{files}", tmp_path / "cache", **{"serving_image": SERVING_IMAGE, **more})


def complete(package: Path) -> Path:
    """With the documents that SageMaker links to."""
    for name in ("evaluation/evaluation.json", "explanations/explanations.json", "model/baseline.npz"):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("{}")
    (package / "model" / "task_spec.json").write_text(json.dumps({"class_names": ["a", "b"]}))
    return package


def client(service: str) -> Any:
    import boto3

    return boto3.client(service, region_name="us-east-1")


def exists(address: str) -> bool:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return client("s3").list_objects_v2(Bucket=bucket, Prefix=key).get("KeyCount", 0) > 0


def test_the_service_is_told_all_that_is_known(
    group: Registry, model_packages: ModelRegistry, files: str, make_package: MakePackage
) -> None:
    version = group.add(complete(make_package()), "digits", facts=FACTS, by="ann@host")
    (package,) = model_packages.packages["digits"].values()
    metadata = package["CustomerMetadataProperties"]
    assert metadata["sha256"] == version.sha256
    assert metadata["data_sha256"] == "d" * 64
    assert metadata["gate"] == "test/accuracy_low 0.97 reaches 0.95 +0.02"
    assert (metadata["by"], metadata["commit"], metadata["cost.usd"]) == ("ann@host", "abc", "0.01")
    assert (metadata["seconds.whole"], metadata["seconds.train"]) == ("12.5", "7")
    assert metadata["image_digest"] == "sha256:" + "a" * 64
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    assert package["ModelPackageDescription"] == GATE["sentence"]
    addresses = [
        package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"],
        package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"],
        package["ModelMetrics"]["Explainability"]["Report"]["S3Uri"],
        package["DriftCheckBaselines"]["ModelDataQuality"]["Statistics"]["S3Uri"],
    ]
    assert all(each.startswith(files) and exists(each) for each in addresses)
    card = json.loads(package["ModelCard"]["ModelCardContent"])
    assert card["evaluation_details"][0]["evaluation_observation"] == GATE["sentence"]
    assert (version.gate, version.facts["seconds"]) == (GATE, {"whole": 12.5, "train": 7})


def test_status_and_stage_are_the_services(
    group: Registry, model_packages: ModelRegistry, make_package: MakePackage
) -> None:
    version = group.add(make_package(), "digits", facts={}, by="ann")
    group.change(version, "approve", "bob", "looks right")
    package = model_packages.packages["digits"][1]
    assert package["ModelApprovalStatus"] == "Approved"
    assert package["ApprovalDescription"] == "approve by bob: looks right"
    group.change(version, "stage:production", "bob", None)
    assert package["ModelLifeCycle"]["Stage"] == "Production"
    assert package["CustomerMetadataProperties"]["by"] == "ann"
    second = group.add(make_package("second"), "digits", facts={}, by="ann", status="approved")
    group.change(second, "stage:production", "bob", None)
    assert package["ModelLifeCycle"]["StageStatus"] == "Inactive"
    assert model_packages.packages["digits"][2]["ModelLifeCycle"]["Stage"] == "Production"


def test_what_the_console_did_is_in_the_history(
    group: Registry, model_packages: ModelRegistry, make_package: MakePackage
) -> None:
    version = group.add(make_package(), "digits", facts={}, by="ann")
    sagemaker = client("sagemaker")
    arn = model_packages.packages["digits"][1]["ModelPackageArn"]
    sagemaker.update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus="Approved", ApprovalDescription="seen in the console"
    )
    found = group.get("digits")
    assert (found.status, found.history[-1]["what"], found.history[-1]["why"]) == (
        "approved",
        "approve",
        "seen in the console",
    )
    sagemaker.update_model_package(ModelPackageArn=arn, ModelLifeCycle={"Stage": "Production", "StageStatus": "Active"})
    assert group.get("digits", "production").number == 1
    group.change(version, "unstage:production", "ann", None)
    assert group.get("digits", "1").stages == ()
    assert [each["what"] for each in group.get("digits", "1").history] == [
        *("add", "approve", "stage:production", "unstage:production")
    ]


def test_what_a_pipelines_own_step_registered_is_a_version(
    group: Registry, model_packages: ModelRegistry, files: str, make_package: MakePackage, tmp_path: Path
) -> None:
    """The step knows nothing of us: the files that the gate left beside the archive tell the rest."""
    kept = open_group(f"{files}/other", tmp_path / "other")
    version = kept.add(complete(make_package()), "digits", facts=FACTS, by="ann")
    registered = model_packages.packages["digits"].pop(1)
    del registered["CustomerMetadataProperties"]
    root = registered["InferenceSpecification"]["Containers"][0]["ModelDataUrl"].rpartition("/")[0]
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    for name in ("facts.json", "history/1.json"):
        client("s3").delete_object(Bucket=bucket, Key=f"{prefix}/{name}")
    inference = registered["InferenceSpecification"]
    client("sagemaker").create_model_package(
        ModelPackageGroupName="digits",
        InferenceSpecification=inference,
        ModelApprovalStatus="PendingManualApproval",
        CustomerMetadataProperties={"pipeline": "sightline-digits", "execution": "abc123"},
    )
    group = open_registry("sagemaker:digits", tmp_path / "cache")  # there is no bucket of SageMaker's own tools
    found = group.get("digits", "2")
    assert (found.sha256, found.commit, found.metrics["test/accuracy"]) == (version.sha256, "abc", 0.9)
    assert found.facts == {"pipeline": "sightline-digits", "execution": "abc123"}
    assert (group.fetch(found) / "model" / "model.onnx").read_text() == "onnx of first"
    group.change(found, "approve", "bob", None)
    assert group.get("digits").number == 2


def test_a_version_of_somebody_else_is_listed_and_not_fetched(
    group: Registry, model_packages: ModelRegistry, files: str
) -> None:
    sagemaker = client("sagemaker")
    sagemaker.create_model_package_group(ModelPackageGroupName="digits")
    container = {"Image": "image:1", "ModelDataUrl": f"{files}/theirs/model.tar.gz"}
    sagemaker.create_model_package(
        ModelPackageGroupName="digits",
        InferenceSpecification={
            "Containers": [container],
            "SupportedContentTypes": ["image/png"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
    )
    (version,) = group.versions("digits")
    assert (version.sha256, version.status, version.history[0]["by"]) == ("", "pending", "SageMaker")
    with pytest.raises(BadInput, match=r"has no package/files.json beside it.*registry.py add"):
        group.fetch(version)


def test_changed_bytes_are_found(group: Registry, model_packages: ModelRegistry, make_package: MakePackage) -> None:
    version = group.add(make_package(), "digits", facts={}, by="ann")
    other = group.add(make_package("other"), "digits", facts={}, by="ann")
    addresses = [
        each["InferenceSpecification"]["Containers"][0]["ModelDataUrl"].removeprefix("s3://").partition("/")
        for each in model_packages.packages["digits"].values()
    ]
    (bucket, _, theirs), (_, _, mine) = addresses
    client("s3").copy_object(Bucket=bucket, Key=theirs, CopySource={"Bucket": bucket, "Key": mine})
    with pytest.raises(BadInput, match="registry:digits/1: sagemaker:digits/1 is not as it was registered"):
        group.fetch(version)
    assert group.fetch(other).is_dir()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("sagemaker:", "must be sagemaker:GROUP"),
        ("sagemaker:digits@bucket", "must be sagemaker:GROUP"),
        ("sagemaker:traffic signs", "cannot be the name of a model package group.*like traffic-signs"),
        ("sagemaker:digits/3", "must be sagemaker:GROUP"),
    ],
)
def test_a_place_that_is_none_is_refused(place: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        open_registry(place, tmp_path)


def test_a_group_holds_one_model(group: Registry, make_package: MakePackage) -> None:
    with pytest.raises(
        BadInput, match=r"signs: sagemaker:digits holds one model, digits; .*paths.registry=sagemaker:s"
    ):
        group.add(make_package(), "signs", facts={}, by="ann")
    assert group.names() == []


def test_an_image_is_needed_and_named_by_its_digest(
    group: Registry, model_packages: ModelRegistry, files: str, make_package: MakePackage, tmp_path: Path
) -> None:
    del group
    nameless = open_group(files, tmp_path, serving_image=None)
    with pytest.raises(BadInput, match=r"which image serves the model.*SAGEMAKER_SERVING_IMAGE"):
        nameless.add(make_package(), "digits", facts={}, by="ann")
    with pytest.raises(BadInput, match=f"serving_image={TAGGED}: is not in the registry"):
        nameless.add(make_package(), "digits", facts={"serving_image": TAGGED}, by="ann")
    assert model_packages.packages == {}
    assert not exists(f"{files}/digits/")
    ecr = client("ecr")
    ecr.create_repository(repositoryName="sightline-serve")
    ecr.put_image(
        repositoryName="sightline-serve", imageTag=TAGGED.rpartition(":")[2], imageManifest=json.dumps(MANIFEST)
    )
    nameless.add(make_package(), "digits", facts={"serving_image": TAGGED}, by="ann")
    (container,) = model_packages.packages["digits"][1]["InferenceSpecification"]["Containers"]
    assert container["Image"] == f"{TAGGED.rpartition(':')[0]}@{container['ImageDigest']}"


def test_a_refused_change_leaves_the_history_as_it_was(
    group: Registry, model_packages: ModelRegistry, make_package: MakePackage
) -> None:
    version = group.add(make_package(), "digits", facts={}, by="ann")
    model_packages.refused = {"UpdateModelPackage"}
    with pytest.raises(
        BadInput, match=r"UpdateModelPackage was refused \(AccessDeniedException.*docs/sagemaker_registry.md"
    ):
        group.change(version, "approve", "ann", None)
    model_packages.refused = set()
    assert [each["what"] for each in group.get("digits", "1").history] == ["add"]
    assert group.change(version, "approve", "ann", None).status == "approved"


def test_an_addition_that_was_killed_is_whole_or_not_there(
    group: Registry, model_packages: ModelRegistry, files: str, make_package: MakePackage
) -> None:
    """Killed before the service knew it: nothing to see. After it: the version, though its history begins later."""
    model_packages.refused = {"CreateModelPackage"}
    with pytest.raises(BadInput, match="CreateModelPackage was refused"):
        group.add(make_package(), "digits", facts=FACTS, by="ann")
    model_packages.refused = set()
    assert group.names() == []
    added = group.add(make_package(), "digits", facts=FACTS, by="ann")
    bucket, _, prefix = files.removeprefix("s3://").partition("/")
    for each in client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
        if "/history/" in each["Key"]:
            client("s3").delete_object(Bucket=bucket, Key=each["Key"])
    found = group.get("digits", "1")
    assert (found.sha256, found.facts, found.history[0]["by"]) == (added.sha256, added.facts, "ann")
    assert group.change(found, "approve", "bob", None).status == "approved"


def test_two_who_add_at_once_get_two_numbers(
    files: str, model_packages: ModelRegistry, make_package: MakePackage
) -> None:
    packages = [make_package(weights) for weights in "abcd"]
    found: list[int] = []

    def add(package: Path) -> None:
        version = open_group(files, package.parent).add(package, "digits", facts={}, by="ann")
        found.append(version.number)

    threads = [threading.Thread(target=add, args=(package,)) for package in packages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [1, 2, 3, 4]
    assert (
        len({each["CustomerMetadataProperties"]["sha256"] for each in model_packages.packages["digits"].values()}) == 4
    )


def test_whoever_decides_last_is_right_though_many_decide_at_once(
    files: str, model_packages: ModelRegistry, make_package: MakePackage, tmp_path: Path
) -> None:
    registries = [open_group(files, tmp_path) for _ in range(4)]
    version = registries[0].add(make_package(), "digits", facts={}, by="ann")

    def decide(registry: Registry, what: str) -> None:
        for _ in range(3):
            registry.change(version, what, what, None)

    work = zip(registries, ("approve", "reject", "approve", "reject"), strict=True)
    threads = [threading.Thread(target=decide, args=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = registries[0].get("digits", "1").history
    decided = [each["what"] for each in history if each["what"] in ("approve", "reject")]
    package = model_packages.packages["digits"][1]
    assert package["ModelApprovalStatus"] == {"approve": "Approved", "reject": "Rejected"}[decided[-1]]
    assert package["CustomerMetadataProperties"]["last_change"] == history[-1]["at"]


def test_what_is_removed_is_gone_with_its_files(
    group: Registry, model_packages: ModelRegistry, make_package: MakePackage
) -> None:
    first = group.add(make_package(), "digits", facts={}, by="ann")
    group.add(make_package("second"), "digits", facts={}, by="ann")
    root = model_packages.packages["digits"][1]["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    group.remove(first)
    assert [each.number for each in group.versions("digits")] == [2]
    assert not exists(root.rpartition("/")[0])
    assert group.add(make_package("third"), "digits", facts={}, by="ann").number == 3


def test_without_an_address_files_go_where_sagemakers_tools_put_them(
    model_packages: ModelRegistry, make_package: MakePackage, tmp_path: Path
) -> None:
    registry = open_registry("sagemaker:digits", tmp_path / "cache", serving_image=SERVING_IMAGE)
    with pytest.raises(
        BadInput, match=r"NoSuchBucket.*make it, or name another by sagemaker:digits@s3://bucket/prefix"
    ):
        registry.add(make_package(), "digits", facts={}, by="ann")
    client("s3").create_bucket(Bucket="sagemaker-us-east-1-123456789012")
    registry.add(make_package(), "digits", facts={}, by="ann")
    address = model_packages.packages["digits"][1]["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    assert address.startswith("s3://sagemaker-us-east-1-123456789012/sightline/registry/digits/")


def test_moto_takes_the_same_requests(bucket: str, make_package: MakePackage, tmp_path: Path) -> None:
    """A second judge; it keeps neither stages nor model cards, and an update replaces all metadata there."""
    name = f"m{uuid4().hex[:20]}"
    registry = open_registry(f"sagemaker:{name}@{bucket}/moto", tmp_path / "cache", serving_image=SERVING_IMAGE)
    added = registry.add(complete(make_package()), name, facts=FACTS, by="ann")
    assert (added.number, added.status, added.sha256) == (1, "pending", registry.get(name, "1").sha256)
    assert registry.change(added, "approve", "bob", None).status == "approved"
    assert registry.get(name).number == 1
    assert (registry.fetch(registry.get(name)) / "model" / "model.onnx").is_file()


def test_the_verbs_are_the_same(
    model_packages: ModelRegistry,
    files: str,
    make_package: MakePackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    verbs = runpy.run_path(str(PROJECT / "src" / "registry.py"))["verbs"]()
    places = (f"paths.registry=sagemaker:digits@{files}", f"paths.cache={tmp_path / 'cache'}", "by=ann")

    def do(*words: str) -> str:
        do_verb(verbs, [*words, *places])
        return capsys.readouterr().out

    with pytest.raises(BadInput, match="SAGEMAKER_SERVING_IMAGE"):
        do("add", str(make_package()), "digits", "serving_image=null")
    do("add", str(make_package()), "digits", f"serving_image={SERVING_IMAGE}")
    do("approve", "digits/1", "why=looks right")
    do("stage", "digits/1", "production")
    (row,) = json.loads(do("list", "--json"))
    assert (row["name"], row["production"], row["pending"]) == ("digits", 1, [])
    assert model_packages.packages["digits"][1]["ModelApprovalStatus"] == "Approved"
    found = json.loads(do("show", "digits/production", "--json"))
    assert [each["what"] for each in found["history"]] == ["add", "approve", "stage:production"]
    assert json.loads(do("verify", "digits", "--json"))[0]["differences"] == []
    folder = find_registered("registry:digits/production", places[0].partition("=")[2], tmp_path / "cache")
    assert json.loads((folder / "version.json").read_text())["version"] == 1


def test_a_pipeline_here_asks_for_the_image_before_its_first_step(model_packages: ModelRegistry, files: str) -> None:
    del model_packages
    typed = ["experiment=digits", f"paths.registry=sagemaker:digits@{files}"]
    cfg = validate_task(compose_config("pipeline", *typed, "pipeline.serving_image=null"), PipelineConfig)
    with pytest.raises(BadInput, match=r"which image serves the model.*pipeline.serving_image=…"):
        check(cfg, typed)
