"""The key of a step: equal keys mean equal programs, settings and inputs, by content and not by address."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from sightline.config import path_keys, to_plain
from sightline.data.manifest import Manifest
from sightline.pipeline.checks import Composed
from sightline.pipeline.steps import Champion
from sightline.runs.content_hash import ContentHashes
from sightline.runs.folder import named_path
from sightline.runs.project import CONFIGS, PACKAGE, PROGRAMS
from sightline.runs.record import package_versions

LEFT_BY = {
    "prepare": ("manifest.csv",),
    "train": ("model/model.safetensors", "model/model.json", "model/task_spec.json", "manifest.csv"),
    "export": (
        *("model/model.safetensors", "model/model.json", "model/task_spec.json", "manifest.csv"),
        *("model/model.onnx", "model/model.int8.onnx"),
    ),
    "evaluate": ("metrics.json",),
    "explain": ("explanations/explanations.json",),
    "gate": ("gate.json",),
}
"""What decides of a step's folder about the steps after it; times and reports do not."""
HERE_AND_HOW = ("paths", "launch", "output", "extensions", "code_sha256", "min_accuracy")
"""Keys that change nothing of what a step makes, or that the hash of the code covers."""


@dataclass
class Keys:
    """Keys of the steps of one pipeline; what was hashed before is not read again."""

    hashes: ContentHashes
    runs: Path
    champion: Champion | None
    images: Manifest
    code: str | None
    """None where the code is left out."""

    @classmethod
    def of(cls, cfg: Any, champion: Champion | None, images: Manifest) -> "Keys":
        """Of the pipeline that a configuration describes."""
        hashes = ContentHashes(Path(cfg.paths.cache) / "content")
        code = None if cfg.pipeline.ignore_code else hash_code(hashes, cfg.extensions)
        return cls(hashes, Path(cfg.paths.runs), champion, images, code)

    def of_step(self, composed: Composed, inputs: Mapping[str, str]) -> str:
        """The key of a step; `inputs` has the hash of what each earlier step left, by key."""
        config = {name: value for name, value in to_plain(composed.config).items() if name not in HERE_AND_HOW}
        contents = {**self._contents(config), **inputs}
        for name in contents:
            *sections, last = name.split(".")
            reduce(getitem, sections, config)[last] = None
        parts = {"script": composed.step.script, "config": config, "contents": contents, "code": self.code}
        text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def _contents(self, config: dict[str, Any]) -> dict[str, str]:
        """By key of the configuration that names a place: the hash of what lies there."""
        found = {}
        for name, kind in path_keys().items():
            value = value_at(config, name)
            if kind in ("path", "run") and value is not None:
                texts = value if isinstance(value, list) else [value]
                found[name] = " ".join(self._content(name, kind, str(each)) for each in texts)
        return found

    def _content(self, name: str, kind: str, text: str) -> str:
        if name == "against" and self.champion is not None:
            return self.champion.sha256
        path = named_path(text, self.runs) if kind == "run" else Path(text.removeprefix("file://")).expanduser()
        if path is None or not path.exists():
            return text  # an address elsewhere, or a word like `auto`
        if name == "data.root" and path.is_file():
            return f"{self.hashes.of(path)} {_hash_stats(self.images)}"
        return self.hashes.of(path / "model" if kind == "run" and (path / "model").is_dir() else path)


def hash_code(hashes: ContentHashes, extensions: str | None) -> str:
    """Of the package, its configurations and programs, of `extensions`, and of the libraries' versions."""
    folders = [PACKAGE, CONFIGS, *([] if extensions is None else [Path(extensions).expanduser()])]
    parts = [hashes.of(each) for each in folders] + [hashes.of(each) for each in sorted(PROGRAMS.glob("*.py"))]
    versions = json.dumps(package_versions(), sort_keys=True)
    return hashlib.sha256("\n".join([*parts, versions]).encode()).hexdigest()


def hash_left(step: str, folder: Path) -> str | None:
    """The hash of what a finished step left for the steps after it; None where it did not."""
    lines = []
    for name in LEFT_BY[step]:
        if (file := folder / name).is_file():
            with file.open("rb") as opened:
                lines.append(f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {name}")
        elif not name.endswith("int8.onnx"):
            return None
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _hash_stats(images: Manifest) -> str:
    """Of the size and the time of every image of a table, which may lie anywhere."""
    found = hashlib.sha256()
    for row in range(len(images)):
        stat = images.file(row).stat()
        found.update(f"{images.paths[row]}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def value_at(config: Mapping[str, Any], name: str) -> Any:
    node: Any = config
    for part in name.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node
