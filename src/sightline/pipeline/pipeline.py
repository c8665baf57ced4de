"""The verbs of pipeline.py. What a verb needs is imported when it is called."""

from collections.abc import Callable, Mapping
from typing import Any

from sightline.config import PipelineConfig
from sightline.pipeline.parameters import PARAMETERS
from sightline.runs.invocation import Invocation

Printer = Callable[[Any], None]
SAGEMAKER = "launch=sagemaker"
REMOTE_VERBS = ("definition", "diff", "upsert", "start", "status", "wait", "stop", "list", "price")
"""Those about a pipeline of SageMaker."""


def run(cfg: PipelineConfig, invocation: Invocation) -> Any:
    """Run the steps, here or where `launch` says, and register what meets its gate."""
    if str(cfg.launch.get("backend")) == "sagemaker":
        from sightline.pipeline.remote import run as run_remote

        return run_remote(cfg, invocation)
    from sightline.pipeline.local_run import run as run_local

    return run_local(cfg, invocation)


def why(cfg: PipelineConfig, invocation: Invocation, run: str = "latest") -> str:
    """Say in a line why a run registered nothing, or what it registered."""
    from sightline.pipeline.why import why as explain

    return explain(cfg, run)


def definition(cfg: PipelineConfig, invocation: Invocation) -> dict[str, Any]:
    """Print SageMaker's definition of the pipeline: pure, without a network, the same twice."""
    from sightline.pipeline.definition import make_definition, open_pipeline

    return make_definition(open_pipeline(cfg, invocation, sends=False)).document


def diff(cfg: PipelineConfig, invocation: Invocation) -> Any:
    """Show what an upsert would change of the pipeline that SageMaker has."""
    from sightline.pipeline.remote import diff as compare

    return compare(cfg, invocation)


def upsert(cfg: PipelineConfig, invocation: Invocation) -> Any:
    """Upload what the steps need, and make or change the pipeline on SageMaker."""
    from sightline.pipeline.remote import upsert as send

    return send(cfg, invocation)


def start(cfg: PipelineConfig, invocation: Invocation) -> Any:
    """Start the pipeline that SageMaker has, with other values of its parameters where they are typed."""
    from sightline.pipeline.remote import start as begin

    return begin(cfg, invocation)


def status(cfg: PipelineConfig, invocation: Invocation, execution: str | None = None) -> Any:
    """Say how an execution is doing, the newest one unless it is named."""
    from sightline.pipeline.remote import status as look

    return look(cfg, invocation, execution)


def wait(cfg: PipelineConfig, invocation: Invocation, execution: str | None = None) -> Any:
    """Follow an execution to its end, as long as it takes; Ctrl-C leaves it running."""
    from sightline.pipeline.remote import wait as follow

    return follow(cfg, invocation, execution)


def stop(cfg: PipelineConfig, invocation: Invocation, execution: str | None = None) -> Any:
    """Ask an execution to end."""
    from sightline.pipeline.remote import stop as end

    return end(cfg, invocation, execution)


def list_executions(cfg: PipelineConfig, invocation: Invocation) -> Any:
    """List the executions of the pipeline, the newest first."""
    from sightline.pipeline.remote import list_executions as listed

    return listed(cfg, invocation)


def price(cfg: PipelineConfig, invocation: Invocation) -> Any:
    """Say what a run can cost at the most, step by step, before it starts."""
    from sightline.pipeline.price import price as bound

    return bound(cfg, invocation)


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))


def _print_run(value: Any) -> None:
    """The steps of a dry run as JSON, what came of another in words."""
    _print_json(value) if isinstance(value, list) else print(value)


def _print_shown(value: Any) -> None:
    """What shows itself by `lines()`."""
    print(*value.lines(), sep="\n")


VERBS: Mapping[str, Callable[..., Any]] = {
    "run": run,
    "definition": definition,
    "diff": diff,
    "upsert": upsert,
    "start": start,
    "status": status,
    "wait": wait,
    "stop": stop,
    "list": list_executions,
    "price": price,
    "why": why,
}
PRINTED: Mapping[str, Printer] = {
    "run": _print_run,
    "definition": _print_json,
    **dict.fromkeys(("diff", "upsert", "start", "status", "wait", "stop", "list", "price"), _print_shown),
}
PARAMETER_KEYS: Mapping[str, str] = {each.name: each.key for each in PARAMETERS if each.key is not None}
DEFAULTS: Mapping[str, tuple[str, ...]] = dict.fromkeys(REMOTE_VERBS, (SAGEMAKER,))
