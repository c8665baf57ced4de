"""The request that registers a model with SageMaker, checked by botocore's own model of the service."""

import json
import re
from pathlib import Path

import pytest

from sightline.aws.request_check import check_request
from sightline.errors import BadInput
from sightline.registry.card_content import describe_package
from sightline.registry.model_package import (
    CONTENT_TYPES,
    PENDING,
    RESPONSE_TYPES,
    Registration,
    clean_metadata,
    make_request,
)
from sightline.runs.files import write_json
from sightline.serving.contract import CSV, JSON, PICTURE_TYPES

DIGEST = "sha256:" + "a" * 64
IMAGE = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/sightline-serve@{DIGEST}"
ROOT = "s3://experiments/sightline/registry/digits/abc"
COMPLETE = Registration(
    group="digits",
    image=IMAGE,
    model=f"{ROOT}/model.tar.gz",
    quality=f"{ROOT}/model_quality.json",
    explanations=f"{ROOT}/explanations.json",
    baseline=f"{ROOT}/baseline.npz",
    metadata={"sha256": "b" * 64, "gate": "test/accuracy_low 0.97 ≥ 0.95, and no worse than digits/3 (+0.2 %)"},
    description="test/accuracy_low 0.97 ≥ 0.95",
    card={"model_overview": {"problem_type": "Image classification"}},
)


def test_a_complete_request_would_be_taken() -> None:
    request = make_request(COMPLETE)
    check_request("CreateModelPackage", request)
    (container,) = request["InferenceSpecification"]["Containers"]
    assert container["ImageDigest"] == DIGEST
    assert container["ModelDataUrl"] == f"{ROOT}/model.tar.gz"
    assert request["ModelApprovalStatus"] == PENDING
    assert request["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"].endswith("model_quality.json")
    assert request["ModelMetrics"]["Explainability"]["Report"]["ContentType"] == "application/json"
    assert set(request["DriftCheckBaselines"]) == {"ModelQuality", "ModelDataQuality"}
    assert json.loads(request["ModelCard"]["ModelCardContent"]) == COMPLETE.card


def test_a_bare_request_would_be_taken() -> None:
    request = make_request(Registration("digits", "image:1", "s3://bucket/model.tar.gz"))
    check_request("CreateModelPackage", request)
    assert not {"ModelMetrics", "DriftCheckBaselines", "CustomerMetadataProperties", "ModelCard"} & set(request)


def test_metadata_has_only_letters_that_sagemaker_takes() -> None:
    """Its pattern is written for another language than Python's `re`, so botocore's check passes over it."""
    taken = clean_metadata({"gate": "0.97 ≥ 0.95, „gut“ (+0.2 %)\nand so on", "test/accuracy": "x" * 300, "empty": ""})
    assert taken == {"gate": "0.97 0.95 gut +0.2 and so on", "test/accuracy": "x" * 256}
    assert all(re.fullmatch(r"[\w\s.:/=+@-]{1,256}", value) for value in taken.values())


def test_too_much_metadata_is_refused() -> None:
    with pytest.raises(BadInput, match=r"51 pairs of metadata, SageMaker takes 50: leave out \['n50'\]"):
        clean_metadata({f"n{number}": "x" for number in range(51)})


@pytest.mark.parametrize("name", ["traffic signs", "-digits", "digits_v2", "", "a" * 64, "zürich"])
def test_a_name_that_no_group_can_have_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="cannot be the name of a model package group"):
        make_request(Registration(name, IMAGE, "s3://bucket/model.tar.gz"))


def test_a_pipelines_variables_stay_what_they_are() -> None:
    status = {"Get": "Parameters.ApprovalStatus"}
    model = {"Std:Join": {"On": "/", "Values": [{"Get": "Steps.gate.Output"}, "model.tar.gz"]}}
    sha256 = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.gate.PropertyFiles.gate"}, "Path": "sha256"}}
    request = make_request(Registration("digits", IMAGE, model, status=status, metadata={"sha256": sha256}))
    assert request["ModelApprovalStatus"] == status
    assert request["InferenceSpecification"]["Containers"][0]["ModelDataUrl"] == model
    assert request["CustomerMetadataProperties"] == {"sha256": sha256}


def test_a_card_with_variables_is_a_join_of_json() -> None:
    accuracy = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.gate.PropertyFiles.gate"}, "Path": "accuracy"}}
    rows = [{"name": "test/accuracy", "type": "number", "value": accuracy}]
    card = {"evaluation_details": [{"name": "test", "metric_groups": [{"name": "test", "metric_data": rows}]}]}
    content = make_request(Registration("digits", IMAGE, "s3://b/m", card=card))["ModelCard"]["ModelCardContent"]
    pieces = content["Std:Join"]["Values"]
    assert content["Std:Join"]["On"] == ""
    filled = json.loads("".join("0.97" if piece == accuracy else piece for piece in pieces))
    assert filled["evaluation_details"][0]["metric_groups"][0]["metric_data"][0]["value"] == 0.97


def test_what_is_registered_is_what_the_service_takes_and_answers() -> None:
    assert set(CONTENT_TYPES) <= {*PICTURE_TYPES, JSON}
    assert set(RESPONSE_TYPES) == {JSON, CSV}


def test_a_card_says_what_the_packages_files_say(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write_json(tmp_path / "run.json", {"seed": 1, "overrides": ["model.lr=0.1"], "data": {"name": "d", "sha256": "c0"}})
    write_json(tmp_path / "metrics.json", {"test/accuracy": 0.97, "test/accuracy_low": 0.95, "val/accuracy": 0.99})
    write_json(tmp_path / "model" / "task_spec.json", {"class_names": ["a", "b"]})
    write_json(tmp_path / "model" / "model.json", {"name": "resnet18", "weights": None})
    card = describe_package(tmp_path, {"sentence": "accuracy_low 0.95 reaches 0.9"}, "s3://b/model.tar.gz")
    assert card["model_overview"]["model_description"] == "Tells 2 classes of pictures apart: a, b"
    assert card["training_details"]["training_job_details"]["training_datasets"] == ["d sha256:c0"]
    assert {"name": "model.lr", "value": "0.1"} in card["training_details"]["training_job_details"][
        "user_provided_hyper_parameters"
    ]
    (evaluation,) = card["evaluation_details"]
    assert evaluation["evaluation_observation"] == "accuracy_low 0.95 reaches 0.9"
    assert {each["name"] for each in evaluation["metric_groups"][0]["metric_data"]} == {
        "test/accuracy",
        "test/accuracy_low",
    }
