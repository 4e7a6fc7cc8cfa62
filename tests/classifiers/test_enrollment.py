"""Enrolling new classes: the new reference, and the learning curve."""

from dataclasses import replace

import numpy as np
import pytest

from plankton_embed.classifiers.enrollment import add_examples, measure_learning, summarize_learning
from plankton_embed.classifiers.prediction import fit_classifier
from plankton_embed.errors import InputError, MismatchError, SettingError
from plankton_embed.table import EmbeddingTable


def make_table(labels, seed, prefix, **provenance):
    """Vectors near one of eight corners, by the class's number."""
    rng = np.random.default_rng(seed)
    codes = np.array([0 if label is None else int(label[-1]) for label in labels])
    vectors = np.eye(8)[codes] * 3 + rng.normal(size=(len(labels), 8))
    ids = [f"{prefix}{row}" for row in range(len(labels))]
    return EmbeddingTable(vectors, object_id=ids, label=np.array(labels, dtype=object), provenance=provenance)


@pytest.fixture
def known():
    return make_table(["c0"] * 40 + ["c1"] * 40 + ["c2"] * 40, 0, "known")


@pytest.fixture
def new():
    return make_table(["c3"] * 30 + ["c4"] * 30 + ["c5"] * 4, 1, "new")


@pytest.fixture
def query():
    return make_table([f"c{n}" for n in range(6) for _ in range(30)], 2, "query")


def test_a_class_enrolled_is_predicted_at_once(known, new, query):
    both = add_examples(known, new)
    assert both.classes == ["c0", "c1", "c2", "c3", "c4", "c5"]
    assert len(both) == 184
    assert both.object_id[0] == "known0"
    assert both.object_id[-1] == "new63"
    np.testing.assert_array_equal(both.vectors[120:], new.vectors)
    right = fit_classifier(both, "centroid").predict(query.vectors) == query.label
    assert right[90:].mean() > 0.85  # the new classes


def test_numbers_beside_the_vectors_are_kept_and_those_of_one_side_are_missing_on_the_other(known, new):
    known = replace(known, columns={"depth": np.arange(120), "flag": np.arange(120) > 3})
    new = replace(new, columns={"haul": np.full(64, 0.5), "depth": np.arange(64)})
    both = add_examples(known, new)
    assert [*both.columns] == ["depth", "flag", "haul"]
    assert both.columns["depth"].tolist() == [*range(120), *range(64)]
    np.testing.assert_array_equal(both.columns["flag"], [0.0] * 4 + [1.0] * 116 + [np.nan] * 64)
    np.testing.assert_array_equal(both.columns["haul"], [np.nan] * 120 + [0.5] * 64)


def test_unlabelled_rows_are_left_aside_and_said(known, caplog):
    both = add_examples(known, make_table(["c3", None, "c3"], 1, "new"))
    assert len(both) == 122
    assert "1 of 3 new vectors have no label" in caplog.text


def test_an_image_without_a_label_gets_it_by_its_path_or_its_id_and_vector_and_another_image_does_not():
    own = EmbeddingTable(np.eye(3, 8), object_id=["x", "y", "z"], path=["a.png", None, None])
    same = EmbeddingTable(np.eye(3, 8)[:2], object_id=["001", "y"], path=["a.png", None], label=["c1", "c2"])
    both = add_examples(own, same)
    assert dict(zip(both.object_id, both.label, strict=True)) == {"z": None, "001": "c1", "y": "c2"}
    other = EmbeddingTable(np.ones((1, 8)), object_id=["y"], path=["b.png"], label=["c1"])
    with pytest.raises(InputError, match="in the reference already, such as object_id y; give the new images other"):
        add_examples(own, other)


def test_faults_are_refused(known, new):
    with pytest.raises(InputError, match=r"expected labelled vectors; found none of .* with a label"):
        add_examples(known, make_table([None, None], 1, "new"))
    with pytest.raises(InputError, match=r"1 of the new images are in the reference already, such as object_id known7"):
        add_examples(known, known.select([7]))
    with_path = EmbeddingTable(np.zeros((1, 8)), object_id=["x"], path=["a.png"], label=["c9"])
    with pytest.raises(InputError, match=r"such as path a\.png; leave them out"):
        add_examples(with_path, EmbeddingTable(np.zeros((1, 8)), object_id=["y"], path=["a.png"], label=["c9"]))
    with pytest.raises(MismatchError, match=r"other.*Embed both"):
        add_examples(known, make_table(["c3"], 1, "new", model_hash="other"))
    with pytest.raises(InputError, match=r"length 8.*length 3"):
        add_examples(known, EmbeddingTable(np.zeros((1, 3)), label=["c3"]))


def test_the_curve_rises_with_the_examples_and_the_draws_differ(known, new, query):
    draws = measure_learning(known, new, query, examples=(1, 5, 20), n_draws=4, progress=False)
    assert len(draws) == 3 * 4 * 2
    assert draws[["new_only", "new", "known", "all"]].notna().all(axis=None)
    means = draws.groupby(["method", "n_examples"])[["new_only", "new", "known", "all"]].mean()
    for method in ("centroid", "knn"):
        assert means.loc[(method, 20), "new"] > means.loc[(method, 1), "new"]
        assert (means.loc[method, "new_only"] >= means.loc[method, "new"]).all()  # fewer classes to mistake it for
    one = draws[(draws["method"] == "centroid") & (draws["n_examples"] == 1)]
    assert one["new"].nunique() > 1
    again = measure_learning(known, new, query, examples=(1, 5, 20), n_draws=4, progress=False)
    assert again.equals(draws)


def test_all_examples_give_what_enrolling_all_gives(known, new, query):
    draws = measure_learning(known, new, query, examples=(30,), n_draws=1, progress=False).set_index("method")
    right = fit_classifier(add_examples(known, new), "knn").predict(query.vectors) == query.label
    by_class = right.reshape(6, 30).mean(axis=1)
    found = draws.loc["knn", ["new", "known", "all"]].astype(float).tolist()
    assert found == pytest.approx([by_class[3:].mean(), by_class[:3].mean(), by_class.mean()])


def test_without_a_query_half_of_the_new_images_are_predicted(known, new):
    draws = measure_learning(known, new, examples=(2, 15, 16), n_draws=2, progress=False)
    assert draws["n_examples"].unique().tolist() == [2, 15]  # no class has 16 left
    assert draws["n_given"].unique().tolist() == [2, pytest.approx((15 + 15 + 2) / 3)]
    assert draws["known"].isna().all()  # no image of a known class is named
    assert draws["new_only"].mean() > 0.6
    assert draws["all"].isna().all()


def test_a_curve_needs_images_to_predict_and_draws(known):
    lone = make_table(["c3", "c4"], 1, "new")
    with pytest.raises(InputError, match="needs images to predict"):
        measure_learning(known, lone, progress=False)
    with pytest.raises(SettingError, match="draws: expected at least 1; found 0"):
        measure_learning(known, lone, n_draws=0, progress=False)


def test_a_summary_has_mean_and_spread(known, new, query):
    draws = measure_learning(known, new, query, examples=(1, 5), n_draws=3, progress=False)
    summary = summarize_learning(draws)
    assert len(summary) == 4
    row = summary[(summary["n_examples"] == 5) & (summary["method"] == "knn")].iloc[0]
    values = draws[(draws["n_examples"] == 5) & (draws["method"] == "knn")]["new"]
    assert (row["new_mean"], row["new_std"]) == (pytest.approx(values.mean()), pytest.approx(values.std()))
