"""The images, of jobs and of serving: python -m sightline.launch.container.image build|push [--image serve]

A tag is a hash of what goes into the image, so an unchanged tree builds and pushes nothing.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightline.aws import ecr
from sightline.env_file import load_env_file
from sightline.errors import BAD_INPUT, FAILED, BadInput
from sightline.launch.container.engine import ask, builder, docker, has_image, require_engine, require_image
from sightline.runs.project import PROJECT
from sightline.runs.record import DIRTY, git_commit

REPOSITORY = "sightline-train"
DOCKERFILE = Path("dockers", "train", "Dockerfile")
CONTENT = ("pyproject.toml", "constraints.txt", "src", "configs", str(DOCKERFILE), ".dockerignore")
"""What the image is made of; `.dockerignore` lets in the same."""
LEFT_OUT = re.compile(r"(^|/)(__pycache__|[^/]*\.egg-info)/|\.pyc$|(^|/)\.env$|^configs/local/.*\.yaml$")
SERVING = (
    *("pyproject.toml", "constraints.txt"),
    *(f"src/sightline/{name}.py" for name in ("__init__", "errors", "serve_settings", "task_spec")),
    *(f"src/sightline/{room}" for room in ("aws", "runs", "serving")),
    *(f"src/sightline/models/{name}.py" for name in ("__init__", "exported")),
    *(f"src/sightline/registry/{name}.py" for name in ("__init__", "version")),
    *(
        f"src/sightline/data/{name}.py"
        for name in "__init__ arrays decoding deep_greys display levels transforms".split()
    ),
)
ASKS = r"answering|aws_transport|client|merge|parts|pictures|predict(ion_\w+|_result)?|remote"
NOT_SERVING = re.compile(rf"^src/sightline/serving/({ASKS}|serve)\.py$")
"""What asks, beside what serves, and task functions: the image has neither torch nor Hydra."""
DEFAULT_BASE = ""
"""The base image that the Dockerfile names."""
NUM_DIGITS = 16


@dataclass(frozen=True)
class Recipe:
    """What an image is called, and made of."""

    repository: str
    dockerfile: Path
    content: tuple[str, ...]
    left_out: tuple[re.Pattern[str], ...]
    target: str
    """Of make."""
    extras: str = ""
    """Names of further packages in it."""

    def files(self, project: Path) -> Iterator[str]:
        for each in self.content:
            path = project / each
            for file in path.rglob("*") if path.is_dir() else [path]:
                name = file.relative_to(project).as_posix()
                if file.is_file() and not any(each.search(name) for each in self.left_out):
                    yield name


TRAIN = Recipe(REPOSITORY, DOCKERFILE, CONTENT, (LEFT_OUT,), "make image")
SERVE_DOCKERFILE = Path("dockers", "serve", "Dockerfile")
SERVE_CONTENT = (*SERVING, str(SERVE_DOCKERFILE), f"{SERVE_DOCKERFILE}.dockerignore")
SERVE = Recipe("sightline-serve", SERVE_DOCKERFILE, SERVE_CONTENT, (LEFT_OUT, NOT_SERVING), "make image-serve")
RECIPES = {"train": TRAIN, "serve": SERVE}


def image_name(base_image: str = DEFAULT_BASE, recipe: Recipe = TRAIN) -> str:
    """`sightline-train:<tag>`, of this tree."""
    return f"{recipe.repository}:{content_tag(PROJECT, base_image, recipe)}"


def content_tag(project: Path = PROJECT, base_image: str = DEFAULT_BASE, recipe: Recipe = TRAIN) -> str:
    """The beginning of the hash of every file that goes into the image, and of what it is based on."""
    total = hashlib.sha256(" ".join([base_image, *sorted(recipe.extras.split())]).encode())
    for name in sorted(recipe.files(project)):
        total.update(f"\n{name}\0{hashlib.sha256((project / name).read_bytes()).hexdigest()}".encode())
    return total.hexdigest()[:NUM_DIGITS]


def build(base_image: str = DEFAULT_BASE, args: Sequence[str] = (), recipe: Recipe = TRAIN) -> str:
    """The image's name, once it is there; `args` are further arguments of `docker build`.

    Raises: BadInput without an engine; RuntimeError when it cannot be built.
    """
    if not (PROJECT / recipe.dockerfile).is_file():
        raise BadInput(
            f"{recipe.dockerfile}: not here; images are built from a checkout of Sightline, with {recipe.target}"
        )
    require_engine(recipe.target)
    name = image_name(base_image, recipe)
    if has_image(name):
        print(f"unchanged: {name}")
        return name
    commit, is_dirty = git_commit(PROJECT)
    build_args = {
        "COMMIT": f"{commit or ''}{DIRTY if is_dirty else ''}",
        **({"BASE_IMAGE": base_image} if base_image else {}),
        **({"EXTRAS": recipe.extras} if recipe.extras else {}),
    }
    arguments = [part for key, value in build_args.items() for part in ("--build-arg", f"{key}={value}")]
    command = [builder(), "build", "--file", str(recipe.dockerfile), "--tag", name, *arguments, *args, "."]
    if subprocess.run(command, cwd=PROJECT, env={**os.environ, "DOCKER_BUILDKIT": "1"}).returncode:
        raise RuntimeError(f"docker build of {name} failed; its output above says why")
    if image_name(base_image, recipe) != name:
        docker("rmi", name)
        raise RuntimeError(f"files changed while {name} was built, so it is not what its name says; build again")
    print(f"built: {name}")
    return name


def push(image: str, client: Any, registry: str | None = None) -> str:
    """Put an image into the account's registry (ECR), unless it is there; return its address.

    `client` is boto3's for ECR. `registry` stands in for the account's own, for a try without an account.

    Raises: BadInput without an engine or the image; RuntimeError when it cannot be pushed.
    """
    repository, tag = image.split(":")
    address = f"{ecr.make_repository(client, repository)}:{tag}"
    if ecr.is_pushed(client, address.split(".")[0], repository, tag):
        print(f"unchanged: {address}")
        return address
    require_engine("make push-image")
    require_image(image)
    if registry is not None:
        address = f"{registry}/{image}"
    docker("tag", image, address)
    _push(address, client)
    print(f"pushed: {address}")
    return address


def _push(address: str, client: Any) -> None:
    """Push with a login that is forgotten afterwards: nothing stays in the home folder."""
    user, password = ecr.login(client)
    with tempfile.TemporaryDirectory() as config:
        for args, given in (
            (["login", "--username", user, "--password-stdin", address.split("/")[0]], password),
            (["push", "--quiet", address], None),
        ):
            done = ask("--config", config, *args, given=given)
            if done.returncode:
                raise RuntimeError(f"docker {args[0]} {address}: {done.stderr.strip()}")


def main(args: Sequence[str] | None = None) -> int:
    load_env_file()
    parser = argparse.ArgumentParser(
        prog="sightline.launch.container.image", description="Build and push the images of jobs and of serving."
    )
    parser.add_argument("verb", choices=("build", "push", "name"))
    parser.add_argument("--image", choices=tuple(RECIPES), default="train")
    parser.add_argument("--extras", default="", help="names of further packages of the image that serves")
    parser.add_argument("--base-image", default=os.environ.get("BASE_IMAGE", DEFAULT_BASE))
    parser.add_argument("--region", help="of the registry; else AWS's own configuration says it")
    given, further = parser.parse_known_args(args)
    recipe = replace(RECIPES[given.image], extras=given.extras)
    try:
        if given.verb == "name":
            print(image_name(given.base_image, recipe))
            return 0
        client = _client(given.region) if given.verb == "push" else None
        name = build(given.base_image, further, recipe)
        if client is not None:
            _push_to_account(name, client)
    except (BadInput, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, BadInput) else FAILED
    return 0


def _client(region: str | None) -> Any:
    """Raises: BadInput that names all that AWS's own configuration lacks."""
    from sightline.aws.clients import Clients, check_region, find_region, has_credentials
    from sightline.launch.sagemaker.settings import HOW_TO_GET

    region = region or os.environ.get("AWS_REGION") or find_region()
    missing = [] if region else ["AWS_REGION=NAME in .env, or `aws configure set region NAME`"]
    missing += [] if has_credentials() else [HOW_TO_GET["credentials"]]
    if missing or region is None:
        raise BadInput("make push-image: AWS is not set up; give" + "".join(f"\n  {each}" for each in missing))
    check_region(region)
    return Clients(region).get("ecr")


def _push_to_account(image: str, client: Any) -> None:
    """Raises: RuntimeError with what AWS has against it."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        push(image, client)
    except (BotoCoreError, ClientError) as error:
        raise RuntimeError(f"make push-image: {error}; docs/aws.md has the policy") from error


if __name__ == "__main__":
    sys.exit(main())
