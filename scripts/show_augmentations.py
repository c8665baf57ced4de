"""A picture of what an augmentation does: each row an image as evaluation sees it, then as training may see it.

python scripts/show_augmentations.py [experiment=gtsrb augmentation=strong data.root=FOLDER …] [--output FILE]
"""

import argparse
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from PIL import Image  # noqa: E402

from sightline.command import exit_code, explain  # noqa: E402
from sightline.config import TrainConfig, validate  # noqa: E402
from sightline.data.augmentation import make_augmentations  # noqa: E402
from sightline.data.datasets import draw as draw_numbers  # noqa: E402
from sightline.data.display import to_display  # noqa: E402
from sightline.data.opening import open_files  # noqa: E402
from sightline.data.training_data import FolderData  # noqa: E402
from sightline.data.transforms import denormalise, load, prepare  # noqa: E402
from sightline.training.build import spec_of  # noqa: E402

GAP = 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as on the command line of train.py")
    parser.add_argument("--output", type=Path, default=Path("augmentations.png"), help="where the picture goes")
    parser.add_argument("--images", type=int, default=6, help="rows (default 6)")
    parser.add_argument("--draws", type=int, default=9, help="draws of each image (default 9)")
    arguments = parser.parse_args()
    try:
        draw(arguments)
    except Exception as error:
        if exit_code(error) != 2:
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    print(arguments.output)
    return 0


def draw(arguments: argparse.Namespace) -> None:
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        cfg = validate(compose("train", arguments.overrides))
    rows = draw_rows(cfg, open_files(cfg), arguments.images, arguments.draws)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tile(rows)).save(arguments.output)


def draw_rows(cfg: TrainConfig, data: FolderData, num_images: int, num_columns: int) -> list[list[np.ndarray]]:
    """For training images from all over the manifest: the plain one, then its draw in each of the first epochs."""
    spec = spec_of(cfg, data, (0.5,) * data.channels, (0.25,) * data.channels)
    _, num_draws, augmentation, in_batches = make_augmentations(cfg, spec)
    images = data.manifest.select("train")
    rows = []
    for index in np.linspace(0, len(images) - 1, num_images, dtype=int):
        image = load(images.path(index), spec, cfg.data.max_pixels)
        keys = [(cfg.seed, epoch, int(index)) for epoch in range(num_columns)]
        drawn = np.stack([augmentation(image, key) for key in keys])
        if in_batches is not None:
            numbers = draw_numbers(num_draws, cfg.seed, [key[1:] for key in keys])
            labels = torch.full((num_columns,), int(images.labels[index]))
            made, _ = in_batches(torch.from_numpy(drawn), labels, numbers)
            colours = denormalise(made, spec).permute(0, 2, 3, 1).numpy()
            drawn = (spec.max_level * colours).round().astype(spec.dtype)
        plain = prepare(image, spec)
        rows.append([to_display(pixels, spec.display_bands, like=plain) for pixels in (plain, *drawn)])
    return rows


def tile(rows: list[list[np.ndarray]]) -> np.ndarray:
    """One picture, white between the images."""
    size = rows[0][0].shape[0]
    step = size + GAP
    sheet = np.full((len(rows) * step + GAP, len(rows[0]) * step + GAP, 3), 255, np.uint8)
    for row, images in enumerate(rows):
        for column, pixels in enumerate(images):
            top, left = GAP + row * step, GAP + column * step
            sheet[top : top + size, left : left + size] = pixels
    return sheet


if __name__ == "__main__":
    sys.exit(main())
