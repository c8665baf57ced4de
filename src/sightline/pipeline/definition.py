"""SageMaker's definition of a pipeline: JSON made of the plans of its steps. Pure; never imports torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.aws.clients import has_credentials
from sightline.config import TASKS, PipelineConfig, PrepareConfig, targets_of, to_plain, validate_task
from sightline.errors import BadInput
from sightline.launch.backends import LOCAL_TYPES
from sightline.launch.container.processing_folder import ARCHIVE, RESULT
from sightline.launch.job import Job, job_name
from sightline.launch.sagemaker.backend import SageMaker
from sightline.launch.sagemaker.processing import (
    OUTPUT_NAME,
    Machine,
    check_processing_request,
    processing_input,
    processing_output,
)
from sightline.launch.sagemaker.settings import SageMakerSettings, check_settings
from sightline.launch.submission import TARGETS, Submission, composed_keys
from sightline.pipeline.parameters import (
    STATUS,
    as_string,
    as_text,
    declare,
    find_parameter,
    get,
    join,
    of_step,
)
from sightline.pipeline.registration import REGISTRATION
from sightline.pipeline.steps import Output, Step, make_steps
from sightline.runs.invocation import Invocation
from sightline.runs.override_text import key_of, override, value_of

VERSION = "2020-12-01"
"""Of SageMaker's schema of definitions."""
NUM_DIGITS = 12
UNLISTED = "unlisted"
"""The hash of data that nobody has listed: those at an address of one's own, until a start."""
OWN_ROOT = ("export", "evaluate", "explain")
"""Steps that read the images that the run was made of."""
GATE_FILE = "gate.json"
RETRIES = (
    {"ExceptionType": ["Step.SERVICE_FAULT", "Step.THROTTLING"], "IntervalSeconds": 30, "BackoffRate": 2.0},
    {"ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR"], "IntervalSeconds": 60, "BackoffRate": 2.0},
    {
        "ExceptionType": ["SageMaker.CAPACITY_ERROR", "SageMaker.RESOURCE_LIMIT"],
        "IntervalSeconds": 300,
        "BackoffRate": 2.0,
    },
)
MAX_ATTEMPTS = 5
CONDITION, REGISTER, FAIL = "gate-met", "register", "gate-not-met"
MERGE, MERGED = "merge", "data-changed"
PROPERTY_FILES = {"gate": (GATE_FILE, REGISTRATION), MERGE: (RESULT,)}
"""Of the steps whose results later ones read: JSON in their output."""


@dataclass(frozen=True)
class RemotePipeline:
    """A pipeline on SageMaker as it was asked for: checked, and nothing sent."""

    cfg: PipelineConfig
    typed: tuple[str, ...]
    choices: Mapping[str, str | None]
    submission: Submission

    @property
    def backend(self) -> SageMaker:
        assert isinstance(self.submission.backend, SageMaker)
        return self.submission.backend

    @property
    def settings(self) -> SageMakerSettings:
        return self.backend.settings

    @property
    def name(self) -> str:
        return job_name(self.cfg.pipeline.name or f"sightline-{self.choices.get('experiment') or self.cfg.name}")

    @property
    def group(self) -> str:
        """The model package group that versions go to."""
        _, is_group, group = self.cfg.paths.registry.partition("sagemaker:")
        return group if is_group else job_name(self.model)

    @property
    def model(self) -> str:
        return self.cfg.pipeline.model or self.cfg.name

    @property
    def places(self) -> list[str]:
        """The overrides that say where this machine keeps what."""
        return [each for each in self.typed if key_of(each).startswith("paths.")]

    @property
    def root(self) -> str:
        return f"s3://{self.settings.bucket}/{self.settings.prefix}/pipelines/{self.name}"

    @property
    def no_champion(self) -> str:
        """The address that says that there is none."""
        return f"{self.root}/no-champion/"

    @property
    def runs(self) -> Path:
        return Path(self.cfg.paths.runs).absolute()


@dataclass
class Definition:
    """`document` is what SageMaker keeps; `uploads` and `image` must be there before it starts."""

    document: dict[str, Any]
    image: str
    uploads: dict[str, str]
    limits: dict[str, tuple[str, int, float]]
    """Of each step that runs on a machine: its type, their number, and the most minutes."""

    @property
    def text(self) -> str:
        return json.dumps(self.document, ensure_ascii=False)


