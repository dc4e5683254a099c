"""Random access to the samples of a folder of shards, by byte offset."""

import io
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from md2dist.data.shard_format import Manifest, read_manifest, sample_members, view_names
from md2dist.data.velodyne import decode_sparse_depth
from md2dist.errors import ShardError

_OPEN_SHARDS = 64  # per dataset and process, far below the usual limit of 1024 files


class Sample(NamedTuple):
    """One decoded sample."""

    key: str
    frames: dict[str, np.ndarray]  # "0", "-1", "+1", "s" -> (H, W, 3) uint8 RGB
    info: dict[str, Any]  # drive, frame, side, native size, K, baseline, ...
    ground_truth: np.ndarray | None  # (native H, native W) float32 in m, 0 where unknown


class ShardDataset:
    """The samples of a folder of shards as a sequence: ``dataset[i]`` is decoded sample i.

    Files are opened when they are first read, and reading has no position of its own, so a dataset
    may be shared between threads, inherited by forked processes and pickled.

    Args:
        folder: a folder that holds ``index.json`` and the shards it names.

    Attributes:
        folder: the same.
        manifest: what the shards hold.

    Raises:
        ShardError: if there is no usable manifest.
    """

    def __init__(self, folder: str | Path):
        self.__setstate__((Path(folder), read_manifest(folder)))

    def __getstate__(self) -> tuple[Path, Manifest]:
        return self.folder, self.manifest

    def __setstate__(self, state: tuple[Path, Manifest]) -> None:
        self.folder, self.manifest = state
        sizes = np.array(self.manifest.shard_sizes, np.int64)
        self._starts = np.cumsum(sizes) - sizes
        self._open = lru_cache(_OPEN_SHARDS)(_ShardFile)

    def __len__(self) -> int:
        return self.manifest.num_samples

    def __repr__(self) -> str:
        recipe = self.manifest.recipe
        views = " ".join(view_names(recipe.frame_offsets, recipe.use_stereo))
        return (
            f"ShardDataset({str(self.folder)!r}: {len(self)} samples of {recipe.split} in "
            f"{len(self.manifest.shards)} shards, {recipe.size_name} "
            f"{recipe.image_format}, views {views}, ground truth {recipe.ground_truth})"
        )

    def __getitem__(self, index: int) -> Sample:
        """Reads and decodes one sample.

        Raises:
            IndexError: if there is no such sample; negative numbers count from the end.
            ShardError: if its shard is missing or damaged.
        """
        recipe = self.manifest.recipe
        members = self.raw(index)
        depth = members.get("velodyne.npz")
        try:
            return Sample(
                key=members["__key__"],
                frames={
                    view: decode_image(members[f"{view}.{recipe.image_format}"])
                    for view in view_names(recipe.frame_offsets, recipe.use_stereo)
                },
                info=json.loads(bytes(members["json"])),
                ground_truth=None if depth is None else decode_sparse_depth(depth),
            )
        except Exception as error:  # on damaged bytes decoders raise whatever they stumble over
            raise self.damage(index, error) from None

    def raw(self, index: int) -> dict[str, Any]:
        """Reads one sample as it lies in its shard.

        Args:
            index: sample number; negative ones count from the end.

        Returns:
            The encoded members as bytes-like objects by name ("0.png", "json", ...), and the
            sample's key as "__key__".

        Raises:
            IndexError: if there is no such sample.
            ShardError: if its shard is missing or damaged.
        """
        shard, start, stop = self._locate(index)
        entry = self.manifest.shards[shard]
        file = self._open(self.folder / entry.name, entry.num_bytes)
        try:
            return sample_members(os.pread(file.descriptor, stop - start, start))
        except (ShardError, OSError) as error:
            raise self.damage(index, error) from None

    def check_files(self) -> None:
        """Looks whether every shard is there with all its bytes; their contents are not read.

        Raises:
            ShardError: naming the first shard that is missing or cut short, and how many are.
        """
        bad = [
            entry.name
            for entry in self.manifest.shards
            if not (self.folder / entry.name).is_file()
            or (self.folder / entry.name).stat().st_size != entry.num_bytes
        ]
        if bad:
            raise ShardError(
                f"{len(bad)} of {len(self.manifest.shards)} shards in {self.folder} are missing or "
                f"have another size than index.json says, the first is {bad[0]}; "
                "copy them again, or pack again"
            )

    def damage(self, index: int, reason: object) -> ShardError:
        """Returns the error that says where sample `index` lies and how to mend it."""
        shard, start, _ = self._locate(index)
        path = self.folder / self.manifest.shards[shard].name
        if isinstance(reason, KeyError):
            reason = f"lacks {reason}"
        return ShardError(
            f"sample {index} at byte {start} of {path} is damaged ({reason}); find all damage with "
            f"`python shard_tools/verify_shards.py {self.folder}`, copy or pack these shards again"
        )

    def _locate(self, index: int) -> tuple[int, int, int]:
        """Returns a sample's shard and the first and past-the-end byte of its section."""
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        place = number - int(self._starts[shard])
        start, stop = self.manifest.shards[shard].offsets[place : place + 2].tolist()
        return shard, start, stop


def decode_image(encoded: Any) -> np.ndarray:
    """Decodes the bytes of a JPEG, PNG or WebP image.

    Args:
        encoded: a bytes-like object.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ShardError: if the bytes are no whole image.
    """
    try:
        image = Image.open(io.BytesIO(encoded))
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except Exception as error:  # on damaged bytes decoders raise whatever they stumble over
        raise ShardError(f"not a whole image: {error}") from None


class _ShardFile:
    """A shard's file descriptor, closed with the last reference to it."""

    def __init__(self, path: Path, num_bytes: int):
        remedy = "copy the shard again, or pack again"
        try:
            self.descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise ShardError(f"{path} cannot be read ({error.strerror}); {remedy}") from None
        found = os.fstat(self.descriptor).st_size
        if found != num_bytes:
            raise ShardError(f"{path} has {found} bytes, index.json says {num_bytes}; {remedy}")

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)
