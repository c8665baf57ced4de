"""How far the maps of a method can be believed, in words, and the rule behind each word."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest

CHANCE = 0.05
"""Of the sign test: how often a map that is no better than a random one may pass."""
CONVERGED = 0.75
"""Share of the images whose completeness error must be within the tolerance."""
SAME_WITHOUT_LEARNING = 0.5
"""Rank correlation with the maps of shuffled weights above which a map does not show what was learnt."""


@dataclass(frozen=True)
class Verdict:
    """`trust`, `care` or `do not trust`, a sentence that says so, and the numbers that it follows from."""

    verdict: str
    sentence: str
    because: str


def judge(rows: Sequence[Mapping[str, Any]], correlation: float) -> Verdict:
    """The verdict on one method from its rows of `explanations.json` and its correlation with shuffled weights.

    `do not trust`: better than random maps on half of the images or fewer, or fewer than half converged, or the maps
    of shuffled weights correlate above 0.5. `trust`: better on more images than chance explains (one-sided sign test
    at 5 %; five images at least), and three quarters converged. `care`: all between.
    """
    count, better = len(rows), sum(is_better_than_random(row) for row in rows)
    measured = [row["converged"] for row in rows if row["converged"] is not None]
    converged = sum(measured) / len(measured) if measured else 1.0
    is_alike = correlation > SAME_WITHOUT_LEARNING
    may_be_chance = binomtest(better, count, alternative="greater").pvalue > CHANCE
    reasons = [f"what they mark matters more to the answer than random pixels do on {better} of {count} images"]
    if may_be_chance and better > count / 2:
        reasons[0] += ", which may be chance"
    if measured:
        reasons.append(f"{sum(measured)} of {len(measured)} converged")
    alike = "they look much the same" if is_alike else "they change"
    reasons.append(f"{alike} when all that was learnt is shuffled away (correlation {correlation:.2f})")
    because = "; ".join(reasons)
    if is_alike or better <= count / 2 or converged < 0.5:
        return Verdict("do not trust", "do not trust these maps", because)
    if may_be_chance or converged < CONVERGED:
        return Verdict("care", "take these maps with care", because)
    return Verdict("trust", "these maps can be trusted", because)


def is_better_than_random(row: Mapping[str, Any]) -> bool:
    """Whether insertion less deletion is larger than that of the random map."""
    mine = row["insertion_auc"] - row["deletion_auc"]
    return mine > row["random_insertion_auc"] - row["random_deletion_auc"]
