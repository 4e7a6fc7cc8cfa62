"""Scores against scikit-learn, a direct bootstrap, pytorch-metric-learning, and by hand."""

import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from sklearn import metrics

from plankton_embed.classifiers import scoring
from plankton_embed.classifiers.scoring import (
    compare_right,
    correct_holm,
    find_missing,
    score_predictions,
    score_retrieval,
    self_centroid_accuracy,
)
from plankton_embed.errors import InputError, MismatchError
from plankton_embed.table import EmbeddingTable

TRUTH = ["a", "a", "a", "b", "b"]
NAMES = ["a", "a", "b", "b", "c"]
NO_DRAWS = {"n_bootstrap": 0}
names_of = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("bcde")), min_size=1, max_size=60)


def by_scikit_learn(truth, names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes named but not in the truth
        return {
            "accuracy": metrics.accuracy_score(truth, names),
            "balanced_accuracy": metrics.balanced_accuracy_score(truth, names),
            **{f"f1_{kind}": metrics.f1_score(truth, names, average=kind, zero_division=0)
               for kind in ("macro", "weighted", "micro")},
        }  # fmt: skip


def test_five_images_by_hand():
    scores = score_predictions(TRUTH, NAMES, **NO_DRAWS)
    assert scores.n_images == 5
    assert scores.metrics == pytest.approx({
        "accuracy": 3 / 5, "balanced_accuracy": (2 / 3 + 1 / 2) / 2, "f1_macro": (4 / 5 + 1 / 2 + 0) / 3,
        "f1_weighted": (3 * 4 / 5 + 2 * 1 / 2) / 5, "f1_micro": 3 / 5,
    })  # fmt: skip
    assert scores.per_class.to_dict("list") == {
        "label": ["a", "b", "c"], "precision": [1, 0.5, 0], "recall": [pytest.approx(2 / 3), 0.5, 0],
        "f1": [pytest.approx(0.8), 0.5, 0], "support": [3, 2, 0],
    }  # fmt: skip
    assert scores.intervals == {}


def test_confusion_has_the_truth_in_its_rows():
    confusion = score_predictions(TRUTH, NAMES, **NO_DRAWS).confusion
    assert confusion.loc["a", "b"] == 1
    assert confusion.loc["b", "a"] == 0
    assert confusion.index.name == "true label"
    assert confusion.sum(axis=1).to_dict() == {"a": 3, "b": 2, "c": 0}


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(max_examples=60)
@given(pairs=names_of)
def test_scores_agree_with_scikit_learn(pairs):
    truth, names = zip(*pairs, strict=True)
    scores = score_predictions(truth, names, **NO_DRAWS)
    assert scores.metrics == pytest.approx(by_scikit_learn(truth, names))
    labels = sorted(set(truth) | set(names))
    assert scores.confusion.index.tolist() == scores.confusion.columns.tolist() == labels
    np.testing.assert_array_equal(scores.confusion, metrics.confusion_matrix(truth, names, labels=labels))
    columns = metrics.precision_recall_fscore_support(truth, names, labels=labels, zero_division=0)
    np.testing.assert_allclose(scores.per_class[["precision", "recall", "f1", "support"]].T, columns)


def test_intervals_match_a_direct_bootstrap():
    rng = np.random.default_rng(5)
    truth = rng.choice(list("abc"), 200, p=[0.6, 0.3, 0.1])
    names = np.where(rng.random(200) < 0.7, truth, rng.choice(list("abcd"), 200))
    scores = score_predictions(truth, names, n_bootstrap=600, seed=1)
    drawn = [rng.integers(200, size=200) for _ in range(600)]
    direct = [by_scikit_learn(truth[rows], names[rows]) for rows in drawn]
    for name, (low, high) in scores.intervals.items():
        assert low <= scores.metrics[name] <= high
        # 600 draws: the outer percentiles of a normal with this spread wobble by about 0.1 of it
        spread = np.std([d[name] for d in direct])
        wanted = np.percentile([d[name] for d in direct], [2.5, 97.5])
        np.testing.assert_allclose((low, high), wanted, atol=0.45 * spread)


def test_the_seed_settles_the_intervals():
    first, again, other = (score_predictions(TRUTH * 9, NAMES * 9, n_bootstrap=50, seed=s).intervals for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_scores_are_ready_for_json():
    values = json.loads(json.dumps(score_predictions(TRUTH * 4, NAMES * 4, n_bootstrap=9).to_dict()))
    assert values["accuracy"] == pytest.approx(0.6)
    assert values["per_class"][0]["label"] == "a"
    assert set(values["intervals_95"]) == {"accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "f1_micro"}


def test_no_interval_under_twenty_images():
    few, enough = (score_predictions(TRUTH[:1] * n, NAMES[:1] * n, n_bootstrap=9) for n in (19, 20))
    assert few.to_dict()["intervals_95"] is None
    assert few.to_dict()["no_intervals"] == "19 images; expected at least 20"
    assert enough.to_dict()["intervals_95"]["accuracy"] == [1, 1]
    assert "no_intervals" not in enough.to_dict()
    assert few.metrics == enough.metrics


def test_labels_that_the_reference_lacks_are_listed_with_the_nearest_name():
    labels = ["calanus"] * 3 + ["Calanus"] + ["Sagita"] * 2 + ["zz"] * 3 + ["Sagitta"]
    found = find_missing(labels, ["Calanus", "Sagitta", "Oithona"])
    assert found.to_dict("records") == [
        {"label": "calanus", "n_images": 3, "share": 0.3, "nearest": "Calanus"},
        {"label": "zz", "n_images": 3, "share": 0.3, "nearest": None},
        {"label": "Sagita", "n_images": 2, "share": 0.2, "nearest": "Sagitta"},
    ]
    assert find_missing(["Calanus"], ["Calanus"]).empty
    assert list(find_missing([], ["Calanus"])) == ["label", "n_images", "share", "nearest"]


@pytest.mark.parametrize(
    ("truth", "names", "message"),
    [([], [], "at least one"), (["a"], ["a", "b"], "2 and 1"), (["a", None], ["a", "a"], "missing"),
     (np.array(["a", np.nan], dtype=object), ["a", "a"], "missing")],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused(truth, names, message):
    with pytest.raises(InputError, match=message):
        score_predictions(truth, names)


def labelled(vectors, labels, **provenance):
    return EmbeddingTable(np.asarray(vectors, dtype=np.float32), label=labels, provenance=provenance)


def test_retrieval_on_five_points_by_hand():
    gallery = labelled([[0], [1], [2], [3], [4]], ["a", "b", "a", "a", "b"])
    scores = score_retrieval(labelled([[-1], [5]], ["a", "b"]), gallery, at=(1, 2, 4, 9))
    # the first asks for a, R = 3, and meets a b a: (1 + 0 + 2/3) / 3; the second for b, R = 2, meets b a: (1 + 0) / 2
    assert scores["map_at_r"] == pytest.approx(((1 + 2 / 3) / 3 + 1 / 2) / 2)
    assert scores["recall_at_1"] == 1
    late = score_retrieval(labelled([[-1], [5]], ["b", "a"]), gallery, at=(1, 2, 4, 9))
    # b: R = 2, meets a b: (0 + 1/2) / 2; a: R = 3, meets b a a: (0 + 1/2 + 2/3) / 3
    wanted = {"recall_at_1": 0, "recall_at_2": 1, "recall_at_4": 1, "recall_at_9": 1,
              "map_at_r": (1 / 4 + (1 / 2 + 2 / 3) / 3) / 2}  # fmt: skip
    assert late == pytest.approx(wanted)


@pytest.mark.parametrize("most", [2**22, 500])  # however few neighbours are in memory at a time
@pytest.mark.parametrize("seed", range(3))
def test_retrieval_agrees_with_pytorch_metric_learning(monkeypatch, seed, most):
    monkeypatch.setattr(scoring, "MOST_NEIGHBORS", most)
    rng = np.random.default_rng(seed)
    labels = [np.concatenate([np.arange(6), rng.integers(6, size=n - 6)]) for n in (70, 150)]
    queries, gallery = (rng.normal(size=(len(c), 8)) + 0.8 * np.eye(8)[c] for c in labels)
    scores = score_retrieval(labelled(queries, labels[0].astype(str)), labelled(gallery, labels[1].astype(str)))
    calculator = AccuracyCalculator(include=("precision_at_1", "mean_average_precision_at_r"), k="max_bin_count",
                                    device=torch.device("cpu"))  # fmt: skip
    wanted = calculator.get_accuracy(
        queries.astype(np.float32), labels[0], gallery.astype(np.float32), labels[1], ref_includes_query=False
    )
    assert scores["recall_at_1"] == pytest.approx(wanted["precision_at_1"])
    assert scores["map_at_r"] == pytest.approx(wanted["mean_average_precision_at_r"])
    assert scores["recall_at_1"] <= scores["recall_at_5"] <= scores["recall_at_10"]


def test_retrieval_leaves_aside_what_cannot_be_found():
    gallery = labelled([[0], [1], [0]], ["a", "b", None])
    queries = labelled([[0], [1], [1], [0]], ["a", "b", "unseen", None])
    assert score_retrieval(queries, gallery, at=(1,)) == {"recall_at_1": 1, "map_at_r": 1}


def test_retrieval_refuses_unseen_classes_and_other_models():
    with pytest.raises(InputError, match="no query has a label"):
        score_retrieval(labelled([[0]], ["x"]), labelled([[0]], ["a"]))
    with pytest.raises(MismatchError, match=r"(?s)one.*two"):
        score_retrieval(labelled([[0]], ["a"], model_hash="two"), labelled([[0]], ["a"], model_hash="one"))


def test_self_centroid_by_hand():
    # centroids: a at 2, b at 9; the a at 6 lies nearer to b, and the unlabelled row takes no part
    table = labelled([[0], [0], [6], [9], [9], [50]], ["a", "a", "a", "b", "b", None])
    assert self_centroid_accuracy(table) == pytest.approx(4 / 5)


def test_ten_copies_of_every_image_in_one_sample_are_one_image():
    truth, names = np.array(TRUTH * 6), np.array(NAMES * 6)
    tens = np.repeat(np.arange(100, 100 + len(truth)), 10)
    copied = score_predictions(np.repeat(truth, 10), np.repeat(names, 10), samples=tens, n_bootstrap=200)
    for name, interval in score_predictions(truth, names, n_bootstrap=200).intervals.items():
        assert copied.intervals[name] == pytest.approx(interval)
    by_image = score_predictions(np.repeat(truth, 10), np.repeat(names, 10), n_bootstrap=200).intervals["accuracy"]
    low, high = copied.intervals["accuracy"]
    assert high - low > 2 * (by_image[1] - by_image[0])


def test_no_interval_of_fewer_than_five_samples():
    scores = score_predictions(TRUTH * 8, NAMES * 8, samples=np.arange(40) % 4, n_bootstrap=9)
    assert scores.intervals == {} and scores.no_intervals == "4 samples; expected at least 5"
    assert score_predictions(TRUTH * 8, NAMES * 8, samples=np.arange(40) % 5, n_bootstrap=9).intervals


def test_mcnemar_by_hand():
    one = np.array([True] * 9 + [False] * 3 + [True] * 20)
    other = np.array([False] * 8 + [True] * 4 + [True] * 20)
    only_one, only_other, p = compare_right(one, other)  # of 11 images that one alone has right, 8 and 3
    assert (only_one, only_other) == (8, 3)
    assert p == pytest.approx(2 * sum(math.comb(11, k) for k in range(4)) / 2**11)
    assert compare_right(one, one) == (0, 0, 1.0)


def test_holm_by_hand():
    # .01 × 4, .02 × 3, .03 × 2, .04 × 1, none below the one before
    assert correct_holm([0.03, 0.01, 0.04, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert correct_holm([0.5, 0.9]).tolist() == [1, 1]
    assert correct_holm([]).tolist() == []
