"""Where the image of a job lies: in the registry of the account that the job runs in."""

from sightline.launch.sagemaker.settings import SageMakerSettings


def image_address(settings: SageMakerSettings) -> str:
    """The image that the settings name, or the one that this tree builds; no network."""
    if settings.image:
        return settings.image
    from sightline.launch.container.image import image_name

    return f"{registry(settings)}/{image_name(settings.base_image)}"


def registry(settings: SageMakerSettings) -> str:
    """The account's own registry in the region of the job."""
    region = settings.region or ""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{settings.account}.dkr.ecr.{region}.{domain}"
