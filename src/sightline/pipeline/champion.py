"""The champion: the model that a candidate is held against."""

from pathlib import Path

from sightline.config import PipelineConfig
from sightline.errors import BadInput
from sightline.pipeline.steps import Champion
from sightline.registry.package import read_package
from sightline.registry.packages import Registry
from sightline.registry.rules import APPROVED
from sightline.registry.version import REGISTRY, Version, split_name
from sightline.runs.folder import find_run

EXPORTED = {"fp32": "model.onnx", "int8": "model.int8.onnx"}


def find_champion(cfg: PipelineConfig, registry: Registry, model: str) -> Champion | None:
    """The version or run that `pipeline.champion` means; None where there is none yet, or none is wanted.

    Raises: BadInput for one that is not there, or is not exported as it has to be measured.
    """
    setting = cfg.pipeline.champion
    if setting == "none":
        return None
    if setting == "auto":
        version = champion_among(registry.versions(model)) if model in registry.names() else None
    elif setting.startswith(REGISTRY):
        version = registry.get(*split_name(setting))
    else:
        return _of_folder(cfg, setting, find_run(setting, Path(cfg.paths.runs)))
    return None if version is None else _of_folder(cfg, version.spelled(), registry.fetch(version), version.sha256)


def champion_among(versions: list[Version]) -> Version | None:
    """The version in production, else the newest that is approved."""
    staged = [each for each in versions if "production" in each.stages]
    approved = [each for each in versions if each.status == APPROVED]
    return next(reversed(staged or approved), None)


def _of_folder(cfg: PipelineConfig, name: str, folder: Path, sha256: str | None = None) -> Champion:
    precision = cfg.pipeline.precision
    if not (folder / "model" / EXPORTED[precision]).is_file():
        raise BadInput(
            f"pipeline.champion={name} pipeline.precision={precision}: {folder} has no model/{EXPORTED[precision]} to "
            f"measure; export it (python src/export.py run={folder}), or set pipeline.champion=none"
        )
    return Champion(name, str(folder), str(folder / "manifest.csv"), sha256 or read_package(folder).sha256)
