"""`export`: predictions to EcoTaxa and to IFCB dashboards."""

import re

import numpy as np
import pandas as pd
import pytest

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.page.journal import Journal
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows.classify import classify
from plankton_embed.workflows.export import export

BIN = "D20130526T095207_IFCB013"
CLASSES = ["007", "NA", "egg, small"]


def make_table(n_each, seed):
    """Vectors around a point for each class."""
    codes = np.repeat(np.arange(len(CLASSES)), n_each)
    vectors = 3 * np.eye(len(CLASSES))[codes] + np.random.default_rng(seed).normal(size=(len(codes), len(CLASSES)))
    ids = [f"{BIN}_{seed}{row:04}" for row in range(len(codes))]
    return EmbeddingTable(vectors, object_id=ids, label=np.array(CLASSES, dtype=object)[codes])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Predictions as the command `classify` writes them, and the catalog of their images."""
    folder = tmp_path_factory.mktemp("run")
    reference, calibration, query = (make_table(30, seed) for seed in range(3))
    predictions = classify(
        reference, query, output=folder / "predictions.csv", calibration=calibration, all_probabilities=True,
        unknown_rate=0.2, progress=False,
    )  # fmt: skip
    rows = {"object_id": query.object_id, "path": [f"{n}.png" for n in range(90)], "ifcb_bin": BIN}
    ImageCatalog.from_rows({**rows, "roi_number": range(1, 91)}, root=folder).save(folder / "catalog.csv")
    return folder, predictions


def read_rows(path):
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig", skiprows=[1])


def test_predictions_of_classify_go_to_ecotaxa(files, tmp_path):
    folder, predictions = files
    class_map = tmp_path / "map.csv"
    class_map.write_text('old,new\nNA,sodium<salt\n"egg, small",egg<other\n', encoding="utf-8")
    output = tmp_path / "ecotaxa_predictions.tsv"
    counts = export(folder / "predictions.csv", folder / "catalog.csv", output, class_map=class_map)
    kept = predictions[predictions["label"] != "unknown"]
    assert 0 < len(kept) < len(predictions)
    written = read_rows(output)
    assert written["object_id"].tolist() == kept["object_id"].tolist()
    renamed = kept["label"].replace({"NA": "sodium<salt", "egg, small": "egg<other"})
    assert written["object_annotation_category"].tolist() == renamed.tolist()
    assert "007" in set(written["object_annotation_category"])
    assert (counts.n_rows, counts.n_unknown) == (len(kept), len(predictions) - len(kept))
    export(predictions, ImageCatalog.load(folder / "catalog.csv"), tmp_path / "ecotaxa_2.tsv", class_map=class_map)
    assert (tmp_path / "ecotaxa_2.tsv").read_bytes() == output.read_bytes()
    parts = tmp_path / "parts"  # as classify writes them into a folder
    parts.mkdir()
    for number, rows in enumerate((predictions[:20], predictions[20:])):
        rows.to_parquet(parts / f"{number}.parquet", index=False)
    export(parts, folder / "catalog.csv", tmp_path / "ecotaxa_3.tsv", class_map=class_map)
    assert (tmp_path / "ecotaxa_3.tsv").read_bytes() == output.read_bytes()


def test_scores_of_classify_go_to_a_dashboard(files, tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra ifcb)")
    folder, predictions = files
    counts = export(folder / "predictions.csv", folder / "catalog.csv", tmp_path / "1", target="ifcb", model_id="m")
    assert (counts.n_bins, counts.n_images) == (1, 90)
    assert counts.n_unknown == (predictions["label"] == "unknown").sum()
    scores = predictions[[f"p({name})" for name in CLASSES]].to_numpy()
    with h5py.File(tmp_path / "1" / "D2013" / "D20130526" / f"{BIN}_class.h5") as file:
        assert file["class_labels"].asstr()[:].tolist() == CLASSES
        np.testing.assert_allclose(file["output_scores"][:], scores, rtol=2**-11, atol=2**-25)
        assert file["metadata"].attrs["model_id"] == "m"
        best = file["class_labels"].asstr()[:][file["output_classes"][:].astype(int)]
    assert best.tolist() == predictions["best_label"].tolist()

    merged = {"egg, small": "NA"}
    export(predictions, folder / "catalog.csv", tmp_path / "2", target="ifcb", class_map=merged)
    with h5py.File(tmp_path / "2" / "D2013" / "D20130526" / f"{BIN}_class.h5") as file:
        assert file["class_labels"].asstr()[:].tolist() == ["007", "NA"]
        np.testing.assert_allclose(file["output_scores"][:, 1], scores[:, 1:].sum(axis=1), rtol=2**-11, atol=2**-25)
        assert file["metadata"].attrs["model_id"] == "plankton_embed"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "worms"}, "target: expected one of ecotaxa, ifcb, atlas; found 'worms'"),
        ({"target": "ifcb", "corrections": "j"}, "--corrections): it can only be used with the target ecotaxa; the"),
        ({"coordinates": "c.csv"}, "--coordinates): it can only be used with the target atlas; the target is ecotaxa"),
        ({"target": "atlas"}, "CATALOG: it can only be used with the target ecotaxa or ifcb; the target is atlas"),
        ({"model_id": "m"}, "--model-id): it can only be used with the target ifcb"),
        ({"target": "ifcb", "image_names": True}, "--image-names): it can only be used with the target ecotaxa"),
        (
            {"target": "ifcb", "replace_validated": True},
            "--replace-validated): it can only be used with the target ecotaxa",
        ),
        ({"target": "ifcb", "class_map": {"zebra": "x"}}, "the predictions have no scores of the class zebra"),
        ({"target": "ifcb", "class_map": {"NA": ""}}, "cannot be left out of class scores; give NA a name"),
    ],
)
def test_options_without_meaning_are_refused(files, tmp_path, options, message):
    folder, predictions = files
    with pytest.raises(SettingError, match=re.escape(message)):
        export(predictions, folder / "catalog.csv", tmp_path / "ecotaxa.tsv", **options)
    with pytest.raises(SettingError, match="root: it applies to a catalog file"):
        export(predictions, ImageCatalog.load(folder / "catalog.csv"), tmp_path / "ecotaxa.tsv", root=folder)
    assert not list(tmp_path.iterdir())


def test_predictions_without_all_probabilities_are_not_scores(files, tmp_path):
    folder, predictions = files
    few = predictions[["object_id", "label", "probability"]]
    with pytest.raises(InputError, match="--all-probabilities"):
        export(few, folder / "catalog.csv", tmp_path, target="ifcb")
    few.drop(columns="label").to_csv(tmp_path / "predictions.csv", index=False)
    with pytest.raises(InputError, match=r"predictions\.csv: expected the columns object_id, label; label is missing"):
        export(tmp_path / "predictions.csv", folder / "catalog.csv", tmp_path / "ecotaxa.tsv")
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist"):
        export(tmp_path / "nowhere.csv", folder / "catalog.csv", tmp_path / "ecotaxa.tsv")


@pytest.mark.parametrize(
    "change",
    [
        lambda predictions: predictions.rename(columns={"p(007)": "p(unknown)"}),
        lambda predictions: predictions.assign(best_label="Unknown"),
        lambda predictions: predictions.assign(second_label="unknown"),
        lambda predictions: predictions.drop(
            columns=["best_label", "novelty_score", "threshold"]
        ),  # none could be rejected
    ],
)
def test_a_class_called_as_rejected_images_is_never_dropped_as_one(files, tmp_path, change):
    folder, predictions = files
    with pytest.raises(InputError, match="predictions: expected class names other than unknown"):
        export(change(predictions), folder / "catalog.csv", tmp_path / "ecotaxa.tsv")


def test_labels_written_by_a_person_may_be_unknown(files, tmp_path):
    folder, predictions = files
    plain = predictions[["object_id", "label"]].replace({"label": {"NA": "salt"}})
    assert export(plain, folder / "catalog.csv", tmp_path / "ecotaxa.tsv").n_unknown > 0
    for given in (predictions, plain):  # in EcoTaxa it would be a category
        other = given.replace({"label": {"unknown": "Unknown"}})
        with pytest.raises(InputError, match=r"or unknown, the label of rejected .*'Unknown'; write unknown"):
            export(other, folder / "catalog.csv", tmp_path / "ecotaxa2.tsv")


def test_decisions_of_a_person_are_exported_as_validated(files, tmp_path):
    folder, predictions = files
    predictions = predictions[["object_id", "label"]].replace({"label": {"NA": "salt"}})
    catalog = ImageCatalog.load(folder / "catalog.csv")
    labels = np.where(np.arange(90) < 60, "007", None)
    catalog = ImageCatalog.from_frame(catalog.frame.assign(label=labels))
    ids = catalog.frame["object_id"]
    journal = Journal(tmp_path / "journal.jsonl", "key")
    journal.append({"action": "relabel", "object_ids": [ids[0], ids[89]], "label": "larva"})
    journal.append({"action": "keep", "object_ids": [ids[1], ids[88]]})  # the second has no label to keep
    journal.append({"action": "delete", "object_ids": [ids[2]]})
    journal.append({"action": "keep", "object_ids": ["elsewhere"]})
    journal.close()
    output = tmp_path / "ecotaxa.tsv"
    counts = export(predictions[:89], catalog, output, corrections=tmp_path / "journal.jsonl")
    written = read_rows(output).set_index("object_id")
    assert written.loc[[ids[0], ids[89]], "object_annotation_category"].tolist() == ["larva"] * 2  # one unpredicted
    assert written.loc[ids[1], "object_annotation_category"] == "007"
    assert ids[2] not in written.index
    status = written["object_annotation_status"]
    assert status[status == "validated"].index.tolist() == [ids[0], ids[1], ids[89]]
    assert set(status) == {"validated", "predicted"}
    assert (counts.n_corrected, counts.n_deleted, counts.n_unnamed) == (3, 1, 0)
    class_map = {"larva": "zoea<Decapoda"}
    frame = pd.DataFrame({"object_id": [ids[0]], "action": ["relabel"], "label": ["larva"]})
    export(predictions, catalog, tmp_path / "ecotaxa2.tsv", corrections=frame, class_map=class_map)
    assert read_rows(tmp_path / "ecotaxa2.tsv")["object_annotation_category"][0] == "zoea<Decapoda"
    (tmp_path / "map.csv").write_text("old,new\nlarva,zoea\n", encoding="utf-8")
    export(predictions, catalog, tmp_path / "ecotaxa3.tsv", corrections=frame, class_map=tmp_path / "map.csv")
    with pytest.raises(InputError, match="corrections: expected class names other than unknown"):
        export(predictions, catalog, tmp_path / "ecotaxa4.tsv", corrections=frame.assign(label="unknown"))
    with pytest.raises(InputError, match="none of their 1 images is in the catalog, such as x"):
        export(predictions, catalog, tmp_path / "ecotaxa4.tsv", corrections=frame.assign(object_id="x"))


def test_vectors_go_to_embedding_atlas(tmp_path, run_of_three, reference, calibration, query, write_shards):
    counts = export(run_of_three.path, output=tmp_path / "atlas.parquet", target="atlas")
    frame = pd.read_parquet(tmp_path / "atlas.parquet")
    assert counts.n_rows == len(frame) == len(reference) + len(calibration) + len(query)
    assert frame["split"].value_counts().to_dict() == {"train": 240, "val": 160, "test": 400}
    assert (frame["guess"] == frame["label"]).mean() > 0.5
    query.save(tmp_path / "v.parquet")
    assert export(tmp_path / "v.parquet", output=tmp_path / "2.parquet", target="atlas").n_rows == 400
    with pytest.raises(SettingError, match="atlas takes vectors"):
        export(pd.DataFrame(), output=tmp_path / "3.parquet", target="atlas")
    with pytest.raises(SettingError, match="expected a file or folder to write"):
        export(query, target="atlas")
    with pytest.raises(SettingError, match="needs the catalog of the images"):
        export(pd.DataFrame(), output=tmp_path / "ecotaxa.tsv")
    with pytest.raises(SettingError, match="takes predictions of classify; found vectors"):
        export(query, "catalog.csv", tmp_path / "ecotaxa.tsv")
    vectors = write_shards(query, tmp_path / "vectors")
    with pytest.raises(SettingError, match="takes predictions of classify; found vectors"):
        export(vectors, "catalog.csv", tmp_path / "ecotaxa.tsv")
    (tmp_path / "files").mkdir()
    pd.DataFrame({"path": ["a"], "object_id": ["a"]}).to_parquet(tmp_path / "files" / "0.parquet")
    with pytest.raises(InputError, match="found no label"):
        export(tmp_path / "files", "catalog.csv", tmp_path / "ecotaxa.tsv")


def test_keep_in_a_table_counts_only_where_somebody_has_decided(files, tmp_path, caplog):
    folder, predictions = files
    catalog = ImageCatalog.load(folder / "catalog.csv")
    catalog = ImageCatalog.from_frame(catalog.frame.assign(label="007"))
    ids = catalog.frame["object_id"]
    columns = {"object_id": ids[:3], "action": "keep", "label": "007", "decided_at": ["", "2026-01-02T03:04Z", None]}
    pd.DataFrame(columns).to_csv(tmp_path / "corrections.csv", index=False)
    output = tmp_path / "ecotaxa.tsv"
    predictions = predictions[["object_id", "label"]].replace({"label": {"NA": "salt"}})
    counts = export(predictions, catalog, output, corrections=tmp_path / "corrections.csv")
    written = read_rows(output).set_index("object_id")["object_annotation_status"]
    assert written.index[written == "validated"].tolist() == [ids[1]]
    assert counts.n_corrected == 1
    assert "2 corrections with the action keep have no time in decided_at" in caplog.text
