"""What a training needs from elsewhere, looked for before any is started: data, weights, a teacher."""

from pathlib import Path

from sightline.config import TrainConfig
from sightline.data.collection.layouts import list_images
from sightline.data.collection.sources import localise


def check_prerequisites(cfg: TrainConfig) -> None:
    """Look whether what a training reads is there, as far as that is cheap: nothing is read through or downloaded.

    Data that lie elsewhere (`s3://…`) are left to the training.

    Raises: BadInput with the message that the training would end with.
    """
    _check_data(cfg)
    if cfg.model.teacher is not None:
        from sightline.training.recipe import find_teacher

        find_teacher(cfg)
    if cfg.model.pretrained and cfg.model.weights_file() is None:
        from sightline.models.backbones import check_pretrained

        check_pretrained(cfg.model.name)


def _check_data(cfg: TrainConfig) -> None:
    data, cache = cfg.data, Path(cfg.paths.cache)
    if data.source == "shards" and "://" not in data.root:
        from sightline.data.shards.packing import read_shards

        read_shards(data.root)
    is_made = data.source == "digits" and Path(data.root) == Path(cfg.paths.data) / "digits"
    if is_made or data.source in ("synthetic", "shards"):
        return
    local = data.root.removeprefix("file://")
    if "://" not in local and not Path(local).expanduser().exists():
        list_images(localise(data.root, cache), origin=data.origin)
