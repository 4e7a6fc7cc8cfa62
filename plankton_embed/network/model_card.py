"""The model card: what to know before using a model; the README.md of its folder and of its page on the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from plankton_embed.output import write_atomically

CONFIG_FILE, CARD_FILE = "config.json", "README.md"
Results = Mapping[str, Mapping[str, float]]


def build_model_card(config: Mapping[str, Any], results: Results | None = None, images: str = "") -> ModelCard:
    """Return the model card: what the vectors are, what the model was trained on, its scores, how to load it.

    Args:
        config: as in `config.json`.
        results: by classifier, its `accuracy`, `balanced_accuracy` and `f1_macro`.
        images: which images these are of, such as "the 300 labelled images of the test split".
    """
    network, training, classes = config["network"], config["training"], config["classes"]
    side, settings = config["preparation"]["target_size"], training.get("settings", {})
    objective = "linear discriminant analysis" if network.get("frozen") else settings.get("training.objective", "?")
    lines = [
        "# A plankton embedding",
        "",
        f"Maps an image of plankton to {network['dimension']} numbers; similar images have a small Euclidean distance "
        f"({network['trunk']}, {side}×{side} pixels, objective {objective}). Model {config['model_hash']}.",
        "",
        f"Trained on {training.get('n_images', '?')} images of {len(classes)} classes: {', '.join(classes)}."
        + _describe_start(network, training),
    ]
    if results:
        lines += ["", f"Scores on {images}:", ""]
        lines += ["| predicted by | accuracy | balanced accuracy | macro F1 |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {s['accuracy']:.3f} | {s['balanced_accuracy']:.3f} | {s['f1_macro']:.3f} |"
            for name, s in results.items()
        ]
    lines += [
        "",
        "```python",
        "from plankton_embed import EmbeddingModel",
        'model = EmbeddingModel.from_pretrained("NAME")  # this folder, or the name of the model on the hub',
        "vectors = model.embed(images)",
        "```",
        "",
    ]
    data = ModelCardData(
        library_name="plankton_embed",
        pipeline_tag="image-feature-extraction",
        tags=["plankton", "metric-learning", "image-embedding"],
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n" + "\n".join(lines))


def _describe_start(network: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """Return a sentence about the starting weights; empty for random ones."""
    if network.get("weights", "none") == "none":
        return ""
    more = len(training.get("earlier_classes", ()))
    what = "Only the head was: the trunk is that of" if network.get("frozen") else "The training started from"
    known = f", which was also trained on {more} other classes" if more else ""
    return f" {what} {network['weights']}{known}."


def update_model_card(folder: Path, results: Results, images: str) -> str:
    """Write the card of a saved model again, with its scores, and return it; arguments as of `build_model_card`."""
    card = str(build_model_card(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")), results, images))
    with write_atomically(folder / CARD_FILE) as temporary:
        temporary.write_text(card, encoding="utf-8")
    return card