@dataclass
class Draft:
    """What the steps have in common while they are made."""

    pipeline: RemotePipeline
    job_names: str
    declared: dict[str, dict[str, Any]] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)
    limits: dict[str, tuple[str, int, float]] = field(default_factory=dict)
    image: str = ""

    def parameter(self, name: str, value: Any) -> dict[str, Any]:
        """Declare a parameter with this default, and return the variable that is a text."""
        self.declared.setdefault(name, declare(find_parameter(name), value))
        return as_string(self.declared[name])

    def job(self, step: str, script: str, overrides: list[str]) -> Job:
        return Job(job_name(self.job_names, step), script, tuple(overrides), self.pipeline.submission.commit)


def define(experiment: str | None = None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The definition of an experiment's pipeline with these overrides, as a dictionary.

    Raises: BadInput, or Hydra's own error for a key that there is not; nothing is written or sent.
    """
    from sightline.command import compose, read_overrides

    given = [f"experiment={experiment}", *overrides] if experiment else list(overrides)
    launch = [] if value_of(given, "launch") is not None else ["launch=sagemaker"]
    read, guesses = read_overrides("pipeline", [*launch, *given])
    cfg = validate_task(compose("pipeline", read), PipelineConfig)
    invocation = Invocation(overrides=tuple(read), guesses=tuple(guesses))
    return make_definition(open_pipeline(cfg, invocation, sends=False)).document


def open_pipeline(cfg: PipelineConfig, invocation: Invocation, *, sends: bool = True) -> RemotePipeline:
    """A checked pipeline; with `sends` also credentials are looked for. Nothing is written or sent.

    Raises: BadInput for settings that are missing or cannot be.
    """
    from sightline.pipeline.checks import check_gates, check_typed

    kind = cfg.launch.get("backend")
    if kind != "sagemaker":
        raise BadInput(f"launch={kind or 'here'}: SageMaker's pipelines need launch=sagemaker")
    if (instance := cfg.launch.get("instance_type")) in LOCAL_TYPES:
        raise BadInput(
            f"launch.instance_type={instance}: a pipeline of SageMaker runs on its machines; on this one, in the same "
            "containers, with launch=local_container"
        )
    _check_data_version(cfg)
    check_typed(cfg, invocation.overrides)
    check_gates(cfg)
    values = {**cfg.launch, "dry_run": True}
    submission = Submission.open(values, Path(cfg.paths.runs).absolute() / "jobs", invocation)
    if sends:
        submission.settings.dry_run = False
        check_settings(submission.settings, has_credentials=has_credentials())  # pyright: ignore[reportArgumentType]
    return RemotePipeline(cfg, tuple(invocation.overrides), _choices(invocation), submission)


def _choices(invocation: Invocation) -> Mapping[str, str | None]:
    from sightline.command import compose

    if invocation.choices:
        return invocation.choices
    chosen = compose("pipeline", invocation.overrides, with_hydra=True).hydra.runtime.choices
    return {str(group): None if each is None else str(each) for group, each in chosen.items()}


def make_definition(pipeline: RemotePipeline) -> Definition:
    """The definition, and all that it needs: the same twice, without a network.

    Raises: BadInput for data that are nowhere, or for what SageMaker cannot take.
    """
    draft = Draft(pipeline, pipeline.name)
    steps = {each.name: each for each in _steps(pipeline)}
    train = _train(draft, steps["train"])
    root = _data_root(pipeline, train)
    made = [_process(draft, steps["prepare"], [], root), train["step"]]
    made += [_process(draft, steps[name], _own_images(root), root) for name in ("export", "evaluate", "explain")]
    made += [_process(draft, steps["gate"], [], root)]
    made = _with_merge(draft, made)
    made.append(_decision(draft))
    document = {
        "Version": VERSION,
        "Metadata": {"Commit": pipeline.submission.commit or "unknown"},
        "Parameters": list(draft.declared.values()),
        "PipelineExperimentConfig": {
            "ExperimentName": {"Get": "Execution.PipelineName"},
            "TrialName": {"Get": "Execution.PipelineExecutionId"},
        },
        "Steps": made,
    }
    return Definition(document, draft.image, draft.uploads, draft.limits)


def _steps(pipeline: RemotePipeline) -> tuple[Step, ...]:
    from sightline.command import compose

    data = str(pipeline.choices["data"])
    elsewhere = [] if value_of(pipeline.typed, "data.root") is None else ["data.root=."]
    composed = validate_task(compose("prepare", [f"data={data}", *elsewhere, *pipeline.places]), PrepareConfig)
    images = to_plain(composed)["data"]
    return make_steps(pipeline.cfg, pipeline.typed, data, images)


def _composed_values(plain: Mapping[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """What submitting depends on, by key; without what earlier steps fill."""
    own = {name: value for name, value in plain.items() if name not in ("launch", "pipeline")}
    found = {key: None if key in without else _select(plain, key) for key in composed_keys()}
    return {**found, TARGETS: targets_of(own)}


def _check_data_version(cfg: PipelineConfig) -> None:
    """Raises: BadInput for annotations that belong to no version, or a version that is another one tomorrow."""
    version, store = cfg.data.version, cfg.paths.data_versions
    if cfg.pipeline.annotations is not None and version is None:
        raise BadInput("pipeline.annotations: into which data? name their versions with data.version=NAME")
    if cfg.pipeline.annotations is not None and not store.startswith("s3://"):
        raise BadInput(
            f"pipeline.annotations paths.data_versions={store}: machines elsewhere do not see that folder; keep the "
            "versions at paths.data_versions=s3://bucket/folder"
        )
    is_pinned = version is None or version.rpartition("/")[2].isdigit()
    if store.startswith("s3://") and cfg.pipeline.annotations is None and not is_pinned:
        raise BadInput(
            f"data.version={version}: a definition names one version, or the step cache would take the newest for the "
            f"one before; write data.version={str(version).partition('/')[0]}/NUMBER"
        )


def _select(plain: Any, key: str) -> Any:
    for part in key.split("."):
        plain = plain.get(part) if isinstance(plain, Mapping) else None
    return plain


# training


def _train(draft: Draft, step: Step) -> dict[str, Any]:
    """The training step, and the overrides of its job."""
    pipeline, settings = draft.pipeline, draft.pipeline.settings
    without = (*step.inputs, "resume", "run", "against", "images")
    composed = _composed_values(to_plain(pipeline.cfg), without)
    overrides = pipeline.submission.overrides(list(step.overrides), composed, pipeline.runs)
    job = draft.job("train", step.script, [*overrides, *_filled(step)])
    plan = pipeline.backend.plan(job)
    draft.uploads |= plan["uploads"]
    request = plan["request"]
    draft.image = request["AlgorithmSpecification"]["TrainingImage"]
    draft.limits["train"] = settings.instance_type, settings.instance_count, settings.max_run_minutes
    return {"step": _train_step(draft, step, request), "overrides": overrides, "request": request}


def _train_step(draft: Draft, step: Step, request: Mapping[str, Any]) -> dict[str, Any]:
    pipeline = draft.pipeline
    arguments = json.loads(json.dumps({key: value for key, value in request.items() if key != "TrainingJobName"}))
    for each in of_step("train"):
        _set_hyperparameter(draft, arguments["HyperParameters"], str(each.key), _default(pipeline, each.name))
    arguments["ResourceConfig"]["InstanceType"] = draft.parameter(
        "TrainingInstanceType", pipeline.settings.instance_type
    )
    channels = arguments.setdefault("InputDataConfig", [])
    for channel in channels:
        if channel["ChannelName"] == "data_root":
            channel["DataSource"]["S3DataSource"]["S3Uri"] = _data_location(
                draft, channel["DataSource"]["S3DataSource"]["S3Uri"]
            )
    for key, output in step.inputs.items():
        source = {"S3DataType": "S3Prefix", "S3Uri": _address(output), "S3DataDistributionType": "FullyReplicated"}
        channels.append({"ChannelName": _channel(key), "DataSource": {"S3DataSource": source}, "InputMode": "File"})
    arguments["OutputDataConfig"]["S3OutputPath"] = _execution_address(pipeline, "train", "output")
    arguments["TensorBoardOutputConfig"]["S3OutputPath"] = _execution_address(pipeline, "train", "tensorboard")
    arguments["CheckpointConfig"]["S3Uri"] = _checkpoints(draft, arguments)
    return _step(draft, "train", "Training", arguments)


def _set_hyperparameter(draft: Draft, hyperparameters: dict[str, Any], key: str, value: Any) -> None:
    name = next(each.name for each in of_step("train") if each.key == key)
    for other in [each for each in hyperparameters if key_of(each) == key]:
        del hyperparameters[other]
    hyperparameters[key] = draft.parameter(name, value)


def _default(pipeline: RemotePipeline, name: str) -> Any:
    """The value of a parameter in the composed configuration."""
    parameter = find_parameter(name)
    if parameter.is_group:
        return pipeline.choices.get(str(parameter.key))
    return _select(to_plain(pipeline.cfg), str(parameter.key))


def _checkpoints(draft: Draft, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Where the run lies: an address of its own for everything that it depends on.

    SageMaker's cache compares it, so it may not be that of an execution; what is started again with the same values
    and the same prepared data goes on there.
    """
    fixed = {key: value for key, value in arguments.items() if key not in ("CheckpointConfig", "Tags")}
    digest = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:NUM_DIGITS]
    values = [draft.parameter(each.name, None) for each in of_step("train")]
    data = {"Get": "Steps.prepare.ProcessingJobName"}
    return join(f"{draft.pipeline.root}/train/{digest}", data, *values, "checkpoints", on="/")


