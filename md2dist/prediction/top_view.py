"""Top view of two trajectories, predicted and true."""

import numpy as np
from numpy.typing import NDArray

from md2dist.prediction.pictures import Picture

_SIZE, _DPI = 8.0, 150  # inches; dots per inch
_TRUE, _PREDICTED = "#18181b", "#dc2626"
_LINE = {"linewidth": 1.8, "markersize": 5}


def draw_top_view(
    predicted: NDArray[np.floating], true: NDArray[np.floating], title: str, label: str
) -> Picture:
    """Draws trajectories from above: to the right is right, and up is forward.

    A square marks the end of each; the prediction is above the rest, however short it is.

    Args:
        predicted: (N, 4, 4) poses, camera to first camera, m.
        true: (N, 4, 4), likewise.
        title: title of the plot.
        label: name of the prediction in the legend.

    Returns:
        (1200, 1200, 3) uint8, with the same scale on both axes.
    """
    # Imported late: they take half a second.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_SIZE, _SIZE), dpi=_DPI, layout="tight")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(true[0, 0, 3], true[0, 2, 3], "o", color=_TRUE, markersize=7, label="start")
    for poses, colour, name in ((true, _TRUE, "ground truth"), (predicted, _PREDICTED, label)):
        x, z = poses[:, 0, 3], poses[:, 2, 3]
        axes.plot(x, z, "s-", color=colour, markevery=[-1], **_LINE, label=name)
    axes.set(title=title, xlabel="x, right (m)", ylabel="z, forward (m)")
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(color="#e4e4e7")
    axes.set_axisbelow(True)
    axes.legend()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
