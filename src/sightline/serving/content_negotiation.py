"""The header `Accept` (RFC 9110): which of the media types that we can send is wanted."""

from collections.abc import Sequence

from sightline.serving.contract import PROBLEM, Problem

ANY = "*/*"


def media_type(header: str) -> tuple[str, dict[str, str]]:
    """`Text/CSV; header=absent` as `text/csv` and its parameters."""
    kind, *rest = header.split(";")
    pairs = (each.partition("=") for each in rest)
    return kind.strip().lower(), {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def choose(accept: str | None, offered: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The offered type of the highest quality, the first of equal ones, with the parameters that were asked for.

    Raises: Problem 406 where none is wanted.
    """
    wanted = [media_type(each) for each in (accept or ANY).split(",") if each.strip()] or [(ANY, {})]
    best: tuple[float, str, dict[str, str]] = (0.0, "", {})
    for kind in offered:
        fitting = [(_closeness(pattern, kind), parameters) for pattern, parameters in wanted]
        closeness, parameters = max(fitting, key=lambda pair: pair[0])
        if closeness and (quality := _quality(parameters)) > best[0]:
            best = quality, kind, parameters
    if not best[1]:
        raise Problem(
            406, "Not acceptable", f"the answer is {' or '.join(offered)}; Accept names none of these", "Accept"
        )
    return best[1], best[2]


def _closeness(pattern: str, kind: str) -> int:
    """3 for the type itself, 2 for `text/*`, 1 for any, 0 where it does not fit."""
    if pattern == kind or (pattern == PROBLEM and kind == "application/json"):
        return 3
    if pattern == ANY:
        return 1
    return 2 if pattern.endswith("/*") and kind.startswith(pattern[:-1]) else 0


def _quality(parameters: dict[str, str]) -> float:
    try:
        return min(max(float(parameters.get("q", "1")), 0.0), 1.0)
    except ValueError:
        return 1.0
