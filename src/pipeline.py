"""From data to a registered model: python src/pipeline.py VERB [experiment=NAME] [key=value …] [--json]"""

from sightline import command


def verbs() -> command.Verbs:
    from sightline.pipeline.pipeline import PRINTED, VERBS

    return command.Verbs("pipeline", VERBS, PRINTED, options={"--runs": "paths.runs"}, takes_invocation=True)


if __name__ == "__main__":
    command.run_verbs(verbs)
