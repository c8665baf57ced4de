"""The tables of keys in the docs are those of the schemas."""

import pytest

from sightline.config.key_table import BEGIN, END, key_tables
from tests.conftest import PROJECT

pytestmark = pytest.mark.structure


def test_the_docs_have_every_key() -> None:
    page = (PROJECT / "docs" / "contracts.md").read_text(encoding="utf-8")
    written = page.partition(BEGIN)[2].partition(END)[0].strip()
    assert written == key_tables(), "out of date: run python scripts/write_key_table.py"
