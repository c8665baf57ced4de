"""An exported model in onnxruntime: prepared pixels in, probabilities and features out. Needs no torch."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.errors import BadInput
from sightline.task_spec import TaskSpec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

IMAGE, PROBABILITIES, FEATURES = "image", "probabilities", "features"
"""The input, prepared pixels `(B, H, W, C)` of the TaskSpec's type, and the outputs `(B, num_classes)`, `(B, D)`."""
METADATA = "task_spec"
"""The key of the TaskSpec, as JSON, among the metadata; further ones are `name`, `version`, `sha256` (of the weights),
`precision`."""
FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
"""In a run's `model/`, by precision."""
EXPORT = "export.json"
"""Beside them: when they were exported, and what was measured of each."""
MEASURED = "measured"
"""The key in it of a file's accuracy to quote: `{value, low, high, images, split}`."""
VERSION = "version.json"
"""What a registry says of a model, in the folder above or beside them."""


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """An open ONNX file of ours."""

    path: Path
    session: "InferenceSession"
    spec: TaskSpec
    facts: dict[str, str]
    """Its other metadata."""

    @classmethod
    def open(cls, path: Path, *, num_threads: int = 1) -> "ExportedModel":
        """Open a file, to be run with so many threads for each call; calls may come from several threads at once.

        Raises: BadInput for a file that is missing, or none of ours.
        """
        import onnxruntime

        if not path.is_file():
            raise BadInput(f"{path}: there is no exported model; make it with export.py run={path.parent.parent}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait leave the cores
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of onnxruntime's own kinds, all of them about the file
            raise BadInput(f"{path}: does not open as ONNX ({error}); export the run again") from error
        facts = dict(session.get_modelmeta().custom_metadata_map)
        if METADATA not in facts:
            raise BadInput(f"{path}: not a model that export.py wrote (it has no {METADATA}); give one of these")
        return cls(path, session, TaskSpec.from_dict(json.loads(facts.pop(METADATA))), facts)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities float32 `(B, num_classes)` and features float32 `(B, D)` of prepared images `(B, H, W, C)`."""
        probabilities, features = self.session.run([PROBABILITIES, FEATURES], {IMAGE: images})
        return np.asarray(probabilities), np.asarray(features)

    def described(self) -> dict[str, Any]:
        """What the file and those beside it say: `name`, `version`, `sha256`, `precision`, `created` and `accuracy`
        (`{value, low, high, images, split}`), as far as they are known.

        A registry's name and version stand for its own; `export.json` counts where it is of the same weights.
        """
        facts: dict[str, Any] = {**self.facts}
        if "accuracy" in facts:  # files of before have it in them
            facts["accuracy"] = json.loads(facts["accuracy"])
        report = _read(self.path.with_name(EXPORT))
        if report and report.get("sha256") == facts.get("sha256"):
            measured = report.get(facts.get("precision", "fp32"), {}).get(MEASURED)
            found = {"created": report.get("created"), "accuracy": measured}
            facts |= {key: value for key, value in found.items() if value is not None}
        return {**facts, **_registered(self.path.parent)}

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return self.spec.class_names


def _registered(model: Path) -> dict[str, Any]:
    """Name and version that a registry gave to what lies in a `model/` folder."""
    places = [model, *([model.parent] if model.name == "model" else [])]
    for version in (_read(place / VERSION) for place in places):
        if "name" in version and "version" in version:
            return {"name": str(version["name"]), "version": str(version["version"])}
    return {}


def _read(path: Path) -> dict[str, Any]:
    """A JSON object in a file; nothing where there is none, or it may not be read: answers do not depend on it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
