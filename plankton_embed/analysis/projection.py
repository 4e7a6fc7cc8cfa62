"""Project vectors onto a few axes: PCA, maps by UMAP and t-SNE, and all epochs of a training on common axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA

from plankton_embed.errors import InputError, SettingError, needs_extra
from plankton_embed.notebook import Shown
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex

N_PER_CLASS = 25  # images, as in the report of 2019
UNLABELLED_CLASSES = 40
N_COMPONENTS = 3
N_MAP_COMPONENTS = 2  # of a map, whose axes have no order
N_ENDS = 8  # images

Method = Literal["pca", "umap", "tsne"]
Coordinates = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Projection(Shown):
    """Images projected onto a few axes.

    Attributes:
        table: the images.
        method: `pca`, or a map by `umap` or `tsne`, whose axes have no meaning of their own.
        coordinates: float64 (n, k), with `pca` in the unit of the vectors.
        components: float64 (k, d), orthonormal rows, the largest entry of each is above 0; None for a map.
        mean: float64 (d,) the point with coordinates 0; None for a map.
        spectrum: float64 (min(n, d),) the share of the variance along every component, also beyond the first k,
            descending; None for a map.
    """

    table: EmbeddingTable
    method: Method
    coordinates: Coordinates
    components: NDArray[np.float64] | None = None
    mean: NDArray[np.float64] | None = None
    spectrum: NDArray[np.float64] | None = None

    @property
    def n_components(self) -> int:
        """Number of axes, k."""
        return int(self.coordinates.shape[1])

    @property
    def explained(self) -> NDArray[np.float64] | None:
        """(k,) the share of the variance along each axis; None for a map."""
        return None if self.spectrum is None else self.spectrum[: self.n_components]

    @property
    def names(self) -> list[str]:
        """Names of the axes: `pc1`, `pc2`, …, or `umap1`, …, `tsne1`, …."""
        stem = "pc" if self.method == "pca" else self.method
        return [f"{stem}{number}" for number in range(1, self.n_components + 1)]

    def project(self, vectors: EmbeddingTable | ArrayLike) -> Coordinates:
        """Project other vectors onto the same axes; return float64 (m, k).

        Args:
            vectors: a table made by the same model, or an array (m, d).

        Raises:
            MismatchError: the table was made by another model.
            InputError: vectors of another length, or not finite.
            SettingError: the projection is a map.
        """
        components, mean = self._basis()
        if isinstance(vectors, EmbeddingTable):
            self.table.check_same_model(vectors, ("the projection", "the table to project"))
            vectors = vectors.vectors
        points = np.asarray(vectors, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != len(mean):
            raise InputError(f"expected vectors (m, {len(mean)}), as those projected; found shape {points.shape}")
        if not np.isfinite(points).all():
            raise InputError("vectors to project contain values that are not finite")
        return (points - mean) @ components.T

    def loadings(self) -> pd.DataFrame:
        """Return components times the standard deviation along them: one row per dimension, one column per axis.

        The squares of a row, over all components, sum to the variance of that dimension.

        Raises:
            SettingError: the projection is a map.
        """
        components, _ = self._basis()
        loadings = components.T * self.coordinates.std(axis=0, ddof=1)
        dimensions = [f"v{number}" for number in range(len(loadings))]
        return pd.DataFrame(loadings, pd.Index(dimensions, name="dimension"), self.names)

    def ends(self, n_images: int = N_ENDS) -> pd.DataFrame:
        """Return the images at both ends of every axis, the outermost first.

        Args:
            n_images: images at each end; fewer for a small table, so that no image is at both ends.

        Returns:
            `component` (name of the axis), `end` (`low`, `high`), `place` (1, 2, …), `row` (of the table), `object_id`,
            `label`, `coordinate`.

        Raises:
            SettingError: fewer than one image.
        """
        if n_images < 1:
            raise SettingError(f"images at each end: expected at least 1; found {n_images}")
        n_images = min(n_images, len(self.table) // 2)
        parts = []
        for number, name in enumerate(self.names):
            order = np.argsort(self.coordinates[:, number], kind="stable")
            for end, rows in (("low", order[:n_images]), ("high", order[::-1][:n_images])):
                columns = {
                    "place": np.arange(1, n_images + 1),
                    "row": rows,
                    "object_id": self.table.object_id[rows],
                    "label": self.table.label[rows],
                    "coordinate": self.coordinates[rows, number],
                }
                parts.append(pd.DataFrame({"component": name, "end": end, **columns}))
        return pd.concat(parts, ignore_index=True)

    def frame(self) -> pd.DataFrame:
        """Return one row per image: `object_id`, `label`, `path`, then one column per axis."""
        text = {name: getattr(self.table, name) for name in ("object_id", "label", "path")}
        return pd.DataFrame({**text, **dict(zip(self.names, self.coordinates.T, strict=True))})

    def _basis(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self.components is None or self.mean is None:
            raise SettingError(f"a map by {self.method} cannot be applied to other vectors; choose the method pca")
        return self.components, self.mean

    def _describe(self) -> str:
        return f"{self.method}, {len(self.table):,} images, {self.n_components} axes"

    def _preview(self) -> pd.DataFrame:
        return self.frame()


@dataclass(frozen=True, eq=False, repr=False)
class Film(Shown):
    """The same images after several epochs, on common axes.

    Attributes:
        basis: the axes, fitted on the vectors of one epoch; its table contains the images.
        basis_epoch: that epoch.
        epochs: (e,) ascending.
        coordinates: float64 (e, n, k).
        accuracies: float64 (e,), nan where missing.
    """

    basis: Projection
    basis_epoch: int
    epochs: NDArray[np.intp]
    coordinates: Coordinates
    accuracies: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.epochs)

    def frame(self) -> pd.DataFrame:
        """Return one row per image and epoch: `epoch`, `accuracy`, `object_id`, `label`, then one column per axis."""
        n = len(self.basis.table)
        text = {name: np.tile(getattr(self.basis.table, name), len(self)) for name in ("object_id", "label")}
        numbers = {"epoch": np.repeat(self.epochs, n), "accuracy": np.repeat(self.accuracies, n)}
        axes = self.coordinates.reshape(-1, self.basis.n_components).T
        return pd.DataFrame({**numbers, **text, **dict(zip(self.basis.names, axes, strict=True))})

    def _describe(self) -> str:
        return f"{len(self)} epochs"


def fit_projection(
    table: EmbeddingTable, method: Method = "pca", n_components: int | None = None, *, seed: int = 0
) -> Projection:
    """Project the vectors of a table onto a few axes (PCA, UMAP, t-SNE).

    Principal components are exact and deterministic. The maps are for display: distances between far groups have little
    meaning in them (UMAP: McInnes et al. 2018, arXiv 1802.03426; t-SNE: openTSNE, Poličar et al. 2024,
    doi 10.18637/jss.v109.i03).

    Args:
        table: images, at least 2; for a map at least 3 more than axes.
        method: `pca`; `umap` or `tsne` with the extra `reduce`.
        n_components: number of axes; by default 3, for a map 2.
        seed: of the maps.

    Raises:
        InputError: too few vectors, more axes than vectors or dimensions, or vectors that are all equal.
        SettingError: an unknown method, or fewer than one axis.
        DependencyError: the extra is not installed.
    """
    if method not in get_args(Method):
        raise SettingError(f"method: expected one of {', '.join(get_args(Method))}; found {method!r}")
    if n_components is None:
        n_components = N_COMPONENTS if method == "pca" else N_MAP_COMPONENTS
    if n_components < 1:
        raise SettingError(f"components: expected at least 1; found {n_components}")
    least = max(2, n_components) if method == "pca" else n_components + 3
    if len(table) < least:
        raise InputError(f"{method} on {n_components} axes needs at least {least} vectors; found {len(table)}")
    if n_components > table.dimension:
        raise InputError(
            f"components: expected at most {table.dimension}, the length of the vectors; found {n_components}"
        )
    if not np.ptp(table.vectors, axis=0).any():
        raise InputError(
            f"all {len(table)} vectors are equal, so there are no axes to find: the model gives every image the "
            "same vector (the space collapsed); train it again as the warnings of its training suggest"
        )
    if method == "pca":
        return _fit_components(table, n_components)
    draw_map = _map_by_umap if method == "umap" else _map_by_tsne
    return Projection(table, method, draw_map(table, n_components, seed).astype(np.float64))


def project_epochs(
    table: EmbeddingTable,
    vectors_by_epoch: Mapping[int, ArrayLike],
    accuracies: Mapping[int, float] | None = None,
    *,
    basis_epoch: int | None = None,
    n_components: int = N_COMPONENTS,
) -> Film:
    """Project the vectors of the same images after several epochs onto the principal components of one epoch.

    Args:
        table: the images; its own vectors are not used.
        vectors_by_epoch: epoch -> (n, d), row by row the images of the table.
        accuracies: epoch -> accuracy; a missing one is nan.
        basis_epoch: the epoch whose components are the axes; by default the last.
        n_components: number of axes.

    Raises:
        InputError: no epochs, vectors of other shapes, or as `fit_projection`.
        SettingError: there are no vectors of `basis_epoch`.
    """
    epochs = sorted(vectors_by_epoch)
    if not epochs:
        raise InputError("a film needs the vectors of at least one epoch; found none")
    if basis_epoch is None:
        basis_epoch = epochs[-1]
    if basis_epoch not in vectors_by_epoch:
        raise SettingError(f"epoch {basis_epoch} is not among those with vectors: {', '.join(map(str, epochs))}")
    basis_vectors = np.asarray(vectors_by_epoch[basis_epoch], dtype=np.float32)
    for epoch in epochs:
        shape, expected = np.shape(vectors_by_epoch[epoch]), (len(table), *basis_vectors.shape[1:])
        if shape != expected:
            raise InputError(f"epoch {epoch}: expected vectors of shape {expected}, one row per image; found {shape}")
    basis = fit_projection(replace(table, vectors=basis_vectors, provenance={}), n_components=n_components)
    coordinates = np.stack([basis.project(vectors_by_epoch[epoch]) for epoch in epochs])
    accuracies = accuracies or {}
    return Film(
        basis,
        basis_epoch,
        np.array(epochs, dtype=np.intp),
        coordinates,
        np.array([accuracies.get(epoch, np.nan) for epoch in epochs], dtype=np.float64),
    )


def select_per_class(table: EmbeddingTable, n_per_class: int = N_PER_CLASS, seed: int = 0) -> EmbeddingTable:
    """Return a table of at most `n_per_class` random images of each class, in the order of the table.

    Images without label count as one more class; if all are without label, as many are drawn as for 40 classes.

    Raises:
        SettingError: fewer than one image a class.
    """
    if n_per_class < 1:
        raise SettingError(f"images per class: expected at least 1; found {n_per_class}")
    if not table.is_labelled.any():
        n_per_class *= UNLABELLED_CLASSES
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(table.label == label) for label in table.classes]
    groups.append(np.flatnonzero(~table.is_labelled))
    return table.select(np.sort(np.concatenate([rng.permutation(rows)[:n_per_class] for rows in groups])))


def _fit_components(table: EmbeddingTable, n_components: int) -> Projection:
    """Return the first components of an exact decomposition, and the shares of all."""
    solver = "covariance_eigh" if len(table) >= table.dimension else "full"  # the faster; neither is random
    mean = table.vectors.mean(axis=0, dtype=np.float64)
    centred = table.vectors - mean
    pca = PCA(svd_solver=solver).fit(centred)
    components = pca.components_[:n_components]  # scikit-learn makes the largest entry of each positive
    return Projection(table, "pca", centred @ components.T, components, mean, pca.explained_variance_ratio_)


def _map_by_umap(table: EmbeddingTable, n_components: int, seed: int) -> NDArray[np.float32]:
    with needs_extra("the method umap", "reduce"):
        from umap import UMAP
    n_neighbors = min(15, len(table) - 1)  # 15 is umap-learn's default
    umap = UMAP(n_neighbors, n_components, random_state=seed, n_jobs=1)
    return np.asarray(umap.fit_transform(table.vectors))


def _map_by_tsne(table: EmbeddingTable, n_components: int, seed: int) -> NDArray[np.float64]:
    """Return a map by t-SNE, with neighbours by FAISS, because openTSNE's own search first compiles for a minute."""
    with needs_extra("the method tsne", "reduce"):
        from openTSNE import TSNE
        from openTSNE.affinity import PerplexityBasedNN
        from openTSNE.nearest_neighbors import PrecomputedNeighbors
    perplexity = min(30, (len(table) - 1) / 3)  # 30 is openTSNE's default
    found = VectorIndex.build(table).search_others(int(3 * perplexity))
    neighbors = PrecomputedNeighbors(found.rows, found.distances)
    gradient = "auto" if n_components <= 2 else "bh"  # the faster one has at most two axes
    tsne = TSNE(n_components, negative_gradient_method=gradient, random_state=seed)
    return np.asarray(tsne.fit(table.vectors, PerplexityBasedNN(perplexity=perplexity, knn_index=neighbors)))
