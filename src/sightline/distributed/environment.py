"""Lightning's cluster environment for our ranks, so that it starts no processes: its own way runs the command again."""

from lightning_fabric.plugins import ClusterEnvironment
from lightning_fabric.utilities.rank_zero import rank_zero_only

from sightline.distributed.rank import Rank


class RankEnvironment(ClusterEnvironment):
    """A `Rank` as a cluster environment of Lightning."""

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self.rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self.rank.address

    @property
    def main_port(self) -> int:
        return self.rank.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.rank.world_size

    def set_world_size(self, size: int) -> None:
        assert size == self.rank.world_size, (size, self.rank)

    def global_rank(self) -> int:
        return self.rank.rank

    def set_global_rank(self, rank: int) -> None:
        assert rank == self.rank.rank, (rank, self.rank)
        rank_zero_only.rank = rank  # pyright: ignore[reportFunctionMemberAccess]

    def local_rank(self) -> int:
        return self.rank.local_rank

    def node_rank(self) -> int:
        return self.rank.node
