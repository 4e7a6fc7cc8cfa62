from __future__ import annotations

import gc
import json
import weakref

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from plankton_embed.errors import InputError, MismatchError
from plankton_embed.table import EmbeddingTable, class_means, holds_vectors

SUFFIXES = (".parquet", ".csv", ".npz")
TEXTS = ("object_id", "path", "label", "sample_id")
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
TRICKY = st.sampled_from(
    ["NA", "nan", "None", "null", "1", "1.0", "true", ",", '"', '""', "a,b", 'say "hi"', "a\nb", "a\r\nb", "\r", " a "]
)
TEXT = TRICKY | PLAIN


@st.composite
def tables(draw):
    n, d = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)
    ids = draw(st.lists(TEXT, min_size=n, max_size=n, unique=True))
    maybe = st.lists(st.none() | TEXT, min_size=n, max_size=n)
    return EmbeddingTable(
        draw(st_numpy.arrays(np.float32, (n, d), elements=numbers)),
        object_id=ids,
        label=draw(maybe),
        path=draw(maybe),
        sample_id=draw(maybe),
        provenance={"model_hash": draw(st.sampled_from(["00123", "1e5", "abc"])), "preparation_hash": "77"},
    )


def same(a, b):
    """Whether two tables are equal bit for bit."""
    return (
        a.vectors.tobytes() == b.vectors.tobytes()
        and a.vectors.shape == b.vectors.shape
        and all(list(getattr(a, name)) == list(getattr(b, name)) for name in TEXTS)
        and a.provenance == b.provenance
    )


def small(**changes):
    """Three rows of two dimensions."""
    given_values = {"vectors": [[0, 1], [2, 3], [4, 5]], "object_id": ["a", "b", "c"], "label": ["x", None, "y"]}
    return EmbeddingTable(**{**given_values, **changes})


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables(), suffix=st.sampled_from(SUFFIXES))
def test_any_table_comes_back_bit_for_bit(tmp_path, table, suffix):
    assert same(EmbeddingTable.load(table.save(tmp_path / f"t{suffix}")), table)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_smallest_and_largest_numbers_come_back(tmp_path, suffix):
    info = np.finfo(np.float32)
    values = np.float32([info.smallest_subnormal, -info.smallest_subnormal, info.tiny, info.max, info.min, 0, 1 / 3])
    for numbers in (values, np.float32([-0.0]), np.float32([1e10, 1e20, 16777216])):
        table = EmbeddingTable(numbers[:, None])
        assert EmbeddingTable.load(table.save(tmp_path / f"t{suffix}")).vectors.tobytes() == numbers.tobytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_table_keeps_its_dimension(tmp_path, suffix):
    table = EmbeddingTable(np.zeros((0, 5)))
    assert same(EmbeddingTable.load(table.save(tmp_path / f"t{suffix}")), table)


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_all_provenance_comes_back(tmp_path, suffix):
    provenance = {"model_hash": None, "faults": {"a.png": "é <1×1>"}, "epoch": 3}
    table = small(provenance=provenance)
    assert EmbeddingTable.load(table.save(tmp_path / f"t{suffix}")).provenance == provenance


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_not_stated_stays_not_stated(tmp_path, suffix):
    table = small(provenance={"model_hash": None})
    loaded = EmbeddingTable.load(table.save(tmp_path / f"t{suffix}"))
    assert loaded.model_hash is None
    loaded.check_same_model(table)


def test_the_parquet_is_a_fixed_size_list_of_float32_with_the_hash(tmp_path):
    path = small(provenance={"model_hash": "abc123"}).save(tmp_path / "t.parquet")
    schema = pq.read_schema(path)
    assert schema.field("vector").type == pa.list_(pa.float32(), 2)
    assert json.loads(schema.metadata[b"plankton_embed"])["model_hash"] == "abc123"
    assert pq.read_table(path)["vector"].to_pylist() == [[0, 1], [2, 3], [4, 5]]


