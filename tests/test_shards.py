"""Folders of Parquet files: which they are, that they fit together, and how they are read."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plankton_embed import shards as shards_module
from plankton_embed.errors import InputError
from plankton_embed.shards import Shards, digest_frames, is_shards, read_job


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, columns in files.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


@pytest.fixture
def numbers(tmp_path):
    """Rows 0 to 99 in files of 1, 0, 59 and 40."""
    ends = [0, 1, 1, 60, 100]
    ids = [f"i{row}" for row in range(100)]
    parts = [{"object_id": pa.array(ids[a:b], pa.string()), "n": np.arange(a, b)} for a, b in pairwise(ends)]
    return write(tmp_path / "shards", **{f"f{number}": part for number, part in enumerate(parts)})


def test_a_folder_of_parquet_files_alone_is_one(numbers, tmp_path):
    assert is_shards(numbers)
    (numbers / "_SUCCESS").touch()
    (numbers / ".part-000001.parquet.x").mkdir()
    (numbers / "job.json").touch()
    (numbers / "faults.csv").touch()
    assert is_shards(numbers)
    (numbers / "picture.png").touch()
    assert not is_shards(numbers)
    (numbers / "picture.png").unlink()
    (numbers / "copepod").mkdir()  # a folder of images with a table beside its classes
    assert not is_shards(numbers)
    (tmp_path / "empty").mkdir()
    assert not is_shards(tmp_path / "empty") and not is_shards(tmp_path / "gone")
    assert not is_shards(next(numbers.glob("*.parquet")))


@pytest.mark.parametrize("n_rows", [1, 7, 40, 99, 100, 1000])
def test_blocks_have_the_same_size_whatever_the_files(numbers, n_rows):
    blocks = list(Shards.open(numbers).read(n_rows))
    assert [len(block) for block in blocks[:-1]] == [n_rows] * (len(blocks) - 1) and 0 < len(blocks[-1]) <= n_rows
    assert pa.concat_tables(blocks)["n"].to_pylist() == list(range(100))


def test_masks_and_columns_are_read_alone(numbers):
    kept = np.random.default_rng(0).random(100) < 0.3
    kept[1:60] = False  # a whole file
    blocks = list(Shards.open(numbers).read(7, ["n"], kept))
    assert {len(block) for block in blocks[:-1]} <= {7}
    assert pa.concat_tables(blocks)["n"].to_pylist() == np.flatnonzero(kept).tolist()
    assert blocks[0].column_names == ["n"]
    (none,) = Shards.open(numbers).read(7, kept=np.zeros(100, dtype=bool))
    assert len(none) == 0 and none.column_names == ["object_id", "n"]


def test_columns_that_are_empty_or_whole_in_one_file_fit_the_others(tmp_path):
    folder = write(
        tmp_path / "s",
        a={"text": pa.array([None, None], pa.null()), "x": [1, 2], "word": pa.array(["a", "b"]).dictionary_encode()},
        b={"text": pa.array(["c"], pa.large_string()), "x": [0.5], "word": ["c"]},
    )
    (whole,) = Shards.open(folder).read(100)
    assert whole.to_pydict() == {"text": [None, None, "c"], "x": [1.0, 2.0, 0.5], "word": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"object_id": ["x"]}, r"f9\.parquet: expected the columns of f0\.parquet.*n missing"),
        ({"object_id": ["x"], "n": [1], "depth": [2.0]}, r"f9\.parquet.*depth in addition"),
        ({"object_id": ["x"], "n": ["one"]}, r"f9\.parquet: expected columns of the same types.*n \(string\)"),
    ],
)
def test_files_that_differ_are_one_error_with_the_file(numbers, other, message):
    write(numbers, f9=other)
    with pytest.raises(InputError, match=message):
        Shards.open(numbers)


def test_files_that_cannot_be_read(numbers, tmp_path):
    (numbers / "f9.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"f9\.parquet cannot be read as Parquet"):
        Shards.open(numbers)
    (numbers / "f9.parquet").unlink()
    opened = Shards.open(numbers)
    content = bytearray((numbers / "f3.parquet").read_bytes())
    content[4:200] = bytes(196)
    (numbers / "f3.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"f3\.parquet cannot be read"):
        list(opened.read(10))
    with pytest.raises(InputError, match="expected Parquet files; found none"):
        Shards.open(tmp_path)


@pytest.mark.parametrize("most", [2**27, 7])
def test_ids_of_all_files_differ(numbers, most, monkeypatch):
    monkeypatch.setattr(shards_module, "MOST_HASHES", most)  # with 7, in 15 passes
    Shards.open(numbers).check_ids()
    write(numbers, f9={"object_id": ["j", "i7"], "n": [0, 0]})
    with pytest.raises(InputError, match=r"found 'i7' again, in f2\.parquet and f9\.parquet"):
        Shards.open(numbers).check_ids()
    write(numbers, f9={"object_id": ["j", ""], "n": [0, 0]})
    with pytest.raises(InputError, match=r"1 rows without it, in f9\.parquet"):
        Shards.open(numbers).check_ids()


def test_ids_of_equal_hash_are_not_equal(numbers, monkeypatch):
    monkeypatch.setattr(shards_module, "hash_text", lambda values: np.zeros(len(values), dtype=np.uint64))
    Shards.open(numbers).check_ids()


def test_a_column_takes_the_place_of_missing_ids(tmp_path):
    folder = write(tmp_path / "s", a={"object_id": ["x", None], "path": [" a ", " b "]})
    assert [*next(Shards.open(folder).read_text(("object_id", "path"), strip=True))] == ["x", "b"]


def test_an_incomplete_job_is_not_read(numbers):
    job = {"inputs": {}, "n_parts": 4, "complete": False}
    (numbers / "job.json").write_text(json.dumps(job))
    with pytest.raises(InputError, match=r"not complete.*run its command again"):
        Shards.open(numbers)
    (numbers / "job.json").write_text(json.dumps(job | {"complete": True}))
    assert len(Shards.open(numbers)) == 100
    for counts in ({"n_parts": 5}, {"n_vectors": 101}, {"n_images": 99}):  # of a copy that lacks a file, or has another
        (numbers / "job.json").write_text(json.dumps(job | {"complete": True, **counts}))
        with pytest.raises(InputError, match=r"expected \d files with \d+ rows \(of job\.json\); found 4 with 100"):
            Shards.open(numbers)
    (numbers / "job.json").write_text("[]")
    with pytest.raises(InputError, match="not the file of a job"):
        read_job(numbers)


def test_a_hash_changes_with_a_value_and_with_the_order():
    frame = pd.DataFrame({"a": ["x", None], "b": [1.0, np.nan]})
    same, other, turned = frame.copy(), frame.assign(b=[2.0, np.nan]), frame.iloc[::-1]
    assert digest_frames([frame]) == digest_frames([same])
    assert len({digest_frames([one]) for one in (frame, other, turned, frame.rename(columns={"a": "c"}))}) == 4


def test_a_digest_is_that_of_the_columns_that_exist(numbers):
    shards = Shards.open(numbers)
    assert shards.digest(("object_id", "label")) == shards.digest(("object_id",)) != shards.digest(("n",))
