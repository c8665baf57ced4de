"""Where Sightline's programs and configurations lie: in a checkout, or in an installed wheel."""

from pathlib import Path

from sightline.errors import BadInput

PACKAGE = Path(__file__).resolve().parents[1]
IMPORTED_FROM = PACKAGE.parent
"""The folder that holds the package: what `PYTHONPATH` needs."""
IS_INSTALLED = (PACKAGE / "project").is_dir()
"""Whether this is a wheel, which brings programs and configurations along inside the package."""
PROJECT = PACKAGE / "project" if IS_INSTALLED else PACKAGE.parents[1]
PROGRAMS, CONFIGS = PROJECT / "src", PROJECT / "configs"


OWN_PROJECT = "pyproject.toml"
TABLE = "[tool.sightline]"


def home() -> Path:
    """Below it lie `.env`, and `data/` and `runs/` by default: a project of one's own, a checkout, or this folder."""
    project = own_project()
    return project if project is not None else Path.cwd() if IS_INSTALLED else PROJECT


def own_project() -> Path | None:
    """The folder of the project of one's own that the working folder lies in: its pyproject.toml has our table."""
    here = Path.cwd()
    nearest = next((folder for folder in (here, *here.parents) if (folder / OWN_PROJECT).is_file()), None)
    if nearest is None or TABLE not in (nearest / OWN_PROJECT).read_text(encoding="utf-8", errors="replace"):
        return None
    return nearest


def extensions_of(project: Path) -> Path | None:
    """The folder that `extensions` of `[tool.sightline]` in a project's pyproject.toml names.

    Raises: BadInput where it names none.
    """
    import tomllib

    file = project / OWN_PROJECT
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))["tool"]["sightline"]
    except (KeyError, ValueError) as error:
        raise BadInput(f"{file}: cannot be read ({error}); correct it") from error
    named = table.get("extensions")
    if named is None:
        return None
    if not isinstance(named, str) or not (project / named).is_dir():
        raise BadInput(f"{file}: tool.sightline.extensions={named}: no such folder; name the one that your code is in")
    return project / named
