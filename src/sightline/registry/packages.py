"""A registry by its address: a folder, `s3://bucket/prefix` or `sagemaker:GROUP`.

What a kind of registry needs lies in `version` and `rules`; it imports these and not this file.
"""

from pathlib import Path

from sightline.errors import BadInput
from sightline.registry.local import LocalStore
from sightline.registry.stored import StoredRegistry
from sightline.registry.version import Registry, Version

__all__ = ["Registry", "Version", "open_registry"]
SAGEMAKER, S3 = "sagemaker:", "s3://"


def open_registry(place: str, cache: Path, *, bucket: str | None = None, serving_image: str | None = None) -> Registry:
    """The registry at an address; what is fetched from elsewhere is kept below `cache`.

    `bucket` takes the files of new versions of a SageMaker group whose address names none, `serving_image` answers for
    those whose facts name no other.

    Raises: BadInput for an address that is none.
    """
    if place.startswith(S3):
        from sightline.registry.s3 import S3Store

        return StoredRegistry(S3Store(place, cache))
    if place.startswith(SAGEMAKER):
        from sightline.registry.sagemaker import SageMakerStore

        return StoredRegistry(SageMakerStore(place, cache, bucket=bucket, image=serving_image))
    if "://" in place:
        raise BadInput(
            f"paths.registry={place}: no place of a registry; name a folder, {S3}bucket/prefix or sagemaker:GROUP"
        )
    return StoredRegistry(LocalStore(Path(place).expanduser().absolute()))
