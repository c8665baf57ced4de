"""Where Sightline's programs and configurations lie: in a checkout, or in an installed wheel."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
IMPORTED_FROM = PACKAGE.parent
"""The folder that holds the package: what `PYTHONPATH` needs."""
IS_INSTALLED = (PACKAGE / "project").is_dir()
"""Whether this is a wheel, which brings programs and configurations along inside the package."""
PROJECT = PACKAGE / "project" if IS_INSTALLED else PACKAGE.parents[1]
PROGRAMS, CONFIGS = PROJECT / "src", PROJECT / "configs"


def home() -> Path:
    """Below it lie `.env`, and `data/` and `runs/` by default: a checkout, else the current folder."""
    return Path.cwd() if IS_INSTALLED else PROJECT