def test_pandas_reads_the_csv(tmp_path):
    frame = pd.read_csv(small(provenance={"model_hash": "m"}).save(tmp_path / "t.csv"))
    assert list(frame) == ["object_id", "path", "label", "sample_id", "model_hash", "v0", "v1"]
    assert frame["v1"].tolist() == [1, 3, 5]
    assert frame["label"].isna().tolist() == [False, True, False]


def test_numpy_reads_the_npz(tmp_path):
    data = np.load(small().save(tmp_path / "t.npz"))
    assert data["vectors"].dtype == np.float32
    assert data["label"].tolist() == ["x", "", "y"]


# --- vectors of others


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2), pa.list_(pa.int64())],
    ids=str,
)
def test_a_parquet_of_others_may_hold_any_kind_of_list_under_any_name(tmp_path, kind):
    columns = {"note": ["p", "q"], "embedding": pa.array([[1, 2], [3, 4]], kind), "label": ["x", None]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = EmbeddingTable.load(tmp_path / "t.parquet")
    assert table.vectors.tolist() == [[1, 2], [3, 4]]
    assert list(table.label) == ["x", None]
    assert list(table.object_id) == ["0", "1"]
    assert table.provenance == {}


def test_lists_in_several_chunks_stay_in_order(tmp_path):
    pq.write_table(
        pa.table({"e": [[float(i), -float(i)] for i in range(10)]}), tmp_path / "t.parquet", row_group_size=3
    )
    assert EmbeddingTable.load(tmp_path / "t.parquet").vectors[:, 1].tolist() == [-float(i) for i in range(10)]


def test_a_table_of_others_may_hold_one_column_a_dimension(tmp_path):
    frame = pd.DataFrame({"object_id": [7, 8], "dim0": [1, 2], "label": ["NA", None], "dim1": [0.5, 1e-3]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.set_index(pd.Index([3, 9])).to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        table = EmbeddingTable.load(tmp_path / name)
        assert table.vectors.tolist() == np.float32([[1, 0.5], [2, 1e-3]]).tolist()
        assert list(table.object_id) == ["7", "8"]
        assert list(table.label) == ["NA", None]


def test_a_parquet_of_pandas_texts_and_whole_numbers_with_gaps(tmp_path):
    frame = pd.DataFrame({"v": [1.0, 2.0]})
    frame["label"] = pd.array(["x", pd.NA], dtype="string")
    frame["sample_id"] = pd.array([5, pd.NA], dtype="Int64")
    frame.to_parquet(tmp_path / "t.parquet")
    table = EmbeddingTable.load(tmp_path / "t.parquet")
    assert (list(table.label), list(table.sample_id)) == (["x", None], ["5", None])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_number_beside_the_vectors_is_no_dimension_and_is_kept(tmp_path, suffix, caplog):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"object_id": ["a", "b", "c"], "label": ["x", None, "y"]})
    frame[[f"v{i}" for i in range(8)]] = rng.random((3, 8))
    frame["depth"], frame["haul"] = [272.9, np.nan, 305.4], [1, 2, 3]
    if suffix == ".npz":
        vectors = frame.filter(regex="^v").to_numpy()
        np.savez(tmp_path / "t.npz", vectors=vectors, depth=frame["depth"], haul=frame["haul"], grid=np.eye(3))
    elif suffix == ".csv":
        frame.to_csv(tmp_path / "t.csv", index=False)
    else:
        frame.to_parquet(tmp_path / "t.parquet")
    with caplog.at_level("INFO"):
        first = EmbeddingTable.load(tmp_path / f"t{suffix}")
    assert "8 dimensions; not among them: depth, haul" in caplog.text
    assert first.to_frame().columns.tolist()[4:7] == ["depth", "haul", "v0"]
    for table in (first, EmbeddingTable.load(first.save(tmp_path / f"again{suffix}"))):
        assert table.vectors.tolist() == np.float32(frame.filter(regex=r"^v\d")).tolist()
        np.testing.assert_array_equal(table.columns["depth"], frame["depth"])
        assert table.select([2, 0]).columns["haul"].tolist() == [3, 1]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("v0,v2,v1", [[1, 3, 2]]),
        ("dim_1,dim_2,dim_3", [[1, 2, 3]]),
        ("0,1,depth", [[1, 2]]),
        ("depth1,e0,depth2", [[2]]),
        ("pc1,pc2,depth", [[1, 2]]),
    ],
)
def test_which_columns_are_dimensions_and_in_which_order(tmp_path, header, expected):
    (tmp_path / "t.csv").write_text(f"object_id,{header}\na,1,2,3\n")
    assert EmbeddingTable.load(tmp_path / "t.csv").vectors.tolist() == expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"embedding": [[1.0, 2.0]], "box": [[1.0, 2.0, 3.0, 4.0]], "tags": [["a"]]}, [[1, 2]]),
        ({"e": [[1.0, 2.0]], "box": [[1, 2, 3, 4]]}, [[1, 2]]),
        ({"box": [[1, 2, 3, 4]], "v0": [1.0], "v1": [2.0]}, [[1, 2]]),
        ({"box": [[1, 2, 3, 4]]}, r"called vector; found lists in \['box'\]"),
        ({"a": [[1.0, 2.0]], "b": [[3.0, 4.0]]}, r"called vector; found lists in \['a', 'b'\]"),
    ],
)
def test_a_list_that_is_no_vector_is_none(tmp_path, columns, expected):
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            EmbeddingTable.load(tmp_path / "t.parquet")
    else:
        assert EmbeddingTable.load(tmp_path / "t.parquet").vectors.tolist() == expected


