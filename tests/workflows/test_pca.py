"""`pca`: the axes as they are written."""

import json

import numpy as np
import pandas as pd
import pytest

import plankton_embed as pe


def read(folder, name):
    return pd.read_csv(folder / name)


def test_axes_are_written(table, tmp_path):
    out = tmp_path / "out"
    found = pe.pca(table, out, per_class=5)
    assert {path.name for path in out.iterdir()} == {
        "coordinates.csv", "ends.csv", "ends.png", "scatter.png", "scatter_3d.png", "explained.csv", "explained.png",
        "loadings.csv", "summary.json",
    }  # fmt: skip
    np.testing.assert_allclose(read(out, "coordinates.csv")[["pc1", "pc2", "pc3"]], found.coordinates, atol=1e-12)
    assert read(out, "explained.csv")["explained"].sum() == pytest.approx(1)
    assert json.loads((out / "summary.json").read_text())["n_shown"] == 20
    assert len(found.coordinates) == 60  # all of them made the axes
