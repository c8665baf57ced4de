"""Validation of a request by botocore's service model: names, types, and lengths and patterns that boto3 ignores."""

import functools
import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from sightline.errors import BadInput

EXTRA = "launch=sagemaker needs boto3: pip install 'sightline-vision[aws]'"


SETTINGS = {
    "AlgorithmSpecification.TrainingImage": "launch.image",
    "CheckpointConfig.S3Uri": "launch.prefix",
    "OutputDataConfig.KmsKeyId": "launch.kms_key",
    "OutputDataConfig.S3OutputPath": "launch.prefix",
    "AppSpecification.ImageUri": "launch.image",
    "ProcessingResources.ClusterConfig.InstanceType": "pipeline.processing_instance_type",
    "ProcessingResources.ClusterConfig.VolumeSizeInGB": "pipeline.processing_volume_gb",
    "StoppingCondition.MaxRuntimeInSeconds": "launch.max_run_minutes or pipeline.processing_max_run_minutes",
    "ResourceConfig.InstanceCount": "launch.instance_count",
    "ResourceConfig.InstanceType": "launch.instance_type",
    "ResourceConfig.VolumeKmsKeyId": "launch.kms_key",
    "ResourceConfig.VolumeSizeInGB": "launch.volume_gb",
    "RoleArn": "launch.role",
    "Tags": "launch.tags",
    "TensorBoardOutputConfig.S3OutputPath": "launch.prefix",
    "VpcConfig.SecurityGroupIds": "launch.security_groups",
    "VpcConfig.Subnets": "launch.subnets",
}
"""Setting that sets a field of a request."""


def check_request(operation: str, request: dict[str, Any]) -> None:
    """Check the arguments of an operation of SageMaker. No network, no credentials.

    Raises: BadInput with everything that is wrong.
    """
    shape, problems = _shape(operation), []
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        problems = report.generate_report().splitlines()
    else:
        problems = [_with_setting(problem) for problem in _find_problems(shape, request, "")]
    if problems:
        raise BadInput(f"{operation} would be refused: {'; '.join(problems)}")


def _with_setting(problem: str) -> str:
    field = re.split(r"[\[= ]", problem, maxsplit=1)[0]
    return f"{SETTINGS[field]}: {problem}" if field in SETTINGS else problem


@functools.cache
def _shape(operation: str) -> Any:
    """The arguments of an operation; the service's model is large, and is read once."""
    return _service_model().operation_model(operation).input_shape


@functools.cache
def _service_model() -> Any:
    try:
        import botocore.session
    except ImportError as error:
        raise BadInput(EXTRA) from error
    return botocore.session.Session().get_service_model("sagemaker")


def _find_problems(shape: Any, value: Any, where: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for name, inner in value.items():
            yield from _find_problems(shape.members[name], inner, f"{where}.{name}".lstrip("."))
    elif shape.type_name == "list":
        yield from _check_size(shape, len(value), where, "entries")
        for number, inner in enumerate(value):
            yield from _find_problems(shape.member, inner, f"{where}[{number}]")
    elif shape.type_name == "map":
        yield from _check_size(shape, len(value), where, "entries")
        for name, inner in value.items():
            yield from _find_problems(shape.key, name, f"{where} (the key {name[:60]})")
            yield from _find_problems(shape.value, inner, f"{where}.{name[:60]}")
    elif shape.type_name == "string":
        yield from _check_text(shape, value, where)
    elif shape.type_name in ("integer", "long"):
        yield from _check_size(shape, value, where, "")


def _check_text(shape: Any, text: str, where: str) -> Iterator[str]:
    yield from _check_size(shape, len(text), where, "letters")
    if shape.enum and text not in shape.enum:
        near = get_close_matches(text, shape.enum, n=3)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        yield f"{where}={text} is not one of {len(shape.enum)} that there are{hint}"
    pattern = shape.metadata.get("pattern")
    if pattern is not None and not _fits(pattern, text):
        yield f"{where}={text[:80]} does not fit {pattern}"


def _fits(pattern: str, text: str) -> bool:
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:  # written for another language
        return True


def _check_size(shape: Any, size: int, where: str, unit: str) -> Iterator[str]:
    for bound, wrong, most_or_least in (
        ("min", size < shape.metadata.get("min", size), "least"),
        ("max", size > shape.metadata.get("max", size), "most"),
    ):
        if wrong:
            yield f"{where} has {size} {unit}, at {most_or_least} {shape.metadata[bound]}".replace("  ", " ")
