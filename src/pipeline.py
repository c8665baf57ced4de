"""From data to a registered model: python src/pipeline.py VERB [experiment=NAME] [key=value …] [--json]"""

from sightline import command


def verbs() -> command.Verbs:
    from sightline.pipeline.pipeline import DEFAULTS, PARAMETER_KEYS, PRINTED, VERBS

    return command.Verbs(
        "pipeline",
        VERBS,
        PRINTED,
        options={"--runs": "paths.runs"},
        takes_invocation=True,
        parameters=PARAMETER_KEYS,
        defaults=DEFAULTS,
    )


if __name__ == "__main__":
    command.run_verbs(verbs)
