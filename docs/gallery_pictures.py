"""The pictures of the example gallery: the figures that an example made, with and without pyplot."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_shown: WeakSet[Figure] = WeakSet()


def find_figures(names: dict[str, Any]) -> list[Figure]:
    """Return the matplotlib figures among the variables of an example, each once; of Axes, their figure."""
    found = (value.figure.figure if isinstance(value, Axes) else value for value in names.values())
    return list(dict.fromkeys(figure for figure in found if isinstance(figure, Figure)))


def save_pictures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the figures that a block of an example has added, and return the text that shows them on its page."""
    from sphinx_gallery.scrapers import figure_rst  # not needed by the tests, which use find_figures

    paths, titles = [], []
    for figure in find_figures(block_vars["example_globals"]):
        if figure not in _shown:
            _shown.add(figure)
            paths.append(next(block_vars["image_path_iterator"]))
            titles += [axes.get_title("left") for axes in figure.axes]
            figure.savefig(paths[-1], dpi=120, bbox_inches="tight", facecolor="white")
    return figure_rst(paths, gallery_conf["src_dir"], ", ".join(filter(None, titles)))
