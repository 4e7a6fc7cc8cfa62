"""Contact sheets: which images are shown, and what is written below them."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.settings import PreparationSettings
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex
from plankton_embed.workflows.contact_sheets import MOST_PREVIEWED, neighbors_sheet, preview_sheet


def preview(tmp_path, labels, side=32):
    """Return the captions of a preview of one picture under these labels."""
    Image.fromarray(np.arange(120, dtype=np.uint8).reshape(10, 12)).save(tmp_path / "a.png")
    rows = {"object_id": [f"o{n}" for n in range(len(labels))], "path": ["a.png"] * len(labels), "label": labels}
    sheet = preview_sheet(ImageCatalog.from_rows(rows, root=tmp_path), PreparationSettings(target_size=side))
    tiles = [tile for _, row in sheet.rows for tile in row]
    assert all(np.shape(tile.image) == (side, side) for tile in tiles[1::2])
    assert {tile.caption for tile in tiles[1::2]} == {f"as seen\n{side}×{side}"}
    return Counter(tile.caption.removesuffix("\n12×10") for tile in tiles[::2])


@pytest.mark.parametrize("side", [32, 299])
def test_a_preview_is_of_the_size_asked_for(tmp_path, side):
    assert preview(tmp_path, ["a"] * 4, side) == {"a": 4}


def test_a_preview_shows_rare_classes_beside_one_of_very_many_images(tmp_path):
    shown = preview(tmp_path, ["copepod"] * 500 + ["medusa"] * 2 + ["egg", None])
    assert shown == {"copepod": 26, "medusa": 2, "egg": 1, "(unlabelled)": 1}


@pytest.mark.parametrize(("n_classes", "n_shown"), [(40, 40), (MOST_PREVIEWED + 20, MOST_PREVIEWED)])
def test_a_preview_of_many_classes_shows_one_image_of_each(tmp_path, n_classes, n_shown):
    shown = preview(tmp_path, [f"class {number // 3:03}" for number in range(3 * n_classes)])
    assert len(shown) == n_shown and set(shown.values()) == {1}


def test_a_query_without_a_label_is_called_query_once():
    table = EmbeddingTable(np.eye(3, dtype=np.float32), object_id=["a", "b", "c"], label=["copepod", None, "egg"])
    queries = table.select(np.array([0, 1]))
    sheet = neighbors_sheet(queries, table, VectorIndex.build(table).search(queries, 2))
    captions = [[tile.caption for tile in row] for _, row in sheet.rows]
    assert [row[0] for row in captions] == ["copepod\nquery", "query"]
    assert captions[1][1] == "(unlabelled)\n0.00"


def test_a_preview_gives_the_size_on_disk_also_where_a_strip_is_cut_off(tmp_path):
    pixels = np.full((80, 90), 255, np.uint8)
    pixels[15:60, 5:85] = 120
    pixels[68:72, 10:80] = 0  # a bar in a strip
    Image.fromarray(pixels).save(tmp_path / "a.png")
    catalog = ImageCatalog.from_rows({"path": ["a.png"], "label": ["copepod"]}, root=tmp_path)
    ((_, tiles),) = preview_sheet(catalog, PreparationSettings(target_size=64)).rows
    assert [tile.caption for tile in tiles] == ["copepod\n90×80", "as seen\n64×64"]
