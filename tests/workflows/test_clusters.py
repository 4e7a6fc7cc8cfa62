"""`clusters`: groups, what is grouped, and the names that a person gives them."""

import json
import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed import console
from plankton_embed.analysis.clusters import load_named
from plankton_embed.errors import InputError, OutputError
from plankton_embed.workflows.contact_sheets import clusters_sheets


def read(folder, name):
    return pd.read_csv(folder / name)


def test_groups_are_named_by_a_person_and_enrolled(table, tmp_path):
    reference = table.select(np.arange(60) < 30)
    unlabelled = pe.EmbeddingTable(table.vectors[30:], table.object_id[30:], path=table.path[30:])
    out = tmp_path / "groups"
    found = pe.clusters(unlabelled, out, reference=reference, n_clusters=2, progress=False)
    assert found.groups["n_images"].tolist() == [15, 15]
    assert set(found.groups["nearest_class"]) <= {"copepod", "Méduse"}
    with pytest.raises(InputError, match="fill in the column name"):
        pe.enroll(reference, out, progress=False)
    names = read(out, "cluster_names.csv")
    first = found.cluster[0]
    names["name"] = np.where(names["cluster"] == first, "Ve\u0301lelle", "")
    blank = "\n" + ";" * (len(names.columns) - 1) + "\n"  # as a spreadsheet program leaves it
    (out / "cluster_names.csv").write_text(names.to_csv(index=False, sep=";") + blank, encoding="utf-8-sig")
    enrolled = pe.enroll(reference, out, progress=False)
    assert len(enrolled) == 45
    assert enrolled.classes == ["Méduse", "Vélelle", "copepod"]
    with pytest.raises(OutputError, match=r"cluster_names\.csv was filled in"):
        pe.clusters(unlabelled, out, overwrite=True, progress=False)
    assert enrolled.object_id[30:].tolist() == table.object_id[30:45].tolist()


def test_grouped_images_without_a_reference_become_one(table, tmp_path, capsys):
    unlabelled = pe.EmbeddingTable(table.vectors, table.object_id, path=table.path)
    path = unlabelled.save(tmp_path / "images.parquet")
    out = tmp_path / "groups"
    found = pe.clusters(path, out, n_clusters=4, progress=False)
    console.clusters(found, {"output": out, "vectors": path, "reference": None, "json": False, "quiet": False})
    assert f"plankton-embed enroll {path} {out} -o reference.parquet" in capsys.readouterr().out
    for others in ({"only": "predictions.csv"}, {}):  # the reference is another file
        labelled = found if others else replace(found, table=table)
        console.clusters(labelled, {"output": out, "vectors": path, "reference": None, "json": False, **others})
        assert f"plankton-embed enroll REFERENCE {out} -o reference.parquet" in capsys.readouterr().out
    names = read(out, "cluster_names.csv")
    names["name"] = ["salp", "", *["copepod"] * (len(names) - 2)]
    names.to_csv(out / "cluster_names.csv", index=False)
    reference = pe.enroll(path, out, progress=False)
    group = dict(zip(names["cluster"], names["name"], strict=True))
    wanted = dict(zip(table.object_id, [group[number] or None for number in found.cluster], strict=True))
    assert dict(zip(reference.object_id, reference.label, strict=True)) == wanted
    assert len(reference) == len(table)
    predictions = pe.classify(reference, path, progress=False).set_index("object_id")["label"]
    assert all(predictions[name] == label for name, label in wanted.items() if label)


def test_the_file_of_names_is_read_under_its_old_name(table, tmp_path, caplog):
    out = tmp_path / "groups"
    pe.clusters(table, out, n_clusters=4, progress=False)
    read(out, "cluster_names.csv").assign(name="salp").to_csv(out / "names.csv", index=False)
    (out / "cluster_names.csv").unlink()
    with caplog.at_level(logging.WARNING):
        enrolled = pe.enroll(pe.EmbeddingTable(table.vectors[:1] + 1, ["a"], ["fish"]), out, progress=False)
    assert "names.csv: this file is now called cluster_names.csv" in caplog.text
    assert (len(enrolled), enrolled.classes) == (61, ["fish", "salp"])
    with pytest.raises(OutputError, match=r"/names\.csv was filled in"):
        pe.clusters(table, out, overwrite=True, progress=False)


def test_what_is_grouped(table, tmp_path):
    some = table.label.copy()
    some[:20] = None
    half = pe.EmbeddingTable(table.vectors, table.object_id, some)
    assert len(pe.clusters(half, progress=False).table) == 20
    assert len(pe.clusters(table, progress=False).table) == 60
    predictions = pd.DataFrame({"object_id": table.object_id, "label": ["unknown"] * 12 + ["salp"] * 48})
    predictions.to_csv(tmp_path / "predictions.csv", index=False)
    (tmp_path / "folder").mkdir()
    predictions[:7].to_parquet(tmp_path / "folder" / "part-000000.parquet")
    predictions[7:].to_parquet(tmp_path / "folder" / "part-000001.parquet")
    predictions.to_parquet(tmp_path / "predictions.parquet")
    for only in (tmp_path / "predictions.csv", tmp_path / "folder", tmp_path / "predictions.parquet", predictions):
        rejected = pe.clusters(table, only=only, progress=False).table
        assert rejected.object_id.tolist() == table.object_id[:12].tolist()
    (tmp_path / "folder" / "notes.txt").touch()
    predictions[["label"]].to_parquet(tmp_path / "labels.parquet")
    (tmp_path / "damaged.parquet").write_text("object_id,label")
    for wrong, message in (
        (tmp_path / "labels.parquet", "labels.parquet: expected predictions .* found no object_id"),
        (tmp_path / "damaged.parquet", "damaged.parquet cannot be read as Parquet"),
        (tmp_path / "folder", "a folder with Parquet files of them and nothing else"),
        (predictions.assign(label="salp"), "0 were rejected, found 0; give"),
        (predictions[["label"]], "object_id"),
    ):
        with pytest.raises(InputError, match=message):
            pe.clusters(table, only=wrong, progress=False)


