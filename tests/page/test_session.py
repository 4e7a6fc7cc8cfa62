"""A session: decisions are saved once, and labels, guesses and the queue follow them."""

import threading

import numpy as np
import pytest

from plankton_embed.errors import InputError, MismatchError, OutputError
from plankton_embed.page.images import gather_images
from plankton_embed.page.journal import Journal
from plankton_embed.page.session import Session
from plankton_embed.table import EmbeddingTable

VECTORS = np.array([[0, 0], [1, 0], [9, 0], [10, 0], [0.5, 1], [9.5, 1], [5, 9]], dtype=np.float32)
IDS = ["a1", "a2", "b1", "b2", "x", "y", "z"]


class Queue:
    def __init__(self):
        self.changes = []

    def change(self, rows, label_index):
        self.changes.append((rows.tolist(), label_index.tolist()))

    def describe(self):
        return {"rows": [len(self.changes)]}


@pytest.fixture
def images():
    return gather_images({"": EmbeddingTable(VECTORS, IDS, ["a", "a", "b", "b", None, None, None])})


@pytest.fixture
def start(images, tmp_path):
    """Return a function that starts a session, again if there was one before."""
    opened = []

    def make(page=images, queue=None):
        for journal in opened:
            journal.close()
        opened.append(Journal(tmp_path / "journal.jsonl", page.key))
        session = Session(page, opened[-1])
        if queue is not None:
            session.attach_queue(queue)
        return session

    yield make
    opened[-1].close()


def names(guesses, which):
    return [None if code < 0 else guesses["classes"][code] for code in guesses[which].tolist()]


def relabel(label, *ids, **more):
    return {"action": "relabel", "object_ids": list(ids), "label": label, **more}


def test_a_relabelled_image_is_enrolled_at_once_and_undo_takes_it_out(start):
    session = start()
    before = session.state()["guesses"]
    assert names(before, "guess") == ["a", "a", "b", "b", "a", "b", before["classes"][before["guess"][6]]]
    answer = session.decide(relabel(" new ", "z", cluster=3))
    assert answer["n"] == 1
    assert answer["decisions"] == [
        {
            "n": 1,
            "at": answer["decisions"][0]["at"],
            "action": "relabel",
            "object_ids": ["z"],
            "label": "new",
            "cluster": 3,
        }
    ]
    assert names(answer["guesses"], "label") == ["a", "a", "b", "b", None, None, "new"]
    assert answer["guesses"]["known"].tolist() == [True] * 4 + [False, False, True]
    assert names(session.decide(relabel("new", "x"))["guesses"], "guess")[6] == "new"  # the only other one is x
    undone = session.decide({"action": "undo"})
    assert undone["decisions"] == [{"n": 3, "at": undone["decisions"][0]["at"], "action": "undo", "of": 2}]
    session.decide({"action": "undo"})
    after = session.state()["guesses"]
    for name in ("guess", "second", "distance", "label", "known"):
        np.testing.assert_array_equal(after[name], before[name])
    with pytest.raises(InputError, match="no decision to undo"):
        session.decide({"action": "undo"})
    assert session.n_decisions == 0


def test_a_deleted_image_leaves_the_reference_and_a_kept_one_stays(start):
    session = start()
    guesses = session.decide({"action": "delete", "object_ids": ["b1", "b2"]})["guesses"]
    assert names(guesses, "guess") == ["a"] * 7
    assert names(guesses, "label")[2:4] == ["b", "b"]
    guesses = session.decide({"action": "keep", "rows": [2, 4, 2]})["guesses"]
    assert guesses["known"].tolist() == [True, True, True, False, False, False, False]  # x has no label to keep
    assert session.state()["decisions"][-1]["object_ids"] == ["b1", "x"]


def test_images_of_other_splits_join_when_they_are_kept(start):
    parts = {
        "train": EmbeddingTable(VECTORS[:2], IDS[:2], ["a", "a"]),
        "test": EmbeddingTable(VECTORS[2:], IDS[2:], ["b", "b", None, None, None]),
    }
    session = start(gather_images(parts))
    assert set(names(session.state()["guesses"], "guess")) == {"a"}
    guesses = session.decide({"action": "keep", "object_ids": ["b1"]})["guesses"]
    assert names(guesses, "guess")[3:6] == ["b", "a", "b"]
    assert session.decide({"action": "undo"})["guesses"]["known"].tolist() == [True] * 2 + [False] * 5


def test_a_new_session_takes_over_all_decisions(start):
    session = start()
    for wanted in (relabel("new", "z", "x"), {"action": "delete", "object_ids": ["a1"]}, relabel("b", "x"),
                  {"action": "undo"}, {"action": "keep", "object_ids": ["y"]}):  # fmt: skip
        session.decide(wanted)
    before, again = session.state(), start().state()
    assert again["decisions"] == before["decisions"]
    assert names(again["guesses"], "label") == names(before["guesses"], "label")
    assert names(again["guesses"], "guess") == names(before["guesses"], "guess")


def test_a_repeated_request_is_answered_and_not_saved_again(start):
    session = start()
    first = session.decide(relabel("new", "z", request="r1"))
    assert session.decide(relabel("new", "z", request="r1"))["decisions"] == first["decisions"]
    undo = session.decide({"action": "undo", "request": "r2"})
    session.decide(relabel("newer", "z"))
    session = start()  # also after a restart
    assert session.decide({"action": "undo", "request": "r2"})["n"] == undo["n"]
    assert [line["n"] for line in session.state()["decisions"]] == [1, 2, 3]
    assert names(session.state()["guesses"], "label")[6] == "newer"
    with pytest.raises(InputError, match="was the id of another decision"):
        session.decide(relabel("other", "z", request="r1"))


