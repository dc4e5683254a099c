"""DeepSpeed's configuration, computed from ours."""

from typing import Any

from md2dist.training.batch_plan import BatchPlan


def make_deepspeed_config(
    plan: BatchPlan, zero_stage: int, gradient_dtype: str = "fp32"
) -> dict[str, Any]:
    """Computes the dictionary for `deepspeed.initialize`.

    It sets no precision: the engine stays in float32, and the model runs its networks in half
    precision. The optimizer is passed to DeepSpeed as an object.

    Args:
        plan: the batch sizes.
        zero_stage: 0, 1 or 2.
        gradient_dtype: type in which gradients are sent between ranks, fp32 or bf16.

    Returns:
        A JSON-like dictionary.
    """
    zero: dict[str, Any] = {"stage": zero_stage}
    if zero_stage > 0:
        # If DeepSpeed computed the norm, it would skip the optimizer, and with it our guard, when
        # the norm is not finite.
        zero |= {"overlap_comm": True, "compute_grad_norm": False}
    return {
        "train_batch_size": plan.global_batch_size,
        "train_micro_batch_size_per_gpu": plan.micro_batch_size,
        "gradient_accumulation_steps": plan.grad_accum_steps,
        "gradient_clipping": 0.0,  # DeepSpeed's default is 1.0; the method does not clip
        "zero_optimization": zero,
        "communication_data_type": gradient_dtype,
        "zero_allow_untested_optimizer": True,  # torch's fused Adam; a test compares the stages
        "steps_per_print": 10**9,  # the run log reports progress
        "wall_clock_breakdown": False,
        "timers": {"throughput": {"enabled": False}},  # it would synchronise every step
    }
