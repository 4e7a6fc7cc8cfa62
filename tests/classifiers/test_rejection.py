"""Rejection: thresholds by hand, novelty scores against brute force, and the rejected shares."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from plankton_embed.classifiers.neighbors import NeighborsClassifier
from plankton_embed.classifiers.prediction import fit_classifier, fit_rejector
from plankton_embed.classifiers.rejection import Rejector, conformal_threshold, estimate_kept
from plankton_embed.errors import InputError, SettingError
from plankton_embed.table import EmbeddingTable

MEASURES = ["centroid", "neighbor", "density"]


def draw(seed, n_each, spread=(0.3, 0.6, 1.0, 1.5)):
    """Classes of different spread around points far apart."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(spread)), n_each)
    vectors = np.eye(len(spread), 4)[codes] * 8 + rng.normal(size=(len(codes), 4)) * np.array(spread)[codes, None]
    return vectors.astype(np.float32), np.array([f"class {code}" for code in codes])


# ------------------------------------------------------------------------------------------ thresholds


def test_thresholds_by_hand():
    scores = np.array([5.0, 1, 4, 2, 3])
    assert conformal_threshold(scores, 0.5) == 3  # number ceil(.5 * 6) = 3
    assert conformal_threshold(scores, 0.2) == 5  # ceil(.8 * 6) = 5
    assert conformal_threshold(scores, 0.1) == np.inf  # ceil(.9 * 6) = 6 of 5
    assert conformal_threshold(np.arange(1.0, 20), 0.05) == 19  # the least that can refuse one in twenty
    assert conformal_threshold(np.arange(1.0, 19), 0.05) == np.inf


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), n=st.integers(19, 60), rate=st.sampled_from([0.05, 0.1, 0.2, 0.5]))
def test_a_threshold_is_exceeded_at_most_at_the_rate(seed, n, rate):
    rng = np.random.default_rng(seed)
    exceeded = [(rng.random(50) > conformal_threshold(rng.random(n), rate)).mean() for _ in range(2000)]
    assert rate - 1 / (n + 1) - 0.01 < np.mean(exceeded) < rate + 0.01


@pytest.mark.parametrize("rate", [0.05, 0.2])
@pytest.mark.parametrize("measure", MEASURES)
def test_the_rejected_share_is_the_rate_in_every_class(measure, rate):
    shares = []
    for seed in range(20):
        reference, calibration, query = draw(seed, 100), draw(100 + seed, 40), draw(200 + seed, 200)
        classifier = NeighborsClassifier(5).fit(*reference)
        rejector = Rejector(measure).fit(*reference).calibrate(calibration[0], classifier.predict(calibration[0]), rate)
        predicted = classifier.predict(query[0])
        refused = rejector.reject(query[0], predicted)
        shares.append([refused[predicted == label].mean() for label in np.unique(predicted)])
    assert np.mean(shares, axis=0) == pytest.approx(rate, abs=0.03)  # every class
    assert np.mean(shares) == pytest.approx(rate, abs=0.02)


def test_far_images_are_rejected_and_calibration_images_are_not():
    reference, calibration = draw(0, 100), draw(1, 40)
    classifier = NeighborsClassifier(5).fit(*reference)
    for measure in MEASURES:
        rejector = Rejector(measure).fit(*reference).calibrate(calibration[0], classifier.predict(calibration[0]))
        new_images = np.full((3, 4), 4, dtype=np.float32)
        assert rejector.reject(new_images, classifier.predict(new_images)).all()
        at_home = np.eye(4, dtype=np.float32) * 8
        assert not rejector.reject(at_home, classifier.predict(at_home)).any()
        table = rejector.thresholds_.set_index("label")["threshold"]
        np.testing.assert_array_equal(rejector.threshold(calibration[1]), table[calibration[1]])


def test_a_class_with_few_images_shares_those_of_classes_as_wide_as_it():
    reference = draw(0, 100, spread=(0.5, 3.0, 0.55, 3.2))
    vectors, names = draw(1, 110, spread=(0.5, 3.0, 0.55, 3.2))
    few = (names != "class 2") | (np.arange(440) < 223)  # three of the third class
    table = Rejector("centroid").fit(*reference).calibrate(vectors[few], names[few]).thresholds_
    assert table["label"].tolist() == [f"class {n}" for n in range(4)]
    assert table["n_calibration"].tolist() == [110, 110, 3, 110]
    # at least 100; 1 more than their number, its own scores counted three times, is a multiple of 20 (340 and 120)
    assert table["n_pooled"].tolist() == [119, 119, 113, 119]
    wide, narrow = table["threshold"][[1, 3]], table["threshold"][[0, 2]]
    assert wide.min() > 2 * narrow.max()


