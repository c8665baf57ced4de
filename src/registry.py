"""Trained models by name and version: python src/registry.py VERB [NAME[/VERSION] …] [key=value …] [--json]"""

from sightline import command


def verbs() -> command.Verbs:
    from sightline.registry.registry import CHECKS, PRINTED, VERBS

    return command.Verbs("registry", VERBS, PRINTED, options={"--runs": "paths.runs"}, checks=CHECKS)


if __name__ == "__main__":
    command.run_verbs(verbs)
