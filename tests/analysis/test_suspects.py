"""Label suspects: by hand, and swapped labels found again."""

import numpy as np
import pytest

from plankton_embed.analysis import misfiled, suspects
from plankton_embed.analysis.suspects import find_near_copies, find_suspects
from plankton_embed.errors import DependencyError, InputError, SettingError
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex


def make_table(vectors, label):
    return EmbeddingTable(np.asarray(vectors, dtype=np.float32), label=np.array(label, dtype=object))


@pytest.fixture(scope="module")
def swapped():
    """Five classes of 60; one image in twenty bears the label of another."""
    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=300)
    vectors = 4 * rng.normal(size=(5, 8))[truth] + rng.normal(size=(300, 8))
    wrong = rng.permutation(300)[:15]
    codes = truth.copy()
    codes[wrong] = (codes[wrong] + rng.integers(1, 5, size=15)) % 5
    probabilities = np.exp(-((vectors[:, None] - 4 * rng.normal(size=(1, 5, 8))) ** 2).sum(-1) / 50)
    probabilities = 0.1 * probabilities / probabilities.sum(1, keepdims=True) + 0.9 * (truth[:, None] == np.arange(5))
    return make_table(vectors, [f"class {code}" for code in codes]), set(wrong.tolist()), truth, probabilities


def test_five_points_by_hand():
    found = find_suspects(make_table([[0], [1], [2], [10], [11]], ["a", "a", "b", "b", "b"]), n_neighbors=2)
    ranking = found.ranking.set_index("object_id")
    assert found.ranking["object_id"][0] == "2"  # among the a
    assert ranking["neighbors"].to_dict() == {"0": 0.5, "1": 0.5, "2": 1.0, "3": 0.0, "4": 0.0}
    own, other = (10 + 11) / 2 - 2, 2 - 0.5  # the own mean without itself
    assert ranking["distance"]["2"] == pytest.approx(own / (own + other))
    assert ranking["guess"].to_dict() == {"0": "b", "1": "b", "2": "a", "3": "a", "4": "a"}
    # the highest of five by both signals: (5 - .5) / 5
    assert ranking["score"]["2"] == pytest.approx(0.9)


@pytest.mark.parametrize("with_head", [False, True])
def test_swapped_labels_come_first(swapped, with_head):
    table, wrong, truth, probabilities = swapped
    found = find_suspects(table, probabilities if with_head else None)
    first = found.ranking.head(15)
    assert len(wrong & set(first["row"])) >= 14
    assert (first["guess"] == [f"class {truth[row]}" for row in first["row"]]).mean() > 0.9
    assert found.ranking["score"].is_monotonic_decreasing
    assert ("loss" in found.ranking) == with_head
    corrections = found.corrections(7)
    assert corrections["action"].eq("keep").all()
    assert corrections["object_id"].tolist() == first["object_id"].tolist()[:7]


def test_neighbours_in_the_nearest_cells_change_little(monkeypatch):
    rng = np.random.default_rng(5)
    truth = rng.integers(10, size=3000)
    vectors = rng.normal(size=(10, 16))[truth] + 0.5 * rng.normal(size=(3000, 16))
    labels = np.where(rng.random(3000) < 0.05, rng.integers(10, size=3000), truth)
    vectors[1234] = vectors[99]
    labels[[99, 1234]] = 0, 1
    table = make_table(vectors, labels.astype(str))
    exact = find_suspects(table)
    monkeypatch.setattr(misfiled, "MOST_EXACT", 2999)
    found = find_suspects(table)
    assert not found.ranking.equals(exact.ranking)
    assert exact.recall is None and 0.98 <= found.recall < 1
    one, other = (result.ranking.set_index("row") for result in (exact, found))
    assert (one["neighbors"] - other["neighbors"].loc[one.index]).abs().mean() < 0.01
    assert len(set(one.index[:150]) & set(other.index[:150])) > 140
    assert set(found.contradictions["object_id"]) == {"99", "1234"}  # a copy is in the same cell


