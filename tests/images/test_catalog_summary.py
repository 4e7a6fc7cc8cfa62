"""The summary of a catalog, by hand."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.catalog_summary import summarize


def png_header(width, height):
    """A PNG with a size and without pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.fixture
def five_images(tmp_path):
    """Four readable images and one that is not."""
    sizes = [(10, 20), (30, 20), (50, 40), (70, 80)]
    for number, size in enumerate(sizes):
        Image.new("L", size).save(tmp_path / f"{number}.png")
    (tmp_path / "4.png").write_text("no image")
    return ImageCatalog.from_rows(
        {
            "path": [tmp_path / f"{i}.png" for i in range(5)],
            "label": ["b", "b", "c", None, "a"],
            "depth": [1, np.nan, np.nan, 2, np.nan],
        }
    )


def test_the_summary_by_hand(five_images):
    summary = summarize(five_images, progress=False)
    assert (summary.n_images, summary.n_unlabelled, summary.n_unreadable) == (5, 1, 1)
    assert summary.classes.to_dict("list") == {"label": ["b", "a", "c"], "count": [2, 1, 1], "share": [0.5, 0.25, 0.25]}
    gaps = summary.gaps.set_index("column")
    assert gaps.loc["depth"].tolist() == [3, 60]
    assert gaps.loc["label"].tolist() == [1, 20]
    assert gaps.loc["path"].tolist() == [0, 0]
    assert summary.sizes["area"].tolist() == [200, 600, 2000, 5600]
    assert summary.size_quantiles.loc[0.5].tolist() == [40, 30, 1300]
    assert summary.size_quantiles.loc[0.25].tolist() == [25, 20, 500]
    assert summary.size_quantiles.loc[1].tolist() == [70, 80, 5600]
    plain = json.loads(json.dumps(summary.to_dict()))
    assert plain["classes"][0] == {"label": "b", "count": 2, "share": 0.5}
    assert plain["n_classes"] == 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("data", [b"", b"GIF89a", png_header(30000, 30000), b"II*\0\xff\xff\xff\xff"])
def test_the_summary_counts_headers_that_cannot_be_read(five_images, tmp_path, data):
    (tmp_path / "4.png").write_bytes(data)
    assert summarize(five_images, progress=False).n_unreadable == 1


def test_the_summary_of_a_catalog_without_labels(five_images):
    bare = ImageCatalog.from_rows({"path": five_images.paths})
    assert summarize(bare, progress=False).classes.empty
