"""Naming, scoring, refusing and enrolling vectors of any model."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import plankton_embed as pe
from plankton_embed.analysis.taxonomy_files import parse_newick
from plankton_embed.classifiers import prediction as prediction_module
from plankton_embed.classifiers.calibration import measure_reliability
from plankton_embed.classifiers.mlp import MLPClassifier
from plankton_embed.classifiers.prediction import fit_classifier
from plankton_embed.classifiers.scoring import score_names
from plankton_embed.errors import InputError, MismatchError, OutputError, SettingError
from plankton_embed.run_folder import RunFolder
from plankton_embed.workflows import enroll as enroll_module
from plankton_embed.workflows import suspects as suspects_module
from plankton_embed.workflows.inputs import find_calibration

METHODS = ["centroid", "knn", "mlp"]


def make_table(n_each, seed, classes=("Calanus", "Méduse<Cnidaria", "фиш, egg", "detritus"), **provenance):
    """Vectors of a stranger's model: each class around a point of its own."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(classes)), n_each)
    vectors = np.random.default_rng(7).normal(size=(len(classes), 6))[codes] * 1.5 + rng.normal(size=(len(codes), 6))
    ids = [f"{seed}/{row}" for row in range(len(codes))]
    return pe.EmbeddingTable(
        vectors, object_id=ids, label=np.array(classes, dtype=object)[codes], provenance=provenance
    )


@pytest.fixture(scope="module")
def known():
    return make_table(60, 0)


@pytest.fixture(scope="module")
def held():
    return make_table(40, 1)


@pytest.fixture(scope="module")
def asked():
    return make_table(100, 2)


@pytest.fixture(scope="module", params=[".parquet", ".npz", ".csv"])
def files(known, held, asked, request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    for name, table in (("train", known), ("calibration", held), ("asked", asked)):
        table.save(folder / f"{name}{request.param}")
    return {name: folder / f"{name}{request.param}" for name in ("train", "calibration", "asked")}


# ------------------------------------------------------------------------------------------ classify


@pytest.mark.parametrize("method", METHODS)
def test_vectors_of_any_model_are_named_with_their_probability_and_refused(files, asked, method, tmp_path):
    names = pe.classify(
        files["train"], files["asked"], method, tmp_path / "names.csv",
        calibration=files["calibration"], unknown_rate=0.1, progress=False,
    )  # fmt: skip
    columns = ["object_id", "path", "label", "probability", "distance"]
    seconds = ["second_label", "second_probability", "second_distance"]
    assert names.columns.tolist() == [*columns, *seconds, "best_label", "strangeness", "threshold", "true_label"]
    assert (tmp_path / "names.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # by which Excel knows UTF-8
    written = pd.read_csv(tmp_path / "names.csv", keep_default_na=False)
    assert written["label"].tolist() == names["label"].tolist()
    refused = names["label"] == "unknown"
    np.testing.assert_array_equal(refused, names["strangeness"] > names["threshold"])
    assert 0.03 < refused.mean() < 0.2
    assert (names["best_label"][~refused] == names["label"][~refused]).all()
    assert (names["best_label"] != names["second_label"]).all()
    assert names["probability"].between(0.25, 1).all()
    assert (names["probability"] >= names["second_probability"]).all()
    right = names["best_label"] == asked.label
    assert right.mean() > 0.8
    assert measure_reliability(names["probability"], right).ece < 0.08


def test_nobody_is_refused_unless_asked_for(known, held, asked):
    names = pe.classify(known, asked, "knn", calibration=held, progress=False)
    assert "unknown" not in set(names["label"])
    assert "best_label" not in names
    assert names["probability"].notna().all()


def test_without_a_calibration_set_there_is_no_probability_and_no_refusing(known, held, asked):
    assert pe.classify(known, asked, progress=False)["probability"].isna().all()
    assert pe.classify(known, asked, calibration=held, probabilities=False, progress=False)["probability"].isna().all()
    for asking in ({"probabilities": True}, {"unknown_rate": 0.05}):
        with pytest.raises(InputError, match=r"needs a calibration set.*--calibration"):
            pe.classify(known, asked, progress=False, **asking)


def find(folder, asked, **more):
    return find_calibration(
        folder / "train.parquet", None, pe.EmbeddingTable.load(folder / "train.parquet"), asked, **more
    )


def test_the_calibration_set_lies_beside_the_reference(known, held, asked, tmp_path, caplog):
    known.save(tmp_path / "train.parquet")
    assert find(tmp_path, asked) is None
    held.save(tmp_path / "val.parquet")
    with caplog.at_level("INFO", logger="plankton_embed"):
        names = pe.classify(tmp_path / "train.parquet", asked, unknown_rate=0.05, progress=False)
    assert f"calibration: {tmp_path / 'val.parquet'}" in caplog.text
    assert names["probability"].notna().all()
    assert find_calibration(tmp_path / "val.parquet", None, held, asked) is None  # the reference itself


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda held, asked: asked, "holds images of the query"),
        (lambda held, asked: replace(held, label=None), "has no labelled image of a known class"),
        (lambda held, asked: replace(held, label=["zebra"] * len(held)), "has no labelled image of a known class"),
        (lambda held, asked: replace(held, provenance={"model_hash": "x"}), "was made by another model"),
    ],
)
def test_what_lies_beside_and_cannot_serve_is_passed_over_unless_needed(
    known, held, asked, tmp_path, caplog, change, why
):
    known.save(tmp_path / "train.parquet")
    change(held, asked).save(tmp_path / "val.parquet")
    with caplog.at_level("INFO", logger="plankton_embed"):
        assert pe.classify(tmp_path / "train.parquet", asked, progress=False)["probability"].isna().all()
    assert why in caplog.text
    with pytest.raises(InputError, match=rf"refusing needs a calibration set.*{why}"):
        pe.classify(tmp_path / "train.parquet", asked, unknown_rate=0.1, progress=False)


