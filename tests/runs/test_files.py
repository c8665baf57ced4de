"""Files are whole or not there."""

import os
import socket
from pathlib import Path

import pytest

from sightline.runs.files import read_json, write_json, write_text


def test_a_full_disk_leaves_the_file_before_and_no_part_of_another(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")
    (tmp_path / f".{path.name}.{socket.gethostname()}-{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "now" * 100_000)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "before"


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"größe": [1, None, {"a": "犬"}]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert read_json(tmp_path / "nothing.json") == {}
