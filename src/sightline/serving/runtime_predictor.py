"""An exported model that answers for pictures: Pillow, numpy and onnxruntime alone."""

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline.models.exported import FILES, ExportedModel
from sightline.serving.contract import TOP, Answer, HeatMap, ModelIdentity, Problem, Timings, picture_types
from sightline.serving.picture_decoding import decode_picture
from sightline.task_spec import TaskSpec

MAX_PIXELS = 50_000_000
"""Of a picture that is decoded for a request."""
BATCH = 8
"""Pictures that are prepared and computed together, at most."""


@dataclass(frozen=True, eq=False)
class RuntimePredictor:
    """A model folder's ONNX file of one precision; calls may come from several threads at once."""

    exported: ExportedModel
    model: ModelIdentity
    max_pixels: int = MAX_PIXELS
    facts: Mapping[str, Any] = field(default_factory=dict)
    """`created`, `precision` and `accuracy`, as far as they are known."""

    @classmethod
    def open(
        cls, folder: Path, precision: str = "fp32", num_threads: int = 1, max_pixels: int = MAX_PIXELS
    ) -> "RuntimePredictor":
        """Open a run's `model/` folder, or any folder with such files; a registered version goes by its name there.

        Raises: BadInput when there is no exported model.
        """
        exported = ExportedModel.open(folder / FILES[precision], num_threads=num_threads)
        facts = exported.described()
        named = ModelIdentity(facts.get("name", "model"), facts.get("version", "0"), facts.get("sha256", ""))
        return cls(exported, named, max_pixels, facts)

    @property
    def spec(self) -> TaskSpec:
        return self.exported.spec

    def prepare(self, picture: bytes, field: str = "image") -> np.ndarray:
        """Prepared pixels `(H, W, C)` of a picture's bytes.

        Raises: Problem with the field where they are no picture, too large, or none for this model.
        """
        return decode_picture(picture, self.spec, self.max_pixels, field)

    def answer(self, pictures: Sequence[bytes], ids: Sequence[str]) -> list[Answer | Problem]:
        """An answer for each picture in order, or the problem in its place; few are prepared at once."""
        found: list[Answer | Problem] = []
        for start in range(0, len(pictures), BATCH):
            found += self._answer(pictures[start : start + BATCH], ids[start : start + BATCH])
        return found

    def _answer(self, pictures: Sequence[bytes], ids: Sequence[str]) -> list[Answer | Problem]:
        prepared, decoding = [], []
        for picture in pictures:
            start = time.perf_counter()
            try:
                prepared.append(self.prepare(picture))
            except Problem as problem:
                prepared.append(problem)
            decoding.append(1e3 * (time.perf_counter() - start))
        pixels = [each for each in prepared if not isinstance(each, Problem)]
        if not pixels:
            return prepared
        start = time.perf_counter()
        results = zip(*self.exported.run(np.stack(pixels)), strict=True)
        model = 1e3 * (time.perf_counter() - start)
        found: list[Answer | Problem] = []
        for number, each in enumerate(prepared):
            if isinstance(each, Problem):
                found.append(each)
                continue
            probabilities, features = next(results)
            timings = Timings(decoding[number], model / len(pixels), decoding[number] + model)
            answer = self.to_answer(probabilities, ids[number], timings)
            sha256 = hashlib.sha256(pictures[number]).hexdigest()
            found.append(replace(answer, features=features.astype("<f2").tobytes(), picture_sha256=sha256))
        return found

    def explain(self, picture: bytes, seconds: float = math.inf) -> HeatMap:
        """Raises: Problem where the picture is none, or where it takes too long: at most so many seconds."""
        from sightline.serving.occlusion import SECONDS, explain

        pixels = self.prepare(picture)
        return explain(lambda images: self.exported.run(images)[0], pixels, self.spec, min(seconds, SECONDS))

    def describe(self) -> dict[str, Any]:
        """What `GET /model` says of the model."""
        spec, facts = self.spec, self.facts
        return {
            "name": self.model.name,
            "version": self.model.version,
            "sha256": self.model.sha256,
            "created": facts.get("created"),
            "precision": facts.get("precision", "fp32"),
            "accuracy": facts.get("accuracy"),
            "classes": list(spec.class_names),
            "threshold": spec.calibration.threshold if spec.calibration else None,
            "image_size": spec.image_size,
            "channels": spec.channels,
            "bit_depth": spec.bit_depth,
            "content_types": list(picture_types(spec)),
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
