"""Runs of own code: they go on with it, and are measured with it, or say what has changed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import BARE, Cli
from tests.own_code import TARGET, edit, with_network, write_code

import sightline
from sightline.config.code_folder import hash_code
from sightline.errors import BadInput

TINY = [word for word in BARE if not word.startswith(("model.name", "trainer.max_epochs", "stages"))]


def read(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def change_record(run: Path, **changes: Any) -> None:
    (run / "run.json").write_text(json.dumps({**read(run), **changes}))


@pytest.fixture(scope="module")
def original(cli: Cli, colors: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs, and the folder of its code beside it."""
    folder = tmp_path_factory.mktemp("original")
    own = write_code(folder / "own")
    words = [*with_network(own), "data=folder", f"data.root={colors}", *TINY, "trainer.max_epochs=2", "stages=[fit]"]
    done = cli("train", *words, f"output={folder / 'run'}", "augmentation=none")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def own(original: Path, tmp_path: Path) -> Path:
    """The code and the run of it, of this test alone."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    run, text = tmp_path / "run", str(original)
    for name in ("run.json", "config.yaml"):
        (run / name).write_text((run / name).read_text().replace(text, str(tmp_path)))
    return tmp_path / "own"


def test_the_record_tells_of_the_code(own: Path, tmp_path: Path) -> None:
    record, described = read(tmp_path / "run"), json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert record["code"] == {"extensions": {"path": str(own), "sha256": hash_code(own)}}
    assert (described["target"], described["code"]) == (TARGET, {"extensions": hash_code(own)})
    assert hash_code(tmp_path / "run" / "code") == hash_code(own)


def test_a_run_goes_on_with_its_code(own: Path, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = cli("train", f"resume={run}", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    assert read(run)["resumed"][-1]["from_step"] == 12


def test_a_run_goes_on_with_other_code_if_that_is_said(own: Path, cli: Cli, tmp_path: Path) -> None:
    run, before = tmp_path / "run", hash_code(own)
    edit(own)
    refused = cli("train", f"resume={run}", "trainer.max_epochs=3")
    assert refused.returncode == 2
    assert (
        f"the code in {own} has changed since (sha256 {before[:12]}…, now {hash_code(own)[:12]}…: my_nets.py)"
        in refused.stderr
    )
    assert f"(its copy: extensions={run}/code)" in refused.stderr
    assert read(run)["status"] == "finished"
    kept = cli("train", f"resume={run}", "trainer.max_epochs=3", f"extensions={run / 'code'}")
    assert kept.returncode == 0, kept.stderr
    changed = cli("train", f"resume={run}", "trainer.max_epochs=4", f"extensions={own}", "trust_code=true")
    assert changed.returncode == 0, changed.stderr
    assert f"code_sha256.extensions: {before} → {hash_code(own)}" in changed.stderr
    assert hash_code(run / "code") == hash_code(own)
    assert not read(run)["config"]["trust_code"] or "trust_code=true" in read(run)["overrides"]
    edit(own)
    with (own / "my_nets.py").open("a") as file:
        file.write("# once more\n")
    again = cli("train", f"resume={run}", "trainer.max_epochs=5")
    assert again.returncode == 2, "the word of before is not said for ever"
    assert "has changed since" in again.stderr


def test_the_same_command_again_compares_the_code(own: Path, cli: Cli, colors: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    change_record(run, status="interrupted")
    words = [*with_network(own), "data=folder", f"data.root={colors}", *TINY, "stages=[fit]", "augmentation=none"]
    words += [f"output={run}", "trainer.max_epochs=2"]
    edit(own)
    done = cli("train", *words)
    assert done.returncode == 2
    assert f"own code of {run} has changed since (extensions" in done.stderr
    assert cli("train", *words, "trust_code=true").returncode == 0


def test_two_processes_import_the_same_code(own: Path, cold_cli: Cli, colors: Path, tmp_path: Path) -> None:
    words = [*with_network(own), "data=folder", f"data.root={colors}", *TINY, "trainer.max_epochs=1", "stages=[fit]"]
    words += ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=4"]
    done = cold_cli("train", *words, f"output={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "two")["model"]["target"] == TARGET


def evaluate(run: Path, tmp_path: Path, *words: str) -> None:
    sightline.evaluate(run, ["split=val", "evaluation=short", f"paths.runs={tmp_path / 'runs'}", *words])


def test_a_run_is_measured_with_its_code(own: Path, tmp_path: Path) -> None:
    """Without a word while that is what it was; what has changed, or came with the run, is named."""
    run = tmp_path / "run"
    evaluate(run, tmp_path)
    edit(own)
    with pytest.raises(BadInput, match="has changed since"):
        evaluate(run, tmp_path)
    evaluate(run, tmp_path, f"extensions={run / 'code'}")
    evaluate(run, tmp_path, "trust_code=true")
    shutil.rmtree(own)
    with pytest.raises(BadInput, match=f"was in {own}, and is not there; .*its copy: extensions={run}/code"):
        evaluate(run, tmp_path)
    evaluate(run, tmp_path, "trust_code=true")


def test_a_model_alone_needs_its_code_named(own: Path, colors: Path, tmp_path: Path) -> None:
    run, alone = tmp_path / "run", tmp_path / "alone"
    shutil.copytree(run / "model", alone / "model")
    shutil.copy(run / "checkpoints" / "best.ckpt", alone)
    words = ["evaluation=short", f"paths.runs={tmp_path / 'runs'}", f"data.root={colors}"]
    for name in ("model", "best.ckpt"):
        with pytest.raises(BadInput, match="whose code is not here; name its folder with extensions=FOLDER"):
            sightline.evaluate(alone / name, words)
        sightline.evaluate(alone / name, [*words, f"extensions={own}"])


def test_a_record_that_was_tampered_with(own: Path, cli: Cli, tmp_path: Path) -> None:
    """Code that came with a run runs nowhere unasked, whatever its files say."""
    run = tmp_path / "run"
    record, inside = read(run), str(run / "code")
    text = json.dumps(record).replace(str(own), inside)
    (run / "run.json").write_text(text)
    with pytest.raises(BadInput, match=f"its own code came with it; where you trust it, add extensions={inside}"):
        evaluate(run, tmp_path)
    resumed = cli("train", f"resume={run}", "trainer.max_epochs=3")
    assert resumed.returncode == 2
    assert "its own code came with it" in resumed.stderr
    submitted = cli("train", f"resume={run}", "trainer.max_epochs=3", "launch=local_process", "launch.dry_run=true")
    assert submitted.returncode == 2
    change_record(
        run, overrides=[*read(run)["overrides"], "trust_code=true"], config={**read(run)["config"], "trust_code": True}
    )
    trusting = cli("train", f"resume={run}", "trainer.max_epochs=3")
    assert trusting.returncode == 2, "a record does not say whom to trust"
    (run / "run.json").write_text(json.dumps(record))
    model = run / "model" / "model.json"
    model.write_text(model.read_text().replace(hash_code(own), "0" * 64))
    with pytest.raises(BadInput, match="has changed since .sha256 000000000000…"):
        evaluate(run, tmp_path)
    described = json.loads(model.read_text())
    for target, code in (("subprocess.Popen", {"subprocess": "0" * 64}), ("torch.hub.load", {}), ("os.system", {})):
        model.write_text(json.dumps({**described, "target": target, "code": code}))
        with pytest.raises(BadInput, match="trust_code=true"):
            evaluate(run, tmp_path)


def test_a_file_that_a_record_names_does_not_say_whom_to_trust(own: Path, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "code" / "configs" / "experiment").mkdir(parents=True)
    (run / "code" / "configs" / "experiment" / "mine.yaml").write_text("# @package _global_\ntrust_code: true\n")
    (run / "run.json").write_text(json.dumps(read(run)).replace(str(own), str(run / "code")))
    change_record(run, overrides=["experiment=mine", *read(run)["overrides"]])
    for words in ([], ["launch=local_process", "launch.dry_run=true"]):
        resumed = cli("train", f"resume={run}", "trainer.max_epochs=3", *words)
        assert resumed.returncode == 2, resumed.stderr
        assert "its own code came with it" in resumed.stderr


def test_a_metric_of_a_run_is_held_to_its_code(trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What came with the run is left out by name, and torchmetrics' stays."""
    run, marker = tmp_path / "run", tmp_path / "ran"
    shutil.copytree(trained, run)
    (run / "code").mkdir()
    text = f"from pathlib import Path\n\ndef even(logits, labels):\n    Path({str(marker)!r}).touch()\n    return 0.5\n"
    (run / "code" / "my_even.py").write_text(text)
    record, sha256 = read(run), hash_code(run / "code")
    record["config"]["evaluation"]["metrics"] = {
        "even": {"_target_": "my_even.even"},
        "recall": {"_target_": "torchmetrics.classification.MulticlassRecall"},
    }
    record["config"]["code_sha256"] = {"extensions": sha256}
    record["code"] = {"extensions": {"path": str(run / "code"), "sha256": sha256}}
    (run / "run.json").write_text(json.dumps(record))
    with caplog.at_level("WARNING"):
        measured = sightline.evaluate(run, ["split=val", "evaluation=short", f"paths.runs={tmp_path / 'runs'}"])
    assert "even of the run is left out" in caplog.text
    assert "its own code came with it" in caplog.text
    assert "val/recall" in measured.metrics
    assert not marker.exists()


