"""The rank of this process in a distributed training. Standard library only: it is checked before torch loads."""

import logging
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from sightline.errors import BadInput
from sightline.runs.invocation import RANK_NUMBERS

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Rank:
    """The rank of a process, of `num_local` processes on each of `num_nodes` machines; by default a single process."""

    rank: int = 0
    num_local: int = 1
    num_nodes: int = 1
    address: str = LOOPBACK
    port: int = 0
    """Port of the main process at `address`; 0 for any free one."""
    is_started: bool = False
    """Whether something like torchrun starts every process; if not, the first of a node starts the others there."""
    hosts_store: bool = True
    """Whether the main process serves the store of the rendezvous; torchrun has a process of its own for it."""
    attempt: str = "0"

    @property
    def world_size(self) -> int:
        return self.num_local * self.num_nodes

    @property
    def node(self) -> int:
        return self.rank // self.num_local

    @property
    def local_rank(self) -> int:
        return self.rank % self.num_local

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def all_devices(accelerator: str, given: Mapping[str, str]) -> int:
    """Devices of `trainer.devices=auto`: the local world size if set, else all GPUs, or one processor."""
    if "LOCAL_WORLD_SIZE" in given:
        return int(given["LOCAL_WORLD_SIZE"])
    if accelerator == "cpu":
        return 1
    import torch

    return max(1, torch.cuda.device_count())


def rank_from_environment(num_local: int, num_nodes: int, given: Mapping[str, str]) -> Rank:
    """This process's rank by the environment's variables.

    Raises: BadInput when they and the configuration do not go together.
    """
    number = {name: _number(name, given[name]) for name in RANK_NUMBERS if name in given}
    started = number.get("WORLD_SIZE", 1)
    if started > 1 and started != num_local * num_nodes:
        raise BadInput(
            f"trainer.devices={num_local} trainer.num_nodes={num_nodes}: the environment says WORLD_SIZE={started}; "
            f"add trainer=ddp trainer.devices={number.get('LOCAL_WORLD_SIZE', started)}, and trainer.num_nodes for "
            "several machines, or unset WORLD_SIZE"
        )
    if num_local * num_nodes == 1:
        return Rank()
    node = number.get("NODE_RANK", number.get("GROUP_RANK", 0))
    rank = number.get("RANK", node * num_local + number.get("LOCAL_RANK", 0))
    if not 0 <= rank < num_local * num_nodes:
        raise BadInput(
            f"NODE_RANK={node}: there are trainer.num_nodes={num_nodes} machines of trainer.devices={num_local}, "
            "numbered from 0; correct one of them"
        )
    if num_nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT"} <= given.keys():
        raise BadInput(
            f"trainer.num_nodes={num_nodes}: set MASTER_ADDR and MASTER_PORT to a free port of the first machine, and "
            "NODE_RANK to this machine's number from 0 on; or start with torchrun"
        )
    is_started = "LOCAL_RANK" in given or "RANK" in given
    knows_port = is_started or num_nodes > 1
    return Rank(
        rank,
        num_local,
        num_nodes,
        address=given.get("MASTER_ADDR", LOOPBACK) if knows_port else LOOPBACK,
        port=number.get("MASTER_PORT", 0) if knows_port else 0,
        is_started=is_started,
        hosts_store=given.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        attempt=given.get("TORCHELASTIC_RESTART_COUNT", "0"),
    )


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadInput(f"{name}={text}: this environment variable must be a number") from None


def silence_other_ranks() -> None:
    """Silence logs below errors, warnings and stdout, which the main process shows for all."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  (to the end of the process)
