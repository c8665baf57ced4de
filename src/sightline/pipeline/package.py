"""What is registered of a run: its folder without what only training needs, with the numbers of the exported model."""

import shutil
from pathlib import Path

from sightline.registry.package import EXPORTED, read_package
from sightline.registry.version import FILES_FILE
from sightline.runs.files import read_json, write_json

PACKAGE = "package"
OF_THE_RUN = ("run.json", "config.yaml", "manifest.csv", "audit.json", "metrics.csv", "model", "code")
OF_THE_EVALUATION = ("evaluation", "per_class.csv", "per_class.png", "confusion_matrix.csv", "confusion_matrix.png")
OF_THE_EXPLANATIONS = ("explanations",)


def pack(gate: Path, run: Path, evaluated: Path, explained: Path | None, name: str) -> Path:
    """Make the folder that the registry keeps, beside `gate.json`; no earlier step's folder is changed.

    Its metrics are those of validation by the training, and those of test by the exported model; the model card is
    written anew from them.
    """
    from sightline.export.model_card import write_model_card
    from sightline.export.model_files import quote_accuracy

    folder = gate.parent / PACKAGE
    folder.mkdir()
    _copy(run, OF_THE_RUN, folder)
    _copy(evaluated, OF_THE_EVALUATION, folder)
    if explained is not None:
        _copy(explained, OF_THE_EXPLANATIONS, folder)
    shutil.copy2(gate, folder / gate.name)
    trained = read_json(run / "metrics.json")
    kept = {metric: value for metric, value in trained.items() if not metric.startswith("test/")}
    write_json(folder / "metrics.json", {**kept, **read_json(evaluated / "metrics.json")})
    quote_accuracy(folder / "model", evaluated)
    write_model_card(folder, registered_as=name)
    if (folder / EXPORTED).is_file():  # a service that registers the folder makes no list of its hashes
        (folder / FILES_FILE).write_bytes(read_package(folder).files_json)
    return folder


def _copy(source: Path, names: tuple[str, ...], target: Path) -> None:
    for name in names:
        path = source / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        elif path.is_file():
            shutil.copy2(path, target / name)
