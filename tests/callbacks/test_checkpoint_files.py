"""Checkpoint files are whole or not there."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sightline.callbacks.checkpoint_files import STATE, AtomicCheckpointIO, drop_unneeded, find_defect, newest_whole
from sightline.errors import BadInput


def save(folder: Path, step: int, name: str = "last.ckpt", num_values: int = 1000) -> None:
    AtomicCheckpointIO().save_checkpoint({"step": step, "values": torch.ones(num_values)}, folder / name)


def step_of(path: Path | None) -> int:
    assert path is not None
    return torch.load(path, weights_only=True)["step"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
        save(tmp_path, step, "best.ckpt")
    assert names(tmp_path) == ["best.ckpt", "last-previous.ckpt", "last.ckpt"]
    assert step_of(newest_whole(tmp_path)) == 3
    assert step_of(tmp_path / "last-previous.ckpt") == 2


@pytest.mark.parametrize(
    ("keep", "whole", "left"),
    [
        ("resumable", {"last.ckpt"}, ["best.ckpt", "last.ckpt"]),
        ("weights", set(), ["best.ckpt", "last.ckpt"]),
        ("all", {"last.ckpt", "last-previous.ckpt", "best.ckpt", "top-0001-00000002.ckpt"}, None),
    ],
)
def test_what_a_finished_run_keeps(keep: str, whole: set[str], left: list[str] | None, tmp_path: Path) -> None:
    """Other people's checkpoints stay as they are."""
    checkpoint = {"state_dict": {"a": torch.ones(9)}, "optimizer_states": [{}], STATE: {"is_exact": True}}
    mine = ["best.ckpt", "top-0001-00000002.ckpt", "last.ckpt", "last.ckpt"]
    for name in (*mine, "mine.ckpt"):
        AtomicCheckpointIO(keeps_all=keep == "all").save_checkpoint(checkpoint, tmp_path / name)
    drop_unneeded(tmp_path, keep)
    expected = left or sorted({*mine, "last-previous.ckpt"})
    assert names(tmp_path) == sorted([*expected, "mine.ckpt"])
    for name in names(tmp_path):
        content = torch.load(tmp_path / name, weights_only=True)
        assert torch.equal(content["state_dict"]["a"], torch.ones(9))
        assert ("optimizer_states" in content) == (name in whole | {"mine.ckpt"})
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)[STATE]["is_exact"] == (keep != "weights")


@pytest.mark.parametrize("damage", ["cut", "empty", "bit"])
def test_a_damaged_file_is_set_aside(damage: str, tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    last = tmp_path / "last.ckpt"
    content = bytearray(last.read_bytes())
    if damage == "bit":
        content[content.index(bytes.fromhex("0000803f0000803f"))] ^= 1
    last.write_bytes(b"" if damage == "empty" else content if damage == "bit" else content[: len(content) // 2])
    assert find_defect(last) is not None
    assert step_of(newest_whole(tmp_path)) == 1
    assert names(tmp_path) == ["last-previous.ckpt", "last.ckpt.torn"]


def test_without_a_whole_one_nothing_is_touched(tmp_path: Path) -> None:
    assert newest_whole(tmp_path) is None
    (tmp_path / "last.ckpt").write_bytes(b"half")
    with pytest.raises(BadInput, match=r"no checkpoint opens: .*last\.ckpt"):
        newest_whole(tmp_path)
    assert names(tmp_path) == ["last.ckpt"]


@pytest.fixture
def small_files() -> Iterator[None]:
    """The kernel lets no file grow beyond 64 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_cannot_grow_leaves_the_last_one(tmp_path: Path, small_files: None) -> None:
    save(tmp_path, 1)
    with pytest.raises(OSError, match=r"last\.ckpt: the checkpoint cannot be written \(File too large\)"):
        save(tmp_path, 2, num_values=100_000)
    assert names(tmp_path) == ["last.ckpt"]
    assert step_of(newest_whole(tmp_path)) == 1


def test_the_last_one_is_there_until_the_next_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def stop(self: Path, target: Path) -> Path:
        if target.name == "last.ckpt":
            raise OSError("stopped before the new file has its name")
        return replace(self, target)

    for step in (1, 2):
        save(tmp_path, step)
    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(OSError, match="stopped before"):
        save(tmp_path, 3)
    assert step_of(tmp_path / "last.ckpt") == 2


@pytest.mark.parametrize("num_values", [10, 1_000_000])
def test_a_full_disk_says_so(num_values: int, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        save(tmp_path, 1, num_values=num_values)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(OSError, match=r"the checkpoint cannot be written \(.*\)"):
        save(tmp_path / "checkpoints", 1)
