"""Camera check of a packing: refuses implausible calibrations before a sample of theirs is read."""

from md2dist.data.images import decode_frame
from md2dist.data.inspection.sample_check import check_sizes
from md2dist.data.intrinsics import check_baseline, check_intrinsics
from md2dist.data.kitti.layout import Side
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.packing.source import FrameSequence, SourceFiles
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import KittiDataError


class CameraCheck:
    """Checks each camera of each sequence once, against one image of that camera.

    Args:
        files: the source files.
        recipe: the recipe of the shards.
    """

    def __init__(self, files: SourceFiles, recipe: Recipe):
        self._files = files
        self._recipe = recipe
        self._faults: dict[tuple[str, Side], str] = {}  # "" if there are none

    def check(self, sequence: FrameSequence, line: SplitLine, image: str) -> None:
        """Checks the camera of a sample.

        Args:
            sequence: the sample's sequence.
            line: the sample.
            image: the target's file, by its name in the source.

        Raises:
            KittiDataError: if the calibration is missing, damaged or implausible.
            KittiAccessError: if access to a file is denied.
        """
        sequence.read_camera(line.side)
        camera = line.drive, line.side
        if camera not in self._faults:
            native_size = self._find_size(image)
            faults = self._find_faults(sequence, line.side, native_size)
            if not faults and native_size is None:
                return  # the next image decides
            self._faults[camera] = faults
        if self._faults[camera]:
            raise KittiDataError(f"{self._faults[camera]}; correct the calibration")

    def _find_size(self, image: str) -> tuple[int, int] | None:
        """Returns height and width of an image; None if it is damaged, which packing reports."""
        try:
            frame = decode_frame(self._files.read(image), image)
        except KittiDataError:
            return None
        return frame.height, frame.width

    def _find_faults(
        self, sequence: FrameSequence, side: Side, native_size: tuple[int, int] | None
    ) -> str:
        if native_size and self._is_refused(native_size):
            return ""
        camera = sequence.read_camera(side)
        faults = [
            f"{camera.name} {fault}"
            for fault in check_intrinsics(camera.K, camera.size or native_size, native_size)
        ]
        if self._recipe.use_stereo:
            faults += [f"{camera.pair}: {fault}" for fault in check_baseline(camera.baseline)]
        return f"{sequence.camera_files()[0]}: {'; '.join(faults)}" if faults else ""

    def _is_refused(self, native_size: tuple[int, int]) -> bool:
        """Whether the images themselves are refused, for which no K would be right."""
        packed = self._recipe.height or native_size[0], self._recipe.width or native_size[1]
        return any(True for _ in check_sizes(native_size, packed))
