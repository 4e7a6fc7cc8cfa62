"""Curves of a comparison net, and the picture of the three channels."""

import numpy as np
import pandas as pd
import pytest

from plankton_embed.errors import InputError
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.net_curves import PANELS, draw_net_curves
from plankton_embed.plots.three_channels import draw_three_channels


@pytest.fixture
def history():
    frame = pd.DataFrame({"epoch": [1, 2, 3], **{name: [0.1, 0.2, 0.3] for name in PANELS}})
    return frame.assign(**{f"val_{name}": [0.2, 0.5, 0.4] for name in PANELS}, kept=[False, True, False])


def test_every_panel_has_both_parts_and_the_epoch_kept(history, tmp_path):
    top = draw_net_curves(history, title="LeNet")
    panels = top.figure.axes[0].child_axes
    assert [panel.get_ylabel() for panel in panels] == list(PANELS.values())
    for panel in panels:
        train, validation, best = panel.get_lines()
        assert train.get_ydata().tolist() == [0.1, 0.2, 0.3]
        assert validation.get_ydata().tolist() == [0.2, 0.5, 0.4]
        assert best.get_xdata() == [2, 2]
        assert panel.xaxis.get_zorder() < best.get_zorder() < train.get_zorder()  # over the grid, under the curves
    assert top.get_title(loc="left") == "LeNet, 3 epochs"
    assert [text.get_text() for text in top.get_legend().get_texts()][2] == "epoch kept: 2"
    assert save_figure(top, tmp_path / "curves.png").stat().st_size > 5000


def test_without_validation_one_line_is_drawn(history):
    top = draw_net_curves(history[["epoch", *PANELS]].iloc[:1])
    assert len(top.get_lines()) == 1
    assert top.get_title(loc="left") == "1 epoch"


def test_no_epochs_are_said(history):
    assert "no epochs" in [text.get_text() for text in draw_net_curves(history.iloc[:0]).texts]


def test_the_mosaic_holds_the_channels_of_every_image():
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    ax = draw_three_channels(images)
    (picture,) = ax.get_images()
    mosaic = picture.get_array()
    assert mosaic.shape == (3 * 6 + 2 * 4, 4 * 5 + 3 * 4)
    np.testing.assert_array_equal(mosaic[10:16, 9:14], images[1, :, :, 1])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["grey", "threshold", "opening"]


def test_other_images_are_refused():
    with pytest.raises(InputError, match="three channels"):
        draw_three_channels(np.zeros((2, 6, 5), dtype=np.uint8))
    assert "no images" in [text.get_text() for text in draw_three_channels(np.zeros((0, 6, 5, 3), np.uint8)).texts]
