"""What a pipeline on SageMaker tells the registry of a version: texts that its last step takes from a file."""

import json
from pathlib import Path
from typing import Any

from sightline.registry.card_content import describe_package
from sightline.registry.model_package import clean_metadata
from sightline.registry.package import EXPORTED, read_package
from sightline.runs.files import write_json

REGISTRATION = "register.json"


def write_registration(folder: Path, package: Path, decision: dict[str, Any]) -> None:
    """Write `{gate, sha256, files_sha256, card}` beside the package.

    `gate` is the sentence as metadata, `card` JSON as text.
    A run that is not exported has none: no registry takes it.
    """
    if not (package / EXPORTED).is_file():
        return
    described = read_package(package)
    facts = {
        "gate": clean_metadata({"gate": str(decision["sentence"])})["gate"],
        "sha256": described.sha256,
        "files_sha256": described.files_sha256,
        "card": json.dumps(describe_package(package, decision, "model.tar.gz"), ensure_ascii=False),
    }
    write_json(folder / REGISTRATION, facts)
