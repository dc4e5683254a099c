"""Early stopping: a run ends after so many validations without a new best."""

from dataclasses import replace
from math import inf, isfinite

from md2dist.data.shards.dataset import ShardDataset
from md2dist.runs.checkpoint_folder import Checkpoint, read_validation
from md2dist.runs.resume_state import ValidationState


def count_validation(state: ValidationState, step: int, abs_rel: float) -> ValidationState:
    """Counts a validation; one of a step that is counted already changes nothing.

    Args:
        state: before it.
        step: optimizer steps taken.
        abs_rel: of the set that decides; one that is not finite is no improvement.
    """
    if step == state.step:
        return state
    if isfinite(abs_rel) and abs_rel < (inf if state.best is None else state.best):
        return replace(state, step=step, best=abs_rel, best_step=step, num_since=0)
    return replace(state, step=step, num_since=state.num_since + 1)


def resume_validations(
    checkpoint: Checkpoint | None, deciding: ShardDataset | None, *, use_flip_postprocess: bool
) -> ValidationState:
    """Returns the validations of a run so far, that of the checkpoint included.

    They start anew where another set decides, or is evaluated in another way.

    Args:
        checkpoint: the run resumes here.
        deciding: the set that decides which checkpoint is best.
        use_flip_postprocess: whether it is evaluated with flip post-processing.
    """
    if deciding is None:
        return ValidationState() if checkpoint is None else checkpoint.state.validations
    origin = deciding.manifest.digest + " flip" * use_flip_postprocess
    if checkpoint is None or checkpoint.state.validations.origin != origin:
        return ValidationState(origin)
    metrics, state = read_validation(checkpoint.folder), checkpoint.state
    if metrics is None:
        return state.validations
    return count_validation(state.validations, state.step, metrics["abs_rel"])


def describe_stop(state: ValidationState, patience: int | None) -> str:
    """Describes why a run ends early; empty if it does not.

    Args:
        state: after the last validation.
        patience: `checkpoint.patience`, validations without a new best; None: any number.
    """
    if patience is None or state.num_since < patience:
        return ""
    best = "of any" if state.best is None else f"than {state.best:.4f} of step {state.best_step}"
    return (
        f"no better abs_rel {best} in {state.num_since} validations "
        f"(checkpoint.patience={patience})"
    )
