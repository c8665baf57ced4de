"""An exported model that answers for pictures: Pillow, numpy and onnxruntime alone."""

import hashlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.transforms import UnreadableImage, naming, prepare, read_picture
from sightline.models.exported import FILES, ExportedModel
from sightline.serving.contract import DEEP_TYPES, PICTURE_TYPES, TOP, Answer, HeatMap, ModelIdentity, Problem, Timings
from sightline.task_spec import TaskSpec

MAX_PIXELS = 50_000_000
"""Of a picture that is decoded for a request."""


@dataclass(frozen=True, eq=False)
class RuntimePredictor:
    """A model folder's ONNX file of one precision; calls may come from several threads at once."""

    exported: ExportedModel
    model: ModelIdentity
    max_pixels: int = MAX_PIXELS

    @classmethod
    def open(
        cls, folder: Path, precision: str = "fp32", num_threads: int = 1, max_pixels: int = MAX_PIXELS
    ) -> "RuntimePredictor":
        """Open a run's `model/` folder, or any folder with such files.

        Raises: BadInput when there is no exported model.
        """
        exported = ExportedModel.open(folder / FILES[precision], num_threads=num_threads)
        facts = exported.facts
        named = ModelIdentity(facts.get("name", "model"), facts.get("version", "0"), facts.get("sha256", ""))
        return cls(exported, named, max_pixels)

    @property
    def spec(self) -> TaskSpec:
        return self.exported.spec

    def prepare(self, picture: bytes, field: str = "image") -> np.ndarray:
        """Prepared pixels `(H, W, C)` of a picture's bytes.

        Raises: Problem with the field where they are no picture.
        """
        try:
            with naming(field):
                return np.ascontiguousarray(
                    prepare(read_picture(io.BytesIO(picture), self.spec, self.max_pixels), self.spec)
                )
        except UnreadableImage as error:
            raise Problem(400, "Not a picture", str(error), field) from error

    def answer(self, pictures: Sequence[bytes], ids: Sequence[str]) -> list[Answer | Problem]:
        """An answer for each picture in order, or the problem in its place."""
        found: list[Answer | Problem] = []
        for number, (picture, own_id) in enumerate(zip(pictures, ids, strict=True)):
            field = "image" if len(pictures) == 1 else f"images[{number}]"
            start = time.perf_counter()
            try:
                pixels = self.prepare(picture, field)
            except Problem as problem:
                found.append(problem)
                continue
            decoded = time.perf_counter()
            probabilities, features = self.exported.run(pixels[None])
            done = time.perf_counter()
            timings = Timings(1e3 * (decoded - start), 1e3 * (done - decoded), 1e3 * (done - start))
            answer = self.to_answer(probabilities[0], own_id, timings)
            sha256 = hashlib.sha256(picture).hexdigest()
            found.append(replace(answer, features=features[0].astype("<f2").tobytes(), picture_sha256=sha256))
        return found

    def explain(self, picture: bytes) -> HeatMap:
        """Raises: Problem where the picture is none."""
        raise Problem(501, "Not implemented", "this model explains no answers yet")

    def describe(self) -> dict[str, Any]:
        """What `GET /model` says of the model."""
        spec, facts = self.spec, self.exported.facts
        is_usual = (spec.channels, spec.bit_depth) == (3, 8)
        return {
            "name": self.model.name,
            "version": self.model.version,
            "sha256": self.model.sha256,
            "created": facts.get("created"),
            "precision": facts.get("precision", "fp32"),
            "accuracy": json.loads(facts["accuracy"]) if "accuracy" in facts else None,
            "classes": list(spec.class_names),
            "threshold": spec.calibration.threshold if spec.calibration else None,
            "image_size": spec.image_size,
            "channels": spec.channels,
            "bit_depth": spec.bit_depth,
            "content_types": [*PICTURE_TYPES, *(() if is_usual else DEEP_TYPES)],
        }

    def to_answer(self, probabilities: np.ndarray, own_id: str, timings: Timings) -> Answer:
        """The answer to one picture from its probabilities `(num_classes,)`."""
        names, calibration = self.spec.class_names, self.spec.calibration
        best = np.argsort(-probabilities, kind="stable")[:TOP]
        ranked = {names[index]: float(probabilities[index]) for index in best}
        label, probability = names[best[0]], float(probabilities[best[0]])
        threshold = calibration.threshold if calibration else None
        is_unsure = threshold is not None and probability < threshold
        return Answer(own_id, label, probability, ranked, is_unsure, threshold, self.model, timings)
