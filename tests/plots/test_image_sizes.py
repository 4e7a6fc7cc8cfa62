"""The figure of the widths and heights of images."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.image_sizes import draw_image_sizes


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_image_sizes_joint_histogram_counts_every_image(summary_of):
    ax = draw_image_sizes(summary_of({"a": 5}, [100, 100, 100, 20, 400], [50, 50, 50, 20, 10]))
    counts, edges = ax.collections[0].get_array(), np.asarray(ax.collections[0].get_coordinates())
    assert counts.sum() == 5
    row, column = np.unravel_index(np.ma.argmax(counts), counts.shape)
    assert counts[row, column] == 3
    (x, y), (right, top) = edges[row, column], edges[row + 1, column + 1]
    assert x < 100 < right, "width runs along x"
    assert y < 50 < top, "height runs along y"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("width (pixels)", "height (pixels)")


def test_image_sizes_marginal_densities_have_area_one(summary_of):
    ax = draw_image_sizes(summary_of({"a": 4}, [10, 20, 40, 80], [30, 30, 60, 60]))
    stairs = [patch for child in ax.child_axes for patch in child.patches if hasattr(patch, "get_data")]
    assert len(stairs) == 2
    for values, edges, _ in (patch.get_data() for patch in stairs):
        assert (values * np.diff(np.log10(edges))).sum() == pytest.approx(1)


@pytest.mark.parametrize("n_images", [1, 50])
def test_image_sizes_of_equal_images(tmp_path, n_images, summary_of):
    ax = draw_image_sizes(summary_of({"a": n_images}, [64] * n_images, [64] * n_images))
    assert ax.collections[0].get_array().sum() == n_images
    save_figure(ax, tmp_path / "sizes.png", dpi=40)


def test_image_sizes_without_readable_images_say_so(summary_of):
    ax = draw_image_sizes(summary_of({"a": 3}, n_unreadable=3))
    assert texts(ax) == ["no readable images"]
    assert "3 unreadable" in ax.get_title(loc="left")


def test_given_axes_are_used(check_given_axes, summary_of):
    check_given_axes(lambda ax: draw_image_sizes(summary_of({"a": 2}, [9, 20], [9, 30]), ax))
