"""The verdict on a method follows from its numbers by rules that are written down."""

import pytest

from sightline.explanation.verdict import judge


def rows(better: int, count: int, converged: int | None = None) -> list[dict]:
    """Images on so many of which the map is better than a random one, and of which so many converged."""
    return [
        {
            "insertion_auc": 0.8 if number < better else 0.3,
            "deletion_auc": 0.2,
            "random_insertion_auc": 0.5,
            "random_deletion_auc": 0.3,
            "converged": None if converged is None else number < converged,
        }
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("better", "count", "converged", "correlation", "verdict", "said"),
    [
        (8, 8, 7, 0.1, "trust", "on 8 of 8 images; 7 of 8 converged; they change"),
        (10, 12, None, 0.5, "trust", "on 10 of 12 images; they change"),
        (9, 12, None, 0.1, "care", "on 9 of 12 images, which may be chance"),
        (4, 4, None, 0.1, "care", "on 4 of 4 images, which may be chance"),
        (8, 8, 5, 0.1, "care", "5 of 8 converged"),
        (8, 8, 3, 0.1, "do not trust", "3 of 8 converged"),
        (6, 12, 12, 0.1, "do not trust", "on 6 of 12 images; 12 of 12 converged"),
        (12, 12, 12, 0.51, "do not trust", "look much the same when all that was learnt is shuffled away"),
    ],
)
def test_each_rule(better: int, count: int, converged: int | None, correlation: float, verdict: str, said: str) -> None:
    found = judge(rows(better, count, converged), correlation)
    assert found.verdict == verdict
    assert said in found.because