def test_every_group_is_shown(table, tmp_path):
    pe.clusters(table, tmp_path / "groups", n_clusters=25, progress=False)
    assert sorted(path.name for path in (tmp_path / "groups").glob("*.png")) == ["clusters.png", "clusters_2.png"]
    groups = read(tmp_path / "groups", "clusters.csv")
    assert set(json.loads(groups["central"][0])) <= set(table.object_id)


def test_an_image_of_a_small_group_is_shown_once(table):
    found = pe.clusters(table, n_clusters=8, progress=False)
    (sheet,) = clusters_sheets(found)
    assert found.groups["n_images"].min() < 10 < found.groups["n_images"].max()
    assert [len(tiles) for _, tiles in sheet.rows] == found.groups["n_images"].clip(upper=10).tolist()


def test_the_means_of_many_images_are_reported(table, tmp_path, monkeypatch, capsys):
    def summarize(folder, **options):
        found = pe.clusters(table, folder, progress=False, **options)
        console.clusters(found, {"output": folder, "vectors": "v.parquet", "reference": None, "json": False})
        return [json.loads((folder / "summary.json").read_text())[name] for name in ("n_means", "share_kept")]

    assert summarize(tmp_path / "few") == [None, 1]
    assert "means of similar images" not in capsys.readouterr().out
    monkeypatch.setattr("plankton_embed.analysis.clusters.MOST_EXACT", 59)
    monkeypatch.setattr("plankton_embed.analysis.clusters.MOST_MEANS", 20)
    n_means, kept = summarize(tmp_path / "many")
    assert 10 <= n_means <= 20
    assert 0 < kept < 1
    shown = capsys.readouterr().out
    assert f"60 images were grouped by {n_means} means of similar images" in shown
    assert f"which keep {kept:.1%} of their sum of squares" in shown


def test_images_in_files_are_grouped_as_in_memory(tmp_path, write_shards, monkeypatch):
    monkeypatch.setattr("plankton_embed.analysis.clusters.MOST_EXACT", 500)
    monkeypatch.setattr("plankton_embed.analysis.clusters.MOST_MEANS", 150)
    rng = np.random.default_rng(0)
    vectors = 4 * rng.normal(size=(6, 8))[rng.integers(6, size=1200)] + 0.3 * rng.normal(size=(1200, 8))
    table = pe.EmbeddingTable(vectors, object_id=[f"image {row}" for row in range(1200)])
    folder = write_shards(table, tmp_path / "vectors")
    wanted = pe.clusters(table, n_clusters=6, progress=False)
    found = pe.clusters(folder, tmp_path / "groups", n_clusters=6, progress=False)
    assert found.cluster.tolist() == wanted.cluster.tolist()
    pd.testing.assert_frame_equal(found.groups, wanted.groups, rtol=1e-5)
    np.testing.assert_allclose(found.distance, wanted.distance, rtol=1e-4)
    assert found.share_kept == pytest.approx(wanted.share_kept, abs=0.01)

    every = pd.read_parquet(tmp_path / "groups" / "groups.parquet")
    assert every["object_id"].tolist() == table.object_id.tolist()
    assert every["cluster"].tolist() == wanted.cluster.tolist()
    images, groups = read(tmp_path / "groups", "images.csv"), read(tmp_path / "groups", "clusters.csv")
    shown = {name for column in ("central", "odd") for ids in groups[column] for name in json.loads(ids)}
    assert set(images["object_id"]) == shown and 60 < len(shown) < 1200
    assert json.loads((tmp_path / "groups" / "summary.json").read_text())["n_images"] == 1200

    names = read(tmp_path / "groups", "cluster_names.csv").assign(name=list("abcdef"))
    names.to_csv(tmp_path / "groups" / "cluster_names.csv", index=False)
    labelled = load_named(tmp_path / "groups")
    assert len(labelled) == len(shown)
    group = dict(zip(every["object_id"], every["cluster"], strict=True))
    assert all(
        "abcdef"[group[name] - 1] == label for name, label in zip(labelled.object_id, labelled.label, strict=True)
    )
    names.assign(n_images=names["n_images"] + 1).to_csv(tmp_path / "groups" / "cluster_names.csv", index=False)
    with pytest.raises(InputError, match="given to the groups of another call"):
        load_named(tmp_path / "groups")


def test_dense_groups_are_found_in_files_too(tmp_path, write_shards, monkeypatch):
    monkeypatch.setattr("plankton_embed.analysis.clusters.MOST_EXACT", 500)
    monkeypatch.setattr("plankton_embed.analysis.clusters.MOST_MEANS", 300)
    rng = np.random.default_rng(0)
    dense = 8 * rng.normal(size=(3, 4))[np.arange(900) % 3] + 0.1 * rng.normal(size=(900, 4))
    table = pe.EmbeddingTable(np.concatenate([dense, 30 * rng.normal(size=(100, 4))]))
    found = pe.clusters(write_shards(table, tmp_path / "v"), method="hdbscan", min_size=50, progress=False)
    assert len(found.groups) == 3
    alone = found.cluster == 0
    assert alone[900:].mean() > 0.8 and np.isnan(found.distance[alone]).all()
    for number in (1, 2, 3):
        own = table.vectors[found.cluster == number]
        distances = np.linalg.norm(own - own.mean(axis=0), axis=1)
        np.testing.assert_allclose(found.distance[found.cluster == number], distances, atol=1e-4)
