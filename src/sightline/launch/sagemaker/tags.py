"""The tags of everything that a job makes: which job, which commit, and the user's own."""

from sightline.launch.job import Job
from sightline.launch.sagemaker.settings import SageMakerSettings


def tags_of(job: Job, settings: SageMakerSettings) -> list[dict[str, str]]:
    own = {"sightline:job": job.name, "sightline:commit": job.commit or "unknown"}
    return [{"Key": key, "Value": str(value)} for key, value in {**own, **(settings.tags or {})}.items()]
