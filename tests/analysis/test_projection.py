"""The projection: five points by hand, numpy's decomposition, rotations, epochs on common axes, and what is refused."""

import sys

import numpy as np
import pytest

from plankton_embed.analysis.projection import fit_projection, project_epochs, select_per_class
from plankton_embed.errors import DependencyError, InputError, MismatchError, SettingError
from plankton_embed.table import EmbeddingTable

ROOT = 1 / np.sqrt(2)


@pytest.fixture
def cloud():
    """80 points in six dimensions, each of another width, off the middle."""
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(80, 6)) * [5, 1, 3, 0.5, 2, 4] + 7
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    return EmbeddingTable(vectors @ turn)


def test_five_points_by_hand():
    # a cross on the diagonals around (1, 1): 4 to each side along (1, 1), 1 to each side along (-1, 1)
    points = np.array([[1, 1], [5, 5], [-3, -3], [0, 2], [2, 0]])
    found = fit_projection(EmbeddingTable(points, label=["m", "u", "d", "l", None]), n_components=2)
    np.testing.assert_allclose(found.mean, [1, 1])
    np.testing.assert_allclose(found.components[0], [ROOT, ROOT])
    assert abs(found.components[1] @ [ROOT, -ROOT]) == pytest.approx(1)
    np.testing.assert_allclose(found.explained, [32 / 34, 2 / 34])
    np.testing.assert_allclose(found.coordinates[:, 0], [0, 32**0.5, -(32**0.5), 0, 0], atol=1e-6)
    np.testing.assert_allclose(np.abs(found.coordinates[:, 1]), [0, 0, 0, 2**0.5, 2**0.5], atol=1e-6)
    # variances 64 / 4 and 4 / 4, shared evenly by the two dimensions
    np.testing.assert_allclose(found.loadings().abs(), [[8**0.5, ROOT], [8**0.5, ROOT]], rtol=1e-6)
    ends = found.ends()
    first = ends[ends["component"] == "pc1"].set_index(["end", "place"])
    assert len(ends) == 8, "two of five points at each end of both axes"
    assert first.loc[("low", 1), ["row", "object_id", "label"]].tolist() == [2, "2", "d"]
    assert first.loc[("high", 1), ["row", "label"]].tolist() == [1, "u"]
    assert first.loc[("high", 1), "coordinate"] == pytest.approx(32**0.5)


@pytest.mark.parametrize("shape", [(80, 6), (5, 9)])
def test_components_are_those_of_a_singular_value_decomposition(shape):
    vectors = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    found = fit_projection(EmbeddingTable(vectors), n_components=4)
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    _, widths, components = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.spectrum, widths**2 / (widths**2).sum(), atol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(found.components * components[:4], axis=1)), 1)
    assert (found.components.max(axis=1) == np.abs(found.components).max(axis=1)).all(), "the sign is settled"
    np.testing.assert_allclose(found.coordinates, centred @ found.components.T, atol=1e-12)
    assert len(found.explained) == 4


def test_own_vectors_come_back_to_their_places_and_others_to_theirs(cloud):
    found = fit_projection(cloud)
    assert found.coordinates.shape == (80, 3)
    np.testing.assert_allclose(found.project(cloud), found.coordinates, atol=1e-9)
    np.testing.assert_allclose(found.project(cloud.vectors[:7]), found.coordinates[:7], atol=1e-9)
    np.testing.assert_allclose(found.project([found.mean]), [[0, 0, 0]], atol=1e-9)
    one_along = found.mean + 2 * found.components[1]
    np.testing.assert_allclose(found.project([one_along]), [[0, 2, 0]], atol=1e-9)


def test_a_full_basis_keeps_distances_and_loadings_add_up_to_variances(cloud):
    found = fit_projection(cloud, n_components=6)
    gaps = np.linalg.norm(cloud.vectors[:, None] - cloud.vectors[None], axis=2)
    np.testing.assert_allclose(np.linalg.norm(found.coordinates[:, None] - found.coordinates, axis=2), gaps, atol=1e-4)
    variances = cloud.vectors.var(axis=0, ddof=1, dtype=np.float64)
    np.testing.assert_allclose((found.loadings() ** 2).sum(axis=1), variances)
    assert found.explained.sum() == pytest.approx(1)


def test_turning_the_vectors_turns_the_basis(cloud):
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(6, 6)))
    plain, turned = fit_projection(cloud), fit_projection(EmbeddingTable(cloud.vectors @ turn))
    np.testing.assert_allclose(np.abs(turned.coordinates), np.abs(plain.coordinates), atol=1e-4)
    np.testing.assert_allclose(np.abs(np.sum(turned.components * (plain.components @ turn), axis=1)), 1, atol=1e-6)
    np.testing.assert_allclose(turned.spectrum, plain.spectrum, atol=1e-7)


