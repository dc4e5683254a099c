"""Resume state: the values that a checkpoint keeps beside weights and optimizer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any

from pydantic import Field

from md2dist.storage.typed_json import Count, Number, Positive, parse_record

# Fields that determine the order of samples and the layout of the optimizer state.
_FIXED = ("seed", "global_batch_size", "window_shards", "shard_digest", "zero_stage")

_Step = Annotated[int, Field(ge=0, le=10**12)]
_Count = Annotated[Number, Field(ge=0, le=1e12)]
_WandbId = Annotated[str, Field(pattern=r"^[^/\\#?%:\x00-\x1f]{1,128}$")]  # W&B's rule; no path


@dataclass(frozen=True)
class GuardState:
    """State of the gradient guard."""

    num_clean_steps: _Count = 0.0  # in a row, towards the next doubling of the scale
    num_skipped: _Count = 0.0  # over the whole run
    # Loss scale; None in fp32 and bf16 runs.
    scale: Annotated[Number, Field(ge=1e-38, le=1e38)] | None = None


@dataclass(frozen=True)
class ValidationState:
    """Validations of a run so far, by the set that decides which checkpoint is best."""

    origin: str = ""  # digest of that set, and how it is evaluated
    step: _Step = 0  # of the last validation; 0 before the first
    best: Annotated[Number, Field(ge=0, le=1e38)] | None = None  # lowest abs_rel
    best_step: _Step = 0
    num_since: _Step = 0  # validations since the best one


@dataclass(frozen=True)
class ResumeState:
    """Position of a run, and what it must keep to resume there; plain values, as in the manifest.

    The learning rate is absent: it is a function of the settings and the position.
    """

    step: _Step  # optimizer steps taken
    seed: Count
    global_batch_size: Annotated[int, Field(ge=1, le=10**9)]
    window_shards: Positive
    shard_digest: str  # of the training shards
    zero_stage: Annotated[int, Field(ge=0, le=2)]
    world_size: Annotated[int, Field(ge=1, le=10**7)]  # ranks that saved it
    train_split: str = ""  # name of the training split; "" in checkpoints of earlier versions
    train_drives: tuple[str, ...] = ()  # of the training shards; empty if they do not list them
    guard: GuardState = GuardState()
    validations: ValidationState = ValidationState()  # before that of this step
    wandb_id: _WandbId | None = None  # the run in W&B
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
    def from_json(cls, values: Mapping[str, object]) -> "ResumeState":
        """Reads what `to_json` returned; other values, such as weights, are ignored.

        Raises:
            ValueError: naming the first field that is missing, has another type or is out of range.
        """
        names = (field.name for field in fields(cls))
        return parse_record(cls, {name: values[name] for name in names if name in values})
