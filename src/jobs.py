"""Jobs that were submitted: python src/jobs.py list|status|logs|metrics|fetch|stop JOB"""

from sightline import command


def main() -> None:
    from pathlib import Path

    from sightline.launch.jobs import main as do

    do(Path(__file__).resolve().parents[1] / "runs")


if __name__ == "__main__":
    command.run(main)
