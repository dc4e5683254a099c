"""Camera check of a packing: refuses implausible calibrations before a sample of theirs is read."""

from functools import cache, partial

from md2dist.data.images import decode_frame
from md2dist.data.inspection.sample_check import check_sizes
from md2dist.data.intrinsics import check_baseline, check_intrinsics
from md2dist.data.kitti.calibration import Calibration, read_calibration
from md2dist.data.kitti.layout import CAMERAS, Side, calibration_files, is_odometry
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import KittiDataError


class CameraCheck:
    """Checks the calibration of each drive once per camera, against one image of that camera.

    Args:
        tree: the KITTI tree.
        recipe: the recipe of the shards.
    """

    def __init__(self, tree: SourceTree, recipe: Recipe):
        self._tree = tree
        self._recipe = recipe
        self._faults: dict[tuple[str, Side], str] = {}  # "" if there are none
        use_scans = recipe.ground_truth == "velodyne"
        self._read_calibration = cache(partial(read_calibration, use_scans=use_scans))

    def check(self, line: SplitLine, image: str) -> None:
        """Checks the calibration of a sample.

        Args:
            line: the sample.
            image: the target's file, by its name in the tree.

        Raises:
            KittiDataError: if the calibration is missing, damaged or implausible.
            KittiAccessError: if access to a file is denied.
        """
        calibration = self._read_calibration(self._tree, line.drive)
        camera = line.drive, line.side
        if camera not in self._faults:
            native_size = self._find_size(image)
            faults = self._find_faults(calibration, line, native_size)
            if not faults and native_size is None:
                return  # the next image decides
            self._faults[camera] = faults
        if self._faults[camera]:
            raise KittiDataError(f"{self._faults[camera]}; correct the calibration")

    def _find_size(self, image: str) -> tuple[int, int] | None:
        """Returns height and width of an image; None if it is damaged, which packing reports."""
        try:
            frame = decode_frame(self._tree.read(image), image)
        except KittiDataError:
            return None
        return frame.height, frame.width

    def _find_faults(
        self, calibration: Calibration, line: SplitLine, native_size: tuple[int, int] | None
    ) -> str:
        if native_size and self._is_refused(native_size):
            return ""
        camera = CAMERAS[line.side]
        height, width = calibration.sizes[camera].tolist()
        size = (height, width) if height and width else native_size
        name = f"P{camera}" if is_odometry(line.drive) else f"P_rect_0{camera}"
        faults = [
            f"{name} {fault}"
            for fault in check_intrinsics(calibration.K[camera], size, native_size)
        ]
        if self._recipe.use_stereo:
            pair = " and ".join(name[:-1] + number for number in "23")
            faults += [f"{pair}: {fault}" for fault in check_baseline(calibration.baseline)]
        file = calibration_files(line.drive)[0]
        return f"{file}: {'; '.join(faults)}" if faults else ""

    def _is_refused(self, native_size: tuple[int, int]) -> bool:
        """Whether the images themselves are refused, for which no K would be right."""
        packed = self._recipe.height or native_size[0], self._recipe.width or native_size[1]
        return any(True for _ in check_sizes(native_size, packed))
