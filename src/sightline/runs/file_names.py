"""Names of files as text, and names for files of ours. Standard library alone."""

import hashlib
import os
import re

MAX_BYTES = 255
"""What Linux, macOS and Windows take for one name."""
MAX_LETTERS = 60
"""Of a name that is made from a text: a file system takes 255 bytes, and others put words of their own behind it."""
_UNFIT = re.compile(r"[\x00-\x1f\x7f\udc80-\udcff]|\\(?=x[0-9a-f]{2})")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


def to_text(name: str) -> str:
    r"""A file's name or path as every table, page and record writes it: `\xe9` for a byte that is no UTF-8.

    Control characters, like a line break, are written so too, and the backslash of a name that holds `\xe9` as four
    characters is `\x5c`; all else stays as it is. `to_name` is the way back.
    """
    return name if _is_plain(name) else _UNFIT.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", name)


def to_name(text: str) -> str:
    """The name or path that `to_text` wrote, as Python opens it."""
    return _ESCAPED.sub(lambda found: os.fsdecode(bytes([int(found[1], 16)])), text) if "\\" in text else text


def _is_plain(name: str) -> bool:
    return name.isascii() and name.isprintable() and "\\" not in name


def readable(text: str) -> str:
    r"""Prose in which paths may hold bytes that are no UTF-8: these as `\xe9`, the rest as it is."""
    return re.sub("[\udc80-\udcff]", lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", text)


def fit_name(name: str, suffix: str) -> str:
    """`name` and `suffix` as the name of one file: a longer one than file systems take is cut and ends in its hash."""
    if len((name + suffix).encode()) <= MAX_BYTES:
        return name + suffix
    ending = f"-{hashlib.sha256(name.encode()).hexdigest()[:12]}{suffix}"
    return name.encode()[: MAX_BYTES - len(ending.encode())].decode(errors="ignore") + ending


def as_file_name(text: str) -> str:
    """A text as the name of a file or a folder: letters, digits, `.`, `_` and `-` alone; perhaps nothing is left."""
    return re.sub(r"[^\w.-]+", "-", text)[:MAX_LETTERS].strip("-.")