def test_a_teacher_is_of_own_code_too(own: Path, cli: Cli, colors: Path, tmp_path: Path) -> None:
    words = [
        "model.name=test_resnet",
        "data=folder",
        f"data.root={colors}",
        *TINY,
        "trainer.max_epochs=1",
        "stages=[fit]",
    ]
    words += [f"model.teacher={tmp_path / 'run'}"]
    done = cli("train", *words, f"output={tmp_path / 'taught'}")
    assert done.returncode == 0, done.stderr
    edit(own)
    refused = cli("train", *words, f"output={tmp_path / 'again'}")
    assert refused.returncode == 2
    assert "model.teacher=" in refused.stderr
    assert "has changed since" in refused.stderr
    assert cli("train", *words, f"output={tmp_path / 'trusted'}", "trust_code=true").returncode == 0


def test_a_notebook_trains_what_was_edited(colors: Path, tmp_path: Path) -> None:
    own = write_code(tmp_path / "own")
    words = [*with_network(own), "data=folder", f"data.root={colors}", *TINY, "trainer.max_epochs=1", "stages=[fit]"]
    words += [f"paths.runs={tmp_path / 'runs'}", "augmentation=none"]
    first = sightline.train(overrides=[*words, f"output={tmp_path / 'one'}"])
    text = (own / "my_nets.py").read_text()
    (own / "my_nets.py").write_text(text.replace("width: int = 4", "width: int = 5"))
    second = sightline.train(overrides=[*words, f"output={tmp_path / 'two'}"])
    shapes = [
        torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]["backbone.0.weight"].shape[0]
        for run in (first.run_dir, second.run_dir)
    ]
    assert shapes == [4, 5]
