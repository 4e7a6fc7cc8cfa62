"""Groups: of a result, of a folder, of the page itself; in a browser pull out, name, rename, undo, download."""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from plankton_embed.analysis.clusters import find_clusters, load_named
from plankton_embed.page.document import build_document
from plankton_embed.page.groups import build_groups
from plankton_embed.page.images import gather_images
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows.clusters import clusters

SIZES = (12, 8, 5)
HOSTILE = "<img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def images():
    """25 images without label in three groups, and labelled ones near the first two."""
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2, 0, 1], [*SIZES, 6, 6])
    label = np.where(np.arange(37) < 25, None, np.where(kind == 0, "copepod", HOSTILE))
    vectors = 6 * np.eye(3)[kind] + rng.normal(size=(37, 3)) / 2
    return gather_images({"": EmbeddingTable(vectors, [f"image {row}" for row in range(37)], label)})


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """The folder that the command writes."""
    path = tmp_path_factory.mktemp("groups") / "groups"
    clusters(images.table, path, reference=images.table, n_clusters=3, progress=False)
    return path


def members(part):
    return [part["rows"][a:b].tolist() for a, b in zip(part["start"], part["start"][1:], strict=False)]


# ---------------------------------------------------------------------------------------------------- data


def test_a_folder_gives_the_same_as_the_result(images, folder):
    unlabelled = images.table.select(~images.table.is_labelled)
    found = find_clusters(unlabelled, n_clusters=3, reference=images.table, progress=False)
    of_result, of_folder = build_groups(images, found), build_groups(images, folder)
    assert of_result.keys() == of_folder.keys()
    assert (of_result["folder"], of_folder["folder"]) == (False, True)  # only a folder takes cluster_names.csv
    for name in of_result.keys() - {"folder"}:
        np.testing.assert_array_equal(of_result[name], of_folder[name])
    assert of_folder["cluster"].tolist() == [1, 2, 3]
    assert of_folder["n_images"].tolist() == list(SIZES)
    assert of_folder["nearest"][:2] == ["copepod", HOSTILE]
    assert [sorted(rows) for rows in members(of_folder)] == [list(range(12)), list(range(12, 20)), list(range(20, 25))]


def test_images_that_have_got_a_label_are_not_in_groups(images, folder):
    label = images.table.label.copy()
    label[[0, 1, 24]] = "copepod"
    later = gather_images({"": replace(images.table, label=label)})
    found = build_groups(later, folder)
    assert set(found["rows"].tolist()) == set(range(25)) - {0, 1, 24}


def test_central_images_first_odd_ones_last(images, folder):
    for rows in members(build_groups(images, folder)):
        own = images.table.vectors[rows]
        assert (np.diff(np.linalg.norm(own - own.mean(axis=0), axis=1)) >= -1e-5).all()


def test_the_page_groups_its_own_unlabelled_images(images, folder):
    for found in (None, folder / "missing"):
        part = build_groups(images, found)
        assert sorted(part["rows"]) == list(range(25))
        assert len(part["cluster"]) == 5  # the root of 25
    few = images.table.select(np.arange(37) >= 16)
    assert build_groups(gather_images({"": few})) is None
    unnamed = images.table.select(~images.table.is_labelled)
    assert build_groups(gather_images({"": unnamed}))["nearest"] == [None] * 5


def test_names_in_the_folder_are_offered_and_images_elsewhere_are_left_out(images, folder, tmp_path, caplog):
    copy = shutil.copytree(folder, tmp_path / "copy")
    names = pd.read_csv(copy / "cluster_names.csv")
    names.assign(name=["", " larva ", ""]).to_csv(copy / "cluster_names.csv", index=False)
    fewer = gather_images({"": images.table.select(np.arange(37) >= 12)})
    with caplog.at_level(logging.WARNING):
        part = build_groups(fewer, copy)
    assert "12 of 25 images are not on this page" in caplog.text
    assert part["cluster"].tolist() == [2, 3] and part["n_images"].tolist() == [8, 5]
    assert part["name"] == ["larva", None]
    (copy / "cluster_names.csv").unlink()
    assert build_groups(images, copy)["name"] == [None] * 3


