"""Modules of own code that are stopped or killed, and go on to the last bit."""

from pathlib import Path

import pytest
from tests.conftest import BARE
from tests.own_modules import words, write_modules
from tests.reliability.conftest import Struck, assert_same, differences, open_checkpoint, record_of

MEASURED = ("stages=[fit,test]", *(word for word in BARE if word.startswith("evaluation.") and "classes" not in word))
MORE = (*MEASURED, "evaluation=short", "trainer.max_epochs=3", "augmentation=albumentations", "data.num_workers=2")


@pytest.mark.parametrize(
    ("name", "fault", "from_step"),
    [
        ("Small", "SIGTERM@step:8", 8),
        ("Manual", "SIGKILL@step:9", 12),
        pytest.param("Embedder", "SIGTERM@validation:3", 11, marks=pytest.mark.slow),
    ],
)
def test_it_goes_on_exactly(
    name: str, fault: str, from_step: int, struck: Struck, colors: Path, tmp_path: Path
) -> None:
    code = write_modules(tmp_path / "code")
    monitor = ("checkpoint.monitor=val_loss",) if name == "Embedder" else ()
    typed = [word for word in words(colors, code, name, *MORE, *monitor) if not word.startswith("data.root=")]
    undisturbed, run = tmp_path / "undisturbed", tmp_path / "run"
    for folder, kind, code_expected in (
        (undisturbed, "", 0),
        (run, fault, -9 if "KILL" in fault else 143),
        (run, "", 0),
    ):
        ended = struck(folder, fault=kind, words=typed)
        assert ended.code == code_expected, ended.log
    assert record_of(run)["resumed"][-1]["from_step"] == from_step
    assert record_of(run)["resume"]["exact"]
    if name == "Embedder":  # which has no model/
        ours, theirs = (open_checkpoint(each / "checkpoints" / "last.ckpt") for each in (run, undisturbed))
        assert not list(differences(ours, theirs))
        assert (run / "metrics.csv").read_text() == (undisturbed / "metrics.csv").read_text()
    else:
        assert_same(run, undisturbed)
