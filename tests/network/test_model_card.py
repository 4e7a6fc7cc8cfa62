"""The model card: metadata that the hub reads, and what a reader must know."""

import json

from huggingface_hub import ModelCard

from plankton_embed.network.model import EmbeddingModel
from plankton_embed.network.model_card import build_model_card, update_model_card
from plankton_embed.settings import NetworkSettings, PreparationSettings

RESULTS = {
    "centroid": {"accuracy": 0.5, "balanced_accuracy": 0.25, "f1_macro": 0.125, "top5": 1.0},
    "knn": {"accuracy": 1.0, "balanced_accuracy": 1.0, "f1_macro": 1.0},
}


def save(folder):
    model = EmbeddingModel.build(NetworkSettings(trunk="resnet18", dimension=8), PreparationSettings(target_size=75))
    model.classes = ["copepod", "medusa"]
    model.training = {"n_images": 40, "settings": {"training.objective": "triplet"}}
    return model.save(folder), model.hash


def test_a_saved_model_has_a_card_that_the_hub_reads(tmp_path):
    folder, model_hash = save(tmp_path / "model")
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "plankton_embed"
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert card.data.tags == ["plankton", "metric-learning", "image-embedding"]
    assert f"8 numbers; similar images have a small Euclidean distance (resnet18, 75×75 pixels, objective triplet). " \
           f"Model {model_hash}." in card.text  # fmt: skip
    assert "Trained on 40 images of 2 classes: copepod, medusa." in card.text
    assert "accuracy" not in card.text


def test_the_card_of_a_model_gets_its_scores_and_the_model_stays(tmp_path):
    folder, model_hash = save(tmp_path / "model")
    update_model_card(folder, RESULTS, "the 10 labelled images of the test split")
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "Scores on the 10 labelled images of the test split:" in text
    assert "| centroid | 0.500 | 0.250 | 0.125 |\n| knn | 1.000 | 1.000 | 1.000 |" in text
    again = EmbeddingModel.load(folder, "cpu")
    assert (again.hash, again.card) == (model_hash, text)
    assert again.save(tmp_path / "copy", None).joinpath("README.md").read_text(encoding="utf-8") == text


def test_a_model_without_training_has_a_card_too():
    model = EmbeddingModel.build(NetworkSettings(trunk="resnet18", dimension=8), PreparationSettings(target_size=75))
    text = str(model.generate_model_card())
    assert "Trained on ? images of 0 classes" in text
    assert text == str(build_model_card(json.loads(json.dumps(model._config()))))
