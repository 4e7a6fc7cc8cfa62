"""What objects show of themselves."""

import base64
import io
import re

import numpy as np
import pandas as pd
from PIL import Image

import plankton_embed as pe
from plankton_embed.notebook import N_ROWS, SIDE, Shown


def make_table(tmp_path, n=12):
    Image.new("L", (200, 100), 40).save(tmp_path / "a.png")
    vectors = np.eye(n, 3, dtype=np.float32) + 0.1
    paths = [str(tmp_path / "a.png"), str(tmp_path / "gone.png"), *[None] * (n - 2)]
    return pe.EmbeddingTable(vectors, label=np.array(["<b>", "medusa"])[np.arange(n) % 2], path=paths)


def test_a_line_says_how_much_there_is(tmp_path):
    table = make_table(tmp_path)
    assert repr(table) == "EmbeddingTable(12 images, 3 dimensions, 2 classes)"
    assert repr(pe.VectorIndex.build(table)) == "VectorIndex(flat, 12 vectors, 3 dimensions)"
    catalog = pe.ImageCatalog(pd.DataFrame({"object_id": list("abc"), "path": list("abc"), "label": ["x", "y", None]}))
    assert repr(catalog).startswith("ImageCatalog(3 images, 2 classes")


def test_every_result_has_one_line(tmp_path):
    table = make_table(tmp_path, 60)
    found = [pe.pca(table), pe.dendrogram(table, n_leaves=4, progress=False), pe.clusters(table, progress=False)]
    found += [pe.evaluate(table, table, progress=False), pe.suspects(table, n_folds=0, progress=False)]
    for result in found:
        line = repr(result)
        assert "\n" not in line and len(line) < 120 and line.startswith(f"{type(result).__name__}(")
        assert "<table" in result._repr_html_()


def test_a_notebook_shows_thumbnails_and_no_markup_of_labels(tmp_path):
    html = make_table(tmp_path)._repr_html_()
    assert html.count("<tr") == N_ROWS + 1
    assert "&lt;b&gt;" in html and "<b>" not in html
    encoded = re.findall(r"base64,([^\"]+)", html)
    assert len(encoded) == 1  # the other files are not there
    with Image.open(io.BytesIO(base64.b64decode(encoded[0]))) as image:
        assert image.size == (SIDE, SIDE // 2) and image.getpixel((0, 0)) == (40, 40, 40)


def test_what_has_no_rows_shows_its_line_alone():
    class Plain(Shown):
        def _describe(self):
            return "<nothing>"

    assert Plain()._repr_html_() == "<p><code>Plain(&lt;nothing&gt;)</code></p>"


def test_results_without_a_picture_are_one_line_too(tmp_path):
    table = make_table(tmp_path)
    assert repr(pe.VectorIndex.build(table).search(table, 3)) == "Neighbors(12 queries, 3 nearest rows of each)"
    catalog = pe.ImageCatalog.from_frame(pd.DataFrame({"path": table.path[:1], "label": ["medusa"]}))
    assert repr(pe.summarize(catalog)) == "CatalogSummary(1 images, 1 classes)"
    assert "<table" in pe.summarize(catalog)._repr_html_()
    assert "\n" not in repr(pe.doctor())
