"""Environment variables from `.env`, for every program and the libraries that it uses."""

import os
from pathlib import Path

from sightline.runs.project import home


def load_env_file(path: Path | None = None) -> None:
    """Set the variables of a file that the environment lacks: lines KEY=value; empty values are skipped."""
    path = path or home() / ".env"
    if path.is_file():
        from dotenv import dotenv_values

        for key, value in dotenv_values(path).items():
            if value:
                os.environ.setdefault(key, value)
