"""Write the tables of all keys into docs/contracts.md: python scripts/write_key_table.py"""

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

from sightline.config.key_table import BEGIN, END, key_tables  # noqa: E402

page = PROJECT / "docs" / "contracts.md"
before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
_, _, after = rest.partition(END)
page.write_text(f"{before}{BEGIN}\n\n{key_tables()}\n\n{END}{after}", encoding="utf-8")
