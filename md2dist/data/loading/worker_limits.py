"""Limits of the machine that the loader's workers need: memory, files and processes."""

from math import prod

from md2dist.data.loading.loader import Workers
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.topology import Topology
from md2dist.machine_limits import allow_open_files, check_processes, check_shared_memory

_PAGE = 4096  # bytes; of shared memory, and thus the least that a tensor takes
_TENSORS = 4  # of a micro-batch
_LOCKS = 16  # of a worker, each a page
_OWN_FILES = 64  # of a rank, opened later: W&B, checkpoints, pictures; and of a worker
_FILES_OF_A_WORKER = 3  # in the rank: queues, and the end of the process
_PARTS_OF_A_WORKER = 6  # processes and threads, that of its queue in the rank included
_OWN_THREADS = 8  # of a rank, started later: reader, W&B, backward pass


def check_workers(
    dataset: ShardDataset, topology: Topology, workers: Workers, batch_shape: tuple[int, ...]
) -> None:
    """Checks that the machine lets the workers of all ranks of this node start and work.

    Args:
        dataset: the samples.
        topology: this rank among the others.
        workers: the processes that read.
        batch_shape: (micro_batch_size, 1 + S, H, W, 3), shape of the frames of a micro-batch.

    Raises:
        MachineLimitError: if shared memory, open files or processes are too few.
    """
    num_workers, num_ranks = workers.num_workers, topology.node_size
    if num_workers == 0:
        return
    purpose = f"data.num_workers={num_workers}"
    if num_ranks > 1:
        purpose += f" of {num_ranks} ranks"
    num_batches = num_workers * workers.prefetch_batches + 1
    if not workers.pin_memory:  # pinned copies are elsewhere
        # Two steps' micro-batches, and two that the background reader holds.
        num_batches += 2 * topology.grad_accum_steps + 2
    batch_bytes = prod(batch_shape) + _TENSORS * _PAGE
    rank_bytes = num_batches * batch_bytes + num_workers * _LOCKS * _PAGE
    check_shared_memory(num_ranks * rank_bytes, purpose)
    in_transit = 2 * _TENSORS * (workers.prefetch_batches + 1)
    files = num_workers * _FILES_OF_A_WORKER + in_transit + dataset.most_open_files
    allow_open_files(_OWN_FILES + files, purpose)
    check_processes(num_ranks * (_OWN_THREADS + num_workers * _PARTS_OF_A_WORKER), purpose)
