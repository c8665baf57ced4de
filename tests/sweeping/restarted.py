"""A sweep in a process that can be killed: `python -m tests.sweeping.restarted FOLDER N_TRIALS [SQL-URL]`."""

import sys
from pathlib import Path

from tests.sweeping.conftest import make_settings, run

from sightline.errors import Interrupted

if __name__ == "__main__":
    storage = sys.argv[3] if len(sys.argv) > 3 else None
    settings = make_settings(Path(sys.argv[1]), ("nap=0.15", "epochs=6"), n_trials=int(sys.argv[2]), storage=storage)
    try:
        run(settings)
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_code)
