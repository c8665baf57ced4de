"""Loose pictures as batches: threads decode them ahead, in the same order and with the same errors."""

from pathlib import Path

import pytest
import torch
from tests.conftest import write_image

from sightline.data.pictures import PictureBatches
from sightline.task_spec import TaskSpec

SPEC = TaskSpec(("a", "b"), 16, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty-one, of which the sixth and the last are no pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    files = [folder / f"{number:02d}.png" for number in range(21)]
    for number, file in enumerate(files):
        write_image(file, (10 * number, 0, 0), seed=number)
        if number == 5 or number > 19:
            file.write_bytes(b"no picture")
    return files


@pytest.mark.parametrize("num_threads", [1, 3])
def test_threads_change_nothing(num_threads: int, files: list[Path]) -> None:
    alone = PictureBatches(files, SPEC, batch_size=5)
    together = PictureBatches(files, SPEC, batch_size=5, num_workers=num_threads)
    expected, found = [*alone], [*together]
    assert [len(batch) for batch in found] == [5, 4, 5, 5]
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)
    assert {number: str(error) for number, error in together.unreadable.items()} == {
        number: str(error) for number, error in alone.unreadable.items()
    }
    assert [*together.unreadable] == [5, 20]


def test_errors_are_known_with_their_batch(files: list[Path]) -> None:
    batches = PictureBatches(files, SPEC, batch_size=5, num_workers=3)
    rest = iter(batches)
    next(rest)
    assert not batches.unreadable
    next(rest)
    assert [*batches.unreadable] == [5]
