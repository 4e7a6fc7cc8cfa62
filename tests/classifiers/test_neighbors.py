"""kNN: by hand, ties, against scikit-learn and brute force."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from plankton_embed.classifiers import neighbors
from plankton_embed.classifiers.neighbors import NeighborsClassifier, ShardedNeighborsClassifier
from plankton_embed.errors import InputError
from plankton_embed.sharded_index import ShardedIndex
from plankton_embed.table import EmbeddingTable

LINE = np.array([[0], [1], [2], [10], [11]], dtype=np.float32)
LABELS = np.array(["a", "b", "b", "c", "c"])


@parametrize_with_checks(
    [NeighborsClassifier(), NeighborsClassifier(1), NeighborsClassifier(3), NeighborsClassifier(3, "distance")]
)
def test_scikit_learn_accepts_the_estimator(estimator, check):
    check(estimator)


def random_case(seed, n_classes=5, n=80, dimension=6):
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=n - n_classes)])
    vectors = (rng.normal(size=(n, dimension)) + 0.7 * codes[:, None]).astype(np.float32)
    return vectors, codes, (rng.normal(size=(60, dimension)) + rng.integers(4, size=(60, 1))).astype(np.float32)


def test_five_points_by_hand():
    three = NeighborsClassifier(3).fit(LINE, LABELS)
    assert three.predict([[0.4], [9]]).tolist() == ["b", "c"]  # 0.4: a b b; 9: c c b
    assert NeighborsClassifier(1).fit(LINE, LABELS).predict([[0.4]]).tolist() == ["a"]
    np.testing.assert_allclose(three.distances([[0.5], [9]]), [[0.5, 0.5, 9.5], [9, 7, 1]])
    assert three.rank([[9]]).tolist() == [[2, 1, 0]]


def test_a_tie_goes_to_the_nearer_class_mean_not_to_the_nearer_vector():
    # one vote each at k = 2 (from 0.0 and 1.0); "far" has its mean at 26, "near" at 1.5
    vectors, labels = np.array([[0.0], [2.0], [52.0], [1.0]]), ["far", "near", "far", "near"]
    assert NeighborsClassifier(2).fit(vectors, labels).predict([[0.4]]).tolist() == ["near"]
    assert NeighborsClassifier(1).fit(vectors, labels).predict([[0.4]]).tolist() == ["far"]


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 20))
def test_agrees_with_scikit_learn_where_there_is_no_tie(seed, k):
    vectors, codes, query = random_case(seed)
    ours = NeighborsClassifier(k).fit(vectors, codes)
    theirs = KNeighborsClassifier(k, metric="euclidean", algorithm="brute").fit(vectors, codes)
    votes = np.sort(theirs.predict_proba(query), axis=1)
    clear = votes[:, -1] > votes[:, -2]
    assert clear.any()
    np.testing.assert_array_equal(ours.predict(query)[clear], theirs.predict(query)[clear])


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 12))
def test_ties_are_settled_as_counted_by_brute_force(seed, k):
    vectors, codes, query = random_case(seed)
    means = np.stack([vectors[codes == c].astype(float).mean(axis=0) for c in range(5)])
    wanted = []
    for point in query.astype(float):
        nearest = codes[np.argsort(np.linalg.norm(vectors - point, axis=1))[:k]]
        votes, to_mean = np.bincount(nearest, minlength=5), np.linalg.norm(means - point, axis=1)
        wanted.append(min(range(5), key=lambda c: (-votes[c], to_mean[c])))
    assert NeighborsClassifier(k).fit(vectors, codes).predict(query).tolist() == wanted


@pytest.mark.parametrize("most", [10**6, 200, 1])  # however few distances are in memory at a time
def test_distances_are_those_to_the_nearest_vector_of_each_class(monkeypatch, most):
    monkeypatch.setattr(neighbors, "MOST_DISTANCES", most)
    vectors, codes, query = random_case(0)
    wanted = np.stack([cdist(query, vectors[codes == c]).min(axis=1) for c in range(5)], axis=1)
    classifier = NeighborsClassifier(3).fit(vectors, codes)
    np.testing.assert_allclose(classifier.distances(query), wanted)
    for code in range(5):
        np.testing.assert_allclose(classifier.distance_to(query, np.full(60, code)), wanted[:, code], rtol=1e-6)
    mixed = np.arange(60) % 5
    one_by_one = [classifier.distance_to(query[[row]], mixed[[row]])[0] for row in range(60)]
    np.testing.assert_array_equal(classifier.distance_to(query, mixed), one_by_one)


@pytest.mark.parametrize("k", [0, 6])
def test_k_beyond_the_reference_is_refused(k):
    with pytest.raises(InputError, match=rf"1 to 5.*found {k}"):
        NeighborsClassifier(k).fit(LINE, LABELS)


def test_an_unfitted_classifier_is_refused():
    with pytest.raises(NotFittedError):
        NeighborsClassifier().predict(LINE)


# ------------------------------------------------------------------------------------------ over a sharded index


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """3,000 labelled vectors of 5 classes, an index of them in three shards, and queries."""
    vectors, codes, queries = random_case(0, n=3000)
    table = EmbeddingTable(vectors, label=[f"class {code}" for code in codes])
    index = ShardedIndex.build(table, tmp_path_factory.mktemp("index") / "i", shard_size=1000)
    index.n_probes = index.n_cells
    return table, index, queries


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_a_sharded_index_predicts_what_its_vectors_do(many, weights):
    table, index, queries = many
    plain = NeighborsClassifier(7, weights).fit_names(table.vectors, table.label.astype(str))
    sharded = ShardedNeighborsClassifier(7, weights).fit_index(index)
    assert sharded.classes_.tolist() == plain.classes_.tolist()
    np.testing.assert_allclose(sharded.centroids_, plain.centroids_, atol=1e-6)
    copy = pickle.loads(pickle.dumps(sharded))  # as another process gets it
    (codes, logs, distances), wanted = copy.assess_best(queries, 3), plain.assess_best(queries, 3)
    np.testing.assert_array_equal(codes, wanted[0])
    np.testing.assert_allclose(logs, wanted[1], atol=1e-5)
    voted = ~np.isnan(distances)
    assert voted[:, 0].all() and not voted.all()  # the third class may have none of the k
    np.testing.assert_allclose(distances[voted], wanted[2][voted], rtol=1e-5)


def test_what_a_sharded_index_cannot_answer_is_an_error(many, tmp_path):
    table, index, queries = many
    with pytest.raises(InputError, match="need the vectors in memory"):
        ShardedNeighborsClassifier().fit_index(index).distances(queries)
    with pytest.raises(InputError, match="expected 1 to 3000"):
        ShardedNeighborsClassifier(3001).fit_index(index)
    label = table.label.copy()
    label[5] = None
    without = ShardedIndex.build(EmbeddingTable(table.vectors, label=label), tmp_path / "i")
    with pytest.raises(InputError, match="found 1 without one"):
        ShardedNeighborsClassifier().fit_index(without)
