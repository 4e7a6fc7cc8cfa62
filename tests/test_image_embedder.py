"""A model as a transformer of scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from plankton_embed.image_embedder import ImageEmbedder
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.settings import NetworkSettings, PreparationSettings


def build(**network):
    network = NetworkSettings(trunk="resnet18", dimension=8, **network)
    return EmbeddingModel.build(network, PreparationSettings(target_size=75), seed=0).to("cpu")


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def in_pixels():
    return build(size_inputs="pixels")


def test_a_model_is_a_transformer_in_a_pipeline(drawn_folder, in_pixels):
    from sklearn.base import clone
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    paths = sorted(drawn_folder.glob("[cm]*/*.png"))[:24]
    labels = [path.parent.name for path in paths]
    embedder = ImageEmbedder(in_pixels, views=2)
    vectors = embedder.fit(paths).transform(paths)
    np.testing.assert_allclose(vectors, in_pixels.embed(paths, views=2))
    frame = pd.DataFrame({"path": [str(path) for path in paths]})
    np.testing.assert_allclose(embedder.transform(frame), vectors)  # one column of paths
    assert embedder.get_feature_names_out().tolist() == [f"v{i}" for i in range(8)]
    assert clone(embedder).get_params()["views"] == 2
    pipeline = make_pipeline(ImageEmbedder(in_pixels), SVC())
    assert pipeline.fit(paths, labels).predict(paths[:3]).shape == (3,)
    assert len(cross_val_score(pipeline, np.array(paths, dtype=object), labels, cv=2)) == 2
    with pytest.raises(NotFittedError):
        ImageEmbedder(in_pixels).transform(paths)


class RowsAsImages(ImageEmbedder):
    """Takes tables of numbers, as scikit-learn's checks give them: each row becomes an image of stripes, 8 px wide."""

    def transform(self, X):
        grey = 1 / (1 + np.exp(-np.asarray(X, dtype=float)))
        return super().transform(list(np.repeat(np.repeat(grey[:, None, :], 8, axis=1), 8, axis=2)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string = True, False
        return tags


def test_the_transformer_passes_the_checks_of_scikit_learn(model):
    from sklearn.utils.estimator_checks import check_estimator

    failing = {
        "check_estimator_sparse_tag": "fit does not look at the images",
        "check_transformer_general": "images of another size are not an error, as columns of another number are",
        "check_estimators_overwrite_params": "joblib gives a copy of a network another hash",
    }
    results = check_estimator(RowsAsImages(model), expected_failed_checks=failing, on_skip=None)
    failed = {result["check_name"] for result in results if result["status"] == "xfail"}
    assert failed == set(failing)
    assert sum(result["status"] == "passed" for result in results) >= 30
