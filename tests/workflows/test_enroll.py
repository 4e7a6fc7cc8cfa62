"""`enroll`: a class added without training."""

import numpy as np
import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed.errors import OutputError, SettingError


def test_an_enrolled_class_is_predicted_and_the_curve_is_drawn(vector_files, asked, tmp_path, make_table):
    new = make_table(30, 9, classes=("Calanus", "larva", "nauplius"))
    new.save(tmp_path / "new.npz")
    both = pe.enroll(
        vector_files["train"],
        tmp_path / "new.npz",
        tmp_path / "both.parquet",
        curve=True,
        query=vector_files["asked"],
        n_draws=2,
        progress=False,
    )
    assert both.classes == sorted({*asked.classes, "larva", "nauplius"})
    again = pe.EmbeddingTable.load(tmp_path / "both.parquet")
    np.testing.assert_array_equal(again.vectors, both.vectors)
    assert "larva" in set(pe.classify(tmp_path / "both.parquet", new, progress=False)["label"])
    folder = tmp_path / "both_curve"
    assert {p.name for p in folder.iterdir()} == {"draws.csv", "learning_curve.csv", "learning_curve.png"}
    assert pd.read_csv(folder / "learning_curve.csv")["n_examples"].unique().tolist() == [1, 2, 5, 10, 20]


def test_enrolling_overwrites_nothing_and_refuses_what_it_would_not_use(vector_files, known, tmp_path, make_table):
    new = make_table(3, 9, classes=("larva",))
    pe.enroll(known, new, tmp_path / "both.parquet", progress=False)
    with pytest.raises(OutputError, match="exists already"):
        pe.enroll(known, new, tmp_path / "both.parquet", progress=False)
    with pytest.raises(SettingError, match="curve needs an output"):
        pe.enroll(known, new, curve=True, progress=False)
    for unused in ({"query": known}, {"n_neighbors": 3}, {"n_draws": 3}):
        with pytest.raises(SettingError, match="for the learning curve"):
            pe.enroll(known, new, progress=False, **unused)
    folder = tmp_path / "more_curve"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"more_curve exists already"):
        pe.enroll(known, new, tmp_path / "more.parquet", curve=True, progress=False)
    assert not (tmp_path / "more.parquet").exists()
