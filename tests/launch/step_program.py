"""A step of a pipeline that does no work: it writes what it was told, and what later steps look for."""

import json
import sys
import time
from pathlib import Path

words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
if "merge" in sys.argv:
    place = words["paths.inputs"].strip("'")
    files = [file.read_text() for file in Path(place, "from").iterdir()]
    print(json.dumps({"is_new": "changed" in files, "version": "mine/4", "sentence": "…"}))
    sys.exit()
output = Path(words["output"].strip("'"))
(output / "words.json").write_text(json.dumps(sys.argv[1:]))
(output / "manifest.csv").write_text("path,label,split,group,sha256\n")
is_training = "trainer.max_epochs" in words
(output / "run.json").write_text(json.dumps({"task": "train", "status": "running" if is_training else "finished"}))
if is_training:
    mark = output / "checkpoints" / "last.ckpt"
    was_here = mark.is_file()
    mark.parent.mkdir(exist_ok=True)
    mark.write_text("a step")
    if words["seed"] == "13" and not was_here:  # until its machine is taken away
        time.sleep(60)
    (output / "resumed.json").write_text(json.dumps(was_here))
    (output / "run.json").write_text(json.dumps({"task": "train", "status": "finished"}))
if "pipeline.min_accuracy" in words:
    bound = 0.0 if words["pipeline.min_accuracy"] == "null" else float(words["pipeline.min_accuracy"])
    sentence = f"test/accuracy_low is 0.97, {abs(0.97 - bound):.2f} {'below' if bound > 0.97 else 'above'} {bound}"
    (output / "gate.json").write_text(json.dumps({"passed": bound <= 0.97, "sentence": sentence}))
    card = {"model_overview": {"model_description": "Tells digits apart"}}
    facts = {"gate": sentence.replace(",", ""), "sha256": "0" * 64, "files_sha256": "1" * 64, "card": json.dumps(card)}
    (output / "register.json").write_text(json.dumps(facts))
    for name in ("package/model/model.onnx", "package/manifest.csv"):
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text(name)
