"""The tree, groups, relations and suspects of a table: what is written, and what a person sends back."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import plankton_embed as pe
from plankton_embed.analysis.tree import Tree
from plankton_embed.errors import InputError, MismatchError, OutputError, SettingError
from plankton_embed.images.drawn import draw_set
from plankton_embed.run_folder import RunFolder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Four classes of 15 images that can be opened."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(4), 15)
    vectors = 3 * rng.normal(size=(4, 8))[codes] + rng.normal(size=(60, 8))
    paths = []
    for row, code in enumerate(codes):
        paths.append(str(folder / f"{row}.png"))
        Image.fromarray(rng.integers(0, 60 * (code + 1), size=(20, 30), dtype=np.uint8)).save(paths[-1])
    return pe.EmbeddingTable(
        vectors.astype(np.float32),
        object_id=[f"image {row}" for row in range(60)],
        label=[["copepod", "Méduse", "fish<egg", "salp"][code] for code in codes],
        path=paths,
    )


def read(folder, name):
    return pd.read_csv(folder / name)


def test_the_tree_is_written(table, tmp_path):
    out = tmp_path / "out"
    found = pe.dendrogram(table, out, n_leaves=8, progress=False)
    assert {path.name for path in out.iterdir()} == {
        "nodes.csv", "classes.csv", "branches.csv", "images.csv", "cuts.csv", "linkage.parquet", "tree.nwk",
        "dendrogram.png", "branches.png", "summary.json",
    }  # fmt: skip
    nodes, images = read(out, "nodes.csv"), read(out, "images.csv")
    assert nodes["is_leaf"].sum() == 8
    assert images["object_id"].tolist() == table.object_id.tolist()
    assert images.groupby("leaf").size().to_dict() == nodes[nodes["is_leaf"]].set_index("node")["n_images"].to_dict()
    assert (
        read(out, "classes.csv").groupby("node")["count"].sum().to_dict()
        == nodes.set_index("node")["n_images"].to_dict()
    )
    linkage = pd.read_parquet(out / "linkage.parquet").to_numpy(dtype=float)
    np.testing.assert_array_equal(Tree(linkage).order, found.tree.order)
    assert json.loads((out / "summary.json").read_text())["n_leaves"] == 8
    with pytest.raises(OutputError, match="exists already"):
        pe.dendrogram(table, out, progress=False)
    classes = pe.dendrogram(table, out, of="classes", overwrite=True, progress=False)
    assert sorted(classes.table.object_id) == table.classes
    assert all(f"'{name}'" in (out / "tree.nwk").read_text(encoding="utf-8") for name in table.classes)


def test_groups_are_named_by_a_person_and_enrolled(table, tmp_path):
    known = table.select(np.arange(60) < 30)
    unnamed = pe.EmbeddingTable(table.vectors[30:], table.object_id[30:], path=table.path[30:])
    out = tmp_path / "groups"
    found = pe.clusters(unnamed, out, reference=known, n_clusters=2, progress=False)
    assert found.groups["n_images"].tolist() == [15, 15]
    assert set(found.groups["nearest_class"]) <= {"copepod", "Méduse"}
    with pytest.raises(InputError, match="fill in the column name"):
        pe.enroll(known, out, progress=False)
    names = read(out, "names.csv")
    first = found.cluster[0]
    names["name"] = np.where(names["cluster"] == first, "Ve\u0301lelle", "")
    blank = "\n" + ";" * (len(names.columns) - 1) + "\n"  # as a spreadsheet program leaves it
    (out / "names.csv").write_text(names.to_csv(index=False, sep=";") + blank, encoding="utf-8-sig")
    enrolled = pe.enroll(known, out, progress=False)
    assert len(enrolled) == 45
    assert enrolled.classes == ["Méduse", "Vélelle", "copepod"]
    with pytest.raises(OutputError, match=r"names\.csv was filled in"):
        pe.clusters(unnamed, out, overwrite=True, progress=False)
    assert enrolled.object_id[30:].tolist() == table.object_id[30:45].tolist()


def test_what_is_grouped(table, tmp_path):
    some = table.label.copy()
    some[:20] = None
    half = pe.EmbeddingTable(table.vectors, table.object_id, some)
    assert len(pe.clusters(half, progress=False).table) == 20
    assert len(pe.clusters(table, progress=False).table) == 60
    names = pd.DataFrame({"object_id": table.object_id, "label": ["unknown"] * 12 + ["salp"] * 48})
    names.to_csv(tmp_path / "names.csv", index=False)
    refused = pe.clusters(table, only=tmp_path / "names.csv", progress=False).table
    assert refused.object_id.tolist() == table.object_id[:12].tolist()
    for wrong, message in (
        (names.assign(label="salp"), "0 were rejected, found 0; give"),
        (names[["label"]], "object_id"),
    ):
        with pytest.raises(InputError, match=message):
            pe.clusters(table, only=wrong, progress=False)


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


def test_suspects_come_back_as_a_corrected_catalog(table, tmp_path):
    wrong = table.label.copy()
    wrong[[3, 20, 47]] = ["salp", "copepod", "Méduse"]
    swapped = pe.EmbeddingTable(table.vectors, table.object_id, wrong, table.path)
    out = tmp_path / "out"
    found = pe.suspects(swapped, out, n_folds=3, n_corrections=5, progress=False)
    assert set(found.ranking["object_id"][:3]) == {"image 3", "image 20", "image 47"}
    assert "loss" in found.ranking
    summary = json.loads((out / "summary.json").read_text())
    assert found.why_no_groups == summary["why_no_groups"]
    assert summary["why_no_groups"] == "8 classes of at least 20 different images are needed; found 0"
    corrections = read(out, "corrections.csv")
    assert len(corrections) == 5
    assert corrections["label"][:3].tolist() == [
        table.label[int(name.split()[1])] for name in corrections["object_id"][:3]
    ]
    catalog = pe.ImageCatalog.from_rows({"object_id": table.object_id, "path": table.path, "label": wrong})
    catalog.save(tmp_path / "c.csv")
    corrections.loc[:2, "action"] = "relabel"
    corrections.to_csv(out / "corrections.csv", index=False)
    dry = pe.apply_corrections(tmp_path / "c.csv", out / "corrections.csv")
    assert len(dry.changes) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "out"]  # nothing written
    pe.apply_corrections(tmp_path / "c.csv", out / "corrections.csv", tmp_path / "c2.csv")
    assert pe.ImageCatalog.load(tmp_path / "c2.csv").labels == table.label.tolist()
    pe.apply_corrections(tmp_path / "c2.csv", tmp_path / "c2_changes.csv", tmp_path / "c3.csv", undo=True)
    assert (tmp_path / "c3.csv").read_text(encoding="utf-8") == (tmp_path / "c.csv").read_text(encoding="utf-8")
    for wanted, place in ((out / "corrections.csv", "c.csv"), (tmp_path / "c2_changes.csv", "c2.csv")):
        with pytest.raises(OutputError, match="would be replaced"):
            pe.apply_corrections(tmp_path / "c.csv", wanted, tmp_path / place, overwrite=True)
    with pytest.raises(OutputError, match=r"c2_changes\.csv exists already"):
        (tmp_path / "c2.csv").unlink()
        pe.apply_corrections(tmp_path / "c.csv", out / "corrections.csv", tmp_path / "c2.csv")
    with pytest.raises(OutputError, match=r"corrections\.csv was filled in"):
        pe.suspects(swapped, out, n_folds=0, overwrite=True, progress=False)


@pytest.mark.parametrize(("n_corrections", "n_rows", "enough"), [(15, 15, 35), (35, 20, 55), (40, None, None)])
def test_groups_that_leave_few_rows_for_single_images_are_reported(tmp_path, caplog, n_corrections, n_rows, enough):
    rng = np.random.default_rng(2)
    codes = np.repeat(np.arange(10), 60)
    vectors = (3 * rng.normal(size=(10, 16))[codes] + rng.normal(size=(600, 16))).astype(np.float32)
    codes[np.flatnonzero(codes == 2)[:20]] = 5
    many = pe.EmbeddingTable(vectors, label=[f"class {code}" for code in codes])
    found = pe.suspects(many, tmp_path / "out", n_folds=0, n_corrections=n_corrections, progress=False)
    assert found.groups["n_images"].tolist() == [20]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["n_group_images"] == 20
    if n_rows is None:
        assert "images of groups" not in caplog.text
    else:
        assert f"{n_rows} of the {n_corrections} rows of corrections.csv are images of groups" in caplog.text
        assert f"--corrections {enough} writes all of them, and {n_corrections} others" in caplog.text
        reason = found.corrections(enough)["reason"]
        assert reason.str.startswith("group 1 of 20").sum() == 20
        assert reason.str.startswith("score").sum() == n_corrections


def test_another_analysis_is_not_replaced(table, tmp_path):
    pe.relations(table, tmp_path / "out", epsilon=1.0, n_images=12, n_shuffles=0, progress=False)
    with pytest.raises(OutputError, match="holds relations, not dendrogram"):
        pe.dendrogram(table, tmp_path / "out", overwrite=True, progress=False)


def test_images_that_are_gone_are_told(table, tmp_path, caplog):
    gone = pe.EmbeddingTable(table.vectors, label=table.label, path=[*table.path[:58], "gone.png", None])
    pe.clusters(gone, tmp_path / "out", n_clusters=2, progress=False)
    assert "2 of 60 images cannot be shown and are drawn as grey squares; the first: gone.png" in caplog.text


def test_every_group_and_suspect_is_shown(table, tmp_path):
    pe.clusters(table, tmp_path / "groups", n_clusters=25, progress=False)
    assert sorted(path.name for path in (tmp_path / "groups").glob("*.png")) == ["clusters.png", "clusters_2.png"]
    groups = read(tmp_path / "groups", "clusters.csv")
    assert set(json.loads(groups["central"][0])) <= set(table.object_id)
    pe.suspects(table, tmp_path / "doubts", n_folds=0, n_corrections=50, progress=False)
    assert sorted(path.name for path in (tmp_path / "doubts").glob("suspects*.png")) == [
        "suspects.png",
        "suspects_2.png",
    ]


def test_classes_of_one_image_are_suspects_without_a_head(caplog):
    lone = pe.EmbeddingTable(np.eye(4, dtype=np.float32), label=list("abcd"))
    found = pe.suspects(lone, n_folds=5, progress=False)
    assert "loss" not in found.ranking
    assert "every class has one image" in caplog.text


def test_a_class_of_one_image_is_no_suspect_of_the_head(table):
    label = table.label.copy()
    label[0] = "lone"
    found = pe.suspects(pe.EmbeddingTable(table.vectors, label=label), n_folds=3, progress=False)
    lone = found.ranking.set_index("object_id").loc["0"]
    assert lone["loss"] == pytest.approx(np.log(5))


@pytest.mark.parametrize("folds", [1, -1])
def test_folds_that_are_none(table, folds):
    with pytest.raises(SettingError, match="folds"):
        pe.suspects(table, n_folds=folds)


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


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    drawn = draw_set(tmp_path_factory.mktemp("drawn"), n_per_class=10, classes=("copepod", "medusa", "fish_egg"))
    settings = {
        "preparation.target_size": 32, "network.trunk": "shufflenet_v2_x0_5", "network.dimension": 8,
        "training.epochs": 3, "training.images_per_class": 8, "training.classes_per_batch": 3,
        "training.batch_images_per_class": 2, "training.precision": "float32", "training.keep_every_epoch": True,
    }  # fmt: skip
    return pe.run(drawn, tmp_path_factory.mktemp("runs") / "run", settings=settings, progress=False).folder


def test_a_film_shows_every_epoch_on_common_axes(filmed, tmp_path):
    made = pe.film(filmed.path, tmp_path / "film.webp", seconds=1, progress=False)
    assert made.epochs.tolist() == [1, 2, 3]
    with Image.open(tmp_path / "film.webp") as film:
        assert film.n_frames > 3
    model = pe.EmbeddingModel.load(filmed.path)
    best = model.training["best_epoch"]
    vectors = pe.EmbeddingTable.load(filmed.vectors("test"))
    rows = [list(vectors.object_id).index(name) for name in made.basis.table.object_id]
    place = made.epochs.tolist().index(best)
    np.testing.assert_allclose(made.coordinates[place], made.basis.project(vectors.vectors[rows]), atol=1e-4)
    history = pd.read_csv(filmed.history)["centroid_accuracy"]
    np.testing.assert_allclose(made.accuracies, history)
    with pytest.raises(OutputError, match="exists already"):
        pe.film(filmed.path, tmp_path / "film.webp")
    for wrong, message in (({"basis_epoch": 9}, "epoch 9"), ({"seconds": -1}, "seconds")):
        with pytest.raises(SettingError, match=message):
            pe.film(filmed.path, **wrong, progress=False)


def test_a_run_shows_images_that_it_was_not_trained_on(filmed, table, tmp_path, caplog):
    def analyse(verb, run, **options):
        out = tmp_path / verb
        if verb == "taxonomy":
            (tmp_path / "t.csv").write_text("label,lineage\ncopepod,A>B\nmedusa,A\nfish_egg,A\n")
            pe.taxonomy(run, tmp_path / "t.csv", out, n_permutations=5, overwrite=True, progress=False, **options)
        else:
            quiet = {} if verb == "pca" else {"progress": False}
            getattr(pe, verb)(run, out, overwrite=True, **quiet, **options)
        return json.loads((out / "summary.json").read_text())

    run = RunFolder(shutil.copytree(filmed.path, tmp_path / "run"))
    n = {split: len(pe.EmbeddingTable.load(run.vectors(split))) for split in ("train", "val", "test")}
    assert len(set(n.values())) == 3
    count = {"pca": "n_vectors", "dendrogram": "n_vectors", "relations": "n_images", "taxonomy": "n_images"}
    for verb, name in count.items():
        for split in (None, "train"):
            summary = analyse(verb, run.path, split=split)
            assert summary["split"] == (split or "test")
            assert name not in summary or summary[name] == n[split or "test"]
        assert analyse(verb, run.vectors("train"))["split"] is None
    reference = pe.EmbeddingTable.load(run.vectors("train"))
    by_rank = [
        pe.taxonomy(given, tmp_path / "t.csv", query=run.vectors("test"), n_permutations=5, progress=False).by_rank
        for given in (run.path, reference)
    ]
    pd.testing.assert_frame_equal(*by_rank)  # named by training vectors, whichever are compared with the taxonomy
    run.vectors("test").unlink()
    assert analyse("dendrogram", run.path)["split"] == "val"
    with pytest.raises(InputError, match="has no test vectors; those it has: val, train"):
        analyse("pca", run.path, split="test")
    caplog.clear()
    run.vectors("val").unlink()
    assert analyse("dendrogram", run.path)["n_vectors"] == n["train"]
    assert "look better separated than they are" in caplog.text
    with pytest.raises(SettingError, match="expected train, val, test; found 'all'"):
        analyse("pca", run.path, split="all")
    with pytest.raises(SettingError, match="these are a table"):
        analyse("pca", run.vectors("train"), split="train")


def test_a_film_of_what_has_no_epochs(filmed, table, tmp_path):
    with pytest.raises(InputError, match="is not a run"):
        pe.film(tmp_path)
    bare = RunFolder(shutil.copytree(filmed.path, tmp_path / "run"))
    for path in bare.kept_epochs().values():
        path.unlink()
    with pytest.raises(InputError, match=r"0 epochs.*keep_every_epoch"):
        pe.film(bare.path)


def test_a_taxonomy_is_held_against_the_tree(filmed, table, tmp_path):
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
    assert without.by_rank is None  # nothing was named
    for given in ({"method": "mlp"}, {"calibration": table}, {"certainty": 0.9}):
        with pytest.raises(SettingError, match="give labelled ones"):
            pe.taxonomy(alone, tmp_path / "t.csv", **given, n_permutations=5, progress=False)
    with pytest.raises(SettingError, match="certainty takes probabilities"):
        pe.taxonomy(alone, tmp_path / "t.csv", query=alone, certainty=0.9, n_permutations=5, progress=False)
    other = pe.EmbeddingTable(table.vectors, label=alone.label, provenance={"model_hash": "another"})
    with pytest.raises(MismatchError, match="another"):
        pe.taxonomy(alone, tmp_path / "t.csv", query=other, n_permutations=5, progress=False)
