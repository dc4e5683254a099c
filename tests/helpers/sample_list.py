"""Lists of samples that replace a `ShardDataset`."""

import numpy as np

from md2dist.data.shards.dataset import Sample


class SampleList(list[Sample]):
    """List of samples with the reading interface of a `ShardDataset`."""

    def stream(self, indices, num_sharers=1):
        return (self[index] for index in indices)

    def decode(self, index, members):
        return members


def random_ground_truth(rng, height=20, width=50, share=0.5):
    """Returns depth (height, width) up to 100 m; invalid pixels are 0."""
    depth = rng.uniform(0.5, 100, (height, width)).astype(np.float32)
    return np.where(rng.random((height, width)) < share, depth, 0).astype(np.float32)


def random_samples(rng, count, height=20, width=50):
    """Returns samples with random 8x16 frames, all different, of three drives."""
    return SampleList(
        Sample(
            key=f"sample_{number}",
            frames={"0": rng.integers(0, 256, (8, 16, 3), dtype=np.uint8)},
            info={
                "drive": f"drive_{number % 3}",
                "frame": number,
                "side": "lr"[number % 2],
                "baseline": 0.53 + 0.01 * (number % 3),
            },
            ground_truth=random_ground_truth(rng, height, width),
        )
        for number in range(count)
    )
