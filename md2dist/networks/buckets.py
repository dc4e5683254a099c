"""Buckets of parameters whose gradients are averaged over the ranks together."""

from collections.abc import Iterable

from torch.nn import Parameter

BUCKET_BYTES = 25 * 2**20


def fill_buckets(
    parameters: Iterable[Parameter], bucket_bytes: int = BUCKET_BYTES
) -> list[list[Parameter]]:
    """Distributes the trained parameters of a model.

    The buckets follow the backward pass, from the last weight to the first. Vectors come at the
    end, as some gradients of batch norm are there only after a whole encoder.

    Args:
        parameters: in the order of the forward pass.
        bucket_bytes: size from which a bucket is full.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    trained.sort(key=lambda parameter: parameter.dim() > 1)  # stable
    buckets: list[list[Parameter]] = []
    size = bucket_bytes
    for parameter in reversed(trained):
        if size >= bucket_bytes:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.nbytes
    return buckets
