"""The container engine of this machine, through Docker's client."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sightline.errors import BadInput

SECONDS_TO_ANSWER = 30
FIRST_WITH_BUILDX = 23


def docker(*args: str, given: str | None = None) -> str:
    """The output of `docker …`; `given` is its input.

    Raises: RuntimeError with the client's own reason.
    """
    done = ask(*args, given=given)
    if done.returncode:
        raise RuntimeError(f"docker {args[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def ask(*args: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `docker …` whatever its exit code."""
    return subprocess.run(["docker", *args], input=given, capture_output=True, text=True)


def why_no_engine() -> str | None:
    """The reason why no container can run here; None when they can."""
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_ANSWER,
        )
    except FileNotFoundError:
        return "there is no docker command"
    except subprocess.TimeoutExpired:
        return f"the engine does not answer within {SECONDS_TO_ANSWER} s"
    return done.stderr.strip().splitlines()[0] if done.returncode and done.stderr.strip() else None


def require_engine(key: str) -> None:
    """Raises: BadInput naming the key that asks for an engine, where none answers."""
    if (why := why_no_engine()) is not None:
        raise BadInput(
            f"{key}: no container engine answers ({why}); install Docker and start it (docker version shows whether "
            "it answers), or use launch=local_process"
        )


def builder() -> str:
    """The first client that builds with BuildKit: it has buildx, or is older than 23 and needs none.

    Raises: BadInput where there is none.
    """
    for folder in os.get_exec_path():
        client = str(Path(folder, "docker"))
        if not os.access(client, os.X_OK):
            continue
        version = re.search(r"version (\d+)", _output(client, "--version"))
        if (version and int(version[1]) < FIRST_WITH_BUILDX) or "buildx" in _output(client, "buildx", "version"):
            return client
    raise BadInput("make image: no docker client here builds with BuildKit; install its buildx plugin")


def _output(*args: str) -> str:
    return subprocess.run(args, capture_output=True, text=True).stdout


def has_image(image: str) -> bool:
    return ask("image", "inspect", image).returncode == 0


def require_image(image: str) -> None:
    """Raises: BadInput where the engine does not have it."""
    if not has_image(image):
        raise BadInput(f"launch.image={image}: the engine has no such image; make image builds it")


def mount(source: Path, target: str, *, is_read_only: bool) -> list[str]:
    """The arguments of `docker run` that mount a path of this machine, whatever letters it has."""
    fields = ["type=bind", f"source={source}", f"target={target}", *(["readonly"] if is_read_only else [])]
    return ["--mount", ",".join(_field(field) for field in fields)]


def _field(text: str) -> str:
    """A field of comma-separated values, which is how the client reads a mount."""
    return '"' + text.replace('"', '""') + '"' if any(letter in text for letter in ',"\n') else text


def variables(environment: Mapping[str, str]) -> list[str]:
    return [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]


def remove(containers: Sequence[str], stop_seconds: int) -> None:
    """Stop containers that still run, and remove them."""
    for name in containers:
        if ask("container", "inspect", name).returncode == 0:
            ask("stop", "--time", str(stop_seconds), name)
            ask("rm", "--force", name)