def test_ends_are_the_outermost_images_in_order(cloud):
    ends = fit_projection(cloud).ends(3)
    assert ends.groupby(["component", "end"]).size().to_dict() == {
        (f"pc{number}", end): 3 for number in (1, 2, 3) for end in ("low", "high")
    }
    coordinates = fit_projection(cloud).coordinates
    for (component, end), part in ends.groupby(["component", "end"]):
        column = coordinates[:, int(component[2:]) - 1]
        expected = np.sort(column)[:3] if end == "low" else np.sort(column)[::-1][:3]
        np.testing.assert_allclose(part["coordinate"], expected)
        np.testing.assert_allclose(column[part["row"]], expected)


def test_frame_is_what_a_csv_needs():
    table = EmbeddingTable(np.eye(4), object_id=list("wxyz"), label=["a", None, "b", "a"], path=["p"] * 4)
    found = fit_projection(table, n_components=2)
    frame = found.frame()
    assert frame.columns.tolist() == ["object_id", "label", "path", "pc1", "pc2"]
    assert frame["object_id"].tolist() == list("wxyz")
    np.testing.assert_array_equal(frame[["pc1", "pc2"]], found.coordinates)


def test_some_of_each_class_are_drawn_once_and_unlabelled_ones_too():
    label = ["a"] * 10 + ["b"] * 2 + [None] * 7
    table = EmbeddingTable(np.arange(19)[:, None], label=label)
    drawn = select_per_class(table, 3, seed=4)
    assert drawn.label.tolist() == ["a"] * 3 + ["b"] * 2 + [None] * 3
    assert len(set(drawn.object_id)) == 8
    assert (np.diff(drawn.vectors[:, 0]) > 0).all(), "they keep their order"
    assert select_per_class(table, 3, seed=4).object_id.tolist() == drawn.object_id.tolist()
    assert select_per_class(table, 3, seed=5).object_id.tolist() != drawn.object_id.tolist()
    assert len(select_per_class(table, 99)) == 19
    with pytest.raises(SettingError, match="per class"):
        select_per_class(table, 0)


# --- epochs


def test_epochs_are_on_the_axes_of_the_last():
    rng = np.random.default_rng(0)
    table = EmbeddingTable(np.zeros((9, 1)), label=list("aaabbbccc"))
    vectors = {number: rng.normal(size=(9, 4)).astype(np.float32) for number in (10, 2, 5)}
    film = project_epochs(table, vectors, {2: 0.25, 10: 0.75})
    assert film.epochs.tolist() == [2, 5, 10]
    assert film.basis_epoch == 10
    np.testing.assert_array_equal(film.accuracies, [0.25, np.nan, 0.75])
    last = fit_projection(EmbeddingTable(vectors[10]))
    np.testing.assert_allclose(film.basis.components, last.components)
    for place, epoch in enumerate([2, 5, 10]):
        np.testing.assert_allclose(film.coordinates[place], last.project(vectors[epoch]), atol=1e-9)
    frame = film.frame()
    assert frame.columns.tolist() == ["epoch", "accuracy", "object_id", "label", "pc1", "pc2", "pc3"]
    assert frame["epoch"].tolist() == [2] * 9 + [5] * 9 + [10] * 9
    row = frame[(frame["epoch"] == 5) & (frame["object_id"] == "4")].iloc[0]
    assert (row["label"], row["pc2"]) == ("b", pytest.approx(film.coordinates[1, 4, 1]))


def test_epochs_on_the_axes_of_a_chosen_one():
    rng = np.random.default_rng(0)
    vectors = {1: rng.normal(size=(6, 3)), 2: rng.normal(size=(6, 3))}
    table = EmbeddingTable(np.zeros((6, 3)), provenance={"model_hash": "another"})
    film = project_epochs(table, vectors, basis_epoch=1, n_components=2)
    assert film.basis_epoch == 1
    np.testing.assert_allclose(film.coordinates[0], film.basis.coordinates, atol=1e-6)
    assert film.basis.table.model_hash is None, "the basis is of an epoch, not of the table's model"
    assert np.isnan(film.accuracies).all()