def test_a_calibration_set_that_is_the_query_flatters_and_that_is_said(known, asked, caplog):
    pe.classify(known, asked, calibration=asked, progress=False)
    assert "400 of the query's images are in the calibration set too" in caplog.text


def test_unlabelled_calibration_images_set_no_threshold(known, held, asked):
    strangers = np.random.default_rng(0).normal(size=(100, 6)) * 9
    more = pe.EmbeddingTable(np.concatenate([held.vectors, strangers]), label=[*held.label, *[None] * 100])
    names = [pe.classify(known, asked, calibration=t, unknown_rate=0.1, progress=False) for t in (held, more)]
    np.testing.assert_array_equal(names[0]["threshold"], names[1]["threshold"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"refuse_by": "density"}, "give the unknown rate too"),
        ({"refuse_by": "nonsense", "unknown_rate": 0.1}, "nonsense"),
        ({"unknown_rate": 5}, "unknown rate"),
        ({"n_neighbors": 3}, "method knn"),
        ({"method": "knn", "n_neighbors": 0}, "at least 1; found 0"),
        ({"method": "tree"}, "tree"),
    ],
)
def test_options_that_cannot_be_used_are_refused(known, held, asked, arguments, message):
    with pytest.raises(SettingError, match=message):
        pe.classify(known, asked, calibration=held, progress=False, **arguments)


def test_a_status_goes_with_images(known, held, asked, files, tmp_path):
    for given in (asked, files["asked"]):
        with pytest.raises(SettingError, match="status: it goes with images; the query is vectors"):
            pe.evaluate(known, given, calibration=held, status="validated")
    unlabelled = replace(asked, label=np.full(len(asked), None, dtype=object))
    with pytest.raises(InputError, match=r"the query has no labels.* --status validated,predicted takes more"):
        pe.evaluate(known, unlabelled, calibration=held)


def test_a_calibration_set_of_another_model_is_refused(known, asked):
    with pytest.raises(MismatchError, match="calibration by model stranger"):
        pe.classify(known, asked, calibration=make_table(40, 1, model_hash="stranger"), progress=False)


def test_an_empty_query_gets_no_names(known, held):
    for method in METHODS:
        names = pe.classify(known, known.select([]), method, calibration=held, unknown_rate=0.1, progress=False)
        assert len(names) == 0
        assert {"label", "probability", "strangeness"} <= set(names)


def test_a_reference_of_few_images_is_named_by_all_of_them(held, asked):
    few = make_table(2, 0)
    names = pe.classify(few, asked, "knn", calibration=held, unknown_rate=0.1, progress=False)
    assert set(names["label"]) - {"unknown"} <= set(few.classes)
    with pytest.raises(InputError, match=r"1 to 8.*found 9"):
        pe.classify(few, asked, "knn", n_neighbors=9, progress=False)


