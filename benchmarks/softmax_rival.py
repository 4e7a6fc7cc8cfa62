"""Is a plain softmax classifier better than the embedding? The same trunk, images, epochs and optimizer; then McNemar.

    python benchmarks/softmax_rival.py ndsb40.csv --root ndsb -o runs/softmax_rival [--ours runs/mine]

The rival is the trunk with one linear layer to the classes, trained by cross-entropy. Both are scored on test, with the
views that the settings name; the p-value is McNemar's, exact.
"""

from __future__ import annotations

import json
from pathlib import Path

from parts import Part, claim_run, embed_part, name_part, parse_arguments, read_parts
from scipy.stats import binomtest
from torch import Tensor
from torch.nn import functional

from plankton_embed import pipeline
from plankton_embed.classifiers.naming import METHODS
from plankton_embed.network.embedding_net import EmbeddingNet
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.network.trunks import build_trunk
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.training.objectives import Objective
from plankton_embed.training.trainer import Validation, train_model


class SoftmaxNet(EmbeddingNet):
    """The trunk, then one score a class."""

    def place(self, vectors: Tensor) -> Tensor:
        """Leave the scores as they are."""
        return vectors


class CrossEntropy(Objective):
    """Softmax cross-entropy of scores (b, C)."""

    def forward(self, vectors: Tensor, labels: Tensor, progress: float = 0.0) -> Tensor:
        """See `Objective`."""
        return functional.cross_entropy(vectors, labels)


def train_rival(settings: Settings, parts: dict[str, Part], run: RunFolder) -> EmbeddingModel:
    """Train the classifier; the best epoch by validation accuracy stays."""
    known, val = parts["train"], parts["val"]
    network = settings.network.model_copy(update={"dimension": int(known.class_index.max()) + 1})
    trunk, n_features = build_trunk(network)
    net = SoftmaxNet(trunk, n_features, network)
    model = EmbeddingModel(net, network, settings.preparation).to("auto")

    def validate(model: EmbeddingModel) -> Validation:
        scores = model.embed_prepared(val.images, precision=settings.training.precision, views=1)
        accuracy = float((scores.argmax(axis=1) == val.class_index).mean())
        return Validation(scores, val.class_index, accuracy, accuracy)

    train_model(model, known.images, known.class_index, settings, run, validate=validate, objective=CrossEntropy())
    return model


def main() -> None:
    arguments = parse_arguments(__doc__ or "", ours=(str, "", "a finished run of ours; trained here when not given"))
    ours = arguments.ours or str(arguments.output / "ours")
    if not arguments.ours:
        settings = Settings.build(overrides=["network.weights=none", *arguments.set])
        pipeline.run(arguments.catalog, ours, settings=settings, root=arguments.root)
    settings = Settings.load(RunFolder(Path(ours)).settings)
    parts = read_parts(arguments.catalog, arguments.root, settings)
    run = RunFolder(arguments.output / "rival")
    claim_run(run, settings)
    rival = train_rival(settings, parts, run)

    test, views = parts["test"], settings.embedding.views
    named = rival.embed_prepared(test.images, views=views, progress=True).argmax(axis=1)
    rival_right = named == test.class_index
    model = EmbeddingModel.load(ours)
    results: dict[str, object] = {"n_test": len(test.label), "views": views, "softmax": float(rival_right.mean())}
    known, asked = (embed_part(model, parts[name], views) for name in ("train", "test"))
    for method in METHODS:
        our_right = name_part(known, asked, method) == asked.label
        only_ours, only_rival = int((our_right & ~rival_right).sum()), int((rival_right & ~our_right).sum())
        p_value = binomtest(only_ours, only_ours + only_rival).pvalue if only_ours + only_rival else 1.0
        results[method] = {
            "accuracy": float(our_right.mean()),
            "softmax_minus_ours": float(rival_right.mean() - our_right.mean()),
            "only_ours_right": only_ours,
            "only_softmax_right": only_rival,
            "mcnemar_p": p_value,
        }
    print(json.dumps(results, indent=2))
    (arguments.output / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
