"""A trained model as one object: images in, class probabilities out."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from sightline.data.loader import make_loader
from sightline.data.transforms import UnreadableImage, load_rgb, normalise, prepare, to_rgb
from sightline.models.checkpoint import SavedModel, load_model
from sightline.models.inference import choose_device, choose_precision, run_network
from sightline.models.views import with_views
from sightline.task_spec import TaskSpec

Prepared = torch.Tensor | UnreadableImage


class Predictor:
    """Classifies images with a saved model; it prepares them as training did."""

    def __init__(self, saved: SavedModel, accelerator: str = "auto", precision: str = "auto") -> None:
        self.saved, self.spec = saved, saved.spec
        self.device = choose_device(accelerator)
        self.precision = choose_precision(precision, self.device)

    @classmethod
    def open(cls, path: str | Path, accelerator: str = "auto", precision: str = "auto") -> "Predictor":
        """From a run folder, its `model/` folder or a checkpoint."""
        return cls(load_model(Path(path)), accelerator, precision)

    def prepare(self, image: Image.Image | str | Path) -> torch.Tensor:
        """uint8 `(image_size, image_size, 3)` of a picture or a file."""
        picture = to_rgb(image) if isinstance(image, Image.Image) else load_rgb(image)
        return torch.from_numpy(np.ascontiguousarray(prepare(picture, self.spec)))

    def predict(self, images: Sequence[Image.Image | str | Path]) -> torch.Tensor:
        """Probabilities float32 `(N, num_classes)`, columns in the order of `spec.class_names`."""
        return self.predict_batches([torch.stack([self.prepare(image) for image in images])])

    def predict_batches(self, batches: Iterable[torch.Tensor]) -> torch.Tensor:
        """Calibrated probabilities float32 `(N, num_classes)` of prepared batches `(B, image_size, image_size, 3)`."""
        logits = run_network(
            with_views(self.saved.network, self.spec.views),
            batches,
            device=self.device,
            precision=self.precision,
            prepare=lambda batch: normalise(batch, self.spec),
        )
        return (logits / self.spec.temperature).softmax(dim=1)


class FileDataset(Dataset[tuple[Path, Prepared]]):
    """Each file with its prepared pixels, or with the error that says why there are none."""

    def __init__(self, files: Sequence[Path], spec: TaskSpec) -> None:
        self.files, self.spec = files, spec

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Path, Prepared]:
        file = self.files[index]
        try:
            pixels = prepare(load_rgb(file), self.spec)
        except UnreadableImage as error:
            return file, error
        return file, torch.from_numpy(np.ascontiguousarray(pixels))


def file_loader(
    files: Sequence[Path], spec: TaskSpec, *, batch_size: int, num_workers: int
) -> DataLoader[tuple[Path, Prepared]]:
    """Lists of `(file, pixels or error)`; a single batch is read without workers."""
    workers = num_workers if len(files) > batch_size else 0
    return make_loader(FileDataset(files, spec), batch_size=batch_size, num_workers=workers, collate_fn=list)
