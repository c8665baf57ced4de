"""What a training needs from elsewhere, looked for before any is started: data, weights, a teacher."""

from sightline.config import TrainConfig, is_own
from sightline.data.opening import check_root


def check_prerequisites(cfg: TrainConfig) -> None:
    """Look whether what a training reads is there, as far as that is cheap: nothing is read through or downloaded.

    Data that lie elsewhere (`s3://…`) are left to the training.

    Raises: BadInput with the message that the training would end with.
    """
    check_root(cfg)
    check_export_installed(cfg)
    if is_own(cfg.module):
        return
    if cfg.model.teacher is not None:
        from sightline.training.recipe import find_teacher

        find_teacher(cfg)
    if cfg.model.pretrained is True and cfg.model.weights_file() is None:
        from sightline.models.backbones import check_pretrained

        check_pretrained(cfg.model.name)


def check_export_installed(cfg: TrainConfig) -> None:
    """Raises: BadInput where a stage `export` lacks a package."""
    if "export" in cfg.stages:
        from sightline.export.export import check_installed

        check_installed("stages=[…,export]")
