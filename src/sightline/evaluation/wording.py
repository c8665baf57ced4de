"""Numbers in the sentences of a report."""


def percent(share: float) -> str:
    """`31 %` or `97.5 %`: three digits, and more where they would make all of less than all."""
    texts = [f"{100 * share:.{digits}g}" for digits in (3, 4, 6, 9)]
    return next((text for text in texts if float(text) < 100 or share >= 1), texts[-1]) + " %"


def plus_minus(low: float, high: float) -> str:
    """`± 0.18`: half of an interval's length."""
    return f"± {(high - low) / 2:.2g}"


def counted(count: int, noun: str) -> str:
    """`1 image`, `1,024 images`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
