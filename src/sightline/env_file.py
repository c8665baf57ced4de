"""What `.env` says of this machine, for every program and for the libraries that it uses."""

import os
from pathlib import Path

from sightline.runs.project import home


def load_env_file(path: Path | None = None) -> None:
    """Take from a file what the environment does not say: lines KEY=value; one without a value says nothing."""
    path = path or home() / ".env"
    if path.is_file():
        from dotenv import dotenv_values

        for key, value in dotenv_values(path).items():
            if value:
                os.environ.setdefault(key, value)
