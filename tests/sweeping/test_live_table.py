"""What a sweep shows while it runs."""

import io
from pathlib import Path

from rich.console import Console
from tests.sweeping.conftest import PLANE, make_settings

from sightline.launch.backend import LaunchSettings
from sightline.launch.local.backend import LocalProcess
from sightline.sweeping.live_table import short_names, table_of
from sightline.sweeping.loop import Loop
from sightline.sweeping.ownership import Owner
from sightline.sweeping.study import open_study


def test_the_table_says_what_each_trial_is_and_how_far_the_sweep(tmp_path: Path) -> None:
    params = {**PLANE, "stages": {"choice": ["[fit]"]}}
    settings = make_settings(tmp_path, n_trials=3, n_parallel=1, params=params)
    shown: list[str] = []

    def show(loop: Loop) -> None:
        console = Console(width=80, file=io.StringIO(), color_system=None)
        console.print(table_of(loop))
        shown.append(console.file.getvalue())  # pyright: ignore[reportAttributeAccessIssue]

    backend = LocalProcess(settings.folder, LaunchSettings(preload=["json"]), grace_seconds=5.0)
    Loop(settings, open_study(settings), backend, Owner(settings.folder / ".sweeps"), show=show).run()
    backend.close()
    assert "running" in shown[0]
    lines = shown[-1].splitlines()
    assert lines[0].strip() == "demo: 3 of 3, best 0.7642 (trial 2)"
    assert any("0 s left" in " ".join(each.split()) for each in shown), "before the end"
    assert lines[1].split() == ["trial", "state", "x", "y", "stages", "val/accuracy"]
    assert all(line.split()[4] == "[fit]" for line in lines[2:]), "what stands in brackets is no markup"
    assert [line.split()[:2] for line in lines[2:]] == [[str(number), "complete"] for number in range(3)]


def test_names_are_as_short_as_they_can_be() -> None:
    keys = ["model.name", "model/optimizer", "model.optimizer.lr", "model.lr"]
    assert short_names(keys) == ["name", "optimizer", "model.optimizer.lr", "model.lr"]
