"""What commands read: vectors, the calibration set beside a reference, and the settings of its run."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed.analysis.taxonomy_files import parse_newick
from plankton_embed.classifiers import prediction as prediction_module
from plankton_embed.classifiers.prediction import fit_classifier
from plankton_embed.errors import InputError, MismatchError, SettingError
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.workflows import enroll as enroll_module
from plankton_embed.workflows import suspects as suspects_module
from plankton_embed.workflows.inputs import count_shared, find_calibration, load_vectors, recognize


@pytest.fixture
def other_model(finished, tmp_path):
    """An untrained model of the same shape as the run's."""
    settings = Settings.load(finished.folder.settings)
    model = pe.EmbeddingModel.build(settings.network, settings.preparation, seed=99).to("cpu")
    model.save(tmp_path / "other")
    return model


def test_vectors_of_another_model_are_refused_and_both_hashes_named(finished, other_model, images, tmp_path):
    mine, other = finished.model.hash, other_model.hash
    files = sorted((images / "detritus").glob("*.png"))[:2]
    with pytest.raises(MismatchError, match=f"(?s){mine}.*{other}"):
        pe.search(finished.folder.path, files, model=other_model, progress=False)
    query = pe.embed(other_model, files, progress=False)
    with pytest.raises(MismatchError, match=f"(?s){mine}.*{other}"):
        pe.classify(finished.folder.path, query)
    query.save(tmp_path / "query.parquet")
    with pytest.raises(MismatchError, match=f"(?s){mine}.*{other}"):
        pe.evaluate(finished.folder.vectors("train"), tmp_path / "query.parquet")


def test_shared_images_are_counted_in_the_first_table_whichever_is_larger():
    few, many = pe.EmbeddingTable(np.eye(4)[[0, 1, 1]]), pe.EmbeddingTable(np.eye(4)[[1, 2, 3, 1, 1, 2]])
    assert (count_shared(few, many), count_shared(many, few)) == (2, 3)
    assert count_shared(few, many.select([1, 2])) == count_shared(few, many.select([])) == 0


def find(folder, query, **more):
    return find_calibration(
        folder / "train.parquet", None, pe.EmbeddingTable.load(folder / "train.parquet"), query, **more
    )


def test_the_calibration_set_lies_beside_the_reference(reference, calibration, query, tmp_path, caplog):
    reference.save(tmp_path / "train.parquet")
    assert find(tmp_path, query) is None
    calibration.save(tmp_path / "val.parquet")
    with caplog.at_level("INFO", logger="plankton_embed"):
        names = pe.classify(tmp_path / "train.parquet", query, unknown_rate=0.05, progress=False)
    assert f"calibration: {tmp_path / 'val.parquet'}" in caplog.text
    assert names["probability"].notna().all()
    assert find_calibration(tmp_path / "val.parquet", None, calibration, query) is None  # the reference itself


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda calibration, query: query, "contains images of the query"),
        (
            lambda calibration, query: replace(calibration, label=None),
            "has no labelled image of a class of the reference",
        ),
        (
            lambda calibration, query: replace(calibration, label=["zebra"] * len(calibration)),
            "has no labelled image of a class of the reference",
        ),
        (lambda calibration, query: replace(calibration, provenance={"model_hash": "x"}), "was made by another model"),
    ],
)
def test_what_lies_beside_and_cannot_serve_is_passed_over_unless_needed(
    reference, calibration, query, tmp_path, caplog, change, why
):
    reference.save(tmp_path / "train.parquet")
    change(calibration, query).save(tmp_path / "val.parquet")
    with caplog.at_level("INFO", logger="plankton_embed"):
        assert pe.classify(tmp_path / "train.parquet", query, progress=False)["probability"].isna().all()
    assert why in caplog.text
    with pytest.raises(InputError, match=rf"refusing needs a calibration set.*{why}"):
        pe.classify(tmp_path / "train.parquet", query, unknown_rate=0.1, progress=False)


def test_a_calibration_set_that_is_the_query_flatters_and_that_is_said(reference, query, caplog):
    pe.classify(reference, query, calibration=query, progress=False)
    assert "400 of the query's images are in the calibration set too" in caplog.text


