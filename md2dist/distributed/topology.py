"""Place of a rank among the ranks and nodes of a job."""

from typing import NamedTuple


class Topology(NamedTuple):
    """Place of one rank, and its share of each optimizer step; the default is a single process.

    A plain value, not read from the environment: one process can compute what any rank of any
    cluster does.
    """

    rank: int = 0  # 0 .. world_size - 1, over all nodes
    world_size: int = 1
    local_rank: int = 0  # 0 .. node_size - 1
    node_size: int = 1  # ranks on this node, which share its cache
    grad_accum_steps: int = 1  # micro-batches of each rank per optimizer step

    @property
    def node_ranks(self) -> range:
        """Ranks on this node."""
        first = self.rank - self.local_rank
        return range(first, min(first + self.node_size, self.world_size))
