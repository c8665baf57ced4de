"""SageMaker's definition of a pipeline: pure, and step by step what the programs themselves would send."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PROJECT, Cli, compose_config
from tests.launch.fake_pipelines import check_definition, is_variable, steps_of

import sightline
from sightline.config import TASKS, to_plain, validate_task
from sightline.errors import BadInput
from sightline.launch.container.hyperparameters import to_overrides

LAUNCH = (
    "launch.role=arn:aws:iam::123456789012:role/sightline",
    "launch.bucket=experiments",
    "launch.region=eu-west-1",
    "launch.image=image:1",
    "launch.allow_dirty=true",
    "paths.data=/nonexistent",  # digits that were written here would be uploaded
)
PURE = """
import json, socket, sys
import sightline
def no_network(*_): raise AssertionError("a definition needs no network")
socket.socket.connect = no_network
one, two = (sightline.pipeline("digits", sys.argv[1:]) for _ in range(2))
assert one == two
assert "torch" not in sys.modules, "it loads in a moment"
print(json.dumps(one))
"""


def define(*overrides: str) -> dict[str, Any]:
    document = sightline.pipeline("digits", [*LAUNCH, *overrides])
    return check_definition(json.dumps(document))


def steps_by_name(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["Name"]: step for step in steps_of(document["Steps"])}


def filled(value: Any, document: dict[str, Any]) -> Any:
    """The value with every parameter at its default; other variables stay."""
    defaults = {f"Parameters.{each['Name']}": each["DefaultValue"] for each in document["Parameters"]}
    if is_variable(value) and value.get("Get") in defaults:
        return defaults[value["Get"]]
    if is_variable(value) and "Std:Join" in value:
        parts = [filled(each, document) for each in value["Std:Join"]["Values"]]
        return value if any(is_variable(each) for each in parts) else value["Std:Join"]["On"].join(map(str, parts))
    if isinstance(value, dict):
        return {key: filled(each, document) for key, each in value.items()}
    return [filled(each, document) for each in value] if isinstance(value, list) else value


def test_it_is_pure_and_loads_no_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PURE, *LAUNCH, f"paths.runs={tmp_path / 'runs'}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Version"] == "2020-12-01"
    assert not list(tmp_path.iterdir()), "it writes nothing"


def test_the_training_is_what_its_own_program_would_send(cli: Cli, tmp_path: Path) -> None:
    typed = ["trainer.precision=32-true", "launch.tags={team: vision}", "launch.kms_key=abc", "seed=3"]
    document = define(*typed)
    step = steps_by_name(document)["train"]
    sent = filled(step["Arguments"], document)
    keys = [key for key, value in step["Arguments"]["HyperParameters"].items() if is_variable(value)]
    given = [f"{key}={sent['HyperParameters'][key]}" for key in keys]
    words = ["experiment=digits", *typed, *given, "stages=[fit]", "data.manifest=s3://experiments/prepared/"]
    done = cli("train", "launch=sagemaker", *LAUNCH, "launch.dry_run=true", f"paths.runs={tmp_path}", *words)
    assert done.returncode == 0, done.stderr
    request = json.loads(done.stdout)["request"]
    del request["TrainingJobName"]
    assert sent["HyperParameters"].pop("data.manifest") == "${paths.inputs}/data_manifest/manifest.csv"
    assert request["HyperParameters"].pop("data.manifest") == "${paths.inputs}/data_manifest"
    addresses = {
        "OutputDataConfig": "S3OutputPath",
        "CheckpointConfig": "S3Uri",
        "TensorBoardOutputConfig": "S3OutputPath",
    }
    for arguments in (sent, request):
        for name, key in addresses.items():
            del arguments[name][key]
        arguments["Tags"] = [each for each in arguments["Tags"] if each["Key"] != "sightline:job"]
        (channel,) = arguments["InputDataConfig"]
        del channel["DataSource"]["S3DataSource"]["S3Uri"]
    assert sent == request
    assert step["CacheConfig"] == {"Enabled": True, "ExpireAfter": "30d"}
    assert sent["EnableManagedSpotTraining"]


@pytest.mark.parametrize("name", ["prepare", "export", "evaluate", "explain", "gate"])
def test_another_step_is_told_what_its_own_program_would_be(cli: Cli, name: str, tmp_path: Path, colors: Path) -> None:
    document = define(
        "data=folder", f"data.root={colors}", "name=colors", "export.int8=false", "explanation.num_images=2"
    )
    arguments = filled(steps_by_name(document)[name]["Arguments"], document)
    script, *told = arguments["AppSpecification"]["ContainerArguments"]
    channels = {each["InputName"] for each in arguments["ProcessingInputs"]}
    if name == "gate":  # is started nowhere else
        assert {"run", "evaluated", "explained", "previous"} == channels
        assert "fails=false" in told
        (bound,) = (each["DefaultValue"] for each in document["Parameters"] if each["Name"] == "MinAccuracy")
        assert f"pipeline.min_accuracy={bound}" in told
        return
    inputs = [each for each in told if "${paths.inputs}" in each]
    places = {"run": "s3://experiments/run/", "against": "s3://experiments/champion/", "data.own_root": str(colors)}
    words = [each for each in told if each not in inputs]
    words += [f"{key}={places.get(key, colors)}" for key in (each.partition("=")[0] for each in inputs)]
    given = ["launch=sagemaker", *LAUNCH, "launch.dry_run=true", f"paths.runs={tmp_path}"]
    done = cli(Path(script).stem, *given, *words)
    assert done.returncode == 0, done.stderr
    request = json.loads(done.stdout)["request"]
    there = to_overrides(request["HyperParameters"])
    assert sorted(map(str.lower, there)) == sorted(map(str.lower, told)), "Hydra's sweeper writes False"
    assert {each["ChannelName"] for each in request.get("InputDataConfig", ())} == channels
    assert request["AlgorithmSpecification"]["TrainingImage"] == arguments["AppSpecification"]["ImageUri"]


def test_its_parameters_are_the_composed_values_and_change_nothing() -> None:
    typed = ["augmentation=strong", "model/optimizer=sgd", "model.lr=auto", "data.batch_size=16"]
    document = define(*typed)
    values = {each["Name"]: (each["Type"], each["DefaultValue"]) for each in document["Parameters"]}
    assert values["Augmentation"] == ("String", "strong")
    assert values["Optimizer"] == ("String", "sgd")
    assert values["LearningRate"] == ("String", "auto")
    assert values["BatchSize"] == ("Integer", 16)
    assert values["Epochs"] == ("Integer", 20)
    assert values["MinAccuracy"][0] == "Float"
    assert "DataLocation" not in values, "the digits are made where they are needed"
    hyperparameters = filled(steps_by_name(document)["train"]["Arguments"]["HyperParameters"], document)
    overrides = [each for each in to_overrides(hyperparameters) if not each.startswith(("data.manifest", "stages"))]
    there, here = (
        to_plain(validate_task(compose_config("train", *words), TASKS["train"]))
        for words in (overrides, ["experiment=digits", *typed])
    )
    assert there == here


def test_annotations_are_merged_first_and_later_steps_take_what_came_of_it() -> None:
    document = define(
        "pipeline.annotations=s3://experiments/annotations/", "data.version=mine", "paths.data_versions=s3://a/versions"
    )
    steps = steps_by_name(document)
    assert [each["Name"] for each in document["Steps"]][:3] == ["merge", "data-changed", "train"]
    words = steps["merge"]["Arguments"]["AppSpecification"]["ContainerArguments"]
    assert words[:4] == ["src/data_versions.py", "merge", "mine", "from=${paths.inputs}/from"]
    assert [each["Name"] for each in steps["data-changed"]["Arguments"]["IfSteps"]] == ["prepare"]
    assert steps["data-changed"]["Arguments"]["ElseSteps"] == []
    version = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.merge.PropertyFiles.result"}, "Path": "version"}}
    assert steps["train"]["Arguments"]["HyperParameters"]["data.version"] == version
    assert "CacheConfig" not in steps["merge"]
    with pytest.raises(BadInput, match="paths.data_versions=.*: machines elsewhere do not see that folder"):
        define("pipeline.annotations=s3://experiments/annotations/", "data.version=mine")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["launch.instance_type=local"], "a pipeline of SageMaker runs on its machines"),
        (["launch=local_container"], "SageMaker's pipelines need launch=sagemaker"),
        (
            ["data=folder", "data.root=s3://experiments/b/", f"data.group_pattern='({'x' * 300})'"],
            "letters, and a step of a pipeline takes 256",
        ),
        (["ProcessingInstanceType=ml.none.large"], "pipeline.processing_instance_type: .*ml.none.large is not one of"),
        (["pipeline.gate=true", "pipeline.against=best"], "no_worse"),
    ],
)
def test_what_sagemaker_could_not_take_is_refused_here(overrides: list[str], said: str) -> None:
    launch = () if "launch=local_container" in overrides else LAUNCH
    keys = [each.replace("ProcessingInstanceType", "pipeline.processing_instance_type") for each in overrides]
    with pytest.raises(BadInput, match=said):
        sightline.pipeline("digits", [*keys, *launch])


def test_the_program_prints_it(cli: Cli, tmp_path: Path) -> None:
    done = cli("pipeline", "definition", *LAUNCH, f"paths.runs={tmp_path}", "Epochs=3")
    assert done.returncode == 0, done.stderr
    (epochs,) = (each for each in json.loads(done.stdout)["Parameters"] if each["Name"] == "Epochs")
    assert epochs == {"Name": "Epochs", "Type": "Integer", "DefaultValue": 3}
    assert str(PROJECT) not in done.stdout
    done = cli("pipeline", "price", *LAUNCH, f"paths.runs={tmp_path}", "TrainingInstanceType=ml.trn1.32xlarge")
    assert done.stdout.splitlines()[-1].startswith("the whole: unknown; no price of ml.trn1.32xlarge")
    assert "at most 19.20 USD" in cli("pipeline", "price", *LAUNCH, f"paths.runs={tmp_path}").stdout
