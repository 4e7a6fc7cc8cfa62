"""The confusion matrix: its cells, its names, and its logarithmic scale."""

import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from PIL import Image

from plankton_embed.classifiers.scoring import score_predictions
from plankton_embed.plots.confusion import draw_confusion


def score(counts):
    """Scores of as many images in each cell as `counts` says."""
    rows, columns = np.indices(counts.shape)
    names = np.array([f"class_{number:02d}" for number in range(len(counts))])
    truth, guesses = (names[np.repeat(side.ravel(), counts.ravel())] for side in (rows, columns))
    return score_predictions(truth, guesses, n_bootstrap=0)


COUNTS = np.array([[1000, 10, 0], [1, 100, 0], [0, 0, 10]])


def pixel(ax, row, column):
    """The colour that the middle of the upper half of a cell has in the picture."""
    figure = ax.figure.figure
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=100)
        picture = np.asarray(Image.open(file).convert("RGB"))
    figure.set_dpi(100)
    x, y = ax.transData.transform((column, row - 0.4))
    return picture[picture.shape[0] - 1 - round(y), round(x)]


@pytest.mark.filterwarnings("error")
def test_equal_factors_are_equal_steps_of_colour():
    image = draw_confusion(score(COUNTS), shares=False, log=True).images[0]
    assert isinstance(image.norm, LogNorm)
    np.testing.assert_allclose(image.norm([1, 10, 100, 1000]), [0, 1 / 3, 2 / 3, 1])
    assert (np.asarray(image.get_array()) == COUNTS).all()


def test_one_image_is_seen_and_none_is_blank():
    ax = draw_confusion(score(COUNTS), shares=False, log=True)
    assert (pixel(ax, 0, 2) == 255).all()
    assert (pixel(ax, 1, 0) < 250).any()
    assert {text.get_position(): text.get_text() for text in ax.texts}[(2, 0)] == ""
    assert {text.get_text() for text in ax.texts} == {"1,000", "10", "1", "100", ""}


def test_shares_may_be_logarithmic_too():
    image = draw_confusion(score(COUNTS), log=True).images[0]
    assert (image.norm.vmin, image.norm.vmax) == (1 / 101, 1)  # or 10 of 1,010
    np.testing.assert_allclose(np.asarray(image.get_array())[0], COUNTS[0] / 1010)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("counts", [np.eye(3, dtype=int), np.full((2, 2), 7), np.array([[5]])])
def test_counts_that_are_all_alike_have_a_colour(counts):
    ax = draw_confusion(score(counts), shares=False, log=True)
    shown = np.asarray(ax.images[0].norm(counts[counts > 0].astype(float)))
    np.testing.assert_allclose(shown, 1)
    ax.figure.figure.canvas.draw()


def test_the_scale_is_not_logarithmic_unless_asked():
    assert not isinstance(draw_confusion(score(COUNTS)).images[0].norm, LogNorm)


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def y_names(ax: Axes) -> list[str]:
    return [tick.get_text() for tick in ax.get_yticklabels()]


def test_confusion_rows_are_true_and_columns_predicted(lopsided_scores):
    ax = draw_confusion(lopsided_scores)
    shown = np.asarray(ax.images[0].get_array())
    assert shown.tolist() == [[0.25, 0.75, 0], [0, 0.75, 0.25], [0, 0, 0]]
    assert y_names(ax) == ["ant", "bee", "cat"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["ant", "bee", "cat"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("true label (rows)", "predicted label (columns)")
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first row is on top"
    at = {text.get_position(): text.get_text() for text in ax.texts}
    assert at[(1, 0)] == "0.75", "x = predicted bee, y = true ant"
    assert at[(0, 1)] == ""
    assert ax.get_title(loc="left") == "accuracy 0.500, n = 8"


def test_confusion_counts(lopsided_scores):
    scores = lopsided_scores
    ax = draw_confusion(scores, shares=False)
    assert (np.asarray(ax.images[0].get_array()) == scores.confusion.to_numpy()).all()
    assert "3" in texts(ax)


@pytest.mark.parametrize("n_classes", [2, 40, 121])
def test_confusion_names_do_not_overlap(n_classes, overlaps):
    names = [f"siphonophore_calycophoran_rocketship_young_{i}" for i in range(n_classes)]
    ax = draw_confusion(score_predictions(names, names, n_bootstrap=0))
    assert len(y_names(ax)) == n_classes
    assert overlaps(ax, ax.get_yticklabels()) == 0
    assert overlaps(ax, ax.get_xticklabels()) == 0
    assert ax.get_yticklabels()[0].get_fontsize() >= 6
    assert len(ax.texts) == (n_classes**2 if n_classes <= 20 else 0)


def test_given_axes_are_used(check_given_axes, lopsided_scores):
    check_given_axes(lambda ax: draw_confusion(lopsided_scores, ax))