# processing


def _process(draft: Draft, step: Step, more: list[str], root: str | None) -> dict[str, Any]:
    """A step that is a processing job."""
    pipeline, cfg = draft.pipeline, draft.pipeline.cfg
    task = Path(step.script).stem
    given = [each for each in [*step.overrides, *more] if key_of(each) not in ("against", "previous", "champion")]
    if step.name == "evaluate" and cfg.pipeline.champion not in ("auto", "none"):
        given.append(override("against", cfg.pipeline.champion))
    placeholders = [f"{key}=." for key in step.inputs if key in ("run", "evaluated", "explained")]
    if step.name == "prepare" and cfg.data.version is not None:
        given.append(override("data.version", cfg.data.version))
        placeholders.append(override("paths.data_versions", cfg.paths.data_versions))
    from sightline.command import compose

    typed = [each for each in given if key_of(each) not in ("images", "against")]
    plain = to_plain(validate_task(compose(task, [*pipeline.places, *typed, *placeholders]), TASKS[task]))
    composed = _composed_values(plain, tuple(step.inputs))
    for key in ("images", "against"):
        if (value := value_of(given, key)) is not None:
            composed[key] = value
    if step.name == "prepare" and pipeline.settings.data_s3:
        given = [*given, override("data.root", root)]
        composed["data.root"] = root
    overrides = pipeline.submission.overrides(given, composed, pipeline.runs)
    job = draft.job(step.name, step.script, [*overrides, *_filled(step), *_champion_overrides(pipeline, step.name)])
    settings = cfg.pipeline
    machine = Machine(
        settings.processing_instance_type, settings.processing_volume_gb, settings.processing_max_run_minutes
    )
    plan = pipeline.backend.plan_processing(job, machine, draft.image)
    draft.uploads |= plan["uploads"]
    draft.limits[step.name] = machine.instance_type, 1, machine.max_run_minutes
    check_processing_request(plan["request"])
    return _process_step(draft, step, plan["request"])


