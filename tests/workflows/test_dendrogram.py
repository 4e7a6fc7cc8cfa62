"""`dendrogram`: the tree as it is written."""

import json

import numpy as np
import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed.analysis.tree import Tree
from plankton_embed.errors import OutputError
from plankton_embed.workflows.contact_sheets import branches_sheet


def read(folder, name):
    return pd.read_csv(folder / name)


def test_the_tree_is_written(table, tmp_path):
    out = tmp_path / "out"
    found = pe.dendrogram(table, out, n_leaves=8, progress=False)
    assert {path.name for path in out.iterdir()} == {
        "nodes.csv", "node_classes.csv", "branches.csv", "images.csv", "cuts.csv", "linkage.parquet", "tree.nwk",
        "dendrogram.png", "branches.png", "summary.json",
    }  # fmt: skip
    nodes, images = read(out, "nodes.csv"), read(out, "images.csv")
    assert nodes["is_leaf"].sum() == 8
    assert images["object_id"].tolist() == table.object_id.tolist()
    assert images.groupby("leaf").size().to_dict() == nodes[nodes["is_leaf"]].set_index("node")["n_images"].to_dict()
    assert (
        read(out, "node_classes.csv").groupby("node")["count"].sum().to_dict()
        == nodes.set_index("node")["n_images"].to_dict()
    )
    linkage = pd.read_parquet(out / "linkage.parquet").to_numpy(dtype=float)
    np.testing.assert_array_equal(Tree(linkage).order, found.tree.order)
    assert json.loads((out / "summary.json").read_text())["n_leaves"] == 8
    with pytest.raises(OutputError, match="exists already"):
        pe.dendrogram(table, out, progress=False)
    classes = pe.dendrogram(table, out, of="classes", overwrite=True, progress=False)
    assert sorted(classes.table.object_id) == table.classes
    assert repr(classes).startswith(f"Dendrogram({len(table.classes)} classes, ")
    rows = branches_sheet(classes).rows
    assert sum(int(text.split("\n")[1].split()[0]) for text, _ in rows) == len(table.classes)
    assert {text.split()[-1] for text, _ in rows} <= {"class", "classes"}
    assert all(f"'{name}'" in (out / "tree.nwk").read_text(encoding="utf-8") for name in table.classes)
