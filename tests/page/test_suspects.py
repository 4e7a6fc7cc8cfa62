"""Suspects: what the page gets; in a browser every key and button, undo, the end, and the download."""

import numpy as np
import pytest

from plankton_embed.analysis.suspects import find_suspects
from plankton_embed.images.corrections import read_corrections
from plankton_embed.page.document import build_document
from plankton_embed.page.images import gather_images
from plankton_embed.page.suspects import build_suspects
from plankton_embed.table import EmbeddingTable

HOSTILE = "<script>window.hacked = 1</script>"


def make_images(n=40, n_classes=2):
    """Images of classes in a row; image 0 is among those of the next class, and images 1 and 2 are copies."""
    rng = np.random.default_rng(1)
    kind = np.arange(n) % n_classes
    names = np.array(["copepod", HOSTILE, "salp"], dtype=object)
    vectors = 4 * np.eye(4)[kind] + rng.normal(size=(n, 4)) / 4
    vectors[0] = 4 * np.eye(4)[1 % n_classes]
    vectors[1] = vectors[2]
    return gather_images({"": EmbeddingTable(vectors, [f"image, {row}" for row in range(n)], names[kind])})


# ---------------------------------------------------------------------------------------------------- data


def test_contradictions_come_first_then_the_ranking():
    images = make_images()
    part = build_suspects(images, n_suspects=10)
    first = find_suspects(images.table).first(10)
    assert part["rows"].tolist() == [images.table.object_id.tolist().index(name) for name in first["object_id"]]
    assert set(part["rows"][:2].tolist()) == {1, 2} and part["rows"][2] == 0
    assert [images.classes[code] for code in part["guess"]] == first["guess"].tolist()
    assert part["reason"][0].startswith("labelled ") and "copy of image, " in part["reason"][0]
    assert part["reason"][2] == ""
    assert np.isnan(part["score"][:2]).all() and part["score"][2] == first["score"][2]
    assert build_suspects(images, find_suspects(images.table), n_suspects=10)["rows"].tolist() == part["rows"].tolist()


