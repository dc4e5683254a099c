import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from md2dist.runs.validation_panels import MOST_PANELS, PanelFile, choose_surplus, list_panels
from md2dist.runs.validation_panels import write_panel as write

PICTURE = np.zeros((30, 40, 3), np.uint8)


def test_the_panels_of_an_image_are_bounded_in_number_and_stay_evenly_spread(tmp_path):
    (tmp_path / "logs").mkdir()
    for step in range(1, 3 * MOST_PANELS + 1):
        write(tmp_path, 0, step, PICTURE)
    write(tmp_path, 1, 1, PICTURE)
    steps = [panel.step for panel in list_panels(tmp_path) if panel.number == 0]
    assert len(steps) == MOST_PANELS
    assert (steps[0], steps[-1]) == (1, 3 * MOST_PANELS)
    assert max(np.diff(steps)) <= 8
    assert list_panels(tmp_path)[-1].number == 1


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=60), st.integers(2, 20))
def test_the_first_and_the_last_panel_are_never_surplus(steps, most):
    panels = [PanelFile(0, step, None) for step in sorted(steps)]
    kept = [panel for panel in panels if panel not in choose_surplus(panels, most)]
    assert len(kept) == min(most, len(panels))
    assert (kept[0], kept[-1]) == (panels[0], panels[-1])


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "val-panel-0-1.jpg").touch()
    (tmp_path / "logs" / "train-panel-00000500.png").touch()
    assert list_panels(tmp_path) == []
