"""Data sets by name and version: python src/data_versions.py VERB [NAME[/VERSION] …] [key=value …] [--json]"""

from sightline import command

OPTIONS = {"--runs": "paths.runs", "--into": "into", "--from": "annotations", "from": "annotations"}


def verbs() -> command.Verbs:
    from sightline.data.versions.data_versions import PRINTED, VERBS

    return command.Verbs("data_versions", VERBS, PRINTED, options=OPTIONS, takes_invocation=True)


if __name__ == "__main__":
    command.run_verbs(verbs)
