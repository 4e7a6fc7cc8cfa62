"""Relations: of a result and of a folder, the same; what is left out; in a browser pictures, filter, table."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from plankton_embed.analysis.relations import find_relations
from plankton_embed.output import write_frame
from plankton_embed.page import relations as page_relations
from plankton_embed.page.document import build_document
from plankton_embed.page.images import gather_images
from plankton_embed.page.relations import build_relations
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows.relations import relations

NAMES = np.array(["<i>fish</i>", "copepod", "nauplius", "salp"], dtype=object)
ENDS = ("x1", "y1", "x2", "y2")


@pytest.fixture(scope="module")
def images():
    """Four classes at the corners of a square, so that one relation is repeated."""
    rng = np.random.default_rng(6)
    code = np.arange(24) % 4
    vectors = np.array([[0, 0], [0, 2], [3, 0], [3, 2]])[code] + 0.1 * rng.normal(size=(24, 2))
    table = EmbeddingTable(vectors, [f"image {row}" for row in range(24)], NAMES[code])
    return gather_images({"train": table.select(np.arange(24) < 12), "test": table.select(np.arange(24) >= 12)})


@pytest.fixture(scope="module")
def found(images):
    return find_relations(images.table, limit=300, n_shuffles=19, progress=False)


@pytest.fixture
def folder(images, tmp_path):
    """The folder that the command writes."""
    relations(images.table, tmp_path / "relations", limit=300, n_shuffles=19, progress=False)
    return tmp_path / "relations"


def as_frame(part, name):
    return pd.DataFrame({key: np.asarray(values) for key, values in part[name].items()})


# ---------------------------------------------------------------------------------------------------- data


def test_a_folder_gives_the_same_as_the_result(images, found, folder):
    of_folder, of_result = build_relations(images, folder), build_relations(images, found)
    assert of_folder.keys() == of_result.keys()
    for name in ("relations", "analogies"):
        pd.testing.assert_frame_equal(as_frame(of_folder, name), as_frame(of_result, name))
    assert of_folder["n_best"] == 100
    assert of_folder["n_found"] == len(found.best)
    best = found.best.iloc[0]
    for end in ENDS:
        row = of_folder["relations"][end][0]
        assert images.table.object_id[row] == found.table.object_id[int(best[end])]
    np.testing.assert_allclose(of_folder["relations"]["distance"][:100], found.best["distance"][:100])
    assert list(as_frame(of_folder, "analogies")) == list(found.analogies)


def test_the_best_of_every_class_are_kept_for_the_filter(images, found, monkeypatch):
    monkeypatch.setattr(page_relations, "N_BEST", 2)
    monkeypatch.setattr(page_relations, "N_BEST_OF_CLASS", 3)
    part = build_relations(images, found)
    corners = np.stack([part["relations"][end] for end in ENDS], axis=1)
    labels = images.label_index[corners]
    assert part["n_best"] == 2
    assert all((labels == code).any(axis=1).sum() >= 3 for code in range(4))
    assert (np.diff(part["relations"]["relative"]) >= 0).all()  # best first


def test_relations_of_images_that_are_not_on_the_page_are_left_out(images, found, caplog):
    fewer = gather_images({"": images.table.select(np.arange(24) > 0)})
    with caplog.at_level(logging.WARNING):
        part = build_relations(fewer, found)
    first = np.flatnonzero(found.table.object_id == images.table.object_id[0])[0]
    n_lost = int((found.best[list(ENDS)] == first).any(axis=1).sum())
    assert part["n_found"] == len(found.best) - n_lost
    assert f"{n_lost} of {len(found.best)} relations have images that are not on this page" in caplog.text


def test_a_damaged_or_foreign_folder_gives_one_warning(images, folder, caplog):
    best, analogies = (pd.read_csv(folder / name) for name in ("relations.csv", "analogies.csv"))
    ids = [f"object_id_{end}" for end in ENDS]
    for name, damaged, message in (
        ("relations.csv", best.drop(columns="distance"), "distance is missing"),
        ("relations.csv", best.assign(length="far"), "column length: expected numbers; found 'far'"),
        ("relations.csv", best.assign(**dict.fromkeys(ids, "elsewhere")), "found only others, such as elsewhere"),
        ("analogies.csv", analogies.drop(columns="support"), "support is missing"),
    ):
        caplog.clear()
        write_frame(folder / "relations.csv", best)
        write_frame(folder / "analogies.csv", analogies)
        write_frame(folder / name, damaged)
        with caplog.at_level(logging.WARNING):
            assert build_relations(images, folder) is None
        assert len(caplog.records) == 1
        assert name in caplog.text
        assert message in caplog.text
    caplog.clear()
    (folder / "analogies.csv").unlink()
    assert build_relations(images, folder) is None
    assert "analogies.csv does not exist" in caplog.text


def test_no_relations(images, found, tmp_path, caplog):
    assert build_relations(images, None) is None
    assert build_relations(images, tmp_path / "missing") is None
    assert build_relations(images, replace(found, best=found.best.head(0))) is None
    assert caplog.text == ""


def test_images_without_labels_have_relations_but_no_analogies(images):
    bare = gather_images({"": replace(images.table, label=np.full(24, None, dtype=object))})
    part = build_relations(bare, find_relations(bare.table, limit=50, n_shuffles=0, progress=False))
    assert len(part["relations"]["x1"]) == 50
    assert part["analogies"]["x1"] == []


# ---------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture
def open_relations(open_page, tmp_path):
    def open_it(images, found):
        path = tmp_path / "page.html"
        part = build_relations(images, found)
        path.write_text(build_document(images, {"relations": part}, title="A page"), encoding="utf-8")
        return open_page(path), part

    return open_it


def rows_of(relation):
    return [int(tile.get_attribute("data-row")) for tile in relation.locator(".tile").all()]


def test_pictures_in_order_and_more_of_them(images, found, open_relations):
    page, part = open_relations(images, found)
    shown = page.locator(".relation")
    assert shown.count() == 20
    for number in (0, 7):
        assert rows_of(shown.nth(number)) == [part["relations"][end][number] for end in ENDS]
    assert "The best 100 of 300, the most similar first." in page.locator("main").inner_text()
    for _ in range(4):
        page.get_by_role("button", name="Show more (").first.click()
    assert shown.count() == 100
    page.locator(".relation .tile-button").first.click()
    assert page.locator("dialog[open] h2").inner_text() == images.table.object_id[part["relations"]["x1"][0]]


def test_a_class_filters_pictures_and_analogies(images, found, open_relations):
    page, part = open_relations(images, found)
    page.get_by_label("Class:").select_option("<i>fish</i>")
    code = images.classes.index("<i>fish</i>")
    corners = np.stack([part["relations"][end] for end in ENDS], axis=1)
    wanted = corners[(images.label_index[corners] == code).any(axis=1)]
    assert f"{len(wanted)} relations with an image of <i>fish</i>" in page.locator("main").inner_text()
    assert rows_of(page.locator(".relation").first) == wanted[0].tolist()
    rows = [
        [cell.inner_text() for cell in row.locator("td").all()] for row in page.locator(".analogies tbody tr").all()
    ]
    assert rows
    assert all("<i>fish</i>" in row[:4] for row in rows)
    page.get_by_label("Class:").select_option("")
    assert page.locator(".relation").count() == 20


def test_the_table_has_support_expected_and_p(images, found, open_relations):
    page, part = open_relations(images, found)
    heads = [head.inner_text() for head in page.locator(".analogies th").all()]
    assert heads == [*ENDS, "classes", "support", "expected", "p", "p of any"]
    first = [cell.inner_text() for cell in page.locator(".analogies tbody tr").first.locator("td").all()]
    assert first[:4] == [part["analogies"][end][0] for end in ENDS]
    assert int(first[5].replace(",", "")) == part["analogies"]["support"][0]
    with page.expect_download() as download:
        page.get_by_role("button", name="Download analogies.csv").click()
    assert len(pd.read_csv(download.value.path())) == len(found.analogies)


def test_without_labels(images, open_relations):
    bare = gather_images({"": replace(images.table, label=np.full(24, None, dtype=object))})
    page, _ = open_relations(bare, find_relations(bare.table, limit=9, n_shuffles=0, progress=False))
    assert page.locator(".relation").count() == 9
    assert page.locator(".analogies").inner_text() == "None."


def test_it_fits_a_phone(images, found, open_relations):
    page, _ = open_relations(images, found)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
