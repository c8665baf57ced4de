"""The names of images that lie in parquet files, once they are unpacked: on any disk, and none twice."""

import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

from sightline.data.collection.image_files import has_image_suffix, is_hidden

ROW = "-row-"
"""In the name of an image that has none of its own."""
MAX_NAME_BYTES, MAX_PATH_BYTES = 200, 1000


def name_images(files: Sequence[tuple[str, str | None, Sequence[str]]]) -> list[list[str]]:
    """The path of each image by files, of which the name, the split and the path told beside each image are given.

    It is the told one where that is safe and no other's; else it is made of the file's name and the row. A path that is
    another's but for the suffix, or for the case, is another's on some disks.
    """
    rows = [f"{PurePosixPath(name).with_suffix('').as_posix().replace('/', '-')}{ROW}" for name, _, _ in files]
    taken = {
        _as_key(f"{split}/{start}{row}")
        for start, (_, split, paths) in zip(rows, files, strict=True)
        for row in range(len(paths))
    }
    named: list[list[str]] = []
    for start, (_, split, paths) in zip(rows, files, strict=True):
        above = f"images/{split}" if split else "images"
        named.append([])
        for row, told in enumerate(paths):
            key = _as_key(f"{split}/{told}")
            is_own = is_safe(told) and key not in taken
            taken.add(key)
            named[-1].append(f"{above}/{told}" if is_own else f"{above}/{start}{row}")
    return named


def _as_key(path: str) -> str:
    stem = PurePosixPath(path).with_suffix("") if has_image_suffix(path) else PurePosixPath(path)
    return unicodedata.normalize("NFC", stem.as_posix()).lower()


def is_safe(path: str) -> bool:
    """Whether a path is one of an image below the folder that it is written into, on any disk."""
    *folders, name = path.split("/")
    parts = (*folders, name)
    is_odd = any(not part.strip(". ") or is_hidden(part) or len(part.encode()) > MAX_NAME_BYTES for part in parts)
    is_file = any(has_image_suffix(folder) or ROW in folder for folder in folders)  # another's, maybe
    is_plain = not any(letter in path for letter in "\\:\0\n\r") and len(path.encode()) <= MAX_PATH_BYTES
    return has_image_suffix(name) and is_plain and not is_odd and not is_file
