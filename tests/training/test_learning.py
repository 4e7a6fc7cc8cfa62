"""Every objective learns the drawn set; a collapse is caught, and a healthy training raises no alarm."""

import logging

import numpy as np
import pytest

from plankton_embed.classifiers.prediction import fit_classifier
from plankton_embed.errors import PlanktonEmbedError
from plankton_embed.images.drawn import CLASSES, draw_set
from plankton_embed.images.store import prepare_images
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.table import EmbeddingTable
from plankton_embed.training.collapse import find_collapse
from plankton_embed.training.trainer import Validation, train_model

pytestmark = pytest.mark.slow

N_CLASSES, N_TRAIN, N_TEST = 8, 60, 20
SMALL = {"preparation.target_size": 75, "network.trunk": "resnet18", "network.weights": "none"}
QUICK = {
    "training.epochs": 12,
    "training.images_per_class": 60,
    "training.classes_per_batch": 6,
    "training.learning_rate": 2e-3,
}
TRIPLET = {
    "training.objective": "triplet",
    "training.margin": 0.5,
    "training.learning_rate": 5e-4,
    "training.epochs": 24,
}
OBJECTIVES = {
    "triplet": TRIPLET,
    "triplet, all": {**TRIPLET, "training.miner": "all"},
    "triplet with memory": {**TRIPLET, "training.memory": 128},
    "multi_similarity": {},
    "supcon": {"training.temperature": 0.1, "training.learning_rate": 1e-3, "training.epochs": 24},
    "arcface": {},
    "proxy_anchor": {},
    "normalized_softmax": {},
    "scheduled": {"training.margin": 0.5},
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Prepared images, and the class code of each: the first of every class are for training."""
    n_each = N_TRAIN + N_TEST
    folder = draw_set(tmp_path_factory.mktemp("drawn"), n_per_class=n_each, classes=CLASSES[:N_CLASSES], progress=False)
    paths = [str(p) for name in CLASSES[:N_CLASSES] for p in sorted((folder / name).iterdir())]
    settings = Settings.build(overrides=SMALL).preparation
    images = prepare_images(paths, paths, settings, cache=tmp_path_factory.mktemp("cache"), progress=False)
    return images, np.repeat(np.arange(N_CLASSES), n_each)


def train(drawn, folder, changes):
    """Train; return test accuracy by nearest centroid and by kNN, and the history."""
    images, classes = drawn
    settings = Settings.build(overrides={**SMALL, **changes})
    is_train = np.tile(np.arange(N_TRAIN + N_TEST) < N_TRAIN, N_CLASSES)
    learned, test = images.select(is_train), images.select(~is_train)
    model = EmbeddingModel.build(settings.network, settings.preparation).to("cpu")
    names = classes.astype(str).astype(object)

    def predict(model, method):
        reference = EmbeddingTable(model.embed_prepared(learned, precision="auto"), label=names[is_train])
        return fit_classifier(reference, method, 10).predict(model.embed_prepared(test, precision="auto"))

    def validate(model):
        predicted = predict(model, "centroid")
        accuracy = float((predicted == names[~is_train]).mean())
        vectors = model.embed_prepared(learned, precision="auto")
        n_never = N_CLASSES - len(set(predicted))
        return Validation(vectors, classes[is_train], accuracy, accuracy, accuracy, n_never_predicted=n_never)

    history = train_model(
        model, learned, classes[is_train], settings, RunFolder(folder), validate=validate, progress=False
    )
    return {method: (predict(model, method) == names[~is_train]).mean() for method in ("centroid", "knn")}, history


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_learns_the_drawn_set_and_raises_no_alarm(drawn, tmp_path, name, caplog):
    with caplog.at_level(logging.WARNING):
        accuracies, _ = train(drawn, tmp_path, {**QUICK, "training.objective": name, **OBJECTIVES[name]})
    print(name, accuracies)
    assert min(accuracies.values()) >= 0.85
    assert "collaps" not in caplog.text


REFERENCE = {
    "training.objective": "reference_2019",
    "training.epochs": 6,
    "training.steps_per_epoch": 100,
    "network.weights": "none",
}


@pytest.mark.parametrize("form", ["standard", "alternative"])
def test_the_recipe_of_2019_learns_something(drawn, tmp_path, form):
    accuracies, _ = train(drawn, tmp_path, {**REFERENCE, "training.form": form})
    print(form, accuracies)
    assert min(accuracies.values()) > 2 / N_CLASSES


def test_the_geometric_loss_of_2019_breaks_down_from_random_weights_and_that_is_said(drawn, tmp_path):
    # margin / d⁻ explodes where the vectors are still on one point: the sigmoids saturate, d⁻ becomes 0
    with pytest.raises(PlanktonEmbedError, match="none of the last steps had a finite loss"):
        train(drawn, tmp_path, {**REFERENCE, "training.form": "geometric"})


def test_a_collapse_is_caught_early_and_ends_the_training_when_asked(drawn, tmp_path, caplog):
    hard = {"training.objective": "triplet", "training.miner": "hard", "training.learning_rate": 0.02,
            "training.stop_on_collapse": True}  # fmt: skip
    _, history = train(drawn, tmp_path, {**QUICK, **hard})
    assert len(history) <= 5
    assert find_collapse(history.records, N_CLASSES) is not None
    assert caplog.text.count("the space is collapsing") == 1
