"""Trainings on arrays that are stopped, and go on to the last bit."""

from pathlib import Path

import numpy as np
from tests.reliability.conftest import Struck, assert_same, record_of


def test_a_stopped_training_on_arrays_goes_on_exactly(struck: Struck, tmp_path: Path) -> None:
    for label, name in enumerate(("left", "right")):
        folder = tmp_path / "bands" / name
        folder.mkdir(parents=True)
        for number in range(36):
            values = np.random.default_rng((label, number)).integers(0, 4096, (32, 32, 5)) + 2000 * label
            np.save(folder / f"{number}.npy", values.astype(np.uint16))
    more = (f"data.root={tmp_path / 'bands'}", f"paths.cache={tmp_path / 'cache'}", "augmentation=light")
    assert struck(tmp_path / "whole", *more).code == 0
    ended = struck(tmp_path / "run", *more, fault="SIGTERM@step:5")
    assert ended.code == 143, ended.log
    assert record_of(tmp_path / "run")["found"]["data.channels"] == 5
    ended = struck(None, *more[:2], f"resume={tmp_path / 'run'}", words=())
    assert ended.code == 0, ended.log
    assert_same(tmp_path / "run", tmp_path / "whole")