def test_a_class_with_one_example_can_be_named(known, held, asked):
    lone = pe.EmbeddingTable(np.full((1, 6), 9.0), object_id=["lone"], label=["lone"])
    from plankton_embed.classifiers.enrollment import add_examples

    for method in ("centroid", "knn"):
        query = pe.EmbeddingTable(np.full((1, 6), 9.0))
        k = {"n_neighbors": 1} if method == "knn" else {}
        names = pe.classify(
            add_examples(known, lone), query, method, calibration=held, unknown_rate=0.1, progress=False, **k
        )
        assert names["best_label"].tolist() == ["lone"]


# ------------------------------------------------------------------------------------------ evaluate


@pytest.mark.parametrize("method", METHODS)
def test_an_evaluation_leaves_its_tables_and_pictures(files, method, tmp_path):
    found = pe.evaluate(
        files["train"], files["asked"], method, tmp_path / "out", calibration=files["calibration"],
        unseen=["detritus"], progress=False,
    )  # fmt: skip
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written >= {
        "scores.json", "predictions.csv", "per_class.csv", "confusion.csv", "reliability.csv", "reliability.png",
        "thresholds.csv", "counts.csv", "counts.png", "open_set_curve.csv", "open_set.png",
    }  # fmt: skip
    scores = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    assert scores["n_images"] == 300  # those of the three known classes
    assert 0 <= scores["calibration"]["ece"] <= 1
    assert scores["refusing"]["unknown_rate"] == 0.05
    assert scores["open_set"]["n_unseen"] == 100
    names = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert "detritus" not in set(names["best_label"])
    assert scores["open_set"]["auroc"] == pytest.approx(
        roc_auc_score(names["true_label"] == "detritus", names["strangeness"])
    )
    known = names[names["true_label"] != "detritus"]
    assert scores["accuracy"] == pytest.approx((known["best_label"] == known["true_label"]).mean())
    counts = pd.read_csv(tmp_path / "out" / "counts.csv").set_index("label")
    assert counts.loc["unknown", "kept"] == (names["label"] == "unknown").sum()
    assert counts.loc["detritus", "forced"] == 0
    if method == "mlp":
        assert (tmp_path / "out" / "head_curves.png").exists()
        head = MLPClassifier.load(tmp_path / "out" / "classifier")
        vectors = pe.EmbeddingTable.load(files["asked"]).vectors
        np.testing.assert_array_equal(head.predict(vectors), names["best_label"])
    assert found.open_set.auroc > 0.6


def test_the_temperature_mends_the_probabilities(known, held, asked):
    found = pe.evaluate(known, asked, "centroid", calibration=held, progress=False)
    before, after = found.reliability
    assert after.ece < before.ece
    assert after.ece < 0.06


def test_without_a_calibration_set_scores_are_as_they_were(known, asked):
    found = pe.evaluate(known, asked, "knn", progress=False)
    assert found.reliability is None
    assert found.open_set is None
    assert not {"calibration", "refusing", "open_set"} & set(found.to_dict())
    with pytest.raises(InputError, match="needs a calibration set"):
        pe.evaluate(known, asked, unseen=["detritus"], progress=False)


def test_classes_to_withhold_must_be_there(known, held, asked):
    with pytest.raises(InputError, match=r"unseen: expected classes of the reference, .*; found \['whale'\]"):
        pe.evaluate(known, asked, calibration=held, unseen=["whale"], progress=False)


def test_withheld_classes_must_be_in_the_query(known, held, asked):
    without = asked.select(asked.label != "detritus")
    for query in (without, asked.select(asked.label == "detritus")):
        with pytest.raises(
            InputError, match="expected images of these classes and of others in the query; found one kind"
        ):
            pe.evaluate(known, query, calibration=held, unseen=["detritus"], progress=False)


def test_labels_that_the_reference_lacks_are_scored_apart(known, asked, tmp_path, caplog):
    other = asked.label.copy()
    other[other == "detritus"] = "Detritus (dead)"
    found = pe.evaluate(known, replace(asked, label=other), "knn", tmp_path / "out", progress=False)
    told = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    missing = {"label": "Detritus (dead)", "n_images": 100, "share": 0.25, "nearest": "detritus"}
    assert told["missing_classes"] == found.missing.to_dict("records") == [missing]
    right = (found.names["label"] == found.names["true_label"]).to_numpy()
    assert told["accuracy"] == right.mean()
    shared = told["shared_classes"]
    assert (shared["n_images"], shared["accuracy"]) == (300, right[other != "Detritus (dead)"].mean())
    assert set(shared["intervals_95"]) == set(told["intervals_95"])
    assert "1 labels of the query (100 images, 25.0 %) are not among the 4 classes" in caplog.text
    assert told["retrieval_of"] == "queries: a table, gallery: a table"
    whole = pe.evaluate(known, asked, "knn", progress=False).to_dict()
    assert whole["missing_classes"] == [] and "shared_classes" not in whole


