"""Open-set scores: by hand, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from plankton_embed.classifiers.open_set import count_predictions, score_open_set
from plankton_embed.errors import InputError


def test_five_images_by_hand():
    # known: .1 right, .2 wrong, .6 right; unseen: .5 and .9
    truth, names = ["a", "a", "b", "x", "x"], ["a", "b", "b", "a", "b"]
    scores = score_open_set(
        truth, names, [0.1, 0.2, 0.6, 0.5, 0.9], [False, False, False, True, True], [True, False, False, True, True]
    )
    assert (scores.n_known, scores.n_unseen) == (3, 2)
    assert scores.auroc == pytest.approx(5 / 6)  # of six pairs only .6 and .5 stand the wrong way round
    assert scores.fpr_at_95 == 0.5  # all three known are accepted from .6 on, and with them the unseen at .5
    assert scores.refused_at_5 == 0.5
    assert scores.curve["known_right"].tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert scores.curve["unseen_accepted"].tolist() == [0, 0, 0, 0.5, 0.5, 1]
    assert scores.oscr == pytest.approx(0.5 * 1 / 3 + 0.5 * 2 / 3)
    assert (scores.known_refused, scores.unseen_refused) == (pytest.approx(1 / 3), 1)
    assert scores.to_dict()["auroc"] == scores.auroc


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), n=st.integers(4, 300), step=st.sampled_from([0.001, 0.3]))
def test_agrees_with_scikit_learn(seed, n, step):
    rng = np.random.default_rng(seed)
    unseen = rng.random(n) < 0.4
    unseen[:2] = True, False
    novelty_score = np.round((rng.normal(size=n) + unseen) / step) * step  # with ties
    scores = score_open_set(np.full(n, "a"), np.full(n, "a"), novelty_score, unseen, unseen)
    assert scores.auroc == pytest.approx(roc_auc_score(unseen, novelty_score))
    false, true, _ = roc_curve(~unseen, -novelty_score, drop_intermediate=False)
    assert scores.fpr_at_95 == pytest.approx(false[np.argmax(true >= 0.95)])
    np.testing.assert_allclose(scores.curve["known_right"], scores.curve["known_accepted"])
    assert scores.oscr == pytest.approx(scores.auroc)  # where every name is right


def test_counts_by_hand():
    truth = np.array(["a", "a", "b", "x", "x"])
    names = np.array(["a", "b", "b", "a", "b"])
    refused = np.array([False, True, False, True, False])
    counts = count_predictions(truth, names, refused).set_index("label")
    assert counts.loc["a"].to_dict() == {
        "true": 2, "forced": 2, "forced_right": 1, "kept": 1, "kept_right": 1, "refused": 1
    }  # fmt: skip
    assert counts.loc["b"].to_dict() == {
        "true": 1, "forced": 3, "forced_right": 1, "kept": 2, "kept_right": 1, "refused": 0
    }  # fmt: skip
    assert counts.loc["x", ["true", "forced", "kept", "refused"]].tolist() == [2, 0, 0, 1]
    assert counts.index.tolist() == ["a", "b", "x", "unknown"]
    assert counts.loc["unknown", "kept"] == 2
    assert counts["kept"].sum() == counts["true"].sum() == 5


def test_images_with_the_true_label_unknown_share_the_last_row():
    truth, names = np.array(["unknown", "unknown", "a"]), np.array(["a", "a", "a"])
    counts = count_predictions(truth, names, np.array([True, False, False]))
    assert counts["label"].tolist() == ["a", "unknown"]
    assert counts.iloc[1][["true", "kept", "refused"]].tolist() == [2, 1, 1]
    assert counts["kept"].tolist() == [2, 1]


@pytest.mark.parametrize("unseen", [[True, True], [False, False]])
def test_one_kind_alone_is_refused(unseen):
    with pytest.raises(InputError, match="of known and of unseen classes"):
        score_open_set(["a", "b"], ["a", "b"], [0.1, 0.2], unseen, unseen)
