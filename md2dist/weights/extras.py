"""Libraries of the exports: an error in one line where one is missing, and our own version."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from md2dist.errors import WeightsError


def require_libraries(*names: str) -> None:
    """Checks that libraries are installed, without importing them.

    Raises:
        WeightsError: naming those that are missing.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        raise WeightsError(
            f"this export needs {', '.join(missing)}; install with pip install {' '.join(missing)}"
        )


def package_version() -> str:
    """Returns the version of md2dist, `unknown` in a checkout that is not installed."""
    try:
        return version("md2dist")
    except PackageNotFoundError:
        return "unknown"