def test_of_lists_of_floats_that_of_one_length_is_the_vector(tmp_path):
    pq.write_table(pa.table({"outline": [[1.0], [1.0, 2.0]], "e": [[1.0, 2.0], [3.0, 4.0]]}), tmp_path / "t.parquet")
    assert EmbeddingTable.load(tmp_path / "t.parquet").vectors.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whole_numbers_with_a_gap_stay_whole_and_labels_are_without_blanks(tmp_path, suffix):
    frame = pd.DataFrame({"object_id": [7.0, 8.0], "label": [1.0, np.nan], "sample_id": [np.nan, 3.0]})
    if suffix == ".npz":
        np.savez(tmp_path / "t.npz", vectors=np.eye(2), **{name: frame[name] for name in frame})
    else:
        write = frame.assign(v0=1, v1=2)
        write.to_csv(tmp_path / "t.csv", index=False) if suffix == ".csv" else write.to_parquet(tmp_path / "t.parquet")
    table = EmbeddingTable.load(tmp_path / f"t{suffix}")
    assert (list(table.object_id), list(table.label), list(table.sample_id)) == (["7", "8"], ["1", None], [None, "3"])
    named = EmbeddingTable(np.eye(3), label=[" x", "x\u00a0", "e\u0301"], sample_id=["s ", "s", None])
    assert (named.classes, list(named.sample_id)) == (["x", "é"], ["s", "s", None])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("delimiter", ";\t")
def test_a_csv_of_vectors_as_spreadsheets_save_it(tmp_path, encoding, delimiter):
    text = "object_id|label|v0|v1\r\na|Méduse|0,5|1\r\nb||-2,25|1e-3\r\n".replace("|", delimiter)
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    table = EmbeddingTable.load(tmp_path / "t.csv")
    assert table.vectors.tolist() == np.float32([[0.5, 1], [-2.25, 1e-3]]).tolist()
    assert list(table.label) == ["Méduse", None]
    (tmp_path / "c.csv").write_bytes(f"path{delimiter}label\r\na.png{delimiter}é\r\n".encode(encoding))
    assert holds_vectors(tmp_path / "t.csv")
    assert not holds_vectors(tmp_path / "c.csv")


def test_a_catalog_with_boxes_holds_no_vectors(tmp_path):
    pq.write_table(pa.table({"path": ["a.png"], "box": [[1, 2, 3, 4]]}), tmp_path / "c.parquet")
    assert not holds_vectors(tmp_path / "c.parquet")


def test_lists_that_are_not_called_vectors_are_taken_with_a_warning(tmp_path, caplog):
    pq.write_table(pa.table({"object_id": ["a"], "corners": [[1.0, 2.0]]}), tmp_path / "t.parquet")
    assert EmbeddingTable.load(tmp_path / "t.parquet").dimension == 2
    assert caplog.messages == ["no column is called vector: the lists in corners are read as the vectors"]