@pytest.mark.parametrize(
    ("vectors", "options", "error", "message"),
    [
        ({}, {}, InputError, "at least one epoch"),
        ({1: np.eye(4)}, {"basis_epoch": 3}, SettingError, "epoch 3 is not among"),
        ({1: np.eye(4)[:3], 2: np.eye(4)}, {}, InputError, r"epoch 1: expected vectors of shape \(4, 4\)"),
        ({1: np.eye(5), 2: np.eye(5)}, {}, InputError, r"found \(5, 5\)"),
        ({1: np.eye(4)[:, :2], 2: np.eye(4)}, {}, InputError, "epoch 1"),
        ({1: np.eye(4), 2: np.ones((4, 4))}, {}, InputError, "collapsed"),
        ({1: np.full((4, 4), np.nan), 2: np.eye(4)}, {}, InputError, "not finite"),
    ],
)
def test_epochs_that_make_no_film(vectors, options, error, message):
    with pytest.raises(error, match=message):
        project_epochs(EmbeddingTable(np.eye(4)), vectors, **options)


# --- maps

MAPS = [pytest.param("umap", "umap", marks=pytest.mark.slow), ("tsne", "openTSNE")]  # UMAP compiles for a minute


@pytest.mark.parametrize(("method", "library"), MAPS)
@pytest.mark.filterwarnings("ignore")
def test_a_map_keeps_groups_apart_and_is_repeated(method, library):
    pytest.importorskip(library)
    codes = np.repeat([0, 1, 2], 20)
    vectors = 50 * np.eye(5)[codes] + np.random.default_rng(0).normal(size=(60, 5))
    found = fit_projection(EmbeddingTable(vectors), method)
    assert found.names == [f"{method}1", f"{method}2"]
    assert found.coordinates.shape == (60, 2)
    middles = np.stack([found.coordinates[codes == code].mean(axis=0) for code in range(3)])
    nearest = np.linalg.norm(found.coordinates[:, None] - middles, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, codes)
    np.testing.assert_array_equal(fit_projection(EmbeddingTable(vectors), method).coordinates, found.coordinates)
    assert found.components is None
    assert found.explained is None
    assert len(found.ends(2)) == 8
    for refused in (lambda: found.project(vectors), found.loadings):
        with pytest.raises(SettingError, match="cannot be applied to other vectors"):
            refused()


@pytest.mark.parametrize(("method", "library"), MAPS)
@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.filterwarnings("ignore")
def test_the_smallest_maps(method, library, n_components):
    pytest.importorskip(library)
    vectors = np.random.default_rng(0).normal(size=(n_components + 3, 4))
    found = fit_projection(EmbeddingTable(vectors), method, n_components)
    assert found.coordinates.shape == (n_components + 3, n_components)
    assert np.isfinite(found.coordinates).all()


@pytest.mark.parametrize(("method", "library"), [("umap", "umap"), ("tsne", "openTSNE")])
def test_a_map_without_its_extra(monkeypatch, method, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DependencyError, match=r"pip install 'plankton_embed\[reduce\]'"):
        fit_projection(EmbeddingTable(np.eye(6)), method)


# --- what is refused


@pytest.mark.parametrize(
    ("vectors", "arguments", "error", "message"),
    [
        (np.ones((1, 4)), (), InputError, "at least 3 vectors; found 1"),
        (np.eye(4)[:1], ("pca", 1), InputError, "at least 2 vectors; found 1"),
        (np.eye(2, 9), (), InputError, "at least 3 vectors; found 2"),
        (np.eye(9, 2), (), InputError, "components: expected at most 2, the length of the vectors; found 3"),
        (np.ones((5, 4)), (), InputError, "all 5 vectors are equal"),
        (np.eye(4), ("umap",), InputError, "at least 5 vectors; found 4"),
        (np.eye(4), ("tsne",), InputError, "at least 5 vectors; found 4"),
        (np.eye(4), ("lda",), SettingError, "pca, umap, tsne"),
        (np.eye(4), ("pca", 0), SettingError, "at least 1; found 0"),
    ],
)
def test_what_cannot_be_projected(vectors, arguments, error, message):
    with pytest.raises(error, match=message):
        fit_projection(EmbeddingTable(vectors), *arguments)


def test_vectors_that_do_not_fit_the_axes():
    found = fit_projection(EmbeddingTable(np.eye(4), provenance={"model_hash": "one"}))
    with pytest.raises(MismatchError, match="two"):
        found.project(EmbeddingTable(np.eye(4), provenance={"model_hash": "two"}))
    with pytest.raises(InputError, match=r"\(m, 4\)"):
        found.project(np.eye(3))
    with pytest.raises(InputError, match="not finite"):
        found.project(np.full((1, 4), np.inf))
    with pytest.raises(SettingError, match="each end"):
        found.ends(0)


def test_images_without_any_label_are_drawn_as_forty_classes():
    bare = EmbeddingTable(np.zeros((500, 2), dtype=np.float32))
    assert len(select_per_class(bare, 5)) == 200
