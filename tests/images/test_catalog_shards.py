"""Catalogs in a folder of Parquet files, and catalogs in parts."""

import numpy as np
import pandas as pd
import pytest

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.catalog_shards import CatalogParts, CatalogShards
from plankton_embed.images.readers.source import read_source
from plankton_embed.table import EmbeddingTable


@pytest.fixture(scope="module")
def catalog():
    """Columns whose types differ between files, unless they are read with care."""
    rng = np.random.default_rng(0)
    return ImageCatalog.from_frame(
        pd.DataFrame(
            {
                "path": [f"/images/{row}.png" for row in range(60)],
                "object_id": [f"{row:03d}" for row in range(60)],
                "label": [None] * 30 + ["Méduse"] * 30,
                "station": [None if row % 7 == 3 else row for row in range(60)],  # whole, with empty cells
                "half": [None if row % 7 == 3 else row / 2 for row in range(60)],  # whole in some files
                "depth_min": [None if row % 5 == 2 else row for row in range(60)],
                "comment": [None] * 59 + ["late"],
                "volume": rng.random(60),
            }
        )
    )


def test_a_folder_loads_as_its_catalog(catalog, write_shards, tmp_path):
    folder = write_shards(catalog, tmp_path / "shards")
    one = ImageCatalog.load(catalog.save(tmp_path / "one.parquet"))
    assert one.frame["station"].dtype == "Int64"
    for found in (ImageCatalog.load(folder), read_source(folder), read_source(folder, tmp_path)):
        pd.testing.assert_frame_equal(found.frame, one.frame)
    some = CatalogShards.open(folder).load(["object_id", "gone", "volume"])
    pd.testing.assert_frame_equal(some, one.frame[["object_id", "volume"]])


def test_relative_paths_start_in_the_folder_or_at_the_root(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    pd.DataFrame({"path": ["a/1.png"]}).to_parquet(folder / "0.parquet")
    assert ImageCatalog.load(folder).paths == [str(folder / "a" / "1.png")]
    assert ImageCatalog.load(folder, tmp_path).paths == [str(tmp_path / "a" / "1.png")]
    with pytest.raises(InputError, match="root folder"):
        ImageCatalog.load(folder, tmp_path / "gone")


def test_what_is_refused(catalog, write_shards, tmp_path):
    folder = write_shards(catalog, tmp_path / "shards")
    catalog.select([3]).save(folder / "x.parquet")
    with pytest.raises(InputError, match=r"'003' again, in 002\.parquet and x\.parquet"):
        read_source(folder)
    vectors = write_shards(EmbeddingTable(np.ones((5, 2)), path=list("abcde")), tmp_path / "vectors", ends=(2,))
    with pytest.raises(InputError, match=r"expected catalogs of images; found vectors \(column vector\)"):
        read_source(vectors)
    (tmp_path / "plain").mkdir()
    pd.DataFrame({"file": ["a"]}).to_parquet(tmp_path / "plain" / "0.parquet")
    with pytest.raises(InputError, match="expected a column named path"):
        read_source(tmp_path / "plain")
    (tmp_path / "none").mkdir()
    pd.DataFrame({"path": pd.Series(dtype=str)}).to_parquet(tmp_path / "none" / "0.parquet")
    with pytest.raises(InputError, match="expected images; found none"):
        read_source(tmp_path / "none")
    with pytest.raises(SettingError, match="status"):
        read_source(folder, status="validated")


@pytest.mark.parametrize("part_size", [1, 7, 24, 60, 100])
def test_parts_have_stable_numbers(catalog, write_shards, tmp_path, part_size):
    folder = write_shards(catalog, tmp_path / "shards", ends=(1, 1, 30))
    for source, counts in ((catalog, [60]), (CatalogShards.open(folder), [1, 0, 29, 30])):
        parts = CatalogParts.divide(source, part_size)
        assert parts.n_images == sum(parts.sizes) == 60 and max(parts.sizes) <= part_size
        read = dict(parts.read(range(len(parts.sizes))))
        assert [len(part) for part in read.values()] == parts.sizes
        ids = [name for part in read.values() for name in part.frame["object_id"]]
        assert ids == catalog.frame["object_id"].tolist()
        assert parts.counts == counts
        wanted = [len(parts.sizes) - 1]
        ((number, last),) = parts.read(wanted)
        assert (number, last.paths) == (wanted[0], read[number].paths)


def test_the_digest_is_of_what_vectors_are_made_from(catalog, write_shards, tmp_path):
    frame = catalog.frame

    def digest(frame):
        return CatalogParts.divide(ImageCatalog(frame)).digest

    assert digest(frame) == digest(frame.assign(volume=0))
    assert digest(frame) != digest(frame.assign(label="x"))
    assert digest(frame) != digest(frame.assign(path=frame["path"] + "x"))
    folder = write_shards(catalog, tmp_path / "shards")
    (tmp_path / "images").mkdir()
    shards, moved = CatalogShards.open(folder), CatalogShards.open(folder, tmp_path / "images")
    assert CatalogParts.divide(shards).digest != CatalogParts.divide(moved).digest


def test_the_size_of_parts_follows_the_number_of_images(catalog):
    assert CatalogParts.divide(catalog).part_size == 500
    for n, size in ((10**6, 10**4), (10**9, 10**5)):
        many = CatalogShards.__new__(CatalogShards)
        shards = type("Counted", (), {"counts": [n], "digest": lambda self, columns: ""})()
        object.__setattr__(many, "shards", shards)
        object.__setattr__(many, "root", catalog_root())
        assert CatalogParts.divide(many).part_size == size
    with pytest.raises(SettingError, match="at least 1 image; found 0"):
        CatalogParts.divide(catalog, 0)


def catalog_root():
    from pathlib import Path

    return Path()