def test_a_query_without_a_shared_class_has_no_score_over_them(known, asked):
    found = pe.evaluate(known, replace(asked, label=["whale"] * len(asked)), progress=False).to_dict()
    assert found["shared_classes"] is None and found["missing_classes"][0]["share"] == 1


def test_withheld_classes_are_not_listed_as_missing(known, held, asked):
    found = pe.evaluate(known, asked, calibration=held, unseen=["detritus"], progress=False)
    assert found.missing.empty


# ------------------------------------------------------------------------------------------ enroll


def test_a_class_enrolled_is_named_and_the_curve_is_drawn(files, asked, tmp_path):
    new = make_table(30, 9, classes=("Calanus", "larva", "nauplius"))
    new.save(tmp_path / "new.npz")
    both = pe.enroll(
        files["train"], tmp_path / "new.npz", tmp_path / "both.parquet", curve=True, query=files["asked"], n_draws=2,
        progress=False,
    )  # fmt: skip
    assert both.classes == sorted({*asked.classes, "larva", "nauplius"})
    again = pe.EmbeddingTable.load(tmp_path / "both.parquet")
    np.testing.assert_array_equal(again.vectors, both.vectors)
    assert "larva" in set(pe.classify(tmp_path / "both.parquet", new, progress=False)["label"])
    folder = tmp_path / "both_curve"
    assert {p.name for p in folder.iterdir()} == {"draws.csv", "learning_curve.csv", "learning_curve.png"}
    assert pd.read_csv(folder / "learning_curve.csv")["n_examples"].unique().tolist() == [1, 2, 5, 10, 20]


def test_enrolling_overwrites_nothing_and_refuses_what_it_would_not_use(files, known, tmp_path):
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


# ------------------------------------------------------------------------------------------ all probabilities


@pytest.mark.parametrize("method", METHODS)
def test_the_probabilities_of_all_classes_stand_beside_the_names(known, held, asked, method, tmp_path):
    arguments = {"calibration": held, "unknown_rate": 0.1, "progress": False}
    plain = pe.classify(known, asked, method, **arguments)
    names = pe.classify(known, asked, method, tmp_path / "names.csv", all_probabilities=True, **arguments)
    columns = [f"p({name})" for name in known.classes]
    assert names.columns.tolist() == [*plain.columns, *columns]
    pd.testing.assert_frame_equal(names[plain.columns], plain)
    chances = names[columns].to_numpy()
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    named = [row[f"p({row['best_label']})"] for row in names.to_dict("records")]
    np.testing.assert_array_equal(named, names["probability"])
    assert pd.read_csv(tmp_path / "names.csv").columns.tolist() == names.columns.tolist()
    empty = pe.classify(known, known.select([]), method, calibration=held, all_probabilities=True, progress=False)
    assert len(empty) == 0
    assert set(columns) <= set(empty)


def test_all_probabilities_need_a_calibration_set_too(known, held, asked):
    with pytest.raises(InputError, match=r"probabilities needs a calibration set.*--calibration"):
        pe.classify(known, asked, all_probabilities=True, progress=False)
    with pytest.raises(SettingError, match="probabilities are turned off"):
        pe.classify(known, asked, calibration=held, probabilities=False, all_probabilities=True, progress=False)


def test_a_table_with_a_class_called_unknown_is_refused_at_once(tmp_path):
    rng = np.random.default_rng(0)
    good = pe.EmbeddingTable(rng.normal(size=(40, 3)), label=["a", "b"] * 20)
    bad = pe.EmbeddingTable(rng.normal(size=(40, 3)), [f"n{n}" for n in range(40)], ["a", "Unknown"] * 20)
    bad.save(tmp_path / "bad.parquet")
    for known, query, options in ((bad, good, {}), (good, bad, {}), (good, good, {"calibration": bad})):
        for verb in (pe.classify, pe.evaluate):
            with pytest.raises(InputError, match=r"other than unknown.*found the class 'Unknown'"):
                verb(known, query, **options, progress=False)
    with pytest.raises(InputError, match=r"bad\.parquet: expected class names other than unknown"):
        pe.classify(tmp_path / "bad.parquet", good, progress=False)
    for verb in (pe.enroll, pe.abundance):
        for known, query in ((bad, good), (good, bad)):
            with pytest.raises(InputError, match="found the class 'Unknown'"):
                verb(known, query, progress=False)


