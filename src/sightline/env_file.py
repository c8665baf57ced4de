"""What `.env` says of this machine, for every program and for the libraries that it uses."""

import os
from pathlib import Path

ENV_FILE = Path(__file__).resolve().parents[2] / ".env"


def load_env_file(path: Path = ENV_FILE) -> None:
    """Take from a file what the environment does not say: lines KEY=value; one without a value says nothing."""
    if path.is_file():
        from dotenv import dotenv_values

        for key, value in dotenv_values(path).items():
            if value:
                os.environ.setdefault(key, value)