def test_damaged_folders_and_those_of_other_images_give_a_warning(images, folder, tmp_path, caplog):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "clusters.csv").write_text("cluster\n1\n")
    assert build_groups(images, copy) is None
    other = EmbeddingTable(np.eye(3), ["a", "b", "c"])
    assert build_groups(gather_images({"": other}), folder) is None
    assert caplog.text.count("left out of the page") == 2


# ---------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture
def page(images, folder, open_page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(build_document(images, {"groups": build_groups(images, folder)}, title="Groups"), encoding="utf-8")
    return open_page(path, "groups")


def enter(page, number):
    page.locator(f"[data-group='{number}']").click()
    page.get_by_role("heading", name=f"Group {number}:").wait_for()


def tile(page, row):
    return page.locator(f"#part-groups .tile[data-row='{row}'] .tile-button")


def labels(page):
    """Return the label of each image of the three groups, empty without one."""
    return page.evaluate("Array.from(PE.images.label.slice(0, 25), PE.className)")


def name_field(page):
    return page.get_by_role("combobox", name="Name of group")


def read_names(page, tmp_path):
    with page.expect_download() as download:
        page.get_by_role("button", name="Download cluster_names.csv").click()
    download.value.save_as(tmp_path / "cluster_names.csv")
    return pd.read_csv(tmp_path / "cluster_names.csv", keep_default_na=False)


def test_the_list_of_groups(page):
    cards = page.locator(".group-card")
    assert cards.count() == 3
    assert "Group 1: 12 images" in cards.nth(0).inner_text()
    assert HOSTILE in cards.nth(1).inner_text()
    assert page.evaluate("window.hacked") is None
    assert page.locator("#part-groups .count").inner_text() == "0 of 3 groups named"


def test_a_name_is_one_decision_for_the_rest_and_the_folder_takes_it(page, images, folder, tmp_path):
    page.evaluate("PE.store.decide({action: 'relabel', object_ids: ['image 3'], label: 'larva'})")
    page.evaluate("PE.store.decide({action: 'delete', object_ids: ['image 4']})")
    enter(page, 1)
    odd = page.locator("#part-groups .tile").first.get_attribute("data-row")
    assert int(odd) == members(build_groups(images, folder))[0][-1]  # odd images first
    tile(page, 5).click()
    tile(page, 6).press("Space")
    tile(page, 7).click()
    tile(page, 7).click()  # back
    assert tile(page, 5).get_attribute("aria-pressed") == "true"
    page.keyboard.press("n")
    name_field(page).fill(" egg  <b>sac</b> ")
    name_field(page).press("Enter")
    page.get_by_role("heading", name="Group 2:").wait_for()
    name = "egg <b>sac</b>"
    expected = [name] * 3 + ["larva", "", "", ""] + [name] * 5 + [""] * 13
    assert labels(page) == expected
    assert page.evaluate("PE.store.list.length") == 3
    assert page.evaluate("PE.store.last().cluster") == 1
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Name of group 2"
    found = read_names(page, tmp_path)
    assert found.columns.tolist() == ["cluster", "n_images", "name", "pulled_out"]
    assert found["cluster"].tolist() == [1, 2, 3] and found["n_images"].tolist() == list(SIZES)
    assert found["name"].tolist() == [name, "", ""]
    assert sorted(json.loads(found["pulled_out"][0])) == [f"image {row}" for row in (3, 4, 5, 6)]
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.copy(tmp_path / "cluster_names.csv", copy)
    named = load_named(copy)
    assert named.object_id.tolist() == [f"image {row}" for row in (0, 1, 2, 7, 8, 9, 10, 11)]
    assert set(named.label) == {name}


def test_a_group_is_renamed_and_undo_takes_names_away(page):
    enter(page, 3)
    name_field(page).fill("larva")
    page.get_by_role("button", name="Name the group").click()
    page.get_by_role("heading", name="Group 1:").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowLeft")
    page.get_by_role("heading", name="Group 3:").wait_for()
    assert page.get_by_text("Named larva: 5 images").is_visible()
    page.evaluate("PE.store.decide({action: 'relabel', object_ids: ['image 21'], label: 'zoea'})")
    page.keyboard.press("n")
    name_field(page).fill("nauplius")
    name_field(page).press("Enter")
    page.get_by_text("Named nauplius: 4 images; 1 not").wait_for()
    assert labels(page)[20:] == ["nauplius", "zoea", "nauplius", "nauplius", "nauplius"]
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    page.get_by_text("Named larva: 4 images").wait_for()
    page.keyboard.press("u")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("u")  # shows the group that was undone
    page.get_by_role("heading", name="Group 3:").wait_for()
    assert labels(page) == [""] * 25
    assert page.get_by_text("No name yet").is_visible()


def test_an_image_is_pulled_out_of_a_named_group_and_put_back(page, tmp_path):
    enter(page, 2)
    page.keyboard.press("g")  # the nearest class
    page.get_by_role("heading", name="Group 3:").wait_for()
    page.get_by_role("button", name="Previous").click()
    tile(page, 15).click()
    assert labels(page)[12:20] == [HOSTILE] * 3 + [""] + [HOSTILE] * 4
    assert json.loads(read_names(page, tmp_path)["pulled_out"][1]) == ["image 15"]
    assert page.evaluate("PE.store.of(15)")["action"] == "keep"
    assert page.evaluate("PE.store.of(15)")["cluster"] == 2  # so that it is still to be labelled
    tile(page, 15).click()
    assert labels(page)[12:20] == [HOSTILE] * 8
    assert json.loads(read_names(page, tmp_path)["pulled_out"][1]) == []
    page.evaluate("PE.store.decide({action: 'delete', object_ids: ['image 12']})")
    tile(page, 12).click()
    page.get_by_text("has a decision of its own").wait_for()
    assert page.evaluate("PE.store.of(12).action") == "delete"


@pytest.mark.parametrize(("text", "fault"), [("Unknown ", "is the label of rejected images"), ("  ", "Type a name")])
def test_names_that_cannot_be_used(page, text, fault):
    enter(page, 1)
    name_field(page).fill(text)
    name_field(page).press("Enter")
    page.get_by_text(fault).wait_for()
    assert labels(page) == [""] * 25


def test_a_held_enter_names_one_group(page):
    enter(page, 1)
    name_field(page).fill("egg")
    for _ in range(4):
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    page.get_by_role("heading", name="Group 2:").wait_for()
    assert page.evaluate("PE.store.list.length") == 1
    assert page.locator("#part-groups .count").inner_text() == "1 of 3 groups named"


def test_names_are_kept_and_all_groups_can_be_named(page):
    for number, name in enumerate(["egg", "larva", "egg"], 1):
        enter(page, number)
        name_field(page).fill(name)
        name_field(page).press("Enter")
        page.get_by_text(f"→ {name}").first.wait_for()
        page.keyboard.press("Escape")
        page.keyboard.press("a")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#part-groups .count").inner_text() == "3 of 3 groups named"
    assert page.locator(".group-card.named").count() == 3
    assert labels(page) == ["egg"] * 12 + ["larva"] * 8 + ["egg"] * 5


def test_a_group_whose_images_are_all_pulled_out_gets_no_name(page):
    enter(page, 3)
    for row in range(20, 25):
        tile(page, row).click()
    name_field(page).fill("egg")
    name_field(page).press("Enter")
    page.get_by_text("Every image of this group is pulled out or decided").wait_for()
    assert page.evaluate("PE.store.list.length") == 0


def test_a_phone_shows_a_group(browser_page, small_report):
    browser_page.set_viewport_size({"width": 390, "height": 844})
    browser_page.goto(small_report.as_uri() + "#groups")
    browser_page.wait_for_selector("html[data-ready]")
    browser_page.locator(".group-card").first.click()
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= 390
    assert browser_page.get_by_role("button", name="Name the group").is_visible()
