"""The page as one file: data arrives as it was, nothing is loaded, hostile names are text; its core in a browser."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from plankton_embed.images.corrections import read_corrections
from plankton_embed.page.document import FOLDER, SCRIPTS, build_document, encode, write_data, write_json_text
from plankton_embed.page.images import gather_images
from plankton_embed.table import EmbeddingTable

HOSTILE = ("</script><script>window.hacked = 1</script>", "<img src=x onerror=window.hacked=1>", "a & b \"c\" 'd'",
           "\u2028<!--", "=1+1")  # fmt: skip


class Elements(HTMLParser):
    """The elements of a page, with the text of each script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self._open = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open = tag == "script"
        if self._open:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._open = False

    def handle_data(self, data):
        if self._open:
            self.scripts[-1] += data


@pytest.fixture
def hostile_text():
    names = np.array(HOSTILE * 2, dtype=object)
    table = EmbeddingTable(np.eye(10, dtype=np.float32), [f"{name} {n}" for n, name in enumerate(names)], names,
                           sample_id=names)  # fmt: skip
    parts = {"overview": {"data": {"facts": [[HOSTILE[0], HOSTILE[1]]], "classes": []}, "model": [], "settings": [],
                          "scores": None, "history": None, "by_rank": None,
                          "doubts": [{"text": HOSTILE[0], "rows": np.arange(2)}]}}  # fmt: skip
    return build_document(gather_images({"": table}), parts, title=HOSTILE[0])


def test_arrays_are_written_in_few_bytes_and_other_values_plainly():
    assert encode(np.array([3, -1])) == {"dtype": "int8", "base64": base64.b64encode(bytes([3, 255])).decode()}
    kinds = {200: "int16", 40_000: "int32", 100: "int8"}
    assert {n: encode(np.array([n]))["dtype"] for n in kinds} == kinds
    assert encode(np.array([200], dtype=np.uint8))["dtype"] == "uint8"
    assert encode(np.array([1.5]))["dtype"] == "float32" and encode(np.array([True]))["dtype"] == "uint8"
    assert encode(np.array(["a", None], dtype=object)) == ["a", None]
    assert encode(np.zeros(0, dtype=np.intp))["base64"] == ""
    assert json.loads(write_json_text({"a": [np.float64("nan"), float("inf"), np.int64(3)], 5: None})) == {
        "a": [None, None, 3],
        "5": None,
    }


def test_data_ends_no_element():
    text = write_data({"names": list(HOSTILE)})
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == {"names": list(HOSTILE)}


def test_hostile_names_add_no_element(hostile_text):
    elements = Elements(hostile_text)
    assert [tag for tag, _ in elements.tags].count("script") == 2  # the data, and the scripts of the page
    assert not [tag for tag, attributes in elements.tags if tag == "img" or "onerror" in attributes]
    assert json.loads(elements.scripts[0])["title"] == HOSTILE[0]
    assert f"<title>{HOSTILE[0]}" not in hostile_text


