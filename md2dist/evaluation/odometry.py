"""Odometry report: errors of the motions that a model predicts along one sequence."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from md2dist.evaluation.alignment import fit_scale, fit_similarity, trajectory_error
from md2dist.evaluation.segments import LENGTHS, Drift, measure_drift
from md2dist.evaluation.snippets import snippet_ate
from md2dist.evaluation.trajectory import (
    chain_motions,
    relative_to_first,
    scale_positions,
    travelled_distances,
)

Scaling = Literal["fit"] | float  # the factor that fits the true positions best, or a fixed one


class OdometryReport(NamedTuple):
    """Errors along one sequence."""

    snippet_ate_mean: float  # over the 5-frame windows, m
    snippet_ate_std: float
    ate_sim3: float  # of the whole path, after fitting rotation, shift and scale, m
    ate_scale: float  # after fitting the scale alone, m
    fitted_scale: float  # the latter's factor
    scale: float  # the factor of the trajectory and of the drift
    drift: Drift | None  # None: the path is too short
    drift_by_length: Mapping[int, Drift]  # by length of the segments in m
    num_frames: int
    path_length: float  # of the ground truth, m

    def as_dict(self) -> dict[str, Any]:
        """Returns all numbers by name; those of a drift that is None are None."""
        figures = self._asdict()
        drift, by_length = figures.pop("drift"), figures.pop("drift_by_length")
        missing = dict.fromkeys(Drift._fields[:2]) | {"num_segments": 0}
        figures |= drift._asdict() if drift else missing
        return figures | {
            "segments": {str(length): drift._asdict() for length, drift in by_length.items()}
        }

    def as_markdown(self) -> str:
        """Returns a table with one row, and one of the drift over each length of segments."""
        drift = [f"{value:.3f}" for value in self.drift[:2]] if self.drift else ["-", "-"]
        row = {
            "5-frame ATE (m)": f"{self.snippet_ate_mean:.4f} ± {self.snippet_ate_std:.4f}",
            "ATE, Sim(3) (m)": f"{self.ate_sim3:.3f}",
            "ATE, scale (m)": f"{self.ate_scale:.3f}",
            "t_rel (%)": drift[0],
            "r_rel (°/100 m)": drift[1],
            "frames": str(self.num_frames),
            "path (m)": f"{self.path_length:.1f}",
            "fitted scale": f"{self.fitted_scale:.4g}",
        }
        tables = [_format_table([row])]
        if self.drift is None:
            tables.append(f"No t_rel and r_rel: the path has no segment of {LENGTHS[0]} m.")
        else:
            tables.append(
                _format_table(
                    [
                        {
                            "segment (m)": str(length),
                            "t_rel (%)": f"{drift.t_rel:.3f}",
                            "r_rel (°/100 m)": f"{drift.r_rel:.3f}",
                            "segments": str(drift.num_segments),
                        }
                        for length, drift in self.drift_by_length.items()
                    ]
                )
            )
        return "\n\n".join(tables)


class OdometryResult(NamedTuple):
    """The report, and the two trajectories that it compares."""

    report: OdometryReport
    predicted: NDArray[np.float64]  # (N, 4, 4) poses, camera to first camera, m
    true: NDArray[np.float64]  # (N, 4, 4), likewise


def evaluate_odometry(
    T_next_frame: NDArray[np.floating], poses: NDArray[np.floating], scaling: Scaling = "fit"
) -> OdometryResult:
    """Compares predicted motions with the true poses of a sequence.

    Args:
        T_next_frame: (N-1, 4, 4), point transforms of frame i to frame i+1, finite.
        poses: (N, 3, 4), camera-to-world poses, m.
        scaling: factor from predicted translations to metres, for the trajectory and its drift; the
            absolute errors fit their own.

    Raises:
        ShapeError: if a shape is wrong or the numbers of frames do not fit.
    """
    windows = snippet_ate(T_next_frame, poses)
    predicted, true = chain_motions(T_next_frame), relative_to_first(poses)
    places, true_places = predicted[:, :3, 3], true[:, :3, 3]
    fitted = fit_scale(places, true_places)
    scale = fitted if scaling == "fit" else float(scaling)
    trajectory = scale_positions(predicted, scale)
    drift, by_length = measure_drift(trajectory, true)
    report = OdometryReport(
        snippet_ate_mean=float(windows.mean()),
        snippet_ate_std=float(windows.std()),
        ate_sim3=trajectory_error(fit_similarity(places, true_places).apply(places), true_places),
        ate_scale=trajectory_error(fitted * places, true_places),
        fitted_scale=fitted,
        scale=scale,
        drift=drift,
        drift_by_length=by_length,
        num_frames=len(true),
        path_length=float(travelled_distances(true)[-1]),
    )
    return OdometryResult(report, trajectory, true)


def _format_table(rows: list[dict[str, str]]) -> str:
    """Returns a Markdown table of rows with the same columns."""
    names = list(rows[0])
    lines = [names, ["---:"] * len(names), *(list(row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
