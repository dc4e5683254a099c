"""Scalings of an evaluation: which ones suit the origin of the predictions."""

from typing import Literal

from md2dist.conventions import STEREO_FACTOR, default_scaling
from md2dist.errors import EvaluationError
from md2dist.evaluation.depth import ImageScaling
from md2dist.evaluation.depth_metrics import Scaling, read_scaling

# Of the scale of predictions: a model trained with stereo or on video alone; saved disparities of
# an unknown model; saved depth in m.
Origin = Literal["stereo", "mono", "disparity", "depth"]


def choose_scalings(
    text: str, origin: Origin, *, is_calibrated: bool = False, is_forced: bool = False
) -> list[ImageScaling]:
    """Chooses the scalings with which predictions are scored, the main one first.

    Args:
        text: ``auto``, ``median`` or a factor.
        origin: origin of the predictions.
        is_calibrated: whether to add the scaling by the baseline of each image's cameras.
        is_forced: whether to accept a stereo scaling of a model trained on video alone.

    Raises:
        EvaluationError: if the scaling is unknown, or does not suit the origin.
    """
    if text == "auto" and origin == "disparity":
        raise EvaluationError(
            "saved disparities do not state how their model was trained: pass --scaling median if "
            f"on video alone, --scaling {STEREO_FACTOR} if with stereo"
        )
    auto = 1.0 if origin == "depth" else default_scaling(origin == "stereo")
    words: dict[str, Scaling] = {"auto": auto, "median": "median"}
    scaling = read_scaling(text, words)
    if origin == "depth" and is_calibrated:
        raise EvaluationError(
            "--calibrated turns the disparities of a stereo model into metres, but these "
            "predictions are in metres; omit it"
        )
    if origin == "mono" and (scaling == STEREO_FACTOR or is_calibrated) and not is_forced:
        option = "--calibrated" if is_calibrated else f"--scaling {text}"
        raise EvaluationError(
            f"{option} scales by the baseline of stereo cameras, but this model was trained on "
            "video alone, so its depth has no scale: pass --scaling median, or --force"
        )
    return [scaling, "calibrated"] if is_calibrated else [scaling]
