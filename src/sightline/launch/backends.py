"""The backends that there are, by name; each is imported when it is asked for."""

import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.errors import BadInput
from sightline.launch.backend import Backend, LaunchSettings

BACKENDS = {
    "local_process": "sightline.launch.local.backend:LocalProcess",
    "local_container": "sightline.launch.container.backend:LocalContainer",
    "sagemaker": "sightline.launch.sagemaker.backend:SageMaker",
    "sagemaker_local": "sightline.launch.sagemaker.local_mode:LocalMode",
}
LOCAL_TYPES = ("local", "local_cpu", "local_gpu")
"""Types of machine for which AWS's own client runs the job in a container here."""


def backend_name(values: Mapping[str, Any]) -> str:
    """The name of the backend that the keys of `launch` ask for: launch=sagemaker has a local mode, too."""
    name = str(values.get("backend"))
    is_local = name == "sagemaker" and values.get("instance_type") in LOCAL_TYPES
    return "sagemaker_local" if is_local else name


def find_backend(name: str) -> type[Backend]:
    """Raises: BadInput for a name that there is no backend for."""
    if name not in BACKENDS:
        near = difflib.get_close_matches(name, BACKENDS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise BadInput(f"launch.backend={name}: must be one of {', '.join(BACKENDS)}{hint}")
    module, _, class_name = BACKENDS[name].partition(":")
    return getattr(importlib.import_module(module), class_name)


def settings_of(name: str, values: Mapping[str, Any]) -> LaunchSettings:
    """The typed settings of a backend from values by key; missing keys have their defaults.

    Raises: BadInput for a key that the backend does not have, or a value of another type.
    """
    from sightline.config import typed_section

    return typed_section(find_backend(name).settings_type, {**values, "backend": name}, "launch")


def make_backend(name: str, jobs: Path, values: Mapping[str, Any] | None = None) -> Backend:
    """The backend of a name; `jobs` is the folder for jobs that name no `output`, `values` its settings by key.

    Raises: BadInput for an unknown name or key.
    """
    return find_backend(name)(jobs, settings_of(name, values or {}))