def test_calibration_images_that_the_model_was_trained_on_are_warned_of(reference, calibration, query, caplog):
    seen = np.arange(len(calibration)) % 3 == 0
    pe.classify(reference, query, calibration=replace(calibration, columns={"seen": seen}), progress=False)
    n_seen = (seen & calibration.is_labelled).sum()
    assert f"calibration: {n_seen} of {calibration.is_labelled.sum()} images were training images" in caplog.text
    caplog.clear()
    pe.classify(reference, query, calibration=calibration, progress=False)
    assert "training images" not in caplog.text


def test_a_calibration_set_of_another_model_is_refused(reference, query, make_table):
    with pytest.raises(MismatchError, match="calibration by model other"):
        pe.classify(reference, query, calibration=make_table(40, 1, model_hash="other"), progress=False)


def test_a_table_with_a_class_called_unknown_is_refused_at_once(tmp_path):
    rng = np.random.default_rng(0)
    good = pe.EmbeddingTable(rng.normal(size=(40, 3)), label=["a", "b"] * 20)
    bad = pe.EmbeddingTable(rng.normal(size=(40, 3)), [f"n{n}" for n in range(40)], ["a", "Unknown"] * 20)
    bad.save(tmp_path / "bad.parquet")
    for reference, query, options in ((bad, good, {}), (good, bad, {}), (good, good, {"calibration": bad})):
        for verb in (pe.classify, pe.evaluate):
            with pytest.raises(InputError, match=r"other than unknown.*found the class 'Unknown'"):
                verb(reference, query, **options, progress=False)
    with pytest.raises(InputError, match=r"bad\.parquet: expected class names other than unknown"):
        pe.classify(tmp_path / "bad.parquet", good, progress=False)
    for verb in (pe.enroll, pe.abundance):
        for reference, query in ((bad, good), (good, bad)):
            with pytest.raises(InputError, match="found the class 'Unknown'"):
                verb(reference, query, progress=False)


@pytest.mark.parametrize("place", ["", "vectors/train.parquet", "mine.npz"])
def test_the_k_of_a_run_is_that_of_its_vectors(run_of_three, calibration, query, place):
    naming = {"calibration": calibration, "progress": False}
    names = pe.classify(run_of_three.path / place, query, "knn", **naming)
    three, ten = (pe.classify(run_of_three.path, query, "knn", n_neighbors=k, **naming) for k in (3, 10))
    pd.testing.assert_frame_equal(names, three)
    assert not names.equals(ten)


def test_elsewhere_k_is_the_default(run_of_three, reference, query, tmp_path):
    reference.save(tmp_path / "copied.parquet")
    for given in (reference, tmp_path / "copied.parquet"):
        ten = pe.classify(given, query, "knn", n_neighbors=10, progress=False)
        pd.testing.assert_frame_equal(pe.classify(given, query, "knn", progress=False), ten)


@pytest.mark.parametrize(
    "command",
    [
        lambda run, query: pe.evaluate(run, query, "knn"),
        lambda run, query: pe.abundance(run, query, method="knn", n_draws=20),
        lambda run, query: pe.shift(run, query, method="knn", n_permutations=1000),
        lambda run, query: pe.taxonomy(
            run, parse_newick("('Calanus',('Méduse<Cnidaria','фиш, egg'),'detritus');"), query=query
        ),
    ],
)
def test_every_command_takes_the_k_of_the_run(run_of_three, query, command, monkeypatch):
    ks = []

    def spy(reference, method, k, *arguments, **options):
        ks.append(k)
        return fit_classifier(reference, method, k, *arguments, **options)

    monkeypatch.setattr(prediction_module, "fit_classifier", spy)
    command(run_of_three.path, query)
    assert ks == [3]


def test_suspects_and_the_curve_of_enrolled_classes_take_the_k_of_the_run(
    run_of_three, tmp_path, monkeypatch, make_table
):
    path, ks = run_of_three.vectors("train"), []
    for module, name in ((suspects_module, "find_suspects"), (enroll_module, "measure_learning")):
        inner = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, _inner=inner, **o: ks.append(o["n_neighbors"]) or _inner(*a, **o))
    pe.suspects(path, n_folds=0, progress=False)
    new = make_table(9, 9, classes=("larva",))
    pe.enroll(path, new, tmp_path / "both.parquet", curve=True, n_draws=1, progress=False)
    assert ks == [3, 3]


