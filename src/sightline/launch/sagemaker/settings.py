"""The settings of `launch=sagemaker`: their types, their rules, and what is asked for when one is missing."""

from dataclasses import dataclass, field
from typing import Any

from sightline.aws.names import ADDRESS, BUCKET, IMAGE, RESERVED_TAGS, ROLE
from sightline.errors import BadInput
from sightline.launch.backend import ImageSettings

INPUT_MODES = ("File", "FastFile")
LONGEST_RUN_MINUTES = 28 * 24 * 60
"""MaxRuntimeInSeconds is 28 days at the most."""
LONGEST_WARM_POOL_MINUTES = 360
HOW_TO_GET = {
    "role": "launch.role=arn:aws:iam::…:role/… or SAGEMAKER_ROLE in .env: the role that the job runs as; "
    "docs/aws.md has its policy, and `aws iam list-roles --query 'Roles[].Arn'` lists those there are",
    "bucket": "launch.bucket=NAME or SAGEMAKER_BUCKET in .env: where inputs, checkpoints and results lie; "
    "`aws s3 mb s3://NAME` makes one",
    "region": "launch.region=NAME or AWS_REGION in .env, or `aws configure set region NAME`: where the machines are, "
    "like that of the bucket",
    "credentials": "credentials of AWS: `aws configure sso`, `aws configure`, or AWS_PROFILE in .env",
}


@dataclass
class SageMakerSettings(ImageSettings):
    backend: str = "sagemaker"
    role: str | None = None  # the job runs as this, an ARN
    bucket: str | None = None  # inputs, checkpoints and results lie here …
    prefix: str = "sightline"  # … below this
    region: str | None = None
    build_args: str = ""  # further arguments of `docker build`
    instance_type: str = "ml.g5.xlarge"
    volume_gb: int = 100
    spot: bool = True  # spare machines, cheaper; an interrupted job goes on from its last step
    max_run_minutes: float = 720  # then the job is stopped, and counts as failed
    max_wait_minutes: float | None = None  # for spot machines and the run together; null: twice max_run_minutes
    warm_pool_minutes: float = 0  # keep the machine for the next job so long; with spot=false alone
    subnets: list[str] = field(default_factory=list)
    security_groups: list[str] = field(default_factory=list)
    kms_key: str | None = None  # encrypts volume and results; null: S3's own key
    tags: dict[str, str] | None = None  # beside those that name the commit and the job
    data_s3: str | None = None  # the data lie there already: s3://bucket/folder
    input_mode: str = "File"  # copied before the start; FastFile: read when needed
    max_cost_usd: float | None = None  # refuse a job that could cost more
    push_image: bool = False  # first build the image and push it, if it is not in the registry
    poll_seconds: float = 15.0  # how often the service is asked for news

    @property
    def account(self) -> str:
        """The number of the AWS account, as the role has it."""
        found = ROLE.fullmatch(self.role or "")
        assert found is not None
        return found[1]

    @property
    def wait_minutes(self) -> float:
        """For the machine and the run together."""
        return 2 * self.max_run_minutes if self.max_wait_minutes is None else self.max_wait_minutes


def check_settings(settings: SageMakerSettings, *, has_credentials: bool = True) -> None:
    """Raises: BadInput that names every setting that is missing and how to get it, or the first that cannot be."""
    missing = [name for name in ("role", "bucket", "region") if not getattr(settings, name)]
    missing += [] if has_credentials else ["credentials"]
    if missing:
        lines = "".join(f"\n  {HOW_TO_GET[name]}" for name in missing)
        named = ", ".join(name if name == "credentials" else f"launch.{name}" for name in missing)
        verb = "is" if len(missing) == 1 and missing != ["credentials"] else "are"
        raise BadInput(f"launch=sagemaker: {named} {verb} not set; give{lines}")
    _check_names(settings)
    _check_times(settings)


def _check_names(settings: SageMakerSettings) -> None:
    for key, rule, hint in (
        ("role", ROLE, "an ARN like arn:aws:iam::<account>:role/<name>"),
        ("bucket", BUCKET, "the name of a bucket, 3 to 63 small letters, digits, '-' and '.', without s3://"),
        ("image", IMAGE, "the address of an image, like <registry>/<name>:<tag>, or null"),
        ("data_s3", ADDRESS, "s3://bucket/folder"),
    ):
        value = getattr(settings, key)
        if value and not rule.fullmatch(value):
            raise BadInput(f"launch.{key}={value}: must be {hint}")
    if settings.input_mode not in INPUT_MODES:
        raise BadInput(f"launch.input_mode={settings.input_mode}: must be one of {', '.join(INPUT_MODES)}")
    for name in settings.tags or {}:
        if name.lower().startswith(RESERVED_TAGS):
            raise BadInput(
                f"launch.tags: {name} begins with {RESERVED_TAGS}, which AWS keeps for itself; name it otherwise"
            )
    if bool(settings.subnets) != bool(settings.security_groups):
        raise BadInput("launch.subnets and launch.security_groups: set both or none")


def _check_times(settings: SageMakerSettings) -> None:
    at_least: dict[str, Any] = {"instance_count": 1, "volume_gb": 1, "n_parallel": 1, "max_run_minutes": 1}
    for key, least in {**at_least, "warm_pool_minutes": 0, "poll_seconds": 0}.items():
        if getattr(settings, key) < least:
            raise BadInput(f"launch.{key}={getattr(settings, key)}: must be {least} or more")
    if settings.max_run_minutes > LONGEST_RUN_MINUTES:
        raise BadInput(f"launch.max_run_minutes={settings.max_run_minutes:g}: must be {LONGEST_RUN_MINUTES} or less")
    if settings.spot and settings.wait_minutes < settings.max_run_minutes:
        raise BadInput(
            f"launch.max_wait_minutes={settings.wait_minutes:g}: holds the run too, so it must be "
            f"launch.max_run_minutes={settings.max_run_minutes:g} or more"
        )
    if settings.warm_pool_minutes > 0 and settings.spot:
        raise BadInput(
            f"launch.warm_pool_minutes={settings.warm_pool_minutes:g} launch.spot=true: spot machines cannot be kept; "
            "set launch.spot=false, or launch.warm_pool_minutes=0"
        )
    if settings.warm_pool_minutes > LONGEST_WARM_POOL_MINUTES:
        raise BadInput(
            f"launch.warm_pool_minutes={settings.warm_pool_minutes:g}: must be {LONGEST_WARM_POOL_MINUTES} or less"
        )
