"""Names in pictures: any character, in a font that has it. Loads matplotlib inside functions."""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import accumulate
from unicodedata import east_asian_width

FAMILY = "DejaVu Sans"
"""Comes with matplotlib."""
MOST = 40
"""Characters of a name that a picture shows."""
_ESCAPED = re.compile(r"\\(?:u([0-9a-f]{4})|U([0-9a-f]{8}))")


@contextmanager
def plain_text(names: Iterable[str]) -> Iterator[None]:
    """Texts that are made inside are drawn as they stand: `$` is no mathematics, and each character has a font."""
    import matplotlib

    families = [_family_with(character) for character in sorted(set().union(*names))]
    usual = matplotlib.rcParams["font.family"]
    fonts = [*usual, *dict.fromkeys(family for family in families if family is not None)]
    with matplotlib.rc_context({"text.parse_math": False, "font.family": fonts}):
        yield


def drawable(name: str, most: int = MOST) -> str:
    r"""A name for a picture: one line, cut in the middle where it is long, `\u732b` for what no installed font has."""
    line = " ".join(name.split()) or name
    pieces = [each if _family_with(each) else _escape(each) for each in line]
    ends = list(accumulate(len(piece) + (east_asian_width(piece[0]) in "WF") for piece in pieces))
    if not pieces or ends[-1] <= most:
        return "".join(pieces)
    head = bisect_right(ends, most - most // 3 - 1)
    tail = bisect_left(ends, ends[-1] - most // 3) + 1
    return "".join([*pieces[:head], "…", *pieces[tail:]])


def drawable_each(names: Sequence[str], most: int = MOST) -> list[str]:
    """Names for one picture, each different from the others: those that are cut to the same are numbered."""
    lines = [drawable(name, most) for name in names]
    counts = Counter(lines)
    return [f"{line} #{i + 1}" if counts[line] > 1 else line for i, line in enumerate(lines)]


def restore(text: str) -> str:
    r"""A text with the characters for which `drawable` wrote `\u732b`, for pages: a browser has more fonts."""

    def character(found: re.Match[str]) -> str:
        each = chr(int(found[1] or found[2], 16))
        return found[0] if _family_with(each) else each

    return _ESCAPED.sub(character, text)


def font_file(text: str) -> str:
    """The file of a font for the whole of a `drawable` text; matplotlib's own where none has all of it."""
    from matplotlib.font_manager import FontProperties, findfont

    families = dict.fromkeys(_family_with(each) or FAMILY for each in text)
    files = [findfont(FontProperties(family=[family])) for family in families]
    return next((file for file in files if all(_has(file, each) for each in text)), findfont(FAMILY))


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


@cache
def _family_with(character: str) -> str | None:
    """The font family that has a character: matplotlib's own, else the first installed one by name."""
    from matplotlib.font_manager import findfont, fontManager

    if _has(findfont(FAMILY), character):
        return FAMILY
    upright = {font.name: font.fname for font in fontManager.ttflist if font.style == "normal" and font.weight == 400}
    return next((name for name, file in sorted(upright.items()) if _has(file, character)), None)


def _has(file: str, character: str) -> bool:
    return ord(character) in _glyphs(file)


@cache
def _glyphs(file: str) -> frozenset[int]:
    """The characters of a font; none of one whose glyphs are pictures, as of emoji, or stand for missing ones."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(file)
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable and "LastResort" not in file else frozenset()