def test_settings_that_cannot_be_read_are_an_error(run_of_three, query):
    run_of_three.settings.write_text("classification:\n  n_nachbarn: 3\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"settings\.yaml cannot be used: .*n_nachbarn.*\n.*copy the vectors out"):
        pe.classify(run_of_three.path, query, progress=False)


@pytest.mark.parametrize("command", [pe.abundance, pe.shift])
def test_counts_and_shift_draw_whole_calibration_samples(reference, calibration, query, command, tmp_path):
    options = {"n_draws": 20, "progress": False}
    tows = np.array([f"tow {number}" for number in range(8)], dtype=object)
    of = {n: replace(calibration, sample_id=tows[np.arange(len(calibration)) % n]) for n in (4, 8)}
    new = replace(query, sample_id=tows[np.arange(len(query)) % 2])
    for column, n in ((None, 8), ("sample_id", 8)):
        out = tmp_path / str(column)
        command(reference, new, out, calibration=of[n], intervals_by=column, **options)
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        assert summary["intervals_by"] == (column or "image")
    with pytest.raises(InputError, match="expected calibration images with at least 5 values of sample_id; found 4"):
        command(reference, new, calibration=of[4], intervals_by="sample_id", **options)


def test_copies_with_two_labels_calibrate_nothing_nor_images_of_the_reference(reference, calibration, query, caplog):
    """Rows 0 and 50 are copies of one another; rows 1 and 2 of images of the reference, row 1 with another label."""
    vectors = calibration.vectors.copy()
    vectors[50], vectors[1], vectors[2] = vectors[0], reference.vectors[-1], reference.vectors[0]
    assert calibration.label[0] != calibration.label[50]
    assert calibration.label[2] == reference.label[0]
    found = find_calibration(reference, replace(calibration, vectors=vectors), reference, query)
    assert np.flatnonzero(~np.isin(calibration.object_id, found.object_id)).tolist() == [0, 1, 2, 50]
    assert "calibration: 3 of 160 images have a copy (an equal vector) with another label" in caplog.text
    assert "calibration: 1 of 157 images are in the reference too" in caplog.text
    with pytest.raises(InputError, match="all images of the reference's classes are in the reference too"):
        find_calibration(reference, reference, reference, query)
    vectors[[0, -1]] = vectors[0]
    pair = replace(calibration, vectors=vectors).select(np.isin(np.arange(160), [0, 159]))
    with pytest.raises(InputError, match="every image has a copy"):
        find_calibration(reference, pair, reference, query)


def test_a_run_shows_images_that_it_was_not_trained_on(filmed, tmp_path, caplog):
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
    with pytest.raises(InputError, match="has no test vectors; it has val, train"):
        analyse("pca", run.path, split="test")
    caplog.clear()
    run.vectors("val").unlink()
    assert analyse("dendrogram", run.path)["n_vectors"] == n["train"]
    assert "look better separated than they are" in caplog.text
    with pytest.raises(SettingError, match="expected train, val, test; found 'all'"):
        analyse("pca", run.path, split="all")
    with pytest.raises(SettingError, match="these are a table"):
        analyse("pca", run.vectors("train"), split="train")


def test_every_kind_of_path_is_recognized(finished, reference, images, tmp_path, write_shards):
    reference.save(tmp_path / "v.parquet")
    reference.save(tmp_path / "v.csv")
    pe.ImageCatalog.load(finished.folder.catalog).save(tmp_path / "c.parquet")
    (tmp_path / "bare" / "vectors").mkdir(parents=True)
    reference.save(tmp_path / "bare" / "vectors" / "train.parquet")  # a run of which only the vectors were copied
    catalog = pe.ImageCatalog.load(finished.folder.catalog)
    kinds = {
        write_shards(reference, tmp_path / "v_shards"): "vectors",
        write_shards(catalog, tmp_path / "c_shards"): "catalog",
        finished.folder.vectors("test").parent: "images",  # its tables are not one
        finished.folder.path: "run",
        tmp_path / "bare": "run",
        finished.folder.index: "index",
        finished.folder.model: "model",
        finished.folder.vectors("test"): "vectors",
        tmp_path / "v.csv": "vectors",
        tmp_path / "absent.npz": "vectors",
        finished.folder.catalog: "catalog",
        tmp_path / "c.parquet": "catalog",
        images: "images",
        next(images.rglob("*.png")): "images",
    }
    assert {path: recognize(path) for path in kinds} == kinds


def test_folders_of_parquet_files_are_read_where_files_are(finished, reference, query, tmp_path, write_shards):
    vectors, catalog = write_shards(reference, tmp_path / "v"), pe.ImageCatalog.load(finished.folder.catalog)
    (vectors.parent / "val.parquet").unlink(missing_ok=True)
    for given in (vectors, pe.VectorShards.open(vectors)):
        assert load_vectors(given).object_id.tolist() == reference.object_id.tolist()
        wanted = pe.classify(reference, query, progress=False)
        pd.testing.assert_frame_equal(pe.classify(given, query, progress=False), wanted)
    assert len(pe.pca(vectors, tmp_path / "pca").table) == len(reference)
    shards = write_shards(catalog, tmp_path / "c")
    found = pe.classify(finished.folder.path, shards, progress=False)
    assert found["object_id"].tolist() == catalog.frame["object_id"].tolist()
    with pytest.raises(InputError, match="found Parquet catalogs"):
        load_vectors(shards)
    with pytest.raises(InputError, match=r"another model|made by model"):
        pe.classify(finished.folder.path, vectors, progress=False)


def test_a_calibration_set_in_common_with_shards_is_found(calibration, query, reference, tmp_path, write_shards):
    both = query.join(calibration.select(np.arange(10)))
    shards = pe.VectorShards.open(write_shards(both, tmp_path / "q"))
    for left, right in ((shards, calibration), (calibration, shards), (shards, reference)):
        tables = [v.load() if isinstance(v, pe.VectorShards) else v for v in (left, right)]
        assert count_shared(left, right) == count_shared(*tables)
    assert count_shared(calibration, shards) == count_shared(shards, calibration) == 10


@pytest.mark.parametrize(("folder", "found"), [("index", "an index"), ("model", "a model"), ("figures", "a folder")])
def test_a_folder_without_vectors_is_named_for_what_it_is(finished, folder, found):
    with pytest.raises(InputError, match=f"expected vectors, in a file or in the folder of a run; found {found}"):
        load_vectors(finished.folder.path / folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "index.faiss"])
