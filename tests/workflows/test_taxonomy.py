"""`taxonomy`: a taxonomy against the learned tree, and predictions by rank."""

import json

import pytest

import plankton_embed as pe
from plankton_embed.errors import MismatchError, SettingError


def test_a_taxonomy_is_compared_with_the_tree(filmed, table, tmp_path):
    (tmp_path / "t.csv").write_text("label,lineage\ncopepod,Animalia>Crustacea\nmedusa,Animalia\nfish_egg,Animalia\n")
    out = tmp_path / "out"
    found = pe.taxonomy(filmed.path, tmp_path / "t.csv", out, certainty=0.6, n_permutations=5, progress=False)
    assert {path.name for path in out.iterdir()} == {
        "clades.csv", "misplaced.csv", "tanglegram.png", "by_rank.csv", "backed_off.csv", "summary.json",
    }  # fmt: skip
    assert found.by_rank["accuracy"].is_monotonic_increasing
    assert found.by_rank["accuracy"].iloc[-1] == 1  # all are animals
    assert (found.backed_off["probability"] >= 0.6 - 1e-6).all()
    assert found.backed_off.loc[found.backed_off["label"] == "Animalia", "is_right"].all()
    exact = found.backed_off[found.backed_off["level"] == "label"]
    assert (exact["is_right"] == (exact["label"] == exact["true_label"])).all()
    summary = json.loads((out / "summary.json").read_text())
    assert [row["accuracy"] for row in summary["by_rank"]] == pytest.approx(found.by_rank["accuracy"].tolist())
    assert sum(row["images"] for row in summary["backed_off"]) == len(found.backed_off)
    alone = pe.EmbeddingTable(table.vectors, label=["copepod", "medusa", "fish_egg", "copepod"] * 15)
    without = pe.taxonomy(alone, tmp_path / "t.csv", n_permutations=5, progress=False)
    assert without.by_rank is None  # nothing was predicted
    for given in ({"method": "mlp"}, {"calibration": table}, {"certainty": 0.9}):
        with pytest.raises(SettingError, match="give labelled ones"):
            pe.taxonomy(alone, tmp_path / "t.csv", **given, n_permutations=5, progress=False)
    with pytest.raises(SettingError, match="certainty needs probabilities"):
        pe.taxonomy(alone, tmp_path / "t.csv", query=alone, certainty=0.9, n_permutations=5, progress=False)
    other = pe.EmbeddingTable(table.vectors, label=alone.label, provenance={"model_hash": "another"})
    with pytest.raises(MismatchError, match="another"):
        pe.taxonomy(alone, tmp_path / "t.csv", query=other, n_permutations=5, progress=False)