def _process_step(draft: Draft, step: Step, request: Mapping[str, Any]) -> dict[str, Any]:
    pipeline = draft.pipeline
    arguments = json.loads(json.dumps(request))
    cluster = arguments["ProcessingResources"]["ClusterConfig"]
    cluster["InstanceType"] = draft.parameter("ProcessingInstanceType", cluster["InstanceType"])
    for channel in arguments["ProcessingInputs"]:
        source, name = channel["S3Input"], channel["InputName"]
        if name in ("data_root", "data_own_root"):
            source["S3Uri"] = _data_location(draft, source["S3Uri"])
        elif name == "against":
            source["S3Uri"] = draft.parameter("Champion", source["S3Uri"])
    inputs = arguments["ProcessingInputs"]
    inputs += [processing_input(_channel(key), _address(output)) for key, output in step.inputs.items()]
    for key in _champion_keys(pipeline, step.name):
        if key not in {each["InputName"] for each in inputs}:
            inputs.append(processing_input(key, draft.parameter("Champion", pipeline.no_champion)))
    words = arguments["AppSpecification"]["ContainerArguments"]
    for each in of_step(step.name):
        value = draft.parameter(each.name, _default(pipeline, each.name))
        kept = [word for word in words if not isinstance(word, str) or key_of(word) != each.key]
        words[:] = [*kept, join(f"{each.key}=", value)]
    if step.name == "prepare" and "DataLocation" in draft.declared:
        arguments["Environment"]["SIGHTLINE_DATA_SHA256"] = get("DataSha256")
    output = _execution_address(pipeline, step.name)
    arguments["ProcessingOutputConfig"] = processing_output(output, pipeline.settings.kms_key)
    made = _step(draft, step.name, "Processing", arguments)
    if (files := PROPERTY_FILES.get(step.name)) is not None:
        made["PropertyFiles"] = [
            {"PropertyFileName": Path(file).stem, "OutputName": OUTPUT_NAME, "FilePath": file} for file in files
        ]
    return made


