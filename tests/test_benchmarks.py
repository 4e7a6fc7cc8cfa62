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
from plankton_embed.table import EmbeddingTable

FOLDER = Path(__file__).parents[1] / "benchmarks"
BENCHMARK = runpy.run_path(str(FOLDER / "comparison.py"))
LABELLING = runpy.run_path(str(FOLDER / "labelling.py"))


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


# --- labelling


def test_a_group_costs_a_keystroke_for_its_class_and_one_for_each_odd_image():
    count = LABELLING["count_keystrokes"]
    assert [count(np.array(group)) for group in ([3], [2, 2, 2], [0, 1, 1, 1], [0, 1, 2], [0, 0, 1, 1])] == [
        1,
        1,
        2,
        3,
        3,
    ]


def test_scores_are_taken_at_every_share_of_labels_and_of_keystrokes():
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    groups = [np.array([0, 1, 2]), np.array([4, 5, 8]), np.array([3]), np.array([6, 7, 9])]  # 1, 2, 1, 2 keystrokes
    curve = LABELLING["simulate"](iter(groups), truth, lambda rows: {"centroid": len(rows)})
    by_labels = curve[curve["by"] == "labels"].set_index("share")
    assert by_labels.loc[0.3, ["labels", "keystrokes", "centroid"]].tolist() == [3, 1, 3]
    assert by_labels.loc[0.5, ["labels", "keystrokes", "centroid"]].tolist() == [6, 3, 6]
    by_keystrokes = curve[curve["by"] == "keystrokes"].set_index("share")
    assert by_keystrokes.loc[0.1, "labels"] == 3  # one keystroke is a tenth
    assert by_keystrokes.loc[0.3, "labels"] == 6
    assert by_keystrokes.index.max() == 0.3  # both aims are reached, so nothing more is labelled


@pytest.fixture(scope="module")
def to_label():
    rng = np.random.default_rng(0)
    kind = rng.choice(4, 120, p=[0.6, 0.2, 0.1, 0.1])
    vectors = 6 * np.eye(4)[kind] + rng.normal(size=(120, 4))
    paths = [f"class {code}/{number:03d}.png" for code, number in zip(kind, rng.permutation(120), strict=True)]
    return EmbeddingTable(vectors, paths, np.array(["a", "b", "c", "d"], dtype=object)[kind], paths)


@pytest.mark.parametrize("name", LABELLING["STRATEGIES"])
def test_every_strategy_shows_each_image_once(to_label, name):
    truth = np.unique(to_label.label.astype(str), return_inverse=True)[1]
    shown = np.concatenate(list(LABELLING["STRATEGIES"][name](to_label, truth, 0)))
    assert sorted(shown) == list(range(120))
    if name == "plain list":
        assert [to_label.path[row][-7:-4] for row in shown] == [f"{number:03d}" for number in range(120)]


def test_a_simulation_reports_shares_of_the_score_with_all_labels(to_label, monkeypatch, tmp_path):
    paths = [
        to_label.select(part).save(tmp_path / f"{n}.parquet") for n, part in enumerate((range(80), range(80, 120)))
    ]
    monkeypatch.setattr("sys.argv", ["labelling.py", *map(str, paths), "-o", str(tmp_path / "out"), "--draws", "2"])
    LABELLING["main"]()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "curves.csv", "all_labels.csv", "summary.csv", "labelling.png",
    }  # fmt: skip
    curves, summary = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("curves", "summary"))
    full = pd.read_csv(tmp_path / "out" / "all_labels.csv")
    assert len(full) == 2 and full["centroid"].min() > 0.9  # four kinds far apart
    assert len(summary) == 4 * 2 * 2
    row = summary[(summary["strategy"] == "next") & (summary["method"] == "knn")].iloc[0]
    at = curves[(curves["strategy"] == "next") & (curves["by"] == "labels") & (curves["share"] == 0.5)].sort_values(
        "draw"
    )
    assert row["score"] == pytest.approx(at["knn"].mean())
    assert row["of_full"] == pytest.approx((at["knn"].to_numpy() / full["knn"].to_numpy()).mean())
    assert (curves["labels"] >= curves["keystrokes"]).all()
