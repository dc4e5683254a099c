"""Drives of KITTI raw for depth training and testing, and those of KITTI odometry.

Source: the test drives are those of Eigen, Puhrsch, Fergus: Depth Map Prediction from a Single
Image using a Multi-Scale Deep Network, NeurIPS 2014; all drives are those of KITTI raw's categories
city, residential and road; those of the odometry sequences are in the odometry development kit.
"""

# fmt: off
DRIVE_NUMBERS = {  # by date
    "2011_09_26": (
        1, 2, 5, 9, 11, 13, 14, 15, 17, 18, 19, 20, 22, 23, 27, 28, 29, 32, 35, 36, 39, 46, 48, 51,
        52, 56, 57, 59, 60, 61, 64, 70, 79, 84, 86, 87, 91, 93, 95, 96, 101, 104, 106, 113, 117,
    ),
    "2011_09_28": (1, 2),
    "2011_09_29": (4, 26, 71),
    "2011_09_30": (16, 18, 20, 27, 28, 33, 34),
    "2011_10_03": (27, 34, 42, 47),
}
EIGEN_TEST_NUMBERS = {
    "2011_09_26": (
        2, 9, 13, 20, 23, 27, 29, 36, 46, 48, 52, 56, 59, 64, 84, 86, 93, 96, 101, 106, 117,
    ),
    "2011_09_28": (2,),
    "2011_09_29": (71,),
    "2011_09_30": (16, 18, 27),
    "2011_10_03": (27, 47),
}
ODOMETRY_DRIVES = {  # by sequence: its drive, and the drive's frame that is frame 0 of the sequence
    "00": ("2011_10_03/2011_10_03_drive_0027_sync", 0),
    "01": ("2011_10_03/2011_10_03_drive_0042_sync", 0),
    "02": ("2011_10_03/2011_10_03_drive_0034_sync", 0),
    "03": ("2011_09_26/2011_09_26_drive_0067_sync", 0),
    "04": ("2011_09_30/2011_09_30_drive_0016_sync", 0),
    "05": ("2011_09_30/2011_09_30_drive_0018_sync", 0),
    "06": ("2011_09_30/2011_09_30_drive_0020_sync", 0),
    "07": ("2011_09_30/2011_09_30_drive_0027_sync", 0),
    "08": ("2011_09_30/2011_09_30_drive_0028_sync", 1100),
    "09": ("2011_09_30/2011_09_30_drive_0033_sync", 0),
    "10": ("2011_09_30/2011_09_30_drive_0034_sync", 0),
}
SCANS_NOT_IN_KITTI = {  # frames of a drive without a laser scan
    "2011_09_26/2011_09_26_drive_0009_sync": range(177, 181),
}
# fmt: on


def name_in_raw(drive: str, frame: int) -> tuple[str, int]:
    """Returns the KITTI raw drive and frame of a frame of KITTI raw or of an odometry sequence.

    >>> name_in_raw("08", 5)
    ('2011_09_30/2011_09_30_drive_0028_sync', 1105)
    """
    raw_drive, start = ODOMETRY_DRIVES.get(drive, (drive, 0))
    return raw_drive, start + frame


def name_drives(numbers: dict[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Returns the names of the drives in a table, e.g. ``2011_09_26_drive_0005_sync``."""
    return tuple(
        f"{date}_drive_{number:04d}_sync" for date, some in numbers.items() for number in some
    )


DRIVES = name_drives(DRIVE_NUMBERS)
EIGEN_TEST_DRIVES = frozenset(name_drives(EIGEN_TEST_NUMBERS))