def _champion_keys(pipeline: RemotePipeline, step: str) -> tuple[str, ...]:
    if pipeline.cfg.pipeline.champion == "none":
        return ()
    return {"evaluate": ("against",), "gate": ("previous",)}.get(step, ())


def _champion_overrides(pipeline: RemotePipeline, step: str) -> list[str]:
    """The champion's folder as the program finds it; the entry point leaves it out where there is none."""
    if step == "evaluate" and pipeline.cfg.pipeline.champion == "auto":
        return ["against=${paths.inputs}/against"]
    return (
        ["previous=${paths.inputs}/previous/manifest.csv"] if _champion_keys(pipeline, step) and step == "gate" else []
    )


def _own_images(root: str | None) -> list[str]:
    return [] if root is None else [override("data.own_root", root)]


def _data_root(pipeline: RemotePipeline, train: Mapping[str, Any]) -> str | None:
    """Where the images lie, here or in S3; none for data that a machine makes itself."""
    if pipeline.settings.data_s3:
        return f"{pipeline.settings.data_s3.rstrip('/')}/"
    root = value_of(train["overrides"], "data.root")
    return None if root is None or root.startswith("${") else root


def _data_location(draft: Draft, address: str) -> dict[str, Any]:
    """The variable of where the images lie; their hash is in an upload's address."""
    uploaded = f"s3://{draft.pipeline.settings.bucket}/{draft.pipeline.settings.prefix}/inputs/"
    digest = address.removeprefix(uploaded).split("/")[0] if address.startswith(uploaded) else UNLISTED
    draft.parameter("DataSha256", digest)
    return draft.parameter("DataLocation", address)


# what all steps share


def _filled(step: Step) -> list[str]:
    """The overrides that name what earlier steps left, as the container finds it."""
    return [
        f"{key}={'/'.join(['${paths.inputs}', _channel(key), *filter(None, [output.path])])}"
        for key, output in step.inputs.items()
    ]


def _channel(key: str) -> str:
    return key.replace(".", "_")


def _address(output: Output) -> dict[str, str]:
    """Where a step's folder lies, as the service knows it once the step has ended, or was found in the cache."""
    if output.step == "train":
        return {"Get": "Steps.train.CheckpointConfig.S3Uri"}
    return {"Get": f"Steps.{output.step}.ProcessingOutputConfig.Outputs['output'].S3Output.S3Uri"}


def _execution_address(pipeline: RemotePipeline, *parts: str) -> dict[str, Any]:
    return join(f"{pipeline.root}/executions", {"Get": "Execution.PipelineExecutionId"}, *parts, on="/")


