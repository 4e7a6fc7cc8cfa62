"""Is a plain softmax classifier better than the embedding? The same trunk, images, epochs and optimizer; then McNemar.

    python benchmarks/softmax_rival.py ndsb40.csv --root ndsb -o runs/softmax_rival [--ours runs/mine]

The rival is the trunk with one linear layer to the classes, trained with cross-entropy. Both are scored on test, with
the views of the settings; the p-values are of McNemar's exact test, corrected for their number (Holm).
"""

from __future__ import annotations

import json
from pathlib import Path

from parts import claim_run, embed_part, parse_arguments, predict_part, read_parts

import plankton_embed as pe
from plankton_embed.baselines.softmax import train_softmax
from plankton_embed.classifiers.prediction import METHODS
from plankton_embed.classifiers.scoring import compare_right, correct_holm
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings


def main() -> None:
    arguments = parse_arguments(__doc__ or "", ours=(str, "", "a finished run of ours; trained here when not given"))
    ours = arguments.ours or str(arguments.output / "ours")
    if not arguments.ours:
        settings = Settings.build(overrides=["network.weights=none", *arguments.set])
        pe.run(arguments.catalog, ours, settings=settings, root=arguments.root)
    settings = Settings.load(RunFolder(Path(ours)).settings)
    parts = read_parts(arguments.catalog, arguments.root, settings)
    run = RunFolder(arguments.output / "rival")
    claim_run(run, settings)
    train, val = parts["train"], parts["val"]
    rival = train_softmax(train.images, train.class_index, (val.images, val.class_index), settings, run)

    test, views = parts["test"], settings.embedding.views
    predicted = rival.embed_prepared(test.images, views=views, progress=True).argmax(axis=1)
    rival_right = predicted == test.class_index
    model = EmbeddingModel.load(ours)
    results: dict[str, object] = {"n_test": len(test.label), "views": views, "softmax": float(rival_right.mean())}
    reference, query = (embed_part(model, parts[name], views) for name in ("train", "test"))
    by_method: dict[str, dict[str, float]] = {}
    for method in METHODS:
        our_right = predict_part(reference, query, method) == query.label
        only_ours, only_rival, p_value = compare_right(our_right, rival_right)
        by_method[method] = {
            "accuracy": float(our_right.mean()),
            "softmax_minus_ours": float(rival_right.mean() - our_right.mean()),
            "only_ours_right": only_ours,
            "only_softmax_right": only_rival,
            "mcnemar_p": p_value,
        }
    for row, p_value in zip(
        by_method.values(), correct_holm([row["mcnemar_p"] for row in by_method.values()]), strict=True
    ):
        row["mcnemar_p_holm"] = float(p_value)
    results |= by_method
    print(json.dumps(results, indent=2))
    (arguments.output / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
