"""A job that costs nothing: reports by epoch as training does, goes on where it was stopped, and fails on demand.

`python program.py output=FOLDER [x=0.5 epochs=3 nap=0.05 needs=FILE fail=exit|undefined|kill|silent]`
"""

import csv
import json
import math
import os
import signal
import sys
import time
from pathlib import Path


def plain(text: str) -> str:
    """A value as Hydra reads it: in single quotes, with quotes and `${` in it escaped."""
    return text[1:-1].replace("\\'", "'").replace("\\${", "${") if text.startswith("'") else text


words = dict(word.split("=", 1) for word in sys.argv[1:])
output = Path(plain(words["output"]))
x, y = float(words.get("x", 0.5)), float(words.get("y", 0.5))
epochs, nap, fail = int(words.get("epochs", 3)), float(words.get("nap", 0.05)), words.get("fail", "")
table = output / "metrics.csv"
best = 1 - (x - 0.3) ** 2 - 0.5 * (y - 0.6) ** 2


def stop(number: int, frame: object) -> None:
    sys.exit(128 + number)


def write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


signal.signal(signal.SIGTERM, stop)
if "needs" in words and not Path(words["needs"]).exists():
    print(f"error: needs={words['needs']}: no such file", file=sys.stderr)
    sys.exit(2)
rows = list(csv.DictReader(table.open())) if table.is_file() else []
print(
    f"from epoch {len(rows)}, threads {os.environ.get('OMP_NUM_THREADS')}, "
    f"launch {words.get('launch')}, mode {words.get('hydra.mode')}, words {sorted(words)}",
    flush=True,
)
(output / "checkpoints").mkdir(exist_ok=True)
for epoch in range(len(rows), epochs):
    time.sleep(nap)
    value = best * (1 - math.exp(-(epoch + 1) / 2))
    rows.append({"epoch": str(epoch), "step": str(epoch), "val/accuracy": str(value)})
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    write(table, "\n".join(lines) + "\n")
    write(output / "checkpoints" / "last.ckpt", str(epoch))
    if epoch == 0 and fail == "exit":
        print("error: the loss is lost", file=sys.stderr)
        sys.exit(1)
    if epoch == 0 and fail == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
final = math.nan if fail == "undefined" else float(rows[-1]["val/accuracy"])
if fail != "silent":
    write(output / "metrics.json", json.dumps({"val/accuracy": final, "train/images_per_second": 100 * (1 - x)}))