def _step(draft: Draft, name: str, kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    days = draft.pipeline.cfg.pipeline.cache_days
    step: dict[str, Any] = {"Name": name, "Type": kind, "Arguments": dict(arguments)}
    if days and name != MERGE:
        step["CacheConfig"] = {"Enabled": True, "ExpireAfter": f"{days}d"}
    return {**step, "RetryPolicies": [{**each, "MaxAttempts": MAX_ATTEMPTS} for each in RETRIES]}


# the ends


def _decision(draft: Draft) -> dict[str, Any]:
    """What becomes of the model: registered, or a failure that says which number missed the gate."""
    met = {"Type": "Equals", "LeftValue": _json_get("gate", "passed"), "RightValue": True}
    message = join("not registered: ", _json_get("gate", "sentence"))
    return {
        "Name": CONDITION,
        "Type": "Condition",
        "Arguments": {
            "Conditions": [met],
            "IfSteps": [_register(draft)],
            "ElseSteps": [{"Name": FAIL, "Type": "Fail", "Arguments": {"ErrorMessage": message}}],
        },
    }


def _json_get(step: str, path: str, file: str | None = None) -> dict[str, Any]:
    """A value in a file that a step left; without a name, in the one that says how it went."""
    name = Path(PROPERTY_FILES[step][0] if file is None else file).stem
    return {"Std:JsonGet": {"PropertyFile": {"Get": f"Steps.{step}.PropertyFiles.{name}"}, "Path": path}}


def _register(draft: Draft) -> dict[str, Any]:
    from sightline.registry.model_package import Registration, make_request

    pipeline = draft.pipeline
    gate = _address(Output("gate"))
    metadata: dict[str, Any] = {
        "pipeline": pipeline.name,
        "execution": {"Get": "Execution.PipelineExecutionId"},
        "commit": pipeline.submission.commit or "unknown",
        "experiment": str(pipeline.choices.get("experiment")),
        "image": draft.image,
        "run": {"Get": "Steps.train.TrainingJobName"},
        "gate": _json_get("gate", "gate", REGISTRATION),
        "sha256": _json_get("gate", "sha256", REGISTRATION),
        "files_sha256": _json_get("gate", "files_sha256", REGISTRATION),
    }
    if "DataLocation" in draft.declared:
        metadata |= {"data": get("DataLocation"), "data_sha256": get("DataSha256")}
    draft.parameter("ApprovalStatus", STATUS[pipeline.cfg.pipeline.approval])
    request = make_request(
        Registration(
            group=pipeline.group,
            image=_serving_image(pipeline),
            model=join(gate, ARCHIVE, on="/"),
            quality=join(gate, "package/evaluation/evaluation.json", on="/"),
            explanations=join(gate, "package/explanations/explanations.json", on="/"),
            baseline=join(gate, "package/model/baseline.npz", on="/"),
            metadata=metadata,
            card=_json_get("gate", "card", REGISTRATION),
            description=join("by the pipeline ", pipeline.name, ", ", {"Get": "Execution.PipelineExecutionId"}),
            status=get("ApprovalStatus"),  # pyright: ignore[reportArgumentType]
        )
    )
    return {"Name": REGISTER, "Type": "RegisterModel", "Arguments": request}


def _serving_image(pipeline: RemotePipeline) -> str:
    from sightline.aws.ecr import registry_address
    from sightline.launch.container.image import SERVE, image_name

    if pipeline.cfg.pipeline.serving_image:
        return pipeline.cfg.pipeline.serving_image
    settings = pipeline.settings
    return f"{registry_address(settings.account, settings.region or '')}/{image_name('', SERVE)}"


def _with_merge(draft: Draft, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps, after one that merges annotations into the next version of the data, where there are any.

    Without a new one the execution ends well and nothing is trained: `prepare` is not run, nor what depends on it.
    """
    pipeline = draft.pipeline
    source = pipeline.cfg.pipeline.annotations
    if source is None:
        return steps
    version = str(pipeline.cfg.data.version)
    store = pipeline.cfg.paths.data_versions
    address = pipeline.backend.address_of(source)
    if address != source:
        draft.uploads[address] = str(Path(source).absolute())
    settings = pipeline.cfg.pipeline
    machine = Machine(
        settings.processing_instance_type, settings.processing_volume_gb, settings.processing_max_run_minutes
    )
    name = version.split("/")[0]
    words = ["merge", name, "from=${paths.inputs}/from", f"paths.data_versions={store}", "--json"]
    plan = pipeline.backend.plan_processing(draft.job(MERGE, "src/data_versions.py", words), machine, draft.image)
    draft.limits[MERGE] = machine.instance_type, 1, machine.max_run_minutes
    step = _process_step(draft, Step(MERGE, "src/data_versions.py"), plan["request"])
    step["Arguments"]["ProcessingInputs"].append(processing_input("from", draft.parameter("Annotations", address)))
    new = join("data.version=", _json_get(MERGE, "version"))
    for each in steps:
        _use_version(each, new, store)
    prepare, *rest = steps
    changed = {"Type": "Equals", "LeftValue": _json_get(MERGE, "is_new"), "RightValue": True}
    arguments = {"Conditions": [changed], "IfSteps": [prepare], "ElseSteps": []}
    return [step, {"Name": MERGED, "Type": "Condition", "Arguments": arguments}, *rest]


def _use_version(step: dict[str, Any], version: dict[str, Any], store: str) -> None:
    """Let a step that names a version of the data take the one that was merged."""
    arguments = step["Arguments"]
    if step["Type"] == "Training":
        hyperparameters = arguments["HyperParameters"]
        hyperparameters["data.version"] = version["Std:Join"]["Values"][1]
        hyperparameters["paths.data_versions"] = as_text(store)
    elif step["Name"] == "prepare":
        words = arguments["AppSpecification"]["ContainerArguments"]
        replaced = ("data.version", "paths.data_versions")
        words[:] = [word for word in words if not isinstance(word, str) or key_of(word) not in replaced]
        words += [version, f"paths.data_versions={as_text(store)}"]
