"""What the tests of the page share: a browser that reports every error, and the page of a few drawn images."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from plankton_embed.analysis.relations import find_relations
from plankton_embed.images.drawn import draw_set
from plankton_embed.page.confusion import build_confusion
from plankton_embed.page.counts import build_counts
from plankton_embed.page.document import build_document
from plankton_embed.page.groups import build_groups
from plankton_embed.page.images import gather_images
from plankton_embed.page.map import build_map
from plankton_embed.page.overview import build_overview
from plankton_embed.page.queue import build_queue
from plankton_embed.page.relations import build_relations
from plankton_embed.page.suspects import build_suspects
from plankton_embed.page.thumbnails import pack_thumbnails
from plankton_embed.page.tree import build_tree
from plankton_embed.table import EmbeddingTable

CLASSES = ("copepod", "diatom_chain", "fish_egg", "medusa")
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PER_CLASS = 15  # images: 8 of train, 1 of val, 3 of test, and 3 without a label


@pytest.fixture(scope="session")
def browser():
    """Chromium of the system, started once; without it the test is skipped."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra test)")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def browser_faults():
    """What went wrong in the browser: console errors, exceptions, and requests from a file. A test may clear it."""
    return []


@pytest.fixture
def browser_page(browser, browser_faults):
    """A new tab of 1280 × 800; the test fails on console errors, and on any request of a page that is a file."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    context.set_default_timeout(60_000)  # a busy machine is no fault
    page = context.new_page()

    def note_request(request):
        if not request.url.startswith(("file:", "data:", "blob:")) and page.url.startswith("file:"):
            browser_faults.append(f"request: {request.url}")

    def note_message(message):
        if message.type in ("error", "warning") and "GL Driver Message" not in message.text:  # drawing without a GPU
            browser_faults.append(f"{message.type}: {message.text}")

    page.on("request", note_request)
    page.on("console", note_message)
    page.on("pageerror", lambda error: browser_faults.append(f"exception: {error}"))
    yield page
    context.close()
    assert browser_faults == []


@pytest.fixture(scope="session")
def wait_until():
    """Wait until an expression is true on a page.

    `wait_for_function` compiles the expression inside the page, whose content security policy refuses that
    unless it was true at once.
    """

    def wait(page, expression, arg=None):
        for _ in range(600):
            if page.evaluate(expression, arg):
                return
            page.wait_for_timeout(100)
        raise AssertionError(f"not true within a minute: {expression}")

    return wait


@pytest.fixture
def open_page(browser_page):
    """Open a page that is a file, and wait until it is ready."""

    def open_file(path, tab=None):
        browser_page.goto(Path(path).resolve().as_uri() + (f"#{tab}" if tab else ""))
        browser_page.wait_for_selector("html[data-ready]")
        return browser_page

    return open_file


@pytest.fixture(scope="session")
def small_tables(tmp_path_factory):
    """Drawn images of 4 classes with vectors made by hand, by split; `copepod_0001` is where the diatom chains are."""
    folder = draw_set(tmp_path_factory.mktemp("small"), n_per_class=PER_CLASS, classes=CLASSES, progress=False)
    rng = np.random.default_rng(0)
    vectors, labels, ids, paths = [], [], [], []
    for code, name in enumerate(CLASSES):
        for path in sorted((folder / name).glob("*.png")):
            vectors.append(np.eye(8)[code] + 0.15 * rng.normal(size=8))
            labels.append(name)
            ids.append(path.stem)
            paths.append(str(path))
    vectors[0] = vectors[PER_CLASS] + 0.01
    number = np.arange(len(ids)) % PER_CLASS
    labels = np.where(number < 12, np.array(labels, dtype=object), None)
    samples = [f"station {1 + n % 3}" for n in number]
    whole = EmbeddingTable(
        np.array(vectors, dtype=np.float32), ids, labels, paths, samples, provenance={"model_hash": "0123456789ab"}
    )
    split = np.select([number < 8, number < 9], ["train", "val"], "test")
    return {name: whole.select(split == name) for name in ("train", "val", "test")}


@pytest.fixture(scope="session")
def small_images(small_tables):
    """The same 60 images as those of a page."""
    return gather_images(small_tables)


@pytest.fixture(scope="session")
def small_parts(small_images):
    """All parts of a page of these images."""
    return {
        "overview": build_overview(small_images),
        "map": build_map(small_images),
        "confusion": build_confusion(small_images),
        "tree": build_tree(small_images),
        "relations": build_relations(small_images, find_relations(small_images.table.labelled)),
        "suspects": build_suspects(small_images),
        "groups": build_groups(small_images),
        "queue": build_queue(small_images),
        "counts": build_counts(small_images),
    }


@pytest.fixture(scope="session")
def small_text(small_images, small_parts):
    thumbnails = pack_thumbnails(small_images.table.path)
    return build_document(small_images, small_parts, title="Small set", thumbnails=thumbnails)


@pytest.fixture
def small_report(small_text, tmp_path):
    """The page of these images, as a file."""
    path = tmp_path / "report.html"
    path.write_text(small_text, encoding="utf-8")
    return path
