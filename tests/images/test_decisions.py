"""Decisions: what holds after many of them, and journals that are cut or damaged."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankton_embed.errors import InputError
from plankton_embed.images.decisions import Decisions, is_journal, parse_journal, read_decisions, read_journal

HEADER = {"journal": "plankton_embed", "version": 1, "key": "k", "vectors": "v.parquet"}
LINES = [
    {"n": 1, "action": "keep", "object_ids": ["a"]},
    {"n": 2, "action": "relabel", "object_ids": ["a", "b"], "label": "Méduse", "cluster": 3},
    {"n": 3, "action": "delete", "object_ids": ["b", "c"]},
    {"n": 4, "action": "undo", "of": 3},
    {"n": 5, "action": "relabel", "object_ids": ["c"], "label": '<b>, "x"\u2028'},
]


def write(path, lines=LINES, header=HEADER, end=b"\n"):
    text = b"\n".join(json.dumps(line, ensure_ascii=False).encode() for line in [header, *lines])
    path.write_bytes(text + end)
    return path


def test_the_last_decision_that_is_not_undone_holds(tmp_path):
    found = read_decisions(write(tmp_path / "j.jsonl"))
    assert found.to_numpy().tolist() == [
        ["a", "relabel", "Méduse", "group 3"],
        ["b", "relabel", "Méduse", "group 3"],
        ["c", "relabel", '<b>, "x"\u2028', ""],
    ]
    assert list(found) == ["object_id", "action", "label", "reason"]
    decisions = read_journal(tmp_path / "j.jsonl").decisions
    assert (len(decisions), decisions.n_in_force, decisions.last) == (5, 3, 5)
    decisions.add({"n": 6, "action": "undo", "of": 2})
    assert decisions.of("a") == LINES[0]
    assert decisions.of("b") is None
    assert decisions.last == 5
    assert decisions.object_ids == ["a", "c"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["keep", "relabel", "delete", "undo"]), st.sets(st.sampled_from("abc"), min_size=1))
    )
)
def test_what_holds_is_what_a_replay_without_undone_decisions_gives(steps):
    decisions = Decisions()
    in_force = []
    for action, ids in steps:
        number = len(decisions) + 1
        if action == "undo":
            if in_force:
                decisions.add({"n": number, "action": "undo", "of": in_force.pop(len(in_force) // 2)["n"]})
            continue
        line = {"n": number, "action": action, "object_ids": sorted(ids)}
        line |= {"label": f"class {number}"} if action == "relabel" else {}
        assert decisions.add(line) == sorted(ids)
        in_force.append(line)
    holding = {object_id: line for line in in_force for object_id in line["object_ids"]}
    assert {object_id: decisions.of(object_id) for object_id in "abc" if decisions.of(object_id)} == holding
    assert decisions.last == (in_force[-1]["n"] if in_force else None)
    frame = decisions.to_frame().set_index("object_id")
    assert frame["action"].to_dict() == {object_id: line["action"] for object_id, line in holding.items()}
    assert frame["label"].to_dict() == {object_id: line.get("label", "") for object_id, line in holding.items()}


def test_a_journal_cut_anywhere_gives_its_whole_lines(tmp_path):
    raw = write(tmp_path / "j.jsonl").read_bytes()
    ends = [position + 1 for position, byte in enumerate(raw) if byte == 10]
    for length in range(ends[0] - 1, len(raw) + 1):
        found = parse_journal(raw[:length], "j")
        whole = sum(length >= end - 1 for end in ends[1:])  # without its line end a line is whole, too
        assert found.decisions.lines == LINES[:whole]
        assert found.n_bytes == min(length, ends[whole])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"n": 2, "action": "ke', "line 3: expected a decision as JSON"),
        ("", "line 3: expected a decision as JSON"),
        ("[1]", "line 3: expected a decision as JSON"),
        ('{"n": 3, "action": "keep", "object_ids": ["a"]}', "expected the decision with the number 2; found 3"),
        ('{"n": 2, "action": "burn", "object_ids": ["a"]}', "expected keep, relabel, delete or undo; found 'burn'"),
        ('{"n": 2, "action": "keep", "object_ids": []}', "object_ids: expected a list of texts"),
        ('{"n": 2, "action": "keep", "object_ids": [1]}', "object_ids: expected a list of texts"),
        ('{"n": 2, "action": "keep", "object_ids": ["a", "a"]}', "each image once"),
        ('{"n": 2, "action": "relabel", "object_ids": ["a"]}', "expected the new class name; found nothing"),
        ('{"n": 2, "action": "keep", "object_ids": ["a"], "label": "x"}', "for relabel only"),
        ('{"n": 2, "action": "undo", "of": 7}', "not undone; found 7"),
        ('{"n": 2, "action": "undo", "of": true}', "expected the number of a decision; found True"),
        ('{"n": 2, "action": "keep", "object_ids": ["a"], "cluster": "3"}', "expected the number of a group"),
        ('{"n": 2, "action": "keep", "object_ids": ["a"], "request": 3}', "request: expected text"),
        ("[" * 100_000, "line 3: expected a decision as JSON"),
    ],
)
def test_a_damaged_line_is_one_error_with_its_number(tmp_path, line, message):
    header, first = json.dumps(HEADER), json.dumps(LINES[0])
    last = '{"n": 3, "action": "keep", "object_ids": ["b"]}'
    (tmp_path / "j.jsonl").write_text(f"{header}\n{first}\n{line}\n{last}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"j\.jsonl, line 3: .*copy them") as error:
        read_decisions(tmp_path / "j.jsonl")
    assert message.removeprefix("line 3: ") in str(error.value)
    assert len(str(error.value)) < 500


def test_other_files_are_not_journals(tmp_path):
    for name, content in {
        "empty": b"", "text.csv": b"object_id,action\n", "json": b"{}\n", "list": b"[]\n", "binary": bytes(range(256)),
        "other.jsonl": b'{"journal": "other"}\n',
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert not is_journal(tmp_path / name)
        with pytest.raises(InputError, match="whose first line is"):
            read_journal(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        read_journal(tmp_path / "none")
    assert not is_journal(tmp_path / "none")
    assert not is_journal(tmp_path)
    assert is_journal(write(tmp_path / "j"))
    with pytest.raises(InputError, match="version 1; found 2; use a newer release"):
        read_journal(write(tmp_path / "new", header={**HEADER, "version": 2}))