def test_neighbors_are_the_nearest_labelled_images_and_never_the_image_itself():
    images = make_images()
    images.table.label[5::7] = None
    images = gather_images({"": images.table})
    part = build_suspects(images)
    labelled = np.flatnonzero(images.table.is_labelled)
    for row, near in zip(part["rows"], part["neighbors"].reshape(-1, part["n_neighbors"]), strict=True):
        others = labelled[labelled != row]
        distance = np.linalg.norm(images.table.vectors[others] - images.table.vectors[row], axis=1)
        expected = np.sort(distance)[: len(near)]
        found = np.linalg.norm(images.table.vectors[near] - images.table.vectors[row], axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert row not in near


def test_a_run_shows_suspects_of_its_training_images_and_copies_in_other_splits(small_images, small_parts):
    rows, splits = small_parts["suspects"]["rows"], small_images.split
    assert set(splits[rows]) == {"train"}
    assert small_images.table.object_id[rows[0]] == "copepod_0001"
    assert small_images.classes[small_parts["suspects"]["guess"][0]] == "diatom_chain"
    train = small_images.table.select(splits == "train")
    test = EmbeddingTable(train.vectors[5:6], ["copy"], ["medusa"], provenance=train.provenance)
    part = build_suspects(gather_images({"train": train, "test": test}))
    assert {part["rows"][0], part["rows"][1]} == {5, len(train)}


@pytest.mark.parametrize("labels", [["a"] * 5, [None] * 5, ["a", "b", None, None, None]])
def test_too_little_to_suspect(labels):
    images = gather_images({"": EmbeddingTable(np.eye(5), label=labels)})
    assert build_suspects(images) is None


def test_suspects_of_other_images_are_left_out():
    images = make_images()
    found = find_suspects(images.table)
    part = build_suspects(gather_images({"": images.table.select(np.arange(40) < 20)}), found)
    assert max(part["rows"]) < 20
    others = EmbeddingTable(images.table.vectors, label=images.table.label)
    assert build_suspects(gather_images({"": others}), found) is None


# ---------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture
def page(open_page, tmp_path):
    """The page of 40 images with 6 suspects, at the first."""
    images = make_images()
    path = tmp_path / "report.html"
    parts = {"suspects": build_suspects(images, n_suspects=6)}
    path.write_text(build_document(images, parts, title="Six"), encoding="utf-8")
    return open_page(path, "suspects")


def state(page):
    """Return where the page is, how many are decided, and what holds for every image."""
    place = page.locator(".judge-place")
    return (
        place.text_content() if place.count() else "end",
        page.locator("#part-suspects .count").text_content(),
        page.evaluate("Array.from(PE.data.parts.suspects.rows, row => PE.store.of(row)?.action ?? null)"),
    )


def label(page, at):
    return page.evaluate("at => PE.className(PE.images.label[PE.data.parts.suspects.rows[at]])", at)


def test_every_key_decides_once_and_goes_on(page, wait_until):
    first = page.evaluate("PE.className(PE.data.parts.suspects.guess[1])")
    page.keyboard.press("k")
    page.keyboard.press("G")
    assert state(page) == ("3 of 6", "2 of 6 decided", ["keep", "relabel", None, None, None, None])
    assert label(page, 1) == first
    page.keyboard.press("d")
    page.keyboard.press("r")
    page.get_by_role("combobox").press("Enter")  # takes the suggestion
    wait_until(page, "document.querySelector('.judge-place').textContent === '5 of 6'")
    assert state(page)[2] == ["keep", "relabel", "delete", "relabel", None, None]
    page.keyboard.press("r")
    page.get_by_role("combobox").fill("new <b>kind</b>")
    page.get_by_role("combobox").press("Enter")
    wait_until(page, "document.querySelector('.judge-place').textContent === '6 of 6'")
    assert label(page, 4) == "new <b>kind</b>"
    page.keyboard.press("r")
    page.keyboard.press("Escape")
    assert state(page)[1] == "5 of 6 decided"
    assert page.evaluate("window.hacked") is None
    assert page.get_by_text(HOSTILE).first.is_visible()


def test_the_present_label_chosen_again_is_kept(page, wait_until):
    page.keyboard.press("r")
    page.get_by_role("combobox").fill(page.evaluate("PE.className(PE.images.label[PE.data.parts.suspects.rows[0]])"))
    page.get_by_role("combobox").press("Enter")
    wait_until(page, "PE.store.size() === 1")
    assert state(page)[2][0] == "keep"


def test_arrows_move_without_deciding_and_undo_shows_the_image(page, wait_until):
    page.keyboard.press("ArrowRight")
    page.keyboard.press("d")
    page.keyboard.press("ArrowRight")
    assert state(page) == ("4 of 6", "1 of 6 decided", [None, "delete", None, None, None, None])
    page.keyboard.press("u")
    wait_until(page, "PE.store.size() === 0")
    assert state(page)[0] == "2 of 6"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert state(page)[0] == "1 of 6"
    page.keyboard.press("u")
    page.get_by_text("no decision to undo").wait_for()
    page.keyboard.press("k")
    page.get_by_role("button", name="Undo", exact=True).first.click()  # at the top of the page
    assert state(page)[:2] == ("1 of 6", "0 of 6 decided")


@pytest.mark.parametrize("key", ["k", "d", "g"])
def test_a_held_key_decides_once(page, key):
    for _ in range(5):
        page.keyboard.down(key)
    page.keyboard.up(key)
    assert state(page)[1] == "1 of 6 decided"


def test_a_held_enter_on_a_button_decides_once(page):
    page.get_by_role("button", name="Keep").focus()
    for _ in range(5):
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    assert state(page)[1] == "1 of 6 decided"
    page.keyboard.press("ArrowRight")  # the focus is still in the card, so keys go on
    assert state(page)[0] == "3 of 6"


def test_a_decision_that_is_not_saved_does_not_go_on(page, browser_faults):
    page.evaluate("window.decide = PE.store.decide; PE.store.decide = async () => { throw new Error('not saved'); }; 0")
    page.keyboard.press("k")
    page.keyboard.press("g")
    assert state(page)[:2] == ("1 of 6", "0 of 6 decided")
    page.evaluate("PE.store.decide = window.decide; 0")
    assert browser_faults == ["exception: not saved"] * 2
    browser_faults.clear()
    page.keyboard.press("k")
    assert state(page)[:2] == ("2 of 6", "1 of 6 decided")


def test_a_second_key_waits_for_the_first_decision(page, wait_until):
    page.evaluate("""
        window.decide = PE.store.decide;
        PE.store.decide = (one) => new Promise((resolve) => { window.answer = () => resolve(window.decide(one)); }); 0
    """)
    for key in "kdg":
        page.keyboard.press(key)
    assert state(page)[:2] == ("1 of 6", "0 of 6 decided")
    page.evaluate("window.answer(); 0")
    wait_until(page, "document.querySelector('.judge-place').textContent === '2 of 6'")
    assert state(page)[2] == ["keep", None, None, None, None, None]


def test_buttons_do_what_the_keys_do(page, wait_until):
    for name, action in (("Keep", "keep"), ("Relabel: ", "relabel"), ("Delete", "delete")):
        page.locator("#part-suspects").get_by_role("button", name=name).click()
        assert action in state(page)[2]
    page.get_by_role("button", name="Previous").click()
    page.get_by_role("button", name="Next").click()
    assert state(page)[0] == "4 of 6"
    page.get_by_role("button", name="Relabel …").click()
    page.get_by_role("option", name="New class").wait_for(state="detached")
    page.get_by_role("option").first.click()
    wait_until(page, "PE.store.size() === 4")
    page.locator(".judge-picture").click()
    assert page.locator("dialog").get_by_text("second guess").count() == 1
    page.keyboard.press("k")  # not below a dialog
    page.keyboard.press("Escape")
    assert state(page)[1] == "4 of 6 decided"


def test_the_end_is_clear_progress_is_kept_and_the_download_is_accepted(page, tmp_path, wait_until):
    for n, key in enumerate("kgdkk", start=1):
        page.keyboard.press(key)
        wait_until(page, "n => PE.store.size() === n", n)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert state(page)[:2] == ("6 of 6", "5 of 6 decided")
    page.keyboard.press("ArrowRight")
    assert page.get_by_text("1 image is not decided yet").is_visible()
    page.get_by_role("button", name="To the first that is not decided").click()
    page.keyboard.press("k")
    assert page.get_by_text("All 6 images are decided").is_visible()
    assert page.get_by_text("4 kept, 1 relabelled, 1 deleted.").is_visible()
    page.keyboard.press("k")  # nothing is left to decide
    with page.expect_download() as download:
        page.locator(".finished").get_by_role("button", name="Download corrections.csv").click()
    download.value.save_as(tmp_path / "corrections.csv")
    found = read_corrections(tmp_path / "corrections.csv")
    ids = page.evaluate("Array.from(PE.data.parts.suspects.rows, row => PE.images.id[row])")
    assert dict(zip(found["object_id"], found["action"], strict=True)) == dict(
        zip(ids, ["keep", "relabel", "delete", "keep", "keep", "keep"], strict=True)
    )
    page.get_by_role("button", name="To the first image").click()
    assert state(page)[0] == "1 of 6"
    page.keyboard.press("d")  # a decision can be changed
    assert state(page)[2][0] == "delete"
    assert state(page)[0] == "end"


def test_a_click_on_the_tab_leaves_the_arrows_to_the_images(open_page, small_report):
    page = open_page(small_report)
    page.get_by_role("tab", name="Suspects").click()
    page.keyboard.press("ArrowRight")
    assert state(page)[0].startswith("2 of ")
    assert page.evaluate("PE.opened()") == "suspects"
    assert page.locator("#part-suspects .judge-picture .thumb").first.evaluate("e => e.style.backgroundImage") != ""
    assert page.locator("#part-suspects .judge-beside .tile").count() == 8


def test_a_phone_shows_the_picture_and_the_buttons(browser_page, small_report):
    browser_page.set_viewport_size({"width": 390, "height": 844})
    browser_page.goto(small_report.as_uri() + "#suspects")
    browser_page.wait_for_selector("html[data-ready]")
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= 390
    box = browser_page.get_by_role("button", name="Keep").bounding_box()
    assert box["y"] + box["height"] < 844
