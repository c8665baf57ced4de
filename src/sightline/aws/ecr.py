"""The registry of images: its address, what is in it, its repositories, and a login."""

import base64
from typing import Any


def registry_address(account: str, region: str) -> str:
    """An account's own registry in a region; no network."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{account}.dkr.ecr.{region}.{domain}"


def is_pushed(client: Any, account: str, repository: str, tag: str) -> bool:
    """Whether a registry has an image; `client` is boto3's for ECR.

    Raises: botocore's ClientError where we may not ask.
    """
    missing = client.exceptions.ImageNotFoundException, client.exceptions.RepositoryNotFoundException
    try:
        client.describe_images(registryId=account, repositoryName=repository, imageIds=[{"imageTag": tag}])
    except missing:
        return False
    return True


def find_digest(client: Any, account: str, repository: str, tag: str) -> str | None:
    """`sha256:…` of an image in a registry; None where there is no such image.

    Raises: botocore's ClientError where we may not ask.
    """
    missing = client.exceptions.ImageNotFoundException, client.exceptions.RepositoryNotFoundException
    try:
        found = client.describe_images(registryId=account, repositoryName=repository, imageIds=[{"imageTag": tag}])
    except missing:
        return None
    return found["imageDetails"][0]["imageDigest"]


def make_repository(client: Any, name: str) -> str:
    """The address of a repository, which is made if it is missing: tags are for good, images are scanned."""
    try:
        return client.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryUri"]
    except client.exceptions.RepositoryNotFoundException:
        made = client.create_repository(
            repositoryName=name,
            imageTagMutability="IMMUTABLE",
            imageScanningConfiguration={"scanOnPush": True},
            encryptionConfiguration={"encryptionType": "AES256"},
        )
        return made["repository"]["repositoryUri"]


def login(client: Any) -> tuple[str, str]:
    """User and password for the account's registry, for some hours."""
    answer = client.get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
    return user, password
