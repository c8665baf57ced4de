"""Which process of a training this one is, by the usual variables."""

import pytest

from sightline.distributed.rank import Rank, all_devices, rank_from_environment
from sightline.errors import BadInput

AT = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
TORCHRUN = {**AT, "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_USE_AGENT_STORE": "True"}


def test_a_process_alone_asks_nobody() -> None:
    assert rank_from_environment(1, 1, {}) == Rank()
    assert rank_from_environment(1, 1, {**AT, "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}) == Rank()


def test_one_command_is_the_first_of_its_machine() -> None:
    place = rank_from_environment(2, 1, {})
    assert (place.rank, place.world_size) == (0, 2)
    assert not place.is_started
    assert rank_from_environment(2, 1, AT) == place, "AT is of another job: on one machine a free port is found"


@pytest.mark.parametrize("rank", range(4))
def test_torchrun_says_everything(rank: int) -> None:
    given = {**TORCHRUN, "RANK": str(rank), "LOCAL_RANK": str(rank % 2), "GROUP_RANK": str(rank // 2)}
    place = rank_from_environment(2, 2, given)
    assert (place.rank, place.node, place.local_rank, place.world_size) == (rank, rank // 2, rank % 2, 4)
    assert (place.address, place.port) == ("10.0.0.1", 29500)
    assert place.is_started
    assert not place.hosts_store
    assert all_devices("cpu", given) == 2


def test_a_machine_of_several_starts_the_others_there() -> None:
    place = rank_from_environment(2, 2, {**AT, "NODE_RANK": "1", "WORLD_SIZE": "4"})
    assert (place.rank, place.local_rank, place.node, place.is_started) == (2, 0, 1, False)


def test_a_rank_without_its_local_one_is_enough() -> None:
    place = rank_from_environment(2, 2, {**AT, "RANK": "3", "WORLD_SIZE": "4"})
    assert (place.local_rank, place.node, place.is_started) == (1, 1, True)


@pytest.mark.parametrize(
    ("variables", "devices", "message"),
    [
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, (1, 2), "WORLD_SIZE=4; add trainer=ddp trainer.devices=2"),
        ({"NODE_RANK": "2", **AT}, (1, 2), "NODE_RANK=2: there are trainer.num_nodes=2 machines"),
        ({"NODE_RANK": "1"}, (1, 2), "trainer.num_nodes=2: set MASTER_ADDR and MASTER_PORT"),
        ({"WORLD_SIZE": "many"}, (1, 2), "WORLD_SIZE=many: this environment variable must be a number"),
    ],
)
def test_what_does_not_go_together_is_refused(
    variables: dict[str, str], devices: tuple[int, int], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        rank_from_environment(*devices, variables)
