"""The first process of the serving image: serve, lambda or selftest. No Hydra, no torch.

Settings come from SIGHTLINE_SERVE_…, the model from MODEL_URI or /opt/ml/model: docs/serving.md.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sightline.errors import BAD_INPUT, BadInput
from sightline.serve_settings import PREFIX, ServeSettings, from_environment
from sightline.serving.model_source import OPT_ML_MODEL, SHA256, SOURCE, is_remote, open_model

if TYPE_CHECKING:
    from sightline.serving.runtime_predictor import RuntimePredictor

HANDLER = "sightline.serving.lambda_handler.handle"
USER = "SIGHTLINE_USER"
"""The number of the user that root becomes; the image sets it."""
RUNTIME_API = "AWS_LAMBDA_RUNTIME_API"
INSIDE_SAGEMAKER = "SAGEMAKER_"
"""How the variables begin that the service sets, one of them the port that an inference pipeline gives."""


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sightline.serving.entrypoint", description="Answer for pictures.")
    parser.add_argument("verb", choices=("serve", "lambda", "selftest"))
    verb = parser.parse_args(args).verb
    try:
        return {"serve": serve, "lambda": answer_events, "selftest": selftest}[verb](os.environ)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return BAD_INPUT


def settings_of_image(environment: Mapping[str, str]) -> ServeSettings:
    """The settings, with what differs in a container: it listens beyond itself, and SageMaker asks without a token."""
    defaults = {f"{PREFIX}HOST": "0.0.0.0"}
    if port := environment.get(f"{INSIDE_SAGEMAKER}BIND_TO_PORT"):
        defaults[f"{PREFIX}PORT"] = port
    if any(name.startswith(INSIDE_SAGEMAKER) for name in environment):
        defaults[f"{PREFIX}OPEN"] = "true"
    return from_environment({**defaults, **environment})


def serve(environment: Mapping[str, str]) -> int:
    """Answer until a signal comes; the model is opened while /ping already says that it is."""
    from sightline.serving.app import run_server
    from sightline.serving.http_server import is_of_this_machine

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings, token = settings_of_image(environment), environment.get(f"{PREFIX}TOKEN", "")
    if not (token or settings.open or is_of_this_machine(settings.host)):
        raise BadInput(
            f"{PREFIX}TOKEN: is not set, and others than this container may ask at {settings.host}; set it, or "
            f"{PREFIX}OPEN=true where something else decides who asks, as SageMaker does"
        )
    return run_server(opener(environment, settings), settings, token)


def opener(environment: Mapping[str, str], settings: ServeSettings) -> "Callable[[], RuntimePredictor]":
    """What opens the model. Where the process is root, and is to be somebody else, it is so when this returns.

    SageMaker starts containers as root, and may let only root read the model: then it is opened here already.
    """
    source, sha256 = environment.get(SOURCE) or OPT_ML_MODEL, environment.get(SHA256, "")
    open_it = partial(open_model, settings, source, sha256)
    user = environment.get(USER, "")
    if not user or os.getuid() != 0:
        return open_it
    if not is_remote(source):
        open_it = _done(open_it)
    become(int(user))
    return open_it


def _done(work: "Callable[[], RuntimePredictor]") -> "Callable[[], RuntimePredictor]":
    """The same, done already: gives what came of it, or raises it."""
    try:
        result, error = work(), None
    except Exception as failed:  # noqa: BLE001 - whoever asks for the result gets it
        result, error = None, failed

    def tell() -> "RuntimePredictor":
        if result is None:
            assert error is not None
            raise error
        return result

    return tell


def become(user: int) -> None:
    """Give up root for good, with its groups.

    Raises: BadInput where root may not.
    """
    try:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    except OSError as error:
        raise BadInput(
            f"{USER}={user}: root may not become that user ({error.strerror}), as with --cap-drop ALL; start the "
            f"container as it, with --user {user}:{user}"
        ) from error


def answer_events(environment: Mapping[str, str]) -> int:
    """Answer Lambda's events until it ends the process."""
    if RUNTIME_API not in environment:
        raise BadInput(f"lambda: only AWS Lambda starts this door ({RUNTIME_API} is not set); elsewhere it is serve")
    from awslambdaric.__main__ import main as run

    if (user := environment.get(USER, "")) and os.getuid() == 0:
        become(int(user))
    run(["awslambdaric", HANDLER])
    return 0


def selftest(environment: Mapping[str, str]) -> int:
    """Answer a made picture through every door."""
    from sightline.serving.image_selftest import selftest

    settings = settings_of_image(environment)
    return selftest(environment, settings, opener)


if __name__ == "__main__":
    sys.exit(main())