def test_only_the_scripts_of_the_page_may_run_and_nothing_is_loaded(small_text):
    elements = Elements(small_text)
    policy = next(a["content"] for tag, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    for script in elements.scripts[1:]:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "default-src 'none'" in policy and "connect-src 'none'" in policy and "http" not in policy
    for _, attributes in elements.tags:
        assert not {"src", "action"} & set(attributes)
        assert attributes.get("href", "#").startswith(("#", "data:"))


def test_a_live_page_may_ask_its_own_server_only(small_images):
    text = build_document(small_images, {}, title="Live", live={"token": "secret"})
    assert "connect-src 'self'" in text.replace("&#39;", "'")
    assert json.loads(Elements(text).scripts[0])["live"] == {"token": "secret"}


def test_every_script_is_there_and_goes_into_the_page():
    assert {path.stem for path in (FOLDER / "js").glob("*.js")} == set(SCRIPTS)


# ---------------------------------------------------------------------------------------------- in the browser


def read_download(page, button):
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return waiting.value.path()


def pick(page, name):
    box = page.get_by_role("combobox")
    box.fill(name)
    box.press("Enter")


def test_data_arrives_as_it_was(open_page, small_report, small_images):
    page = open_page(small_report)
    assert page.evaluate("PE.images.id") == small_images.table.object_id.tolist()
    assert page.evaluate("Array.from(PE.images.label)") == small_images.label_index.tolist()
    assert page.evaluate("Array.from(PE.images.guess)") == small_images.guess.tolist()
    assert np.allclose(page.evaluate("Array.from(PE.images.distance)"), small_images.distance, atol=1e-6)
    assert page.evaluate("PE.classes") == small_images.classes


def test_hostile_names_are_shown_and_not_run(open_page, hostile_text, tmp_path):
    (tmp_path / "hostile.html").write_text(hostile_text, encoding="utf-8")
    page = open_page(tmp_path / "hostile.html")
    assert page.get_by_role("heading", level=1).text_content() == HOSTILE[0]
    page.get_by_role("button", name="Show 2 images").click()
    assert HOSTILE[1] in page.locator(".tile-label").all_text_contents()
    page.evaluate("() => { PE.detail(0); PE.pickClass(); }")
    assert HOSTILE[0] in page.get_by_role("option").all_text_contents()
    assert page.evaluate("window.hacked") is None


def test_every_tab_opens_by_click_and_by_key(open_page, small_report, small_parts):
    page = open_page(small_report)
    tabs = page.get_by_role("tab")
    assert tabs.count() == sum(part is not None for part in small_parts.values())
    for number in range(tabs.count()):
        tabs.nth(number).click()
        assert page.locator("main > section:visible").get_attribute("id") == tabs.nth(number).get_attribute(
            "aria-controls"
        )
    tabs.last.press("ArrowRight")  # from the last to the first
    assert page.get_by_role("tab", name="Overview").get_attribute("aria-selected") == "true"
    page.keyboard.press("End")
    assert tabs.last.get_attribute("aria-selected") == "true"
    assert page.evaluate("document.activeElement.getAttribute('role')") == "tab"


def test_an_address_opens_its_tab(open_page, small_report):
    page = open_page(small_report, "confusion")
    assert page.get_by_role("tab", name="Confusion").get_attribute("aria-selected") == "true"


def test_a_relabel_is_kept_downloaded_and_undone(open_page, small_report, small_images):
    page = open_page(small_report)
    page.evaluate("PE.detail(0)")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Relabel").click()
    pick(page, "medusa")
    assert "relabelled → medusa" in dialog.text_content()
    page.keyboard.press("Escape")
    page.evaluate("PE.store.decide({ action: 'delete', object_ids: [PE.images.id[3]] })")
    page.reload()  # decisions are kept
    page.wait_for_selector("html[data-ready]")
    assert "2 images decided" in page.locator("#decisions").text_content()
    found = read_corrections(read_download(page, "Download corrections.csv"))
    ids = small_images.table.object_id
    assert found.to_dict("records") == [
        {"object_id": ids[0], "action": "relabel", "label": "medusa", "reason": "labelled copepod"},
        {"object_id": ids[3], "action": "delete", "label": "copepod", "reason": "labelled copepod"},
    ]
    assert page.evaluate("PE.className(PE.images.label[0])") == "medusa"
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Undo").click()
    assert page.evaluate("[PE.store.size(), PE.className(PE.images.label[0])]") == [0, "copepod"]
    assert page.get_by_role("button", name="Undo").is_disabled()


def test_many_images_are_decided_at_once(open_page, small_report, small_images):
    page = open_page(small_report)
    page.evaluate("PE.openGrid([1, 2, 3, 20], 'Some images')")
    panel = page.get_by_role("dialog", name="Some images")
    assert panel.locator(".tile").count() == 4
    for name in ("Relabel all", "Keep all", "Delete all"):
        assert panel.get_by_role("button", name=name).is_disabled()
    for number in (0, 3):
        panel.locator(".tile-button").nth(number).click()
    assert "2 of 4 images ticked" in panel.text_content()
    panel.get_by_role("button", name="Relabel all").click()
    pick(page, "a new class")
    assert page.evaluate("PE.store.list.map((one) => [one.action, one.label, one.object_ids])") == [
        ["relabel", "a new class", small_images.table.object_id[[1, 20]].tolist()]
    ]
    assert panel.locator(".tile.relabelled").count() == 2
    panel.get_by_role("button", name="Tick all").click()
    panel.get_by_role("button", name="Delete all").click()
    page.get_by_role("button", name="Cancel").click()  # it asks first
    assert page.evaluate("PE.store.list.length") == 1
    panel.get_by_role("button", name="Delete all").click()
    page.get_by_role("button", name="Delete", exact=True).last.click()
    assert panel.locator(".tile.deleted").count() == 4


def test_two_tabs_of_a_file_follow_each_other(open_page, small_report, wait_until):
    first = open_page(small_report)
    second = first.context.new_page()
    second.goto(first.url)
    second.wait_for_selector("html[data-ready]")
    decide = "([action, row]) => PE.store.decide({ action, object_ids: [PE.images.id[row]] })"
    first.evaluate(decide, ["delete", 0])
    wait_until(second, "PE.store.size() === 1")
    second.evaluate(decide, ["keep", 1])
    wait_until(first, "PE.store.size() === 2")
    assert first.evaluate("PE.store.list.map((one) => one.action)") == ["delete", "keep"]
    assert "2 images decided" in second.locator("#decisions").text_content()
    # a tab that missed the other's decision (a browser may put it to sleep) takes it over before its own
    kept = first.evaluate("localStorage.getItem(`plankton_embed:${PE.data.key}`)")
    second.evaluate("PE.store.list.length = 1")
    second.evaluate(decide, ["delete", 2])
    assert second.evaluate("PE.store.list.map((one) => one.action)") == ["delete", "keep", "delete"]
    assert len(json.loads(kept)) == 2
    second.close()


def test_the_second_click_of_a_double_click_decides_nothing(open_page, small_report):
    page = open_page(small_report)
    page.evaluate("PE.detail(0)")
    page.get_by_role("dialog").get_by_role("button", name="Keep", exact=True).dblclick()
    assert page.evaluate("PE.store.list.length") == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("salp", "salp"), ("a,b", '"a,b"'), ('say "a"', '"say ""a"""'), (" a", '" a"'), ("a\nb", '"a\nb"'),
        ("1.0", '"1.0"'), ("007", "007"), (1.5, "1.5"), (None, ""), (0, "0"),
    ],
)  # fmt: skip
def test_a_cell_of_a_csv_file(open_page, small_report, value, text):
    page = open_page(small_report)
    assert page.evaluate("(value) => PE.csv([{ a: value, b: 1 }], ['a', 'b'])", value) == f"a,b\n{text},1\n"


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "–"), (0, "0 %"), (0.5, "50 %"), (1, "100 %"), (1999 / 2000, "99.95 %"), (2e5 / (2e5 + 1), "99.9995 %"),
     (1e-7, "0.00001 %"), (0.12345, "12.3 %")],
)  # fmt: skip
def test_nearly_all_is_not_all(open_page, small_report, share, text):
    assert open_page(small_report).evaluate("PE.percent", share) == text


