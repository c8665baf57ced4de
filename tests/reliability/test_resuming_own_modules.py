"""Modules of own code that are stopped or killed, and go on to the last bit."""

from pathlib import Path

import pytest
from tests.conftest import BARE
from tests.own_modules import data_words, words, write_modules
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


def test_on_a_data_module_of_own_code_it_goes_on_exactly(struck: Struck, tmp_path: Path) -> None:
    """Its items draw noise, its order is shuffled, and it has workers."""
    code = write_modules(tmp_path / "code")
    more = (
        "+model.arguments.drop_rate=0.3",
        "data.num_workers=2",
        "trainer.max_epochs=3",
        "evaluation=short",
        *MEASURED,
    )
    typed = data_words(code, "Patched", *more)
    undisturbed, run = tmp_path / "undisturbed", tmp_path / "run"
    for folder, fault, ends in ((undisturbed, "", 0), (run, "SIGTERM@step:8", 143), (run, "", 0)):
        ended = struck(folder, fault=fault, words=typed)
        assert ended.code == ends, ended.log
    assert record_of(run)["resumed"][-1]["from_step"] == 8
    assert_same(run, undisturbed)


def test_a_stream_goes_on_behind_the_batches_that_it_was_trained_on(struck: Struck, tmp_path: Path) -> None:
    """Six batches and a half in order: the second epoch ends where it would have."""
    code, run = write_modules(tmp_path / "code"), tmp_path / "run"
    typed = data_words(code, "Streamed", "model/scheduler=plateau")
    assert struck(run, fault="SIGTERM@step:9", words=typed).code == 143
    ended = struck(run, words=typed)
    assert ended.code == 0, ended.log
    assert "resuming this run is approximate: the training loader of own_data_of_tests.Streamed" in ended.log
    assert [row.split(",")[1] for row in (run / "metrics.csv").read_text().splitlines()[1:]] == ["7", "14"]
