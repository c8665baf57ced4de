"""Robustness: accuracy on corrupted images."""

import logging
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from rich.progress import track

from sightline.config import did_you_mean
from sightline.data.display import to_display
from sightline.errors import BadInput
from sightline.evaluation import figures
from sightline.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from sightline.evaluation.evaluation_input import IMAGES_AT_ONCE, EvaluationInput, Picture, Section, Table
from sightline.evaluation.intervals import wilson
from sightline.evaluation.wording import counted, percent, plus_minus
from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)


class Corruptions:
    """Accuracy by corruption and severity, on images that are damaged before normalisation, every one of them."""

    def __init__(
        self,
        names: Sequence[str] | None = None,
        severities: Sequence[int] = SEVERITIES,
        max_images: int | None = None,
    ) -> None:
        """All families, severities and images by default."""
        self.names = list(CORRUPTIONS) if names is None else list(names)
        self.severities, self.max_images = list(severities), max_images
        for name in self.names:
            if name not in CORRUPTIONS:
                raise BadInput(
                    f"names={name}: no such corruption{did_you_mean(name, CORRUPTIONS)}; "
                    f"known: {', '.join(CORRUPTIONS)}"
                )
        if not self.names or not self.severities or not set(self.severities) <= set(SEVERITIES):
            raise BadInput(f"severities={self.severities} names={self.names}: give some names, and severities 1 to 5")
        if max_images is not None and max_images < 1:
            raise BadInput(f"max_images={max_images}: must be 1 or more, or null for all")

    def __call__(self, inputs: EvaluationInput) -> Section:
        names = [name for name in self.names if CORRUPTIONS[name].fits(inputs.spec)]
        left_out = self._describe_left_out(inputs.spec)
        if left_out:
            log.info("%s", left_out)
        if not names:
            return Section("Robustness", text=left_out)
        chosen = inputs.choose_balanced(self.max_images)
        variants = [(name, severity) for name in names for severity in self.severities]
        damaged = _Damaged(inputs, chosen, variants)
        predicted = inputs.runner.predict(damaged.ahead()).argmax(dim=1)
        is_right = (predicted == inputs.labels[damaged.indices]).double()
        accuracies = {
            variant: float(is_right[damaged.variant_of == number].mean()) for number, variant in enumerate(variants)
        }
        share_altered = damaged.num_altered / len(damaged.indices)
        section = self._describe(inputs, chosen, accuracies, share_altered)
        return replace(section, text=f"{section.text} {left_out}".rstrip())

    def _describe_left_out(self, spec: TaskSpec) -> str:
        """The families that cannot damage these images, by what they need; nothing where all can."""
        by_need: dict[str, list[str]] = {}
        for name in self.names:
            if not CORRUPTIONS[name].fits(spec):
                by_need.setdefault(CORRUPTIONS[name].needs, []).append(name)
        if not by_need:
            return ""
        needs = "; ".join(f"{', '.join(names)} ({needs})" for needs, names in by_need.items())
        images = f"{counted(spec.channels, 'channel')} of {spec.bit_depth} bits"
        num_left_out = sum(map(len, by_need.values()))
        return (
            f"Left out for images of {images}, and of the mean: {num_left_out} of {len(self.names)} kinds of damage, "
            f"which need others: {needs}."
        )

    def _describe(
        self,
        inputs: EvaluationInput,
        chosen: np.ndarray,
        accuracies: dict[tuple[str, int], float],
        share_altered: float,
    ) -> Section:
        prefix = f"{inputs.split}/corruption"
        clean = float(inputs.predictions.is_right[chosen].mean())
        mean = float(np.mean(list(accuracies.values())))
        metrics = {f"{prefix}/{name}/{severity}/accuracy": value for (name, severity), value in accuracies.items()}
        metrics |= {
            f"{prefix}/mean_accuracy": mean,
            f"{prefix}/clean_accuracy": clean,
            f"{prefix}/mean_error_increase": clean - mean,
            f"{prefix}/altered_images": share_altered,
        }
        if share_altered < 1:
            log.warning("%.2f %% of the corrupted images equal the clean ones", 100 * (1 - share_altered))
        low, high = wilson(round(mean * len(chosen)), len(chosen))
        text = (
            f"Accuracy on damaged copies of {counted(len(chosen), 'image')}: {mean:.4f} {plus_minus(low, high)}, and "
            f"{clean:.4f} on the images as they are: damage costs {clean - mean:.4f} (mean corruption error "
            f"{1 - mean:.4f}). The images are balanced over the classes, the damage comes before normalisation and is "
            f"seeded; {percent(share_altered)} of the damaged copies differ from their images."
        )
        rows = [
            (name, severity, f"{value:.6f}", CORRUPTIONS[name].source) for (name, severity), value in accuracies.items()
        ]
        return Section(
            "Robustness",
            metrics,
            text,
            {"corruptions": Table(("corruption", "severity", "accuracy", "source"), rows)},
            {"corruptions": figures.draw_corruptions(accuracies, clean)},
            {
                "One image, damaged": self._show(
                    inputs, int(chosen[0]), list(dict.fromkeys(name for name, _ in accuracies))
                )
            },
        )

    def _show(self, inputs: EvaluationInput, index: int, names: Sequence[str]) -> list[Picture]:
        image = next(inputs.pixels([index]))[0].numpy()
        severity = self.severities[len(self.severities) // 2]
        damaged = [(name, corrupt(image, name, severity, _key(inputs, index))) for name in names]
        pictures = [(image, ("clean", inputs.names[index]))]
        pictures += [(pixels, (name.replace("_", " "), f"severity {severity}")) for name, pixels in damaged]
        return [Picture(to_display(pixels, inputs.spec.display_bands, like=image), lines) for pixels, lines in pictures]


def _key(inputs: EvaluationInput, index: int) -> tuple[int, int]:
    """The seed of an image's corruptions: it follows from the name, whatever the order of the images."""
    return inputs.seed, zlib.crc32(inputs.names[index].encode())


class _Damaged:
    """Every chosen image in every variant, read once; records the image and variant of each, and how many changed."""

    def __init__(self, inputs: EvaluationInput, chosen: np.ndarray, variants: Sequence[tuple[str, int]]) -> None:
        self.inputs, self.chosen, self.variants = inputs, chosen, variants
        self.num_altered = 0
        self._indices: list[np.ndarray] = []
        self._variant_of: list[np.ndarray] = []

    @property
    def indices(self) -> np.ndarray:
        """Index of the image at each position of the batches, `(N,)`."""
        return np.concatenate(self._indices)

    @property
    def variant_of(self) -> np.ndarray:
        """Index of the variant at each position of the batches, `(N,)`."""
        return np.concatenate(self._variant_of)

    def ahead(self) -> Iterator[torch.Tensor]:
        """The batches, each prefetched while the network works on the previous one."""
        batches = iter(self)
        total = -(-len(self.chosen) // IMAGES_AT_ONCE) * len(self.variants)
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(next, batches, None)
            for _ in track(range(total), "Corrupting", transient=True):
                batch = coming.result()
                assert batch is not None
                coming = pool.submit(next, batches, None)
                yield batch

    def __iter__(self) -> Iterator[torch.Tensor]:
        start = 0
        for batch in self.inputs.pixels(self.chosen.tolist()):
            indices = self.chosen[start : start + len(batch)]
            start += len(batch)
            for number, (name, severity) in enumerate(self.variants):
                self._indices.append(indices)
                self._variant_of.append(np.full(len(indices), number))
                yield self._damage(batch.numpy(), indices, name, severity)

    def _damage(self, batch: np.ndarray, indices: np.ndarray, name: str, severity: int) -> torch.Tensor:
        damaged = np.empty_like(batch)
        for row, (image, index) in enumerate(zip(batch, indices, strict=True)):
            damaged[row] = corrupt(image, name, severity, _key(self.inputs, int(index)))
            self.num_altered += not np.array_equal(damaged[row], image)
        return torch.from_numpy(damaged)
