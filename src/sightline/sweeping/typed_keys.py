"""What is typed beside a search: the keys that it fixes, those without an effect, and the name of the study."""

import logging
from collections.abc import Collection, Mapping

from sightline.errors import BadInput
from sightline.runs.file_names import as_file_name
from sightline.runs.override_text import key_of

log = logging.getLogger(__name__)


def find_fixed(params: Collection[str], searched: Collection[str], typed: Mapping[str, str]) -> dict[str, str]:
    """The keys that are typed with one value, and the override of each; of `params`, they are not searched.

    `searched` are those that are typed with several values.

    Raises: BadInput for a key that is typed with one value and with several.
    """
    for key in (each for each in searched if key_of(typed.get(each, "")) == each):
        raise BadInput(f"{key}: typed with one value ({typed[key]}) and with several; keep one of the two")
    fixed = {key: override for key, override in typed.items() if key not in searched}
    for key in (each for each in params if each in fixed):
        log.info("%s is not searched: %s is typed", key, fixed[key])
    return fixed


def refuse_unused(typed: Mapping[str, str], *, waits: bool, names_metrics: bool, refits: bool) -> None:
    """Look for keys that have no effect on a sweep; of those that people leave there it warns.

    Raises: BadInput with the first.
    """
    reasons = {
        "launch.wait": None if waits else "a sweep waits for its trials",
        "launch.preload": "hydra.sweeper.preload says what trials share",
        "optimized_metric": "hydra.sweeper.metrics decides" if names_metrics else None,
        "hydra.sweeper.refit_seeds": None if refits else "it counts only with hydra.sweeper.refit=true",
    }
    for key, reason in reasons.items():
        if key in typed and reason:
            raise BadInput(f"{typed[key]}: has no effect here, {reason}; leave {key} out")
    for key in ("stages", "output"):
        if key in typed:
            log.warning("%s is not used: trials have stages=[fit], and folders of their own", typed[key])


def name_study(data: str, model: str | None, space: str | None) -> str:
    """Data, model and space, like `photos-resnet50-momentum`, as far as there are any."""
    return "-".join(as_file_name(part) for part in (data, model, space) if part)
