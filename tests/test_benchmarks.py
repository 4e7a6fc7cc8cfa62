"""What the benchmarks make before they measure: catalogs by hand, weights that compute the same."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from plankton_embed.baselines.fine_tuned import FineTunedNet
from plankton_embed.images.catalog import ImageCatalog

FOLDER = Path(__file__).parents[1] / "benchmarks"
BENCHMARK = runpy.run_path(str(FOLDER / "comparison.py"))


def test_no_benchmark_hides_a_module_of_python():
    assert not {path.stem for path in FOLDER.glob("*.py")} & sys.stdlib_module_names


def catalog(sizes, splits=("train", "val", "test")):
    """Return a catalog of classes with so many images in each split, {class: (train, val, test)}."""
    rows = [(name, split) for name, counts in sizes.items() for split, n in zip(splits, counts, strict=True)
            for _ in range(n)]  # fmt: skip
    labels, parts = zip(*rows, strict=True)
    names = [f"{number}.png" for number in range(len(rows))]
    return ImageCatalog(pd.DataFrame({"object_id": names, "path": names, "label": labels, "split": parts}))


def count(images):
    return images.frame.groupby(["label", "split"]).size().unstack(fill_value=0)


def test_the_mix_merges_the_largest_and_thins_the_others_geometrically():
    whole = catalog({"a": (90, 9, 20), "b": (80, 8, 20), "c": (64, 8, 16), "d": (40, 4, 10), "e": (32, 4, 8)})
    table = count(BENCHMARK["thin_out"](whole, n_merged=2, least=4))
    assert table.loc["majority"].to_dict() == {"train": 170, "val": 17, "test": 40}
    assert table.loc[["c", "d", "e"], "train"].tolist() == [64, 16, 4]  # 64, 64 / 4, 64 / 16
    assert table.loc[["c", "d", "e"], "val"].tolist() == [8, 2, 1]  # by the same shares, one at least
    assert table.loc[["c", "d", "e"], "test"].tolist() == [16, 10, 8]  # as they are


def test_three_classes_have_the_shares_of_system_b():
    whole = catalog({
        "copepod_a": (100, 8, 30), "copepod_b": (58, 8, 49), "hydromedusae_c": (200, 9, 40),
        "shrimp_d": (50, 5, 3), "shrimp_like_e": (9, 4, 9), "fish_f": (99, 9, 9),
    })  # fmt: skip
    table = count(BENCHMARK["pick_three"](whole))
    assert table["train"].to_dict() == {"copepod": 158, "hydromedusae": 38, "shrimp": 6}
    assert table["test"].to_dict() == {"copepod": 79, "hydromedusae": 19, "shrimp": 3}


def test_trunks_learn_other_classes_alone():
    whole, known = catalog({"a": (5, 2, 3), "b": (6, 2, 3), "c": (7, 2, 3)}), catalog({"b": (6, 2, 3)})
    assert count(BENCHMARK["select_outside"](whole, known)).to_dict("index") == {
        "a": {"train": 8, "val": 2}, "c": {"train": 10, "val": 2}
    }  # fmt: skip


@pytest.mark.slow
def test_the_plain_vgg_computes_what_the_one_with_a_norm_does(tmp_path):
    """The norms go into the convolutions, the mean of the cells into the first dense layer."""
    pixels, labels = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8), list("abcdabcd")
    settings = {"scaling": "imagenet", "epochs": 1, "batch_size": 8, "watch": None, "device": "cpu"}
    learned = BENCHMARK["NormalisedVGG"](**settings).fit(pixels, labels)
    save_file(learned.to_plain(), tmp_path / "weights.safetensors")
    plain = FineTunedNet(trunk="vgg19", weights=tmp_path / "weights.safetensors", frozen=True, epochs=1, device="cpu")
    trunk = plain.fit(pixels, labels).net_[0].eval()
    with torch.inference_mode():
        inputs = plain._to_inputs(pixels)
        wanted = learned.net_[:-1].eval()(inputs)
        np.testing.assert_allclose(trunk(inputs), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
        assert wanted.std() > 0