def test_copies_among_many_near_copies_are_found_in_the_nearest_cells(monkeypatch):
    """Among one byte per number, all of these near-copies would be equal."""
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(3000, 16))
    vectors[:400] = vectors[0] + 1e-5 * rng.normal(size=(400, 16))
    for row in range(0, 40, 2):
        vectors[row] = vectors[row + 1]
    labels = np.array(["a"] * 400 + ["b"] * 2600)
    labels[:40:2] = "b"
    monkeypatch.setattr(misfiled, "MOST_EXACT", 2999)
    found = find_suspects(make_table(vectors, labels))
    same = found.copies[found.copies["distance"] == 0]
    assert same["row_1"].tolist() == list(range(0, 40, 2))
    monkeypatch.setattr(suspects, "MOST_EXACT", 2999)
    table = make_table(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels)
    other = EmbeddingTable(table.vectors[:40:2], [f"val {row}" for row in range(20)])
    copies = find_near_copies({"train": table, "val": other})
    assert copies["cosine"].tolist() == [1.0] * 20


def test_the_recall_is_the_lowest_of_all_searches(monkeypatch):
    rng = np.random.default_rng(7)
    codes = rng.integers(8, size=1600)
    table = make_table(rng.normal(size=(8, 16))[codes] + rng.normal(size=(1600, 16)), codes.astype(str))
    others = EmbeddingTable(rng.normal(size=(30, 16)), [f"val {row}" for row in range(30)], ["0"] * 30)
    monkeypatch.setattr(misfiled, "MOST_EXACT", 1500)
    recalls, build = iter([0.99, 0.97, 0.98]), VectorIndex.build

    def state(table, kind):
        index = build(table, kind)
        index.recall = next(recalls)
        return index

    monkeypatch.setattr(misfiled.VectorIndex, "build", state)
    assert find_suspects(table, others=others).recall == 0.97
    assert next(recalls, None) is None


def test_the_order_of_images_and_the_names_of_classes_change_nothing(swapped):
    table = swapped[0]
    order = np.random.default_rng(1).permutation(300)
    renamed = make_table(table.vectors[order], [f"{9 - int(label[-1])}" for label in table.label[order]])
    one, other = find_suspects(table).ranking, find_suspects(renamed).ranking
    scores = other.set_index(order[other["row"]])["score"]
    np.testing.assert_allclose(scores.loc[one["row"]].to_numpy(), one["score"], atol=1e-9)


def test_unlabelled_images_are_left_aside(swapped):
    table, _, _, probabilities = swapped
    some = table.label.copy()
    some[:100] = None
    found = find_suspects(make_table(table.vectors, some), probabilities)
    assert found.ranking["row"].min() == 100
    alone = find_suspects(table.select(range(100, 300)), probabilities[100:])
    np.testing.assert_allclose(found.ranking["score"], alone.ranking["score"])
    assert found.ranking["row"].tolist() == (alone.ranking["row"] + 100).tolist()


def test_near_copies_with_two_labels():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(40, 4))
    vectors[7] = vectors[3]
    vectors[20] = vectors[21] + 1e-3
    vectors[30] = vectors[31]
    labels = ["a" if row % 2 else "b" for row in range(40)]
    labels[7] = "b"  # 3 is a
    labels[30] = labels[31]
    found = find_suspects(make_table(vectors, labels), copy_distance=0.01)
    assert found.copies[["row_1", "row_2"]].to_numpy().tolist() == [[3, 7], [20, 21]]
    assert found.copies["distance"].tolist() == pytest.approx([0, 2e-3], abs=1e-5)
    assert found.copies[["label_1", "label_2"]].to_numpy().tolist() == [["a", "b"], ["b", "a"]]
    many = find_suspects(make_table(np.zeros((30, 3)), ["a", "b"] * 15))  # all of them copies
    assert len(many.copies) > 0
    assert np.isfinite(many.ranking["score"]).all()


def test_copies_with_two_labels_come_first_in_the_corrections():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(40, 4))
    vectors[7] = vectors[38]
    labels = ["a" if row % 2 else "b" for row in range(40)]  # 7 is a, 38 is b
    found = find_suspects(make_table(vectors, labels))
    assert found.contradictions[["object_id", "label", "guess", "copy"]].to_numpy().tolist() == [
        ["7", "a", "b", "38"],
        ["38", "b", "a", "7"],
    ]
    corrections = found.corrections(10)
    assert corrections["object_id"].tolist()[:2] == ["7", "38"]
    assert corrections["label"].tolist()[:2] == ["b", "a"]
    assert corrections["reason"][0] == "labelled a, copy of 38"
    assert len(corrections) == 10 and corrections["object_id"].is_unique
    assert found.corrections(1)["object_id"].tolist() == ["7"]
    assert find_suspects(make_table(rng.normal(size=(40, 4)), labels)).contradictions.empty


