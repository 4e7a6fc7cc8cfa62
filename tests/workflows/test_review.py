"""`review`: where the journal is, which vectors it takes, and what it leaves."""

import dataclasses
import json
import logging
import shutil

import numpy as np
import pytest

import plankton_embed as pe
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.images.decisions import read_journal
from plankton_embed.images.drawn import draw_set
from plankton_embed.page.journal import Journal
from plankton_embed.run_folder import RunFolder
from plankton_embed.workflows.review import review

pytest.importorskip("jinja2", reason="jinja2 is not installed (extra report)")
pytest.importorskip("bokeh", reason="bokeh is not installed (extra report)")


@pytest.fixture
def served(monkeypatch):
    """Do not serve; keep what would be served, and make the decisions of a list in place of a person."""
    found = {"wanted": []}

    def serve(session, build_page, **options):
        parts = {name: future.result() for name, future in options.pop("parts").items()}
        found.update(session=session, page=build_page("secret"), options=options, parts=parts)
        found["answers"] = [session.decide(wanted) for wanted in found["wanted"]]

    monkeypatch.setattr("plankton_embed.workflows.review.serve", serve)
    return found


@pytest.fixture
def run(reference, calibration, query, tmp_path):
    """The folder of a run as `run` leaves it: vectors of three splits, settings, a catalog."""
    folder = RunFolder(tmp_path / "my run")
    for name, table in (("train", reference), ("val", calibration), ("test", query)):
        table.save(folder.vectors(name))
    pe.Settings.build().save(folder.settings)
    whole = pe.EmbeddingTable.concat([reference, calibration, query])
    rows = {"object_id": whole.object_id, "path": [f"{n}.png" for n in range(len(whole))], "label": whole.label}
    pe.ImageCatalog.from_rows(rows, root=folder.path).save(folder.catalog)
    return folder


def test_a_run_is_reviewed_corrected_and_enrolled(run, served, reference, calibration, query, tmp_path):
    new, moved, gone, kept = calibration.object_id[0], query.object_id[0], reference.object_id[0], query.object_id[399]
    served["wanted"] = [
        {"action": "relabel", "object_ids": [new, moved], "label": "larva"},
        {"action": "relabel", "object_ids": [query.object_id[1]], "label": "wrong"},
        {"action": "undo"},
        {"action": "delete", "object_ids": [gone]},
        {"action": "keep", "object_ids": [kept]},
    ]
    done = review(run.path)
    journal = run.path / "review" / "journal.jsonl"
    assert (done.journal, done.n_decisions) == (str(journal), 3)
    assert repr(done) == f"Review(3 decisions in {journal})"
    assert json.loads(json.dumps(done.to_dict()))["n_decisions"] == 3
    assert len(served["session"].images) == len(reference) + len(calibration) + len(query)
    assert '"token":"secret"' in served["page"]
    assert served["options"] == {"port": 0, "open_browser": True}
    assert served["parts"]["map"]["axes"]
    assert "queue" not in served["parts"]  # every image has a label, so that there is no such tab
    assert '"queue":{' not in served["page"]
    assert done.next_steps == (
        f"plankton-embed apply-corrections '{run.catalog}' '{journal}' -o corrected.csv",
        f"plankton-embed enroll '{run.path}' '{journal}' -o reference.parquet",
    )
    corrected = pe.apply_corrections(run.catalog, journal, tmp_path / "corrected.csv")
    labels = dict(zip(corrected.catalog.frame["object_id"], corrected.catalog.labels, strict=True))
    assert (labels[new], labels[moved], gone in labels) == ("larva", "larva", False)
    enrolled = pe.enroll(run.path, journal, tmp_path / "reference.parquet")
    assert len(enrolled) == len(reference) - 1 + 3
    assert "larva" in set(pe.classify(tmp_path / "reference.parquet", query, method="knn", n_neighbors=1)["label"])
    served["wanted"] = []
    again = review(run.path)
    assert again.n_decisions == 3
    assert len(served["session"].state()["decisions"]) == 5


def test_the_journal_is_beside_the_vectors_but_in_no_folder_that_is_replaced(run, served, query, tmp_path):
    query.save(tmp_path / "mine" / "new.parquet")
    query.save(tmp_path / "groups" / "vectors.parquet")
    (tmp_path / "groups" / "summary.json").write_text("{}")
    query.save(run.analysis("clusters") / "vectors.parquet")
    for vectors, journal in {
        tmp_path / "mine" / "new.parquet": tmp_path / "mine" / "new_journal.jsonl",
        tmp_path / "groups" / "vectors.parquet": tmp_path / "groups_vectors_journal.jsonl",
        run.vectors("test"): run.path / "review" / "vectors_test_journal.jsonl",
        run.analysis("clusters") / "vectors.parquet": run.path / "review" / "analysis_clusters_vectors_journal.jsonl",
    }.items():
        assert review(vectors, journal=None).journal == str(journal)
        assert journal.is_file()
    assert review(query, journal=tmp_path / "j.jsonl").journal == str(tmp_path / "j.jsonl")
    with pytest.raises(SettingError, match="need the path of a journal"):
        review(query)


