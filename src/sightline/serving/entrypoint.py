"""The first process of the serving image: serve, lambda or selftest. No Hydra, no torch.

Settings come from SIGHTLINE_SERVE_…, the model from MODEL_URI or /opt/ml/model: docs/serving.md.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from sightline.errors import BAD_INPUT, BadInput
from sightline.serve_settings import PREFIX, ServeSettings, from_environment
from sightline.serving.model_source import OPT_ML_MODEL, SHA256, SOURCE

HANDLER = "sightline.serving.lambda_handler.handle"
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
    from sightline.serving.model_source import open_model

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings, token = settings_of_image(environment), environment.get(f"{PREFIX}TOKEN", "")
    if not (token or settings.open or is_of_this_machine(settings.host)):
        raise BadInput(
            f"{PREFIX}TOKEN: is not set, and others than this container may ask at {settings.host}; set it, or "
            f"{PREFIX}OPEN=true where something else decides who asks, as SageMaker does"
        )
    source, sha256 = environment.get(SOURCE) or OPT_ML_MODEL, environment.get(SHA256, "")
    return run_server(partial(open_model, settings, source, sha256), settings, token)


def answer_events(environment: Mapping[str, str]) -> int:
    """Answer Lambda's events until it ends the process."""
    if RUNTIME_API not in environment:
        raise BadInput(f"lambda: only AWS Lambda starts this door ({RUNTIME_API} is not set); elsewhere it is serve")
    from awslambdaric.__main__ import main as run

    run(["awslambdaric", HANDLER])
    return 0


def selftest(environment: Mapping[str, str]) -> int:
    """Answer a made picture through every door."""
    from sightline.serving.image_selftest import selftest

    return selftest(environment, settings_of_image(environment))


if __name__ == "__main__":
    sys.exit(main())