def test_copies_with_two_labels_in_the_query_are_told(caplog):
    known = pe.EmbeddingTable([[0.0, 0], [1, 1]], label=["a", "b"])
    query = pe.EmbeddingTable([[0.0, 0.1], [0, 0.1], [1, 1], [2, 2]], label=["a", "b", "b", None])
    pe.evaluate(known, query, progress=False)
    assert "2 of 3 images of the query have a copy (an equal vector) with another label, such as 0 (a)" in caplog.text


# ------------------------------------------------------------------------------------------ the run of a reference


@pytest.fixture
def run_of_three(known, held, asked, tmp_path):
    """A run whose k is 3, not 10; its folder, and vectors in it and in `vectors/`."""
    run = RunFolder(tmp_path / "run")
    for name, table in (("train", known), ("val", held), ("test", asked)):
        table.save(run.vectors(name))
    known.save(run.path / "mine.npz")
    pe.Settings.build(overrides={"classification.n_neighbors": 3}).save(run.settings)
    return run


@pytest.mark.parametrize("place", ["", "vectors/train.parquet", "mine.npz"])
def test_the_k_of_a_run_is_that_of_its_vectors(run_of_three, held, asked, place):
    naming = {"calibration": held, "progress": False}
    names = pe.classify(run_of_three.path / place, asked, "knn", **naming)
    three, ten = (pe.classify(run_of_three.path, asked, "knn", n_neighbors=k, **naming) for k in (3, 10))
    pd.testing.assert_frame_equal(names, three)
    assert not names.equals(ten)


def test_elsewhere_k_is_the_default(run_of_three, known, asked, tmp_path):
    known.save(tmp_path / "copied.parquet")
    for reference in (known, tmp_path / "copied.parquet"):
        ten = pe.classify(reference, asked, "knn", n_neighbors=10, progress=False)
        pd.testing.assert_frame_equal(pe.classify(reference, asked, "knn", progress=False), ten)


@pytest.mark.parametrize(
    "command",
    [
        lambda run, asked: pe.evaluate(run, asked, "knn"),
        lambda run, asked: pe.abundance(run, asked, method="knn", n_draws=20),
        lambda run, asked: pe.shift(run, asked, method="knn", n_permutations=1000),
        lambda run, asked: pe.taxonomy(
            run, parse_newick("('Calanus',('Méduse<Cnidaria','фиш, egg'),'detritus');"), query=asked
        ),
    ],
)
def test_every_command_takes_the_k_of_the_run(run_of_three, asked, command, monkeypatch):
    ks = []

    def spy(known, method, k, *arguments, **options):
        ks.append(k)
        return fit_classifier(known, method, k, *arguments, **options)

    monkeypatch.setattr(prediction_module, "fit_classifier", spy)
    command(run_of_three.path, asked)
    assert ks == [3]


def test_suspects_and_the_curve_of_enrolled_classes_take_the_k_of_the_run(run_of_three, tmp_path, monkeypatch):
    path, ks = run_of_three.vectors("train"), []
    for module, name in ((suspects_module, "find_suspects"), (enroll_module, "measure_learning")):
        inner = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, _inner=inner, **o: ks.append(o["n_neighbors"]) or _inner(*a, **o))
    pe.suspects(path, n_folds=0, progress=False)
    new = make_table(9, 9, classes=("larva",))
    pe.enroll(path, new, tmp_path / "both.parquet", curve=True, n_draws=1, progress=False)
    assert ks == [3, 3]