def test_a_run_that_is_made_anew_keeps_the_journal_and_says_what_to_do(run, served, query, tmp_path):
    from plankton_embed.workflows.run_steps import _clear

    served["wanted"] = [{"action": "keep", "rows": [0]}]
    review(run.path)
    _clear(run)
    journal = run.path / "review" / "journal.jsonl"
    assert read_journal(journal).decisions.n_in_force == 1
    for split in ("train", "test"):
        other = dataclasses.replace(query, provenance={"model_hash": "another"})
        other.select(np.arange(len(query)) % 2 == (split == "test")).save(run.vectors(split))
    pe.Settings.build().save(run.settings)
    before = journal.read_bytes()
    with pytest.raises(InputError, match=r"1 decisions about other vectors .* Rename the journal .*--journal FILE"):
        review(run.path)
    assert journal.read_bytes() == before
    assert review(run.path, journal=tmp_path / "other.jsonl").n_decisions == 1


def test_two_reviews_of_one_run_are_refused(run, served):
    from plankton_embed.workflows.page_parts import gather_page

    opened = Journal(run.path / "review" / "journal.jsonl", gather_page(run.path).key)
    with pytest.raises(OutputError, match="open in another review"):
        review(run.path)
    opened.close()
    review(run.path)


def test_pictures_that_were_moved_are_found(served, tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="plankton_embed")
    drawn = draw_set(tmp_path / "old", n_per_class=3, classes=("copepod", "medusa"), progress=False)
    paths = sorted(drawn.rglob("*.png"))
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    table = pe.EmbeddingTable(
        vectors, [path.relative_to(drawn).as_posix() for path in paths], path=list(map(str, paths))
    )
    table.save(tmp_path / "v.parquet")
    review(tmp_path / "v.parquet")
    assert "missing" not in caplog.text
    shutil.move(drawn, tmp_path / "new")
    review(tmp_path / "v.parquet")
    assert "6 of 6 images that were checked are missing" in caplog.text
    assert "--images SOURCE" in caplog.text
    caplog.clear()
    review(tmp_path / "v.parquet", images=tmp_path / "new")
    assert "missing" not in caplog.text
    found = [path.replace(str(tmp_path / "new"), str(drawn)) for path in served["session"].images.table.path]
    assert found == list(map(str, paths))
    renamed = dataclasses.replace(
        table, object_id=np.array(list("abcdef"), dtype=object)
    )  # matched by name of the file
    review(renamed, images=tmp_path / "new", journal=tmp_path / "j.jsonl")
    assert [str(path) for path in served["session"].images.table.path] == [
        str(tmp_path / "new" / path.relative_to(drawn)) for path in paths
    ]
    twins = tmp_path / "twins"  # the same names in several folders
    for folder in ("a", "b", "c"):
        (twins / folder).mkdir(parents=True)
        for number in (0, 1):
            shutil.copy(next((tmp_path / "new").rglob("*.png")), twins / folder / f"{number}.png")
    ends = [f"{folder}/{number}.png" for folder in "abc" for number in (0, 1)]
    recurring = dataclasses.replace(
        table, object_id=renamed.object_id, path=np.array([f"/disk/{end}" for end in ends], dtype=object)
    )
    review(recurring, images=twins, journal=tmp_path / "t.jsonl")
    assert [str(path) for path in served["session"].images.table.path] == [str(twins / end) for end in ends]
    doubled = dataclasses.replace(  # two images with one name: the source has only one of them
        table, object_id=renamed.object_id, path=np.array([f"{d}/0000.png" for d in "ab"] * 3, dtype=object)
    )
    (tmp_path / "one").mkdir()
    shutil.copy(next((tmp_path / "new").rglob("*.png")), tmp_path / "one" / "0000.png")
    with pytest.raises(InputError, match="has none of the 6 images"):
        review(doubled, images=tmp_path / "one", journal=tmp_path / "k.jsonl")
    other = draw_set(tmp_path / "other", n_per_class=2, classes=("fish_egg",), progress=False)
    with pytest.raises(InputError, match="has none of the 6 images, by object_id or by the name of the file"):
        review(tmp_path / "v.parquet", images=other)


def test_without_decisions_there_is_nothing_to_do_next(run, served):
    done = review(run.path)
    assert (done.n_decisions, done.next_steps) == (0, ())


def test_an_error_while_serving_gives_the_journal_free(run, monkeypatch):
    def serve(*_, **__):
        raise OutputError("port 1: taken")

    monkeypatch.setattr("plankton_embed.workflows.review.serve", serve)
    for _ in range(2):
        with pytest.raises(OutputError, match="port 1"):
            review(run.path)


def test_the_queue_follows_the_decisions_of_this_session_and_of_earlier_ones(served, query, tmp_path):
    labels = np.where(np.arange(len(query)) % 4 == 0, query.label, None)
    few = dataclasses.replace(query, label=labels)
    few.save(tmp_path / "v.parquet")
    review(tmp_path / "v.parquet")
    first = served["parts"]["queue"]["rows"].tolist()
    served["wanted"] = [{"action": "delete", "rows": first[:3]}, {"action": "keep", "rows": first[3:4]}]
    review(tmp_path / "v.parquet")
    after = served["answers"][-1]["queue"]["rows"].tolist()
    assert not set(first[:4]) & set(after)
    served["wanted"] = []
    review(tmp_path / "v.parquet")
    assert served["parts"]["queue"]["rows"].tolist() == after