def test_a_key_on_the_tab_moves_the_focus_to_the_images(open_page, small_report, wait_until):
    page = open_page(small_report)
    page.get_by_role("tab", name="Overview").focus()
    while page.evaluate("PE.opened()") != "suspects":
        page.keyboard.press("ArrowRight")
    page.keyboard.press("k")
    wait_until(page, "PE.store.size() === 1")
    page.keyboard.press("ArrowRight")  # the next image, not the next tab
    assert page.evaluate("PE.opened()") == "suspects"


def test_a_page_that_cannot_be_shown_says_so(small_text, browser_page, browser_faults, tmp_path):
    broken, n = re.subn(r'(id="data"[^>]*>)\{', r"\1[", small_text, count=1)
    assert n == 1
    (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    browser_page.goto((tmp_path / "broken.html").as_uri())
    browser_page.get_by_text("This page cannot be shown").wait_for()
    assert any(fault.startswith("exception") for fault in browser_faults)
    browser_faults.clear()


def test_the_list_of_classes_is_searched_by_keys(open_page, small_report):
    page = open_page(small_report)
    page.evaluate("() => { window.picked = PE.pickClass({ title: 'Which?', first: 'medusa' }); }")
    box = page.get_by_role("combobox")
    assert page.get_by_role("option").all_text_contents() == ["medusa", "copepod", "diatom_chain", "fish_egg"]
    box.press("ArrowDown")
    box.press("ArrowDown")
    box.press("Enter")
    assert page.evaluate("picked") == "diatom_chain"
    page.evaluate("() => { window.picked = PE.pickClass(); }")
    box.fill("Unknown ")
    box.press("Enter")
    assert "label of rejected images" in page.get_by_role("alert").all_text_contents()[-1]
    box.fill("egg")
    assert page.get_by_role("option").all_text_contents() == ["fish_egg", "New class: egg"]
    box.press("ArrowUp")  # to the last
    box.press("Enter")
    assert page.evaluate("picked") == "egg"
    page.evaluate("() => { window.picked = PE.pickClass(); }")
    box.press("Escape")
    assert page.evaluate("picked") is None


def test_escape_closes_a_panel_and_the_focus_returns(open_page, small_report):
    page = open_page(small_report)
    opener = page.locator("section:visible button").first
    opener.focus()
    page.evaluate("PE.detail(5)")
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    assert opener.evaluate("(element) => element === document.activeElement")


def test_a_click_beside_a_panel_closes_it_and_one_in_it_does_not(open_page, small_report):
    page = open_page(small_report)
    page.evaluate("PE.detail(5)")
    page.mouse.click(1000, 790)  # in the panel, below its content
    assert page.get_by_role("dialog").count() == 1
    page.mouse.click(20, 400)
    assert page.get_by_role("dialog").count() == 0


def test_pictures_show_the_images_of_their_rows(open_page, small_report, small_images):
    """The picture of a tile, as the browser draws it, is nearer to its own image than to any other."""
    from PIL import Image

    from plankton_embed.page.thumbnails import _draw

    page = open_page(small_report)
    originals = np.stack([np.asarray(_draw(path, 64).convert("L"), float) for path in small_images.table.path])
    page.evaluate("PE.openGrid([0, 17, 33, 59], 'Four')")
    for number, row in enumerate((0, 17, 33, 59)):
        shot = page.locator("dialog .thumb").nth(number).screenshot(path=small_report.with_name("tile.png"))
        assert shot
        with Image.open(small_report.with_name("tile.png")) as opened:
            seen = np.asarray(opened.convert("L").resize((64, 64)), float)
        inner = (slice(4, 60), slice(4, 60))  # without rounded corners
        differences = np.abs(originals[:, *inner] - seen[inner]).mean(axis=(1, 2))
        assert differences.argmin() == row


def test_tables_sort_and_are_downloaded(open_page, small_report):
    page = open_page(small_report)
    page.evaluate("""() => {
        const rows = [{ name: "b", n: 2 }, { name: 'a, "x"', n: null }, { name: " c", n: 10 }];
        PE.dialog("Table", [PE.table(["name", "n"], rows), PE.csvButton("table.csv", ["name", "n"], rows)]);
    }""")
    first = page.locator("dialog tbody tr td:first-child")
    page.get_by_role("button", name="n", exact=True).click()
    assert first.all_text_contents() == [" c", "b", 'a, "x"']  # the missing number is last
    page.get_by_role("button", name="n", exact=True).click()
    assert first.all_text_contents() == ["b", " c", 'a, "x"']
    frame = pd.read_csv(read_download(page, "Download table.csv"))
    assert frame["name"].tolist() == ["b", 'a, "x"', " c"] and frame["n"].isna().tolist() == [False, True, False]


def test_single_keys_are_for_their_tab_and_not_for_typing(open_page, small_report):
    page = open_page(small_report)
    page.evaluate("""() => {
        window.pressed = 0;
        const section = PE.sections.overview;
        PE.keys({ k: () => (window.pressed += 1) }, section);
        section.append(PE.el("input", { type: "text", id: "typed" }));
    }""")
    page.keyboard.press("k")
    page.keyboard.press("Control+k")
    page.locator("#typed").press("k")
    page.get_by_role("tab").nth(1).click()
    page.keyboard.press("k")
    page.get_by_role("tab").nth(0).click()
    page.evaluate("PE.detail(0)")
    page.keyboard.press("k")
    assert page.evaluate("window.pressed") == 1


def test_a_browser_that_keeps_nothing_warns(open_page, small_report, browser_page):
    browser_page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('no') } })")
    page = open_page(small_report)
    assert "lost when the page is closed" in page.locator("#banner").text_content()
    page.evaluate("PE.store.decide({ action: 'keep', object_ids: [PE.images.id[0]] })")
    assert page.evaluate("PE.store.size()") == 1


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_fits_its_window(open_page, browser_page, small_report, width, scheme):
    browser_page.set_viewport_size({"width": width, "height": 800})
    browser_page.emulate_media(color_scheme=scheme)
    page = open_page(small_report)
    for tab in page.get_by_role("tab").all():
        tab.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab.text_content()


def test_one_class_and_no_pictures(open_page, tmp_path):
    table = EmbeddingTable(np.eye(3, dtype=np.float32), label=["a", "a", "a"])
    text = build_document(gather_images({"": table}), {"overview": None}, title="Bare")
    (tmp_path / "bare.html").write_text(text, encoding="utf-8")
    page = open_page(tmp_path / "bare.html")
    assert "no parts" in page.locator("main").text_content()
    page.evaluate("PE.detail(1)")
    assert page.locator("dialog .thumb.none").count() == 1
