"""`relations`: parallel differences between images."""

import numpy as np
import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed.errors import SettingError


def read(folder, name):
    return pd.read_csv(folder / name)


def test_relations_are_written(table, tmp_path):
    out = tmp_path / "out"
    found = pe.relations(table, out, epsilon=2.0, n_images=40, n_shuffles=9, progress=False)
    assert found.n_found > 0
    written = read(out, "relations.csv")
    assert len(written) == len(found.best)
    assert (written["label_x1"] != written["label_y1"]).all()
    assert (written["label_x2"] != written["label_y2"]).all()
    assert set(pd.Series(found.table.label).value_counts()) == {10}  # drawn evenly
    rows = {name: row for row, name in enumerate(table.object_id)}
    for _, row in written.head(5).iterrows():
        x1, y1, x2, y2 = (table.vectors[rows[row[f"object_id_{end}"]]] for end in ("x1", "y1", "x2", "y2"))
        assert np.linalg.norm((x1 - y1) - (x2 - y2)) == pytest.approx(row["distance"], abs=1e-4)
    assert (out / "relations.png").exists()
    within = pe.relations(table, epsilon=2.0, n_images=40, n_shuffles=0, same_class=True, progress=False)
    assert within.n_found > found.n_found
    with pytest.raises(SettingError, match="3,000"):
        pe.relations(table, n_images=4000)
