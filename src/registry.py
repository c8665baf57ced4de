"""Trained models by name and version: python src/registry.py VERB [NAME[/VERSION] …] [key=value …] [--json]"""

from sightline import command


def verbs() -> command.Verbs:
    from sightline.evaluation.shared_test import compare, print_compared
    from sightline.registry.registry import CHECKS, OPTIONS, PRINTED, VERBS

    functions, printed = {**VERBS, "compare": compare}, {**PRINTED, "compare": print_compared}
    return command.Verbs("registry", functions, printed, options=OPTIONS, checks=CHECKS)


if __name__ == "__main__":
    command.run_verbs(verbs)
