"""Metadata of a sample: the member ``json``."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import FailFast, Field

from md2dist.data.shards.recipe import Size
from md2dist.errors import ShardError
from md2dist.storage.typed_json import Count, Number, parse_json

_MAX_BYTES = 1 << 16
_Text = Annotated[str, Field(max_length=200)]
_Row = Annotated[list[Number], FailFast(), Field(min_length=3, max_length=3)]


@dataclass(frozen=True)
class SampleInfo:
    """Metadata of a sample."""

    format_version: Count
    key: _Text
    date: _Text  # "" for KITTI odometry
    drive: _Text
    frame: Annotated[int, Field(ge=0, lt=10**10)]
    side: Literal["l", "r"]  # camera 2 or 3
    width: Size  # of the packed images, in pixels
    height: Size
    native_width: Size  # of the camera's images, in pixels
    native_height: Size
    # (3, 3), in pixels of the packed images.
    K: Annotated[list[_Row], FailFast(), Field(min_length=3, max_length=3)]
    baseline: Number  # m


def parse_info(content: bytes | memoryview) -> dict[str, Any]:
    """Parses the ``json`` member of a sample.

    Returns:
        The fields of `SampleInfo`, by name.

    Raises:
        ShardError: if one is missing, of another type or out of bounds.
    """
    if len(content) > _MAX_BYTES:
        raise ShardError(f"json has {len(content)} bytes, expected at most {_MAX_BYTES}")
    try:
        return dict(vars(parse_json(bytes(content), SampleInfo)))
    except ValueError as error:
        raise ShardError(f"json is damaged: {error}") from None