def test_text_in_bytes_is_text(tmp_path):
    np.savez(tmp_path / "t.npz", vectors=np.eye(2), label=np.array([b"salp ", "é".encode()]), object_id=[b"x", b"y"])
    table = EmbeddingTable.load(tmp_path / "t.npz")
    assert (list(table.label), list(table.object_id)) == (["salp", "é"], ["x", "y"])


def test_an_npz_of_others_needs_only_vectors(tmp_path):
    np.savez(tmp_path / "t.npz", vectors=np.eye(3))
    table = EmbeddingTable.load(tmp_path / "t.npz")
    assert table.vectors.dtype == np.float32
    assert list(table.object_id) == ["0", "1", "2"]
    assert list(table.label) == [None] * 3


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"e": [[1.0], [2.0, 3.0, 4.0]]}, "equal length"),  # four numbers in two rows, yet no 2 x 2
        ({"e": [[1.0, 2.0], None]}, "none missing"),
        ({"e": [[1.0], [2.0]], "f": [[1.0], [2.0]]}, r"\['e', 'f'\]"),
        ({"e": [["a"], ["b"]]}, "expected lists of numbers; found lists of string"),
        ({"vector": [[[1.0]], [[2.0]]]}, "expected lists of numbers; found lists of list<.*save one flat list per row"),
        ({"e": [[1.0], [None]]}, "not finite"),
        ({"label": ["a", "b"]}, "one numeric column per dimension"),
        ({"class": ["a", "b"], "v0": [1.0, 2.0]}, r"found text in \['class'\]"),
    ],
)
def test_a_parquet_without_plain_vectors_is_refused_by_name(tmp_path, columns, reason):
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=rf"t\.parquet.*{reason}"):
        EmbeddingTable.load(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected a line with the names of the columns; found an empty file"),
        ("object_id,class,v0\na,x,1\n", r"found text in \['class'\]"),
        ("object_id,v0,v1\na,1,\nb,2,3\n", r"\['v1'\]"),
        ("object_id,v0,v1\na,1\nb,2,3\n", r"\['v1'\]"),
        (",v0\n0,1\n1,2\n", "has no name"),
        ("object_id,v0\na,1,9\nb,2,9\n", "expected 2 cells a row.*found 3 in row 2"),
        ("object_id,v0\na,1\nb,2,9\n", "expected 2 cells a row.*found 3 in row 3"),
        ('object_id,v0\na,1\nb,"1,234"\n', r"found text in \['v0'\], such as '1,234' in row 3"),
        ("object_id;v0;v1\na;1.234,5;2\n", r"found text in \['v0'\], such as '1.234,5' in row 2"),
        ('object_id,label,v0\na,"x,1\nb,y,2\nc,5"" z,3\n', "row 2: found a quote|row 2: .* found a quote"),
        ('object_id,label,v0\na,"x,1\nb,y",2\nc,z,3\n', "row 2: .* found a quote that takes in 2 lines"),
        ("object_id,v0,v1,v1\na,1,2,3\n", "two columns are named v1"),
        ("object_id,v0,v1,v3\na,1,2,3\n", "every dimension up to v3; found no v2"),
        ("object_id,area,mean\na,1,2\n", "called v0, v1, ….*found area, mean, which may or may not be dimensions"),
        ("object_id,depth\na,1\n", "found depth, which may or may not be"),
        ("object_id,x1,x2,depth1,depth2\na,1,2,3,4\n", "found x1, x2, depth1, depth2"),
        ("object_id,v0\na,inf\n", "not finite"),
        ("object_id,v0\na,1\na,2\n", "object_id a is in 2 rows"),
        ("model_hash,v0\nm1,1\nm2,2\n", r"several models.*m1.*m2"),
    ],
)
def test_a_csv_without_plain_vectors_is_refused_by_name(tmp_path, text, reason):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=rf"t\.csv.*{reason}"):
        EmbeddingTable.load(tmp_path / "t.csv")