def test_settings_that_cannot_be_read_are_an_error(run_of_three, asked):
    run_of_three.settings.write_text("classification:\n  n_nachbarn: 3\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"settings\.yaml cannot be used: .*n_nachbarn.*\n.*copy the vectors out"):
        pe.classify(run_of_three.path, asked, progress=False)


# ------------------------------------------------------------------------------------------ intervals by sample


def test_intervals_by_a_column_of_the_vectors_or_of_the_catalog(run_of_three, asked, tmp_path, caplog):
    numbers = np.arange(len(asked)) % 8
    tow = np.array([f"tow {number}" for number in numbers], dtype=object)
    wanted = score_names(asked.label, pe.classify(run_of_three.path, asked, progress=False)["label"], samples=tow)
    catalog = pe.ImageCatalog.from_rows({"object_id": asked.object_id, "path": asked.object_id, "tow": tow})
    catalog.frame[["object_id", "path", "tow"]].sample(frac=1, random_state=0).to_csv(run_of_three.catalog, index=False)
    for query, column in (
        (replace(asked, sample_id=tow), "sample_id"),
        (replace(asked, columns={"net": numbers}), "net"),
        (run_of_three.path, "tow"),
        (run_of_three.vectors("test"), "tow"),
    ):
        found = pe.evaluate(run_of_three.path, query, intervals_by=column, progress=False)
        assert found.scores.intervals == wanted.intervals
        assert found.to_dict()["intervals_by"] == column
    assert pe.evaluate(run_of_three.path, asked, progress=False).to_dict()["intervals_by"] == "image"
    with pytest.raises(InputError, match=r"intervals_by: .*400 images; found nothing in 'leg'; there are .*tow"):
        pe.evaluate(run_of_three.path, run_of_three.path, intervals_by="leg", progress=False)
    with pytest.raises(InputError, match="found nothing in 'sample_id'; there are no such columns"):
        pe.evaluate(run_of_three.path, asked, intervals_by="sample_id", progress=False)
    tow[:30] = None
    pe.evaluate(run_of_three.path, replace(asked, sample_id=tow), intervals_by="sample_id", progress=False)
    assert "30 of 400 images have no sample_id; they are drawn together" in caplog.text


@pytest.mark.parametrize("command", [pe.abundance, pe.shift])
def test_counts_and_shift_draw_whole_calibration_samples(known, held, asked, command, tmp_path):
    options = {"n_draws": 20, "progress": False}
    tows = np.array([f"tow {number}" for number in range(8)], dtype=object)
    of = {n: replace(held, sample_id=tows[np.arange(len(held)) % n]) for n in (4, 8)}
    query = replace(asked, sample_id=tows[np.arange(len(asked)) % 2])
    for column, n in ((None, 8), ("sample_id", 8)):
        out = tmp_path / str(column)
        command(known, query, out, calibration=of[n], intervals_by=column, **options)
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        assert summary["intervals_by"] == (column or "image")
    with pytest.raises(InputError, match="expected calibration images with at least 5 values of sample_id; found 4"):
        command(known, query, calibration=of[4], intervals_by="sample_id", **options)


# ------------------------------------------------------------------------------------------ calibration


def test_copies_with_two_labels_calibrate_nothing_nor_images_of_the_reference(known, held, asked, caplog):
    """Rows 0 and 50 are copies of one another; rows 1 and 2 of images of the reference, row 1 with another label."""
    vectors = held.vectors.copy()
    vectors[50], vectors[1], vectors[2] = vectors[0], known.vectors[-1], known.vectors[0]
    assert held.label[0] != held.label[50]
    assert held.label[2] == known.label[0]
    calibration = find_calibration(known, replace(held, vectors=vectors), known, asked)
    assert np.flatnonzero(~np.isin(held.object_id, calibration.object_id)).tolist() == [0, 1, 2, 50]
    assert "calibration: 3 of 160 images have a copy (an equal vector) with another label" in caplog.text
    assert "calibration: 1 of 157 images are in the reference too" in caplog.text
    with pytest.raises(InputError, match="all images of a known class are in the reference too"):
        find_calibration(known, known, known, asked)
    vectors[[0, -1]] = vectors[0]
    pair = replace(held, vectors=vectors).select(np.isin(np.arange(160), [0, 159]))
    with pytest.raises(InputError, match="every image has a copy"):
        find_calibration(known, pair, known, asked)


def test_new_images_get_one_line_about_shift(known, held, asked, caplog):
    with caplog.at_level("INFO"):
        pe.classify(known, asked, calibration=held, progress=False)
    assert [record.message for record in caplog.records if "shift" in record.message] == ["shift: alike"]
    caplog.clear()
    other = replace(asked, vectors=asked.vectors + np.float32(3)).select(np.arange(400) < 17)
    with caplog.at_level("INFO"):
        pe.classify(known, other, calibration=held, progress=False)
    (line,) = [record for record in caplog.records if "shift" in record.message]
    assert line.levelname == "WARNING"
    assert line.message.startswith("shift: the images look unlike the calibration images (appearance)")