def test_the_table_of_thresholds_has_the_rejected_share_and_its_interval():
    reference, (vectors, names) = draw(0, 100), draw(1, 5)
    few = Rejector().fit(*reference).calibrate(vectors, names).thresholds_.iloc[0]
    assert few["n_pooled"] == 20
    assert few["rejected"] == pytest.approx(1 / 21)  # one place of 21 is above the largest of 20
    assert few["rejected_low"] == pytest.approx(1 - 0.95 ** (1 / 20))  # of the largest: 1 - u ** (1 / n)
    assert few["rejected_high"] == pytest.approx(1 - 0.05 ** (1 / 20))
    many = Rejector().fit(*reference).calibrate(*draw(1, 119)).thresholds_
    assert many["rejected"].tolist() == pytest.approx([0.05] * 4)
    assert (many["rejected_high"] < 0.09).all()


def test_few_calibration_images_are_reported(caplog):
    (vectors, labels), (few, of_few) = draw(0, 100), draw(1, 10)
    reference, calibration = EmbeddingTable(vectors, label=labels), EmbeddingTable(few, label=of_few)
    fit_rejector(reference, fit_classifier(reference), calibration)
    assert "40 calibration images, fewer than 100; between 0.9 and 11.3 % of the images" in caplog.text


def test_calibration_images_are_counted_as_if_they_had_not_set_the_threshold():
    reference = draw(0, 100)
    counted, rejected = [], []
    for seed in range(30):
        calibration, further = draw(100 + seed, 30), draw(200 + seed, 300)
        rejector = Rejector().fit(*reference).calibrate(*calibration)
        counted.append(rejector.count_rejected(*calibration).mean())
        rejected.append(rejector.reject(*further).mean())
    assert np.mean(counted) == pytest.approx(0.05, abs=0.004)  # 6 of 120
    assert np.mean(rejected) == pytest.approx(np.mean(counted), abs=0.01)


def test_kept_shares_of_classes_with_few_images_are_nearly_those_of_all():
    n_images = np.array([400, 400, 400, 4])
    codes = np.repeat(np.arange(4), n_images)
    rejected = np.arange(len(codes)) % 100 < np.array([2, 5, 20, 0])[codes]
    kept = estimate_kept(rejected.astype(float), codes, 5, 400)
    assert kept.shape == (401, 5)
    assert kept[0, :3] == pytest.approx([0.98, 0.95, 0.8], abs=0.02)
    assert 0.85 < kept[0, 3] < 0.97  # not 1
    assert kept[0, 4] == pytest.approx(0.9, abs=0.05)  # no image at all
    assert kept[1:].mean(axis=0) == pytest.approx(kept[0], abs=0.02)
    spread = kept[1:].std(axis=0)
    assert (spread[:3] < spread[3]).all()
    assert (estimate_kept(np.zeros(20), np.repeat([0, 1], 10), 2, 20)[0] > 0.9).all()


def test_a_class_without_calibration_images_has_a_threshold():
    reference = draw(0, 100)
    alone = np.array([[9, 9, 9, 9]], dtype=np.float32)
    vectors, names = draw(1, 25)
    rejector = (
        Rejector("centroid")
        .fit(np.concatenate([reference[0], alone]), [*reference[1], "lone"])
        .calibrate(vectors, names)
    )
    lone = rejector.thresholds_.set_index("label").loc["lone"]
    assert lone["n_calibration"] == 0
    assert lone["n_pooled"] >= 19
    assert 0 < lone["threshold"] < np.inf
    assert not rejector.reject(alone, ["lone"]).any()


