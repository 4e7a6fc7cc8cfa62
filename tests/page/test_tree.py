"""The tree: its joins beside scipy, its central images by hand; in a browser branches, keys, and many classes."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage

from plankton_embed.page import tree as page_tree
from plankton_embed.page.document import build_document
from plankton_embed.page.images import gather_images
from plankton_embed.page.tree import build_tree
from plankton_embed.table import EmbeddingTable

NAMES = np.array(["<b>fish</b>", "copepod", "nauplius", "salp"], dtype=object)
CENTRES = np.array([[0, 0, 9], [0, 3, 0], [0, 4, 0], [8, 0, 0]], dtype=float)  # copepod and nauplius are near


def make_images(n_per_class=9, labelled=True, names=NAMES, centres=CENTRES):
    rng = np.random.default_rng(5)
    code = np.arange(n_per_class * len(names)) % len(names)
    vectors = centres[code] + 0.2 * rng.normal(size=(len(code), centres.shape[1]))
    label = np.array(names, dtype=object)[code] if labelled else None
    table = EmbeddingTable(vectors, [f"image {row}" for row in range(len(code))], label)
    half = np.arange(len(code)) % 2 == 0
    return gather_images({"train": table.select(half), "test": table.select(~half)})


def rows_of(images, found, node):
    """The rows of a node, from its leaves."""
    leaves = range(found["nodes"]["first"][node], found["nodes"]["last"][node] + 1)
    if found["of"] == "classes":
        return np.flatnonzero(np.isin(images.label_index, [found["leaves"]["class"][leaf] for leaf in leaves]))
    ends = np.cumsum([0, *found["leaves"]["n"]])
    return np.sort(found["members"][ends[leaves[0]] : ends[leaves[-1] + 1]])


@pytest.fixture(scope="module")
def images():
    return make_images()


# ---------------------------------------------------------------------------------------------------- data


def test_joins_are_those_of_scipy(images):
    found = build_tree(images)
    means = np.stack([images.table.vectors[images.label_index == code].mean(axis=0) for code in range(4)])
    heights = [height for height in found["nodes"]["height"] if height]
    np.testing.assert_allclose(sorted(heights), linkage(means, "ward")[:, 2], rtol=1e-5)
    lowest = found["nodes"]["height"].index(min(heights))
    joined = {
        images.classes[found["leaves"]["class"][leaf]]
        for leaf in (found["nodes"]["first"][lowest], found["nodes"]["last"][lowest])
    }
    assert joined == {"copepod", "nauplius"}
    assert found["what"] == "the means of 4 classes, from 36 labelled images"


@pytest.mark.parametrize("labelled", [True, False])
def test_a_tree_is_whole_and_its_central_images_are_nearest_to_the_mean(labelled):
    images = make_images(labelled=labelled)
    found = build_tree(images)
    nodes, n_leaves = found["nodes"], len(found["leaves"]["n"])
    assert found["of"] == ("classes" if labelled else "images")
    assert len(nodes["parent"]) == 2 * n_leaves - 1
    assert nodes["parent"].count(-1) == 1
    assert nodes["first"][:n_leaves] == nodes["last"][:n_leaves] == list(range(n_leaves))
    for node, parent in enumerate(nodes["parent"]):
        rows = rows_of(images, found, node)
        gap = np.linalg.norm(images.table.vectors[rows] - images.table.vectors[rows].mean(axis=0), axis=1)
        central = nodes["central"][node]
        np.testing.assert_allclose(
            np.linalg.norm(images.table.vectors[central] - images.table.vectors[rows].mean(axis=0), axis=1),
            np.sort(gap)[: len(central)], rtol=1e-4, atol=1e-5,
        )  # fmt: skip
        assert len(central) == min(12, len(rows))
        if parent >= 0:
            assert nodes["height"][parent] >= nodes["height"][node]
            assert set(rows) < set(rows_of(images, found, parent))
        else:
            assert len(rows) == len(images)


def test_images_without_labels_are_drawn_when_there_are_many(monkeypatch):
    monkeypatch.setattr(page_tree, "MOST_IMAGES", 20)
    found = build_tree(make_images(labelled=False))
    assert found["what"] == "20 images, drawn at random from 36, cut to 20 leaves"
    assert len(set(found["members"])) == 20


def test_one_class_gives_a_tree_of_images():
    found = build_tree(make_images(6, names=["copepod"]))
    assert found["of"] == "images"
    assert sum(found["leaves"]["n"]) == 6


def test_fewer_than_two_images_have_no_tree():
    assert build_tree(gather_images({"": EmbeddingTable(np.eye(1))})) is None
    assert build_tree(gather_images({"": EmbeddingTable(np.eye(1), label=["copepod"])})) is None


def test_equal_vectors_have_a_tree():
    found = build_tree(gather_images({"": EmbeddingTable(np.ones((6, 2)), label=["a", "b"] * 3)}))
    assert found["correlation"] is None
    assert found["nodes"]["height"] == [0, 0, 0]


# ---------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture
def open_tree(open_page, tmp_path):
    def open_it(images, part=None):
        path = tmp_path / "page.html"
        part = part or build_tree(images)
        path.write_text(build_document(images, {"tree": part}, title="A page"), encoding="utf-8")
        return open_page(path)

    return open_it


def find_node(found, names, images):
    """The node with exactly these classes."""
    for node, (first, last) in enumerate(zip(found["nodes"]["first"], found["nodes"]["last"], strict=True)):
        if {images.classes[code] for code in found["leaves"]["class"][first : last + 1]} == set(names):
            return node
    raise AssertionError(names)


def test_a_branch_opens_its_counts_purity_and_central_images(images, open_tree):
    found = build_tree(images)
    page = open_tree(images)
    node = find_node(found, ["copepod", "nauplius"], images)
    page.locator(f".tree-box g[role=button][data-node='{node}'] circle").click()
    detail = page.locator(".tree-detail")
    assert detail.locator("h3").first.inner_text() == "Branch of 2 classes"
    rows = [[cell.inner_text() for cell in row.locator("td").all()] for row in detail.locator("tbody tr").all()]
    assert sorted(rows) == [["copepod", "9", "50 %"], ["nauplius", "9", "50 %"]]
    assert "50 % are" in detail.inner_text()
    assert "100 % have a guess in this branch" in detail.inner_text()
    shown = [int(tile.get_attribute("data-row")) for tile in detail.locator(".tile").all()]
    assert shown == found["nodes"]["central"][node]
    detail.get_by_role("button", name="Show all images").click()
    opened = [int(tile.get_attribute("data-row")) for tile in page.locator("dialog[open] .tile").all()]
    assert opened == rows_of(images, found, node).tolist()
    page.keyboard.press("Escape")
    detail.get_by_role("button", name="nauplius", exact=True).click()
    opened = [int(tile.get_attribute("data-row")) for tile in page.locator("dialog[open] .tile").all()]
    assert opened == np.flatnonzero(images.label_index == images.classes.index("nauplius")).tolist()


def test_a_leaf_is_a_class_whose_name_is_text(images, open_tree):
    page = open_tree(images)
    page.get_by_role("button", name="<b>fish</b>, 9 images").click()
    assert page.locator(".tree-detail h3").first.inner_text() == "<b>fish</b>"
    assert page.locator(".tree-detail dl").inner_text().split()[:2] == ["images", "9"]
    assert page.locator(".tree-box button[aria-pressed='true']").inner_text().startswith("<b>fish</b>")


def test_keys_move_between_branches(images, open_tree):
    found = build_tree(images)
    page = open_tree(images)
    at = "Number(document.activeElement.dataset.node)"
    root = found["nodes"]["parent"].index(-1)
    page.locator(f".tree-box [data-node='{root}'][role=button]").focus()
    assert page.locator(".tree-box [tabindex='0']").count() == 1
    page.keyboard.press("ArrowRight")
    child = page.evaluate(at)
    assert found["nodes"]["parent"][child] == root
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(at) == root
    seen = set()
    page.keyboard.press("ArrowRight")
    while page.evaluate(at) not in seen:  # up to the first leaf
        seen.add(page.evaluate(at))
        page.keyboard.press("ArrowUp")
    assert page.evaluate(at) == 0
    page.keyboard.press("Enter")
    name = images.classes[found["leaves"]["class"][0]]
    assert page.locator(".tree-detail h3").first.inner_text() == name
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    assert page.locator(".tree-detail h3").first.inner_text() == "Branch of 4 classes"


def test_counts_follow_decisions(images, open_tree):
    page = open_tree(images)
    page.get_by_role("button", name="salp, 9 images").click()
    page.locator(".tree-detail").get_by_role("button", name="salp", exact=True).click()
    dialog = page.locator("dialog[open]")
    dialog.locator(".tile-button").first.click()
    dialog.get_by_role("button", name="Relabel all").click()
    page.keyboard.type("copepod")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert page.locator(".tree-detail tbody td").nth(1).inner_text() == "8"
    page.get_by_role("button", name="Undo").click()
    assert page.locator(".tree-detail tbody td").nth(1).inner_text() == "9"


def test_a_tree_of_images_counts_labels_as_they_are_given(open_tree):
    images = make_images(4, labelled=False)
    page = open_tree(images)
    detail = page.locator(".tree-detail")
    assert detail.locator("table").count() == 0
    detail.get_by_role("button", name="Show all images").click()
    page.locator("dialog[open]").get_by_role("button", name="Tick all").click()
    page.locator("dialog[open]").get_by_role("button", name="Relabel all").click()
    page.keyboard.type("krill")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert [cell.inner_text() for cell in detail.locator("tbody td").all()] == ["krill", "16", "100 %"]


def test_many_classes_are_legible_and_fit_a_phone(open_tree, wait_until):
    names = [f"class {number:03d}" for number in range(121)]
    images = make_images(2, names=names, centres=np.random.default_rng(1).normal(size=(121, 5)))
    page = open_tree(images)
    leaves = page.locator(".tree-leaves button")
    assert leaves.count() == 121
    assert all(box["height"] >= 18 for box in (leaf.bounding_box() for leaf in leaves.all()[:5]))
    for width, height in ((1280, 800), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        wait_until(page, "document.querySelector('.tree-box svg').clientWidth < innerWidth / 2")
    middle = """name => { const box = document.querySelector(".tree-box").getBoundingClientRect();
        const leaf = [...document.querySelectorAll(".tree-leaves button")].find(one => one.title === name);
        const line = document.querySelector(`.tree-box g[data-node="${leaf.dataset.node}"] .line`);
        const [a, b] = [leaf, line].map(one => one.getBoundingClientRect());
        return Math.abs(a.y + a.height / 2 - b.y - b.height / 2); }"""
    assert page.evaluate(middle, "class 077") < 2  # the line of a leaf is beside its name
