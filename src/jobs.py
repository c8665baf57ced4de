"""Jobs that were submitted: python src/jobs.py VERB [JOB] [key=value …] [--json]"""

from sightline import command


def verbs() -> command.Verbs:
    from sightline.launch.jobs import PRINTED, VERBS

    return command.Verbs("jobs", VERBS, PRINTED, options={"--runs": "paths.runs", "--into": "into"})


if __name__ == "__main__":
    command.run_verbs(verbs)
