"""A sampler of one's own: its order is a function of seed and epoch, and what is none is named."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Sampler

from sightline.data.own_sampler import OwnSampler
from sightline.errors import BadInput

LABELS = np.repeat([0, 1, 2], [6, 4, 2])


class Shuffled(Sampler[int]):
    """As torch's: the draws are torch's own."""

    def __init__(self, labels: np.ndarray) -> None:
        self.length = len(labels)

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self.length).tolist())


class Batches(Sampler[list[int]]):
    def __init__(self, labels: np.ndarray, batch_size: int, wrong: int = 0) -> None:
        self.length, self.size = len(labels), batch_size + wrong

    def __iter__(self) -> Iterator[list[int]]:
        yield from (
            part.tolist() for part in np.array_split(np.random.permutation(self.length), self.length // self.size)
        )


class Ordered:
    def __init__(self, seed: int, indices: list[int], grows: bool = False) -> None:
        self.seed, self.indices, self.grows = seed, indices, grows

    def order(self, epoch: int) -> list[int]:
        return self.indices * (1 + epoch if self.grows else 1)


def make(name: str, batch_size: int = 4, seed: int = 7, **arguments: Any) -> OwnSampler:
    return OwnSampler({"_target_": f"{__name__}.{name}", **arguments}, LABELS, 3, batch_size, seed)


def _state_of_numpy() -> list[int]:
    state: Any = np.random.get_state()
    return [int(number) for number in state[1]]


@pytest.mark.parametrize("name", ["Shuffled", "Batches"])
def test_an_epoch_is_the_same_whenever_it_is_asked_for(name: str) -> None:
    sampler, again = make(name), make(name)
    before = (torch.get_rng_state(), _state_of_numpy())
    epochs = [sampler.order(epoch).tolist() for epoch in range(3)]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == _state_of_numpy()
    assert [again.order(epoch).tolist() for epoch in (2, 0)] == [epochs[2], epochs[0]]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == list(range(12))
    assert make(name, seed=8).order(0).tolist() != epochs[0]


def test_ranks_share_every_batch_and_a_run_goes_on_within_an_epoch() -> None:
    whole, parts = make("Shuffled"), [make("Shuffled"), make("Shuffled")]
    for rank, part in enumerate(parts):
        part.batch_size, part.rank, part.world_size = 4, rank, 2
    dealt = [[index for _, index in part] for part in parts]
    batches = whole.order(0).reshape(3, 4)
    assert [sorted(dealt[0][2 * n : 2 * n + 2] + dealt[1][2 * n : 2 * n + 2]) for n in range(3)] == [
        sorted(batch) for batch in batches.tolist()
    ]
    whole.seek(1, 4)
    assert [index for _, index in whole] == make("Shuffled").order(1)[4:].tolist()


def test_an_image_that_comes_again_is_a_copy() -> None:
    """An index beyond the images is one more copy, augmented in its own way."""
    assert make("Ordered", indices=[3, 3, 0, 3]).order(0).tolist() == [3, 3 + 12, 0, 3 + 24]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Ordered", {"indices": [0, 12]}, "has the index 12, and there are 12 training images"),
        ("Ordered", {"indices": []}, "epoch 0 has no indices of images"),
        ("Ordered", {"indices": [0.5]}, "epoch 0 has no indices of images"),
        ("Batches", {"wrong": 2}, "has batches of 6 images, and data.batch_size=4"),
        ("Ordered", {"indices": [1], "speed": 1}, "does not take speed (did you mean seed?); it takes seed"),
    ],
)
def test_what_is_no_order_is_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        make(name, **arguments)
    assert message in str(caught.value)
    assert name in str(caught.value)


def test_epochs_are_as_long_as_the_first() -> None:
    sampler = make("Ordered", indices=[1, 2], grows=True)
    with pytest.raises(BadInput, match="epoch 1 has 4 images and the first 2"):
        sampler.order(1)
