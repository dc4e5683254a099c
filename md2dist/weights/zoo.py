"""Published models by name: archives and figures. Their weights are for non-commercial use."""

from difflib import get_close_matches
from typing import NamedTuple
from urllib.parse import quote

from md2dist.published_figures import FIGURES, METRICS

BASE_URL = "https://storage.googleapis.com/niantic-lon-static/research/monodepth2"
LICENCE = "https://github.com/nianticlabs/monodepth2/blob/master/LICENSE"


class PublishedModel(NamedTuple):
    """A published model; its figures are those of KITTI's eigen test set."""

    md5: str | None  # of the zip archive, as published: a guard against damage, not forgery
    abs_rel: float | None = None
    a1: float | None = None


_MD5 = {
    "mono_640x192": "a964b8356e08a02d009609d9e3928f7c",
    "stereo_640x192": "3dfb76bcff0786e4ec07ac00f658dd07",
    "mono+stereo_640x192": "c024d69012485ed05d7eaa9617a96b81",
    "mono_1024x320": "0ab0766efdfeea89a0d9ea8ba90e1e63",
    "stereo_1024x320": "afc2f2126d70cf3fdf26b550898b501a",
    "mono+stereo_1024x320": "cdc5fc9b23513c07d5b19235d9ef08f7",
    "mono_no_pt_640x192": "9c2f071e35027c895a4728358ffc913a",
    "stereo_no_pt_640x192": "41ec2de112905f85541ac33a854742d1",
    "mono+stereo_no_pt_640x192": "46c3b824f541d143a45c37df65fbab0a",
    "mono_odom_640x192": None,
    "mono+stereo_odom_640x192": None,
}


def _figures_of(name: str) -> tuple[float, float] | tuple[()]:
    """Returns abs_rel and a1, if the paper has them."""
    figures = FIGURES.get(name.replace("+", "_"))
    return (figures[METRICS.index("abs_rel")], figures[METRICS.index("a1")]) if figures else ()


MODELS = {name: PublishedModel(md5, *_figures_of(name)) for name, md5 in _MD5.items()}
_GLUONCV = "monodepth2_resnet18_{}kitti_{}_640x192"
ALIASES = {
    _GLUONCV.format(posenet, mode): f"{mode.replace('_', '+')}_640x192"
    for posenet, modes in (
        ("", ("mono", "stereo", "mono_stereo")),
        ("posenet_", ("mono", "mono_stereo")),
    )
    for mode in modes
}


def find_published(name: str) -> str | None:
    """Returns the published name of a name or alias; None if it is neither."""
    name = ALIASES.get(name, name)
    return name if name in MODELS else None


def find_similar(name: str) -> list[str]:
    """Lists the names and aliases that resemble a misspelt name, the most similar first."""
    return get_close_matches(name.lower(), [*MODELS, *ALIASES], cutoff=0.6)


def address_of(name: str) -> str:
    """Returns the address of the archive of a published model."""
    return f"{BASE_URL}/{quote(name)}.zip"