def test_an_npz_without_plain_vectors_is_refused_by_name(tmp_path):
    np.savez(tmp_path / "other.npz", features=np.eye(2))
    np.savez(tmp_path / "pickled.npz", vectors=np.eye(2), label=np.array(["a", None], dtype=object))
    np.savez(tmp_path / "flat.npz", vectors=np.ones(3))
    for name, reason in (
        ("other", r"\['features'\]"),
        ("pickled", "found Python objects; save text as"),
        ("flat", r"\(3,\)"),
    ):
        with pytest.raises(InputError, match=rf"{name}\.npz.*{reason}"):
            EmbeddingTable.load(tmp_path / f"{name}.npz")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("length", [0, 200, -40])
def test_a_file_cut_short_is_refused_by_name(tmp_path, suffix, length):
    path = EmbeddingTable(np.random.default_rng(0).random((50, 4))).save(tmp_path / f"t{suffix}")
    path.write_bytes(path.read_bytes()[:length].replace(b"\n", b" "))
    with pytest.raises(InputError, match=rf"t\{suffix}"):
        EmbeddingTable.load(path)


def test_missing_files_and_unknown_suffixes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.parquet do not exist"):
        EmbeddingTable.load(tmp_path / "nothing.parquet")
    for action in (EmbeddingTable.load, small().save):
        with pytest.raises(InputError, match=r"\.parquet, \.npz, \.csv"):
            action(tmp_path / "t.xlsx")


# --- in memory


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused_with_its_row(bad):
    with pytest.raises(InputError, match="1 rows contain values that are not finite, first in row 2"):
        small(vectors=[[0, 1], [2, 3], [4, bad]])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"object_id": ["a", "b", "a"]}, "object_id a is in 2 rows"),
        ({"object_id": ["a", None, "c"]}, "object_id: row 1 has none"),
        ({"object_id": ["a", "b", ""]}, "object_id: row 2 has none"),
        ({"label": ["x", "y"]}, "label: expected 3 values"),
        ({"label": ["x", "y", "z\0"]}, "label: found a zero byte"),
        ({"columns": {"depth": np.ones(2)}}, r"depth: expected 3 values.*shape \(2,\)"),
        ({"vectors": [0, 1, 2]}, r"shape \(3,\)"),
        ({"vectors": np.zeros((3, 0))}, r"shape \(3, 0\)"),
    ],
)
def test_columns_that_do_not_fit_are_refused(changes, reason):
    with pytest.raises(InputError, match=reason):
        small(**changes)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, "", float("nan")])
def test_every_kind_of_missing_text_is_none(missing):
    table = small(label=["x", missing, "y"])
    assert list(table.label) == ["x", None, "y"]
    assert table.is_labelled.tolist() == [True, False, True]
    assert table.classes == ["x", "y"]


def test_the_labelled_rows_follow_labels_and_vectors_that_are_changed_in_place():
    table = small(label=["x", None, "y"])
    assert table.labelled.label.tolist() == ["x", "y"]
    table.label[1], table.vectors[0] = "z", 7
    assert table.labelled is table
    table.label[2] = None
    assert table.labelled.label.tolist() == ["x", "z"]
    assert (table.labelled.vectors[0] == 7).all()


def test_a_table_whose_labelled_rows_were_used_is_freed_at_once():
    table = small(label=["x", "y", "z"])
    gone = weakref.ref(table)
    gc.disable()  # a table that contained itself would wait for the garbage collector
    try:
        assert len(table.labelled) == 3
        del table
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("rows", [[2, 0], np.array([2, 0]), [], [False, False, False]])
def test_select_keeps_rows_in_the_given_order(rows):
    expected = ["c", "a"] if len(rows) == 2 else []
    chosen = small(provenance={"model_hash": "m"}).select(rows)
    assert list(chosen.object_id) == expected
    assert chosen.vectors.tolist() == [[4, 5], [0, 1]][: len(expected)]
    assert (chosen.dimension, chosen.model_hash) == (2, "m")


def test_select_by_mask():
    assert list(small().select([True, False, True]).label) == ["x", "y"]


