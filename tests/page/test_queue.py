"""Next to label: what the page gets; in a browser keys, odd images, undo; live, the queue follows every label."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from plankton_embed.analysis.labelling import REASONS, choose_next
from plankton_embed.images.corrections import read_corrections
from plankton_embed.images.decisions import read_journal
from plankton_embed.page.document import build_document
from plankton_embed.page.images import gather_images
from plankton_embed.page.queue import PageQueue, build_queue
from plankton_embed.table import EmbeddingTable

HOSTILE = "<script>window.hacked = 1</script>"
KINDS = np.arange(60) % 3  # of the images: copepods, another class, and one without labels
SERVE = "import sys; from plankton_embed.workflows.review import review; review(sys.argv[1], open_browser=False)"


@pytest.fixture(scope="module")
def table():
    """60 images of three kinds; 12 of the first two have labels."""
    rng = np.random.default_rng(0)
    vectors = 5 * np.eye(3)[KINDS] + rng.normal(size=(60, 3)) / 2
    label = np.where((np.arange(60) < 18) & (KINDS < 2), np.array(["copepod", HOSTILE, ""])[KINDS], None)
    return EmbeddingTable(vectors, [f"image, {row}" for row in range(60)], label)


@pytest.fixture(scope="module")
def images(table):
    return gather_images({"": table})


# ---------------------------------------------------------------------------------------------------- data


def test_the_queue_is_that_of_all_labels(images):
    part = build_queue(images)
    chosen = choose_next(images.table.vectors, images.label_index, 300)
    assert part["rows"].tolist() == chosen.rows.tolist() and len(chosen.rows) == 48
    assert [REASONS[code] for code in part["reason"]] == chosen.reason.tolist()
    for name in ("group", "guess", "second"):
        np.testing.assert_array_equal(part[name], getattr(chosen, name))
    assert (KINDS[part["rows"][part["group"] == 1]] == 2).all()
    assert len(build_queue(images, n_images=7)["rows"]) == 7


def test_it_follows_decisions(images):
    queue = PageQueue(images, n_images=10)
    first = queue.describe()["rows"][:3]
    queue.change(first, [2, 2, -2])
    after = queue.describe()
    assert not set(after["rows"]) & set(first)
    assert (after["guess"] == 2).any()  # the new class
    queue.change(first, -1)
    assert queue.describe()["rows"][:3].tolist() == first.tolist()


def test_nothing_to_label(images):
    assert build_queue(gather_images({"": images.table.labelled})) is None


def test_nothing_labelled_yet(table):
    part = build_queue(gather_images({"": EmbeddingTable(table.vectors, table.object_id)}))
    assert len(part["rows"]) == 60 and set(part["guess"]) == {-1}


# ---------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture
def page(images, open_page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(build_document(images, {"queue": build_queue(images)}, title="Queue"), encoding="utf-8")
    return open_page(path, "queue")


def shown(page):
    """Return the rows of the images that are shown."""
    rows = page.locator("#part-queue .tile").evaluate_all("tiles => tiles.map(tile => Number(tile.dataset.row))")
    if rows or not page.locator("#part-queue .next-one").count():
        return rows
    return [page.evaluate("id => PE.images.id.indexOf(id)", page.locator(".next-one h3").inner_text())]


def groups(part):
    return [part["rows"][part["group"] == number].tolist() for number in np.unique(part["group"])]


def label(page, row):
    return page.evaluate("row => PE.className(PE.images.label[row])", row)


def give(page, name):
    page.keyboard.press("r")
    page.get_by_role("combobox").fill(name)
    page.get_by_role("combobox").press("Enter")
    page.locator("dialog").wait_for(state="detached")
    page.get_by_text(f"→ {name}").first.wait_for()


def test_one_name_labels_a_group_and_its_odd_images_come_alone(page, images):
    first = groups(build_queue(images))[0]
    assert shown(page) == first and len(first) == 2
    assert page.get_by_text("new kind; nearest class").is_visible()
    page.locator("#part-queue .tile-button").nth(1).click()
    assert page.locator("#part-queue .tile.pulled").count() == 1
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    give(page, "larva")
    assert [label(page, row) for row in first] == ["larva", ""]
    assert shown(page) == [first[1]]
    page.keyboard.press("k")  # stays without label, and does not come again
    assert shown(page) == groups(build_queue(images))[1]
    assert page.evaluate("PE.store.list.length") == 2
    assert page.evaluate("window.hacked") is None


def test_the_guess_the_second_and_arrows(page, images):
    order = groups(build_queue(images))
    number = next(n for n, rows in enumerate(order) if KINDS[rows[0]] < 2)
    for _ in range(number):
        page.keyboard.press("ArrowRight")
    assert shown(page) == order[number]
    assert page.evaluate("PE.store.list.length") == 0
    guess = images.classes[images.guess[order[number][0]]]
    page.keyboard.press("g")
    assert {label(page, row) for row in order[number]} == {guess}
    page.keyboard.press("ArrowLeft")  # before it only what was moved over, which comes last now
    after = shown(page)
    assert after not in order[:number]
    page.keyboard.press("h")
    assert {label(page, row) for row in after} == {images.classes[images.second[after[0]]]}


def test_undo_shows_the_group_again(page, images):
    order = groups(build_queue(images))
    give(page, "larva")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("u")
    assert shown(page) == order[0]
    assert label(page, order[0][0]) == ""
    page.keyboard.press("k")
    page.get_by_role("button", name="Undo", exact=True).first.click()  # at the top of the page
    assert shown(page) == order[0]


def test_deleting_a_group_is_confirmed(page, images, wait_until):
    order = groups(build_queue(images))
    page.keyboard.press("d")
    page.locator("dialog").get_by_role("button", name="Cancel").click()
    assert page.evaluate("PE.store.list.length") == 0
    page.keyboard.press("d")
    page.locator("dialog").get_by_role("button", name="Delete").click()
    wait_until(page, "PE.store.list.length === 1")
    assert page.evaluate("PE.store.last().object_ids.length") == len(order[0])
    assert shown(page) == order[1]


def test_a_held_key_decides_once(page, images):
    for _ in range(4):
        page.keyboard.down("g")
    page.keyboard.up("g")
    assert page.evaluate("PE.store.list.length") == 1
    assert shown(page) == groups(build_queue(images))[1]


def test_one_image_at_a_time_first_one_of_each_group(page, images):
    order = groups(build_queue(images))
    page.get_by_role("button", name="One image at a time").click()
    found = []
    for _ in range(48):
        found += shown(page)
        page.keyboard.press("ArrowRight")
    assert found == [rows[0] for rows in order] + [row for rows in order for row in rows[1:]]
    assert page.get_by_text("The end of the queue").is_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("o")
    assert len(shown(page)) > 1


def test_to_the_end_and_the_download_is_accepted(page, images, tmp_path):
    for _ in groups(build_queue(images)):
        page.keyboard.press("g")
    page.get_by_text("Every image of the queue is decided").wait_for()
    assert page.get_by_text("48 decided, 0 images without a label").is_visible()
    page.keyboard.press("g")
    with page.expect_download() as download:
        page.locator(".finished").get_by_role("button", name="Download corrections.csv").click()
    download.value.save_as(tmp_path / "corrections.csv")
    found = read_corrections(tmp_path / "corrections.csv")
    assert sorted(found["object_id"]) == sorted(images.table.object_id[~images.table.is_labelled])
    assert set(found["action"]) == {"relabel"}
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.get_by_text("Every image of the queue is decided").is_visible()


def test_labels_given_elsewhere_leave_the_queue(page, images):
    first, second = groups(build_queue(images))[:2]
    ids = [images.table.object_id[row] for row in first]
    page.evaluate("ids => PE.store.decide({action: 'keep', object_ids: ids})", ids)
    assert shown(page) == second


def test_nothing_to_take_without_a_guess(table, open_page, tmp_path):
    images = gather_images({"": EmbeddingTable(table.vectors, table.object_id)})
    path = tmp_path / "report.html"
    path.write_text(build_document(images, {"queue": build_queue(images)}, title="None"), encoding="utf-8")
    page = open_page(path, "queue")
    assert page.get_by_text("no class has labels yet").is_visible()
    page.keyboard.press("g")
    page.keyboard.press("h")
    assert page.evaluate("PE.store.list.length") == 0
    give(page, "larva")
    assert page.evaluate("PE.store.list.length") == 1


def test_an_image_pulled_out_of_a_named_group_is_still_to_be_labelled(page):
    rows = shown(page)
    decide = (
        "([action, rows, more]) => PE.store.decide({action, ...more, object_ids: rows.map((row) => PE.images.id[row])})"
    )
    page.evaluate(decide, ["relabel", rows, {"label": "larva", "cluster": 1}])
    page.evaluate(decide, ["keep", rows[:1], {"cluster": 1}])
    page.evaluate(decide, ["keep", rows[1:2], {}])  # left without a label on purpose
    counted = page.locator("#part-queue .count").text_content()
    left = [int(row) for row in np.flatnonzero(page.evaluate("Array.from(PE.images.label)") == np.int64(-1))]
    assert rows[0] in left
    assert f"{len(left) - 1} images without a label" in counted


def test_a_phone_shows_a_group(browser_page, small_report):
    browser_page.set_viewport_size({"width": 390, "height": 844})
    browser_page.goto(small_report.as_uri() + "#queue")
    browser_page.wait_for_selector("html[data-ready]")
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= 390
    assert browser_page.get_by_role("button", name="Other label").is_visible()


# ---------------------------------------------------------------------------------------------------- live


@pytest.fixture
def live(table, browser_page, tmp_path):
    """The same page from a server."""
    pytest.importorskip("starlette", reason="starlette is not installed (extra review)")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra review)")
    vectors = table.save(tmp_path / "vectors.parquet")
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(vectors)], stderr=subprocess.PIPE, text=True)
    address = next(line for line in process.stderr if line.startswith("http")).strip()
    browser_page.goto(f"{address}#queue")
    browser_page.wait_for_selector("#part-queue .next-body")
    yield browser_page
    browser_page.close()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)


def test_the_queue_follows_every_label(live, images, tmp_path, wait_until):
    order = groups(build_queue(images))
    assert shown(live) == order[0]
    give(live, "larva")
    wait_until(live, "PE.store.size() === 2")
    follows = PageQueue(images)
    follows.change(order[0], 2)
    wait_until(live, "rows => PE.data.parts.queue.rows[0] === rows[0]", arg=follows.describe()["rows"].tolist())
    assert shown(live) == groups(follows.describe())[0]
    rest = [row for row in np.flatnonzero(KINDS == 2) if row not in order[0]]
    assert {live.evaluate("row => PE.className(PE.images.guess[row])", int(row)) for row in rest} == {"larva"}
    for n in (2, 3, 4):
        live.keyboard.press("g")
        wait_until(live, "n => PE.store.list.length === n", arg=n)
        wait_until(live, "!document.querySelector('#part-queue .tile.relabelled')")
    live.keyboard.press("u")
    wait_until(live, "PE.store.list.length === 5")
    journal = read_journal(tmp_path / "vectors_journal.jsonl")
    undone = journal.decisions.lines[3]["object_ids"]
    wait_until(
        live,
        "row => Number(document.querySelector('#part-queue .tile').dataset.row) === row",
        arg=images.table.object_id.tolist().index(undone[0]),
    )
    assert [images.table.object_id[row] for row in shown(live)] == undone
    assert journal.decisions.lines[4]["of"] == 4
