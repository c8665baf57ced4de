"""Whether the code that a job runs is that of a commit, and what differs when it is not."""

import subprocess
from pathlib import Path

from sightline.errors import BadInput
from sightline.runs.project import PROJECT
from sightline.runs.record import git_commit

SENT = ("src", "configs", "dockers", "pyproject.toml", "constraints.txt")
"""What an image is made of."""
MAX_NAMED = 5


def source_changes(project: Path = PROJECT) -> str | None:
    """The difference between what an image would be made of and the commit; None when there is none, or no git."""
    commit, _ = git_commit(project)
    if commit is None or not (listed := _git(project, "status", "--porcelain", "--untracked-files=all")):
        return None
    new = [line[3:] for line in listed.splitlines() if line.startswith("??")]
    pictured = _git(project, "diff", "HEAD")
    return pictured + "".join(f"new file: {name}\n" for name in new)


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


def _git(project: Path, *words: str) -> str:
    there = [name for name in SENT if (project / name).exists()]
    return subprocess.run(
        ["git", "-C", str(project), *words, "--", *there], check=True, capture_output=True, text=True, timeout=60
    ).stdout
