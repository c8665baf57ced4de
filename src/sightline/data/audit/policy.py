"""The policy after an audit: bad files are refused or left out, leaks refused or reported. No torch at the top."""

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sightline.config import DataConfig
from sightline.data.audit.inspection import STATUSES, Inspection
from sightline.data.audit.near_duplicates import load_bands
from sightline.data.display import describe_display, load_displayed
from sightline.data.manifest import Manifest
from sightline.data.training_data import AUDIT_FILES, FolderData
from sightline.data.transforms import load_rgb
from sightline.errors import BadInput
from sightline.runs.files import write_json
from sightline.task_spec import ValueRange

log = logging.getLogger(__name__)
MAX_NAMED = 5
EXPLAINED = ("too_many_pixels", "other_channels")
"""Kinds of bad files of which the detail says more than the kind."""


VERSION = 2
"""Part of every audit's key: raise it when the same files give other findings."""


def audit_once(
    manifest: Manifest,
    inspection: Inspection,
    cache: Path,
    value_range: ValueRange | None,
    max_pixels: int,
    channels: int,
    display_bands: Sequence[int] | None = None,
) -> Path:
    """The folder of this data's audit, made now unless the same files have been audited before.

    `value_range` is that of its images of more than 8 bits; those of more than `max_pixels`, or of other `channels`,
    are bad files. The page shows `display_bands`. Of several runs that begin at once, one makes it and the others wait.
    """
    from filelock import FileLock

    from sightline.data.audit.audit import audit
    from sightline.data.audit.report import write_report

    told = [VERSION, manifest.sha256, value_range, max_pixels, *([] if channels == 3 else [channels])]
    facts = json.dumps(told if display_bands is None else [*told, [*display_bands]])
    folder = cache / "audits" / hashlib.sha256(facts.encode()).hexdigest()[:32]
    if _is_audited(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not _is_audited(folder):
                reading = {"value_range": value_range, "max_pixels": max_pixels}
                is_picture = channels in (1, 3)
                load = partial(load_rgb, **reading) if is_picture else partial(load_bands, channels=channels, **reading)
                found = audit(manifest, inspection, value_range=value_range, load=load)
                folder.mkdir(exist_ok=True)
                bands = {"channels": channels, "display_bands": display_bands}
                show = partial(load_displayed, value_range=value_range, max_pixels=max_pixels, **bands)
                write_report(found, manifest, folder / "audit.html", show, describe_display(**bands))
                write_json(folder / "audit.json", found.to_dict())
    except OSError as error:
        raise BadInput(
            f"paths.cache={cache}: the audit cannot be written ({error}); name another folder, or set data.audit=skip"
        ) from error
    return folder


def _is_audited(folder: Path) -> bool:
    return all((folder / name).is_file() for name in AUDIT_FILES)


def apply_audit(data: DataConfig, report: Path, found: FolderData) -> FolderData:
    """The data with its audit, and without its bad files, if the configuration lets them be left out.

    Raises: BadInput for bad files or leaks that it does not allow.
    """
    findings = json.loads((report / "audit.json").read_text(encoding="utf-8"))["findings"]
    defects = [finding for finding in findings if finding["kind"] in STATUSES[1:]]
    bad = {file: finding["kind"] for finding in defects for file in finding["files"]}
    details = {file: finding["detail"] for finding in defects for file in finding["files"]}
    page = report / "audit.html"
    manifest = found.manifest
    _check_bad_files(data, bad, details, len(manifest), page)
    num_findings: dict[str, int] = {}
    for finding in findings:
        num_findings[finding["kind"]] = num_findings.get(finding["kind"], 0) + 1
    if num_findings:
        counts = ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in num_findings.items())
        log.warning("findings of the audit: %s; see %s", counts, page)
    if leaks := [finding for finding in findings if finding["kind"] == "leak"]:
        _report_leaks(data, leaks, page)
    if bad:
        manifest = manifest.keep(np.array([path not in bad for path in manifest.paths]))
    return replace(found, manifest=manifest, skipped=bad, report=report, num_findings=num_findings)


def _check_bad_files(
    data: DataConfig, bad: dict[str, str], details: dict[str, str], num_images: int, page: Path
) -> None:
    if not bad:
        return
    shown = [(file, details[file] if kind in EXPLAINED else kind) for file, kind in list(bad.items())[:MAX_NAMED]]
    named = "; ".join(f"{file} ({reason})" for file, reason in shown)
    more = f" and {len(bad) - MAX_NAMED} more" if len(bad) > MAX_NAMED else ""
    share = math.ceil(1000 * len(bad) / num_images) / 1000
    if data.on_bad_file == "error":
        larger = f" data.max_bad_fraction={share:g}" if len(bad) > data.max_bad_fraction * num_images else ""
        raise BadInput(
            f"data.root={data.root}: {len(bad)} bad file(s): {named}{more}; all are in {page}. Repair or remove them, "
            f"or leave them out with data.on_bad_file=skip{larger}"
        )
    if len(bad) > data.max_bad_fraction * num_images:
        raise BadInput(
            f"data.max_bad_fraction={data.max_bad_fraction}: {len(bad)} of {num_images} files are bad: {named}{more}; "
            f"all are in {page}. Repair or remove them, or set data.max_bad_fraction={share:g}"
        )
    log.warning("%d bad file(s) are left out: %s%s", len(bad), named, more)


def _report_leaks(data: DataConfig, leaks: list[dict[str, Any]], page: Path) -> None:
    first = ", ".join(leaks[0]["files"][:2])
    text = f"{len(leaks)} set(s) of images lie in more than one split, the first is {first}"
    if data.on_leak == "error":
        raise BadInput(
            f"data.on_leak=error: {text}; all are in {page}. Remove them from one split, or set on_leak=warn"
        )
    log.warning("%s: numbers on those splits flatter the model", text)
