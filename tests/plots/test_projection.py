"""Pictures of projections, and the film: read back from the axes and from the files."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from PIL import Image

from plankton_embed.analysis.projection import Projection, fit_projection, project_epochs
from plankton_embed.errors import InputError, SettingError
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.film import draw_film
from plankton_embed.plots.projection import (
    COLOURS,
    MARKERS,
    UNLABELLED,
    class_markers,
    draw_projection,
    draw_projection_3d,
    mix_rows,
)
from plankton_embed.table import EmbeddingTable

LONG_NAME = "siphonophore_calycophoran_sphaeronectes_young"


def table_of(n_classes, n_each=3, n_unlabelled=0, dimension=4):
    names = [f"{LONG_NAME[: 8 + 7 * number % 38]}_{number:03d}"[-45:] for number in range(n_classes)]
    label = names * n_each + [None] * n_unlabelled
    return EmbeddingTable(np.random.default_rng(0).normal(size=(len(label), dimension)), label=label)


def film_of(n_epochs=3, **options):
    rng = np.random.default_rng(1)
    table = table_of(3, 4, n_unlabelled=2)
    vectors = {3 * number: rng.normal(size=table.vectors.shape) * number for number in range(1, n_epochs + 1)}
    return project_epochs(table, vectors, {epoch: epoch / 100 for epoch in vectors if epoch != 6}, **options)


def legend_names(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# --- markers


def test_56_classes_have_56_markers_and_neighbours_differ_in_both():
    markers = list(class_markers(table_of(56)).values())
    assert len(set(markers)) == len(COLOURS) * len(MARKERS) == 56
    for (colour, marker), (next_colour, next_marker) in itertools.pairwise(markers):
        assert colour != next_colour
        assert marker != next_marker


def test_more_classes_share_markers_and_the_legend_says_so():
    ax = draw_projection(fit_projection(table_of(60)))
    assert ax.get_legend().get_title().get_text() == "60 classes share 56 markers"
    assert draw_projection(fit_projection(table_of(56))).get_legend().get_title().get_text() == ""


def test_odd_class_names_stand_in_the_legend_as_they_are(tmp_path):
    names = ["_hidden", "$a_{b", "x" * 300]
    ax = draw_projection(fit_projection(EmbeddingTable(np.eye(6), label=names * 2)))
    save_figure(ax, tmp_path / "names.png", dpi=40)
    shown = dict(zip(sorted(names), legend_names(ax), strict=True))
    assert (shown["_hidden"], shown["$a_{b"]) == ("_hidden", "$a_{b")
    assert "…" in shown["x" * 300]


# --- two axes


def test_points_stand_at_their_coordinates_in_the_colour_of_their_class():
    projection = fit_projection(table_of(3, n_unlabelled=2))
    ax = draw_projection(projection, (2, 0))
    points, rows = ax.collections[0], mix_rows(projection.table)
    np.testing.assert_array_equal(points.get_offsets(), projection.coordinates[rows][:, [2, 0]])
    handles = dict(zip(legend_names(ax), ax.get_legend().legend_handles, strict=True))
    assert list(handles) == [UNLABELLED, *projection.table.classes]
    for row, colour, path in zip(rows, points.get_facecolors(), points.get_paths(), strict=True):
        handle = handles[projection.table.label[row] or UNLABELLED]
        assert tuple(colour[:3]) == pytest.approx(to_rgb(handle.get_color()))
        np.testing.assert_allclose(_outline(path.vertices), _marker_outline(handle.get_marker()), atol=1e-9)
    assert sorted(rows[:2].tolist()) == [9, 10], "unlabelled images lie below the others"
    share = projection.explained
    assert ax.get_xlabel() == f"component 3 ({share[2]:.1%} of the variance)"
    assert ax.get_ylabel() == f"component 1 ({share[0]:.1%} of the variance)"
    assert "11 images of 3 classes" in ax.get_title(loc="left")


def test_distances_in_the_picture_compare():
    table = EmbeddingTable(np.random.default_rng(0).normal(size=(30, 3)) * [9, 1, 1])
    ax = draw_projection(fit_projection(table))
    ax.figure.draw_without_rendering()
    box = ax.get_window_extent()
    across, up = box.width / np.ptp(ax.get_xlim()), box.height / np.ptp(ax.get_ylim())
    assert across == pytest.approx(up)
    assert legend_names(ax) == [UNLABELLED]


@pytest.mark.parametrize("draw", [draw_projection, draw_projection_3d])
@pytest.mark.parametrize("n_classes", [2, 40, 70])
def test_the_legend_is_read_at_1000_pixels(draw, n_classes):
    ax = draw(fit_projection(table_of(n_classes)))
    ax.figure.draw_without_rendering()
    figure, legend = ax.figure.bbox, ax.get_legend()
    boxes = [text.get_window_extent() for text in legend.get_texts()]
    assert len(boxes) == n_classes
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(figure.x0 <= box.x0 and box.x1 <= figure.x1 and figure.y0 <= box.y0 for box in boxes)
    assert legend.get_texts()[0].get_fontsize() / 72 * 1000 / ax.figure.get_size_inches()[0] >= 11
    axis_names = [ax.xaxis.label.get_window_extent(), ax.yaxis.label.get_window_extent()]
    assert not any(box.overlaps(name) for box in boxes for name in axis_names)


def test_a_map_has_no_shares(tmp_path):
    ax = draw_projection(Projection(table_of(2), "umap", np.random.default_rng(0).normal(size=(6, 2))))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("UMAP 1", "UMAP 2")
    with Image.open(save_figure(ax, tmp_path / "map.png", dpi=50)) as image:
        assert image.width > 400


@pytest.mark.parametrize("axes", [(0, 3), (-1, 0), (1, 1)])
def test_axes_that_are_not_there(axes):
    with pytest.raises(SettingError, match="2 different ones of 0 to 2"):
        draw_projection(fit_projection(table_of(2)), axes)
    with pytest.raises(SettingError, match="axes"):
        draw_film(film_of(), axes=axes)


# --- three axes


def test_three_axes_hold_all_points():
    projection = fit_projection(table_of(3, n_unlabelled=2))
    ax = draw_projection_3d(projection)
    drawn = np.concatenate([np.stack(collection._offsets3d, axis=1) for collection in ax.collections])
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(projection.coordinates, axis=0))
    assert len(ax.collections) == 4
    assert ax.get_zlabel() == f"component 3 ({projection.explained[2]:.1%} of the variance)"
    with pytest.raises(InputError, match="three dimensions"):
        draw_projection_3d(projection, ax=Figure().add_subplot())
    with pytest.raises(SettingError, match="3 different ones of 0 to 1"):
        draw_projection_3d(fit_projection(projection.table, n_components=2))


def test_given_axes_are_used():
    projection = fit_projection(table_of(3))
    figure = Figure()
    flat, deep = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2, projection="3d")
    assert draw_projection(projection, ax=flat) is flat
    assert draw_projection_3d(projection, ax=deep) is deep
    assert draw_film(film_of(), ax=figure.add_subplot()).figure is figure


def _outline(vertices):
    return vertices / np.abs(vertices).max()


def _marker_outline(marker):
    style = MarkerStyle(marker)
    return _outline(style.get_path().transformed(style.get_transform()).vertices)
