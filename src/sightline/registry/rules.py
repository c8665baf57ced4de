"""What may be done with a version, and who has a stage: decided from the histories alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sightline.config import did_you_mean
from sightline.errors import BadInput
from sightline.registry.version import STAGES, Version

APPROVED, REJECTED = "approved", "rejected"
NEEDS_APPROVAL = "production"
STATUS_AFTER = {"approve": APPROVED, "reject": REJECTED}
TAKES = ("stage", "rollback")
"""What gives a version a stage; `unstage` takes it, `replaced` says that another version took it."""


def check_change(version: Version, what: str) -> None:
    """Raises: BadInput for a change that there is not, or that this version may not have."""
    action, _, stage = what.partition(":")
    name = version.spelled()
    if what in STATUS_AFTER:
        if what == "reject" and version.stages:
            held = version.stages[0]
            raise BadInput(
                f"{name} is in {held}; first give {held} to another: registry.py rollback {version.name} {held}, or "
                f"registry.py stage NAME/VERSION {held}"
            )
        return
    if action not in (*TAKES, "unstage"):
        raise BadInput(f"{what}: no such change; there are approve, reject, stage:STAGE, unstage:STAGE, rollback:STAGE")
    check_stage(stage)
    if action == "unstage":
        if stage not in version.stages:
            raise BadInput(f"{name} is not in {stage}")
    elif version.status == REJECTED:
        raise BadInput(f"{name} was rejected, and goes to no stage; registry.py approve {name} takes that back")
    elif stage == NEEDS_APPROVAL and version.status != APPROVED:
        raise BadInput(
            f"{name} is {version.status}, and only an approved version goes to {stage}; python src/registry.py approve "
            f"{name} approves it"
        )


def check_stage(stage: str) -> None:
    if stage not in STAGES:
        raise BadInput(f"{stage}: no such stage{did_you_mean(stage, STAGES)}; there are {' and '.join(STAGES)}")


def changed(version: Version, what: str, by: str, why: str | None, at: str) -> Version:
    """The version after a change that may be."""
    action, _, stage = what.partition(":")
    stages = {*version.stages} | {stage} if action in TAKES else {*version.stages} - {stage}
    return replace(
        version,
        status=STATUS_AFTER.get(what, version.status),
        stages=tuple(each for each in STAGES if each in stages),
        history=(*version.history, event(what, by, why, at)),
    )


def event(what: str, by: str, why: str | None, at: str) -> dict[str, Any]:
    return {"at": at, "by": by, "what": what, "why": why}


def next_time(versions: Iterable[Version]) -> str:
    """Now, but later than all that happened to these, whatever the clocks of those who wrote it."""
    now = datetime.now(UTC)
    times = [datetime.fromisoformat(each["at"]) for version in versions for each in version.history]
    return max([now, *(time + timedelta(microseconds=1) for time in times)]).isoformat(timespec="microseconds")


def holders(versions: Sequence[Version], stage: str) -> list[int | None]:
    """The versions that a stage went to, oldest first, without those that were rolled back; None: it had none."""
    moves = sorted(
        (each["at"], version.number, each["what"])
        for version in versions
        for each in version.history
        if each["what"].endswith(f":{stage}")
    )
    held: list[int | None] = []
    for _, number, what in moves:
        action = what.partition(":")[0]
        if action == "stage":
            held.append(number)
        elif action == "unstage" and held and held[-1] == number:
            held.append(None)
        elif action == "rollback":
            while held and held[-1] != number:
                held.pop()
            if not held:
                held.append(number)
    return held


def with_true_stages(versions: Sequence[Version]) -> list[Version]:
    """The versions with the stages that they have by all their histories.

    A stage that moves is written into two files, the one that takes it first: until the other is written, or after a
    kill between the two, both name it.
    """
    now = {stage: held[-1] for stage in STAGES if (held := holders(versions, stage))}
    return [
        replace(each, stages=tuple(stage for stage in STAGES if now.get(stage) == each.number)) for each in versions
    ]


def find_previous(versions: Sequence[Version], stage: str) -> Version:
    """The version that a stage goes back to: the one before the present one that may still have it.

    Raises: BadInput where there was none.
    """
    check_stage(stage)
    by_number: Mapping[int, Version] = {each.number: each for each in versions}
    held = holders(versions, stage)
    name = versions[0].name if versions else "NAME"
    if not held:
        raise BadInput(f"{stage}: no version of {name} was ever there; python src/registry.py stage {name}/N {stage}")
    skipped = []
    for number in reversed(held[:-1]):
        if number is None or number == held[-1]:
            continue
        version = by_number.get(number)
        if version is None:
            skipped.append(f"{name}/{number} is gone")
            continue
        try:
            check_change(version, f"rollback:{stage}")
        except BadInput as error:
            skipped.append(str(error))
            continue
        return version
    before = f" ({'; '.join(skipped)})" if skipped else ""
    raise BadInput(f"{stage}: no version of {name} had it before {name}/{held[-1]}{before}; stage one by its number")


def newest_approved(versions: Sequence[Version], place: str) -> Version:
    """Raises: BadInput that says what to type where none is approved."""
    found = [each for each in versions if each.status == APPROVED]
    if found:
        return found[-1]
    newest = versions[-1]
    raise BadInput(
        f"registry:{newest.name}: no version in {place} is approved; the newest is {newest.number}, which is "
        f"{newest.status}: python src/registry.py approve {newest.spelled()} approves it, registry:{newest.spelled()} "
        "names it as it is"
    )
