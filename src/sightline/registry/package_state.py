"""A version as a model package of SageMaker: what the service is told of it, and what it says of it again. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sightline.registry.card_content import SHOWN, describe_package
from sightline.registry.model_package import STATUS, Registration, clean_metadata, image_digest
from sightline.registry.package import Package
from sightline.registry.rules import STATUS_AFTER, TAKES, event
from sightline.registry.version import STAGES, Version

ARCHIVE, SHOWN_FOLDER, FACTS_FILE = "model.tar.gz", "package", "facts.json"
DOCUMENTS = {
    "quality": "evaluation/evaluation.json",
    "explanations": "explanations/explanations.json",
    "baseline": "model/baseline.npz",
}
"""By field of a registration: the file of a package whose address SageMaker is told."""
STATUS_OF = {theirs: ours for ours, theirs in STATUS.items()}
NOT_STAGED = "None"
"""The stage that stands for none: SageMaker cannot take one away again."""
DECISIONS = {**STATUS_AFTER, "withdraw": "pending"}
"""What is decided, and the status after it; no verb of ours withdraws, but the console can."""
FACTS = ("run", "seconds", "cost", "usd", "machine", "pipeline", "execution", "experiment")
"""Of what was said when a version was added: what the console shows, and a pipeline's own step tells."""
CHANGED = "last_change"
"""Metadata: when our last change reached the service; a state that differs from it was changed elsewhere."""


def make_registration(draft: Version, package: Package, group: str, image: str, root: str) -> Registration:
    addresses = {key: f"{root}/{SHOWN_FOLDER}/{name}" for key, name in DOCUMENTS.items() if name in package.files}
    gate, facts = draft.gate or {}, draft.facts
    numbers = {f"test/{name}": draft.metrics.get(f"test/{name}") for name in SHOWN}
    metadata = {
        "sha256": draft.sha256,
        "files_sha256": draft.files_sha256,
        "by": draft.history[0]["by"],
        "commit": draft.commit,
        "data": draft.data.get("name"),
        "data_version": draft.data.get("version"),
        "data_sha256": draft.data.get("sha256"),
        "gate": gate.get("sentence"),
        "gate_passed": gate.get("passed"),
        "image_digest": image_digest(image),
        **_flat({key: facts.get(key) for key in FACTS}),
        **numbers,
    }
    archive = f"{root}/{ARCHIVE}"
    return Registration(
        group=group,
        image=image,
        model=archive,
        metadata={key: str(value) for key, value in metadata.items() if value not in (None, "")},
        description=str(gate.get("sentence") or f"sha256 {draft.sha256}"),
        card=describe_package(package.folder, draft.gate, archive),
        status=STATUS[draft.status],
        **addresses,
    )


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of several parts by `name.part`, like the seconds of each step."""
    found = {}
    for name, value in facts.items():
        found |= (
            {f"{name}.{part}": each for part, each in value.items()} if isinstance(value, Mapping) else {name: value}
        )
    return found


def make_update(version: Version, described: Mapping[str, Any], *, is_whole: bool = False) -> dict[str, Any]:
    """The arguments that tell the service of a version's last change; of all that was ever changed where `is_whole`."""
    changes = version.history[-1:] if not is_whole else version.history
    request: dict[str, Any] = {
        "ModelPackageArn": described["ModelPackageArn"],
        "CustomerMetadataProperties": clean_metadata({CHANGED: version.history[-1]["at"]}),
    }
    for each in changes:
        if each["what"] in DECISIONS:
            request |= {"ModelApprovalStatus": STATUS[version.status], "ApprovalDescription": _said(each)}
        elif ":" in each["what"]:
            stage = version.stages[-1].capitalize() if version.stages else NOT_STAGED
            status = "Active" if version.stages else "Inactive"
            request["ModelLifeCycle"] = {"Stage": stage, "StageStatus": status, "StageDescription": _said(each)}
    return request


def _said(change: Mapping[str, Any]) -> str:
    """Who did what and why, in one line that SageMaker takes."""
    why = f": {change['why']}" if change["why"] else ""
    return " ".join(f"{change['what']} by {change['by']}{why}".split())[:1024]


def after_all(version: Version, history: Sequence[dict[str, Any]]) -> Version:
    """The version after all that its history says."""
    decided = [DECISIONS[each["what"]] for each in history if each["what"] in DECISIONS]
    status = decided[-1] if decided else version.status
    return replace(version, status=status, stages=stages_after(history), history=tuple(history))


def stages_after(history: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The stages that a version has by its own history."""
    held: set[str] = set()
    for each in history:
        action, _, stage = each["what"].partition(":")
        held = held | {stage} if action in TAKES else held - {stage}
    return tuple(stage for stage in STAGES if stage in held)


def done_elsewhere(described: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was changed after our last change, by the console or another tool."""
    at = described["LastModifiedTime"].isoformat(timespec="microseconds")
    by = described.get("LastModifiedBy") or {}
    who = by.get("UserProfileName") or by.get("IamIdentity", {}).get("Arn") or "SageMaker"
    found = []
    decided = [each["what"] for each in history if each["what"] in DECISIONS]
    status = STATUS_OF.get(described.get("ModelApprovalStatus", ""), "pending")
    if status != (DECISIONS[decided[-1]] if decided else history[0].get("why") or "pending"):
        what = next(name for name, result in DECISIONS.items() if result == status)
        found.append(event(what, who, described.get("ApprovalDescription"), at))
    now = described.get("ModelLifeCycle", {}).get("Stage", "").lower()
    held = stages_after(history)
    if now in STAGES and now not in held:
        found.append(event(f"stage:{now}", who, described["ModelLifeCycle"].get("StageDescription"), at))
    elif now not in STAGES and held:
        found += [event(f"unstage:{stage}", who, None, at) for stage in held]
    return found
