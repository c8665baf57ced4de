"""An exported model in onnxruntime: prepared pixels in, probabilities and features out. Needs no torch."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sightline.errors import BadInput
from sightline.task_spec import TaskSpec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

IMAGE, PROBABILITIES, FEATURES = "image", "probabilities", "features"
"""The input, prepared pixels `(B, H, W, C)` of the TaskSpec's type, and the outputs `(B, num_classes)`, `(B, D)`."""
METADATA = "task_spec"
"""The key of the TaskSpec, as JSON, among the metadata; further ones are `name`, `version`, `sha256` (of the weights),
`created`, `precision`."""
FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
"""In a run's `model/`, by precision."""


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

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return self.spec.class_names
