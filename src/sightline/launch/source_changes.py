"""Whether the code that a job runs is that of a commit, and what differs when it is not."""

import subprocess
from pathlib import Path

from sightline.errors import BadInput
from sightline.launch.container.image import CONTENT, LEFT_OUT
from sightline.runs.project import PROJECT
from sightline.runs.record import git_commit

MAX_NAMED = 5


def source_changes(project: Path = PROJECT) -> str | None:
    """The difference between what an image would be made of and the commit; None when there is none, or no git."""
    commit, _ = git_commit(project)
    if commit is None:
        return None
    listed = _git(project, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *CONTENT)
    states = {entry[3:]: entry[:2] for entry in listed.split("\0") if entry}
    states = {name: state for name, state in states.items() if not LEFT_OUT.search(name)}
    if not states:
        return None
    new = [name for name, state in states.items() if state == "??"]
    known = [name for name in states if name not in new]
    return (_git(project, "diff", "HEAD", "--", *known) if known else "") + "".join(
        f"new file: {name}\n" for name in new
    )


def check_source(changes: str | None, allow_dirty: bool) -> None:
    """Raises: BadInput for code that no commit has, unless that is allowed."""
    if changes is None or allow_dirty:
        return
    names = [line.split(" b/")[-1] for line in changes.splitlines() if line.startswith("diff --git")]
    names += [line.removeprefix("new file: ") for line in changes.splitlines() if line.startswith("new file: ")]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    raise BadInput(
        f"launch.allow_dirty=false: no commit has this code ({', '.join(names[:MAX_NAMED])}{more} differ); commit it, "
        "or set launch.allow_dirty=true, and run.json gets the difference"
    )


def _git(project: Path, *args: str) -> str:
    return subprocess.run(
        ["git", "-C", str(project), *args], check=True, capture_output=True, text=True, timeout=60
    ).stdout