def test_copies_are_looked_for_in_other_splits_too():
    rng = np.random.default_rng(3)
    table = make_table(rng.normal(size=(30, 4)), ["a", "b"] * 15)
    test = EmbeddingTable(
        np.concatenate([table.vectors[:1], rng.normal(size=(2, 4))]), np.array(["t0", "t1", "t2"]), ["b", None, "a"]
    )
    found = find_suspects(table, others=test)
    assert len(found.ranking) == 30
    assert found.copies.loc[0, ["row_1", "row_2", "object_id_2"]].tolist() == [0, 30, "t0"]
    assert found.contradictions["object_id"].tolist() == ["0", "t0"]


def test_near_copies_between_splits_by_hand():
    def unit(degrees):
        return np.array([[np.cos(a), np.sin(a)] for a in np.radians(degrees)]) * 3  # any length

    limit = np.degrees(np.arccos(0.999))
    train = EmbeddingTable(unit([0, 90]), np.array(["t0", "t90"]), ["a", "b"])
    val = EmbeddingTable(unit([limit - 0.1, 45]), np.array(["v2", "v45"]), ["a", "b"])
    test = EmbeddingTable(unit([90 + limit + 0.1, 45.5, 180]), np.array(["x92", "x45", "x180"]), ["a", "b", "a"])
    found = find_near_copies({"train": train, "val": val, "test": test})
    columns = ["object_id", "split", "copy_object_id", "copy_split"]
    assert found[columns].to_numpy().tolist() == [["x45", "test", "v45", "val"], ["v2", "val", "t0", "train"]]
    assert found["cosine"].tolist() == pytest.approx(np.cos(np.radians([0.5, limit - 0.1])), abs=1e-6)
    assert find_near_copies({"train": train}).empty
    zeros = EmbeddingTable(np.zeros((2, 2)), np.array(["z0", "z1"]))
    assert find_near_copies({"train": zeros, "test": EmbeddingTable(np.zeros((1, 2)), np.array(["z2"]))}).empty


def test_cleanlab_is_one_signal_more(swapped, monkeypatch):
    table, _, _, probabilities = swapped
    with pytest.raises(SettingError, match="probabilities"):
        find_suspects(table, use_cleanlab=True)
    with monkeypatch.context() as missing:
        missing.setitem(__import__("sys").modules, "cleanlab.rank", None)
        with pytest.raises(DependencyError, match=r"plankton_embed\[clean\]"):
            find_suspects(table, probabilities, use_cleanlab=True)
    pytest.importorskip("cleanlab")
    assert "cleanlab" in find_suspects(table, probabilities, use_cleanlab=True).ranking


@pytest.mark.parametrize(
    ("label", "options", "error", "message"),
    [
        (["a"] * 5, {}, InputError, "found 5 of 1"),
        (["a", "b", None, None, None], {}, InputError, "found 2 of 2"),
        (["a", "b", "a", "b", "a"], {"n_neighbors": 0}, SettingError, "n_neighbors"),
        (["a", "b", "a", "b", "a"], {"probabilities": np.ones((5, 3))}, InputError, r"expected \(5, 2\)"),
    ],
)
def test_what_cannot_be_suspected(label, options, error, message):
    with pytest.raises(error, match=message):
        find_suspects(make_table(np.arange(5)[:, None], label), **options)


def test_a_label_of_a_single_image_is_suspect():
    rng = np.random.default_rng(0)
    vectors = np.repeat([[0.0, 0], [9, 9]], 30, axis=0) + rng.normal(size=(60, 2))
    label = np.repeat(["copepod", "medusa"], 30).astype(object)
    label[3] = "copepd"
    found = find_suspects(EmbeddingTable(vectors.astype(np.float32), label=label)).ranking
    assert found["row"][0] == 3
    assert (found["neighbors"][0], found["distance"][0]) == (1, 1)


def test_copies_are_found_beside_copies_of_the_same_label():
    vectors = np.array([[0, 0], [0, 0], [0.001, 0], [0.001, 0], [5, 5], [9, 5], [5, 9]], dtype=np.float32)
    table = EmbeddingTable(vectors, label=list("aabbcac"))
    copies = find_suspects(table, n_neighbors=2, copy_distance=0.01).copies
    assert len(copies) >= 2
    assert set(map(frozenset, zip(copies["label_1"], copies["label_2"], strict=True))) == {frozenset("ab")}