@pytest.mark.parametrize("n_examples", [1, 3, 10, 40])
@pytest.mark.parametrize("measure", MEASURES)
def test_a_class_just_enrolled_is_not_rejected(measure, n_examples):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(21, 32)) * 2
    reference, calibration, query = (
        np.repeat(np.arange(21), n) for n in ([200] * 20 + [n_examples], [30] * 20 + [0], [40] * 21)
    )
    vectors, of_calibration, of_query = (
        means[codes] + rng.normal(size=(len(codes), 32)) for codes in (reference, calibration, query)
    )
    names = [np.char.add("class ", codes.astype(str)) for codes in (reference, calibration, query)]
    rejector = Rejector(measure).fit(vectors, names[0]).calibrate(of_calibration, names[1])
    refused = rejector.reject(of_query, names[2])
    assert refused[query == 20].mean() < 0.3
    assert refused[query < 20].mean() == pytest.approx(0.04, abs=0.03)
    new_images = rng.normal(size=(200, 32)) * 6
    assert rejector.reject(new_images, np.resize(names[2][:800], 200)).mean() > 0.9


# ------------------------------------------------------------------------------------------ novelty_score


def test_novelty_scores_by_hand():
    line, labels = np.array([[0], [1], [3], [10], [14]], dtype=np.float32), ["a", "a", "a", "b", "b"]
    query, names = np.array([[2], [11]], dtype=np.float32), ["a", "b"]
    by_centroid = Rejector("centroid").fit(line, labels)
    np.testing.assert_allclose(by_centroid.novelty_score(query, names), [2 - 4 / 3, 1])
    np.testing.assert_allclose(by_centroid.novelty_score(query, ["b", "a"]), [10, 11 - 4 / 3])
    np.testing.assert_allclose(Rejector("neighbor", 2).fit(line, labels).novelty_score(query, names), [1, 3])
    # second neighbours of the vectors themselves: 0: 3, 1: 2, 3: 3, 10: 7, 14: 11
    wanted = [1 / np.mean([2, 3]), 3 / np.mean([7, 11])]
    np.testing.assert_allclose(Rejector("density", 2).fit(line, labels).novelty_score(query, names), wanted)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 12))
def test_novelty_scores_agree_with_brute_force(seed, k):
    rng = np.random.default_rng(seed)
    reference, query = rng.normal(size=(40, 3)).astype(np.float32), rng.normal(size=(15, 3)).astype(np.float32)
    labels, names = rng.choice(["a", "b"], 40), rng.choice(["a", "b"], 15)
    labels[:2] = "a", "b"
    to_reference = np.sort(cdist(query, reference), axis=1)
    np.testing.assert_allclose(
        Rejector("neighbor", k).fit(reference, labels).novelty_score(query, names), to_reference[:, k - 1], rtol=1e-5
    )
    reach = np.sort(cdist(reference, reference), axis=1)[:, k]
    nearest = np.argsort(cdist(query, reference), axis=1)[:, :k]
    np.testing.assert_allclose(
        Rejector("density", k).fit(reference, labels).novelty_score(query, names),
        to_reference[:, k - 1] / reach[nearest].mean(axis=1),
        rtol=1e-4,
    )


@pytest.mark.parametrize("measure", MEASURES)
def test_more_neighbours_than_vectors_are_as_many_as_there_are(measure):
    rejector = Rejector(measure, 50).fit(np.array([[0.0], [1.0], [2.0]]), ["a", "a", "b"])
    assert np.isfinite(rejector.novelty_score(np.array([[0.5]]), ["a"])).all()


# ------------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize("name", ["unknown", "Unknown", " UNKNOWN "])
def test_a_class_called_unknown_is_refused(name):
    vectors, labels = draw(0, 30)
    table = EmbeddingTable(vectors, label=np.where(labels == "class 1", name, labels))
    with pytest.raises(InputError, match=rf"other than unknown.*found the class '{name.strip()}'.*--class-map"):
        fit_rejector(table, fit_classifier(table), table)


def test_faults_are_refused():
    reference = draw(0, 5)
    with pytest.raises(SettingError, match="centroid, neighbor, density; found 'far'"):
        Rejector("far")
    rejector = Rejector().fit(*reference)
    for rate in (0, 1, -0.1, 5):
        with pytest.raises(SettingError, match="unknown rate"):
            rejector.calibrate(*reference, rate)
    with pytest.raises(InputError, match=r"at least 99 calibration images; found 20"):
        rejector.calibrate(*reference, 0.01)
    with pytest.raises(InputError, match=r"at least 19 calibration images; found 0"):
        rejector.calibrate(reference[0][:0], reference[1][:0])
