"""Where the image of a job lies: in the registry of the account that the job runs in."""

from sightline.aws.ecr import registry_address
from sightline.launch.sagemaker.settings import SageMakerSettings


def image_address(settings: SageMakerSettings) -> str:
    """The image that the settings name, or the one that this tree builds; no network."""
    if settings.image:
        return settings.image
    from sightline.launch.container.image import image_name

    return f"{registry_address(settings.account, settings.region or '')}/{image_name(settings.base_image)}"