def test_the_frame_has_texts_then_numbers():
    frame = small().to_frame()
    assert list(frame) == [*TEXTS, "v0", "v1"]
    assert frame["v0"].tolist() == [0, 2, 4]
    assert frame["v0"].dtype == np.float32


def test_tables_of_one_model_go_together():
    small(provenance={"model_hash": "m"}).check_same_model(small(provenance={"model_hash": "m", "epoch": 2}))
    small().check_same_model(small())


@pytest.mark.parametrize(("one", "two"), [("aaa", "bbb"), ("aaa", None), (None, "bbb")])
def test_tables_of_two_models_are_refused_with_both_hashes(one, two):
    a, b = small(provenance={"model_hash": one}), small(provenance={"model_hash": two})
    shown = [value or "(not stated)" for value in (one, two)]
    with pytest.raises(MismatchError) as fault:
        a.check_same_model(b, ("old.parquet", "new.parquet"))
    assert f"old.parquet was made by model {shown[0]}, new.parquet by model {shown[1]}:" in str(fault.value)


def test_vectors_of_another_length_are_refused():
    with pytest.raises(InputError, match="reference has vectors of length 2, query of length 1"):
        small().check_same_model(EmbeddingTable(np.ones((3, 1))))


def test_a_file_that_cannot_be_read_is_told_as_vectors(tmp_path):
    (tmp_path / "broken.parquet").write_text("junk")
    for name in ("none.csv", "none.parquet", "broken.parquet"):
        assert holds_vectors(tmp_path / name)
        with pytest.raises(InputError, match=r"do not exist|cannot be read as vectors"):
            EmbeddingTable.load(tmp_path / name)


def test_a_frame_becomes_a_table_and_comes_back():
    table = EmbeddingTable(np.eye(3), object_id=list("abc"), label=["x", None, "y"], columns={"area": np.arange(3.0)})
    again = EmbeddingTable.from_frame(table.to_frame())
    assert np.array_equal(again.vectors, table.vectors) and again.object_id.tolist() == ["a", "b", "c"]
    assert again.label.tolist() == ["x", None, "y"] and again.columns["area"].tolist() == [0, 1, 2]
    lists = pd.DataFrame({"object_id": list("abc"), "vector": [[1.0, 2], [3.0, 4], [5.0, 6]], "area": [7, 8, 9]})
    made = EmbeddingTable.from_frame(lists, {"model_hash": "m"})
    assert made.vectors.tolist() == [[1, 2], [3, 4], [5, 6]] and made.model_hash == "m"
    assert made.columns["area"].tolist() == [7, 8, 9]
    with pytest.raises(InputError, match="column vector: expected lists of numbers of one length"):
        EmbeddingTable.from_frame(lists.assign(vector=[[1.0], [3.0, 4], [5.0, 6]]))


def test_tables_of_one_model_are_put_together():
    one, two = (EmbeddingTable(np.eye(2), object_id=ids, provenance={"model_hash": "m"}) for ids in ("ab", "cd"))
    assert EmbeddingTable.concat([one, two]).object_id.tolist() == list("abcd")
    with pytest.raises(MismatchError):
        EmbeddingTable.concat([one, EmbeddingTable(np.eye(2), object_id=list("ef"))])
    with pytest.raises(InputError, match="at least one table"):
        EmbeddingTable.concat([])


def test_class_means_by_hand():
    vectors = np.array([[0, 0], [2, 0], [4, 4], [0, 2], [6, 4]])
    assert class_means(vectors, np.array([0, 0, 1, 0, 1])).tolist() == [[2 / 3, 2 / 3], [5, 4]]
    assert class_means(vectors[:, :0], np.array([0, 0, 1, 0, 1])).shape == (2, 0)


def test_two_precisions_of_one_model_are_warned_of(caplog):
    one, other, old = (
        EmbeddingTable(np.eye(2, dtype=np.float32), provenance={"model_hash": "a", **more})
        for more in ({"precision": "float32"}, {"precision": "bfloat16"}, {})
    )
    one.check_same_model(one)
    one.check_same_model(old)
    assert not caplog.text
    one.check_same_model(other, ("the index", "the query"))
    assert "the index was embedded in float32, the query in bfloat16" in caplog.text
