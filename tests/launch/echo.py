"""A program that writes down what it was told, leaves what a run leaves, and ends as it is asked to."""

import json
import os
import sys
import time
from pathlib import Path

words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
output = Path(words["output"].strip("'"))
names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "SM_BASE_DIR")
told = {"words": sys.argv[1:], "environment": {name: os.environ.get(name) for name in names}}
(output / "words.json").write_text(json.dumps(told))
for name in ("model/model.safetensors", "tensorboard/events", "explanations/index.html", "checkpoints/last.ckpt"):
    (output / name).parent.mkdir(parents=True, exist_ok=True)
    (output / name).write_text(name)
(output / "run.json").write_text(json.dumps({"task": "train", "status": words.get("status", "finished")}))
if "says" in words:
    print(words["says"], file=sys.stderr)
if "waits" in words:
    time.sleep(60)
sys.exit(int(words.get("code", 0)))