def test_a_file_beside_the_images_does_not_hide_them(finished, images, name, tmp_path):
    shutil.copytree(images / "detritus", tmp_path / "images")
    (tmp_path / "images" / name).write_bytes(b"0")
    assert len(pe.classify(finished.folder.path, tmp_path / "images", progress=False)) == 12


def test_vectors_in_a_folder_of_images_are_the_query_with_a_warning(finished, images, tmp_path, caplog):
    shutil.copytree(images / "detritus", tmp_path / "images")
    folder = RunFolder(tmp_path / "images")
    shutil.copytree(finished.folder.path / "vectors", folder.path / "vectors")
    found = pe.classify(finished.folder.path, folder.path, progress=False)
    assert len(found) == len(pe.EmbeddingTable.load(folder.vectors("test")))
    assert f"the query is {folder.vectors('test')}, and images in the folder are not read" in caplog.text


def test_figures_of_a_run_are_not_read_as_images(finished, images, tmp_path, caplog):
    for read in (pe.catalog, lambda source, **_: pe.embed(finished.model, source, progress=False)):
        with pytest.raises(InputError, match=r"is the folder of a run, whose pictures are figures.*catalog\.csv"):
            read(finished.folder.path, progress=False)
    shutil.copytree(images / "detritus", tmp_path / "images" / "detritus")
    shutil.copytree(finished.folder.path, tmp_path / "images" / "run")
    assert pe.catalog(tmp_path / "images", progress=False).classes == ["detritus"]
    assert f"{tmp_path / 'images' / 'run'}: it is the folder of a run" in caplog.text