def test_an_answer_has_what_the_page_has_not_seen(start):
    session = start()
    for name in ("x", "y"):
        session.decide(relabel("a", name))
    assert [line["n"] for line in session.decide(relabel("b", "z", seen=1))["decisions"]] == [2, 3]
    assert [line["n"] for line in session.decide(relabel("b", "y", seen=99))["decisions"]] == [4]


def test_a_page_that_does_not_show_what_holds_decides_nothing(start):
    session = start()
    session.decide(relabel("fish", "x", seen=0))
    with pytest.raises(MismatchError, match="1 of 2 images were decided in another tab, such as x"):
        session.decide(relabel("b", "x", "y", cluster=3, seen=0))
    session.decide(relabel("b", "y", cluster=3, seen=0))  # nobody else decided this one
    session.decide({"action": "undo", "of": 1})
    with pytest.raises(MismatchError, match="undone already"):
        session.decide({"action": "undo", "of": 1})
    assert names(session.state()["guesses"], "label")[4:] == [None, "b", None]


def test_the_queue_follows(start):
    queue = Queue()
    session = start(queue=queue)
    assert session.decide(relabel("new", "z"))["queue"] == {"rows": [1]}
    session.decide({"action": "delete", "object_ids": ["a1", "x"]})
    session.decide({"action": "keep", "object_ids": ["y"]})
    session.decide({"action": "undo"})
    assert queue.changes == [([6], [2]), ([0, 4], [-2, -2]), ([5], [-2]), ([5], [-1])]
    session.decide({"action": "keep", "object_ids": ["y"], "cluster": 2})  # pulled out of a group: still to label
    assert queue.changes.pop() == ([5], [-1])
    session.decide({"action": "undo"})
    assert queue.changes.pop() == ([5], [-1])
    later = Queue()  # one that is ready only now has what was decided before
    assert session.attach_queue(later) == {"rows": [1]}
    assert later.changes == [([6, 0, 4], [2, -2, -2])]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, "action: expected keep, relabel, delete or undo; found 'None'"),
        ({"action": "burn"}, "found 'burn'"),
        ({"action": ["keep"]}, "action: expected"),
        ({"action": "keep"}, "either object_ids or rows; found both or neither"),
        ({"action": "keep", "object_ids": ["x"], "rows": [1]}, "either object_ids or rows"),
        ({"action": "keep", "object_ids": []}, "at least one image"),
        ({"action": "keep", "object_ids": "x"}, "expected a list of texts"),
        ({"action": "keep", "object_ids": [["x"]]}, "expected a list of texts"),
        ({"action": "keep", "object_ids": ["x", "../../etc/passwd"]}, "images of this page; found '../../etc/passwd'"),
        ({"action": "keep", "rows": [-1]}, "numbers from 0 to 6"),
        ({"action": "keep", "rows": [7]}, "numbers from 0 to 6"),
        ({"action": "keep", "rows": [True]}, "numbers from 0 to 6"),
        ({"action": "keep", "object_ids": ["x"], "label": "a"}, "for relabel only"),
        ({"action": "keep", "object_ids": ["x"], "path": "/etc"}, "found 'path'"),
        (relabel(None, "x"), "label: expected text; found nothing"),
        (relabel(7, "x"), "label: expected text; found int"),
        (relabel(" ", "x"), "found empty text"),
        (relabel("a\nb", "x"), "without control characters"),
        (relabel("\ud800", "x"), "without control characters"),
        (relabel("a" * 251, "x"), "at most 250 characters; found 251"),
        (relabel("Unknown ", "x"), "expected class names other than unknown"),
        (relabel("a", "x", cluster="3"), "expected the number of a group"),
        (relabel("a", "x", request=3), "request: expected text"),
        (relabel("a", "x", request="r" * 101), "at most 100 characters"),
        (relabel("a", "x", seen=-1), "seen: expected"),
        ({"action": "undo", "of": 1}, "not undone; found 1"),
        ({"action": "undo", "of": None}, "expected the number of a decision; found nothing"),
    ],
)
def test_what_is_not_a_decision_changes_nothing(start, wanted, message):
    session = start()
    before = session.journal.path.read_bytes()
    with pytest.raises(InputError) as error:
        session.decide(wanted)
    assert message in str(error.value)
    assert session.journal.path.read_bytes() == before
    assert session.state()["decisions"] == []


def test_a_hostile_name_is_a_name(start):
    label = "<script>alert(1)</script>\u2028\"'&;../..|`$(x)"
    answer = start().decide(relabel(label, "x"))
    assert answer["guesses"]["classes"][-1] == label
    assert start().state()["decisions"][0]["label"] == label


def test_a_decision_that_cannot_be_saved_does_not_count(start):
    session = start()
    before = session.state()["guesses"]
    session.journal.path.unlink()
    with pytest.raises(OutputError, match="nothing was saved"):
        session.decide(relabel("new", "z", request="r"))
    after = session.state()
    assert after["decisions"] == []
    np.testing.assert_array_equal(after["guesses"]["label"], before["label"])


def test_decisions_from_many_threads_are_all_saved_once(start):
    session = start()
    wanted = [relabel(f"class {n}", IDS[n % 7], request=str(n // 2)) for n in range(40)]
    wanted = [wanted[n - n % 2] for n in range(40)]  # each twice
    threads = [threading.Thread(target=session.decide, args=[one]) for one in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = session.state()["decisions"]
    assert sorted(int(line["request"]) for line in lines) == list(range(20))
    assert [line["n"] for line in lines] == list(range(1, 21))


def test_a_journal_about_images_that_are_not_there_is_an_error(start):
    session = start()
    session.journal.append({"action": "keep", "object_ids": ["stranger"]})
    with pytest.raises(InputError, match="1 of its images are not on this page, such as stranger"):
        start()
