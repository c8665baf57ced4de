"""Numbers in the sentences of a report."""


def percent(share: float) -> str:
    """`31 %` or `97.5 %`: three digits, and more where they would make all of less than all."""
    texts = [f"{100 * share:.{digits}g}" for digits in (3, 4, 6, 9)]
    return next((text for text in texts if float(text) < 100 or share >= 1), texts[-1]) + " %"


def plus_minus(low: float, high: float) -> str:
    """`± 0.18`: half of an interval's length."""
    return f"± {(high - low) / 2:.2g}"


def describe_interval(low: float, high: float, source: str = "", *, sign: str = "") -> str:
    """`± 0.18 (0.64 to 1.00, bootstrap)`, with the `source` as it stands behind the ends.

    Where the ends are equal, as those of a bootstrap whose images are all answered right, there is none to be told.
    """
    if low == high:
        return "(no interval can be told: however these images are drawn again, it stays the same)"
    return f"{plus_minus(low, high)} ({low:{sign}.4f} to {high:{sign}.4f}{source})"


def counted(count: int, noun: str) -> str:
    """`1 image`, `1,024 images`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
