"""Resume state: the values that a checkpoint keeps beside weights and optimizer."""

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from md2dist.storage.typed_json import Count, Number, Positive, parse_record

# Fields that determine the order of samples and the layout of the optimizer state.
_FIXED = ("seed", "global_batch_size", "window_shards", "shard_digest", "zero_stage")

_RANGES = {  # lowest and highest value
    "step": (0, 10**12),
    "seed": (0, 2**63 - 1),
    "global_batch_size": (1, 10**9),
    "window_shards": (1, 2**63 - 1),
    "zero_stage": (0, 2),
    "world_size": (1, 10**7),
    "guard.num_clean_steps": (0.0, 1e12),
    "guard.num_skipped": (0.0, 1e12),
    "guard.scale": (1e-38, 1e38),
}
_WANDB_ID = re.compile(r"[^/\\#?%:\x00-\x1f]{1,128}")  # what W&B accepts, and no path


@dataclass(frozen=True)
class GuardState:
    """State of the gradient guard."""

    num_clean_steps: Number = 0.0  # in a row, towards the next doubling of the scale
    num_skipped: Number = 0.0  # over the whole run
    scale: Number | None = None  # loss scale; None in fp32 and bf16 runs


@dataclass(frozen=True)
class ResumeState:
    """Position of a run, and what it must keep to resume there; plain values, as in the manifest.

    The learning rate is absent: it is a function of the settings and the position.
    """

    step: Count  # optimizer steps taken
    seed: Count
    global_batch_size: Positive
    window_shards: Positive
    shard_digest: str  # of the training shards
    zero_stage: Count
    world_size: Positive  # ranks that saved it
    guard: GuardState = GuardState()
    wandb_id: str | None = None  # the run in W&B
    resolved: dict[str, str | int | float | None] = field(
        default_factory=dict
    )  # what `auto` and null resolved to

    def differences(self, other: "ResumeState") -> dict[str, tuple[Any, Any]]:
        """Compares the values that a run cannot change on the way.

        Returns:
            By field: this state's value and the other's. The number of ranks counts only where the
            optimizer state is partitioned among them (ZeRO).
        """
        names = (*_FIXED, "world_size") if self.zero_stage > 0 else _FIXED
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names}
        return {name: (own, others) for name, (own, others) in pairs.items() if own != others}

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> "ResumeState":
        """Reads what `to_json` returned.

        Raises:
            ValueError: naming the first field that is missing, has another type or is out of range.
        """
        state = parse_record(cls, values)
        for name, (lowest, highest) in _RANGES.items():
            owner, _, field_name = name.rpartition(".")
            value = getattr(getattr(state, owner) if owner else state, field_name)
            if value is not None and not lowest <= value <= highest:
                raise ValueError(f"{name} is {value}, expected {lowest} to {highest}")
        if state.wandb_id is not None and not _WANDB_ID.fullmatch(state.wandb_id):
            raise ValueError(f"wandb_id is {state.wandb_id!r}, expected the id of a W&B run")
        return state
