"""The map: coordinates and neighbours beside other tools; in a browser pointer, box, lasso, legend, search, keys."""

import io

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from plankton_embed.errors import InputError
from plankton_embed.page import map as page_map
from plankton_embed.page.document import build_document
from plankton_embed.page.images import gather_images
from plankton_embed.page.map import bokeh_scripts, build_map, read_coordinates
from plankton_embed.table import EmbeddingTable

HOSTILE = "<img src=x onerror=alert(1)>"
CLASSES = (HOSTILE, "copepod", "copepod_nauplii", "salp")  # sorted
N = 60


def make_images(n=N, dimension=6, n_unlabelled=6):
    """Images of four classes in train and test, the last few without a label; every point has space around it."""
    rng = np.random.default_rng(4)
    code = np.arange(n) % 4
    vectors = np.eye(max(dimension, 4))[code] + 0.35 * rng.normal(size=(n, max(dimension, 4)))
    label = np.array(CLASSES, dtype=object)[code]
    label[n - n_unlabelled :] = None
    table = EmbeddingTable(
        vectors[:, :dimension],
        [f"image_{row:03d}" for row in range(n)],
        label,
        sample_id=[f"haul {row % 3}" for row in range(n)],
    )
    return gather_images({"train": table.select(np.arange(n // 2)), "test": table.select(np.arange(n // 2, n))})


def unpack(column):
    values = column["values"].astype(float)
    return np.where(values == -32768, np.nan, column["middle"] + column["step"] * values)


@pytest.fixture(scope="module")
def images():
    return make_images()


@pytest.fixture(scope="module")
def grid():
    """Coordinates of the images on a grid with 8 columns; the last image is not on it."""
    points = np.stack([np.arange(N) % 8, np.arange(N) // 8], axis=1).astype(float)
    points[-1] = np.nan
    return points


# ---------------------------------------------------------------------------------------------------- data


def test_coordinates_are_those_of_scikit_learn(images):
    found = build_map(images)
    pca = PCA(3, svd_solver="full")
    expected = pca.fit_transform(images.table.vectors.astype(np.float64))
    for column, values, share in zip(found["columns"], expected.T, pca.explained_variance_ratio_, strict=True):
        assert column["values"].dtype == np.int16
        np.testing.assert_allclose(np.abs(unpack(column)), np.abs(values), atol=column["step"])
        assert column["title"] == f"{column['name']} ({100 * share:.1f} % of the variance)"
    assert found["axes"] == [{"name": "PC1 and PC2", "x": 0, "y": 1}, {"name": "PC1 and PC3", "x": 0, "y": 2}]


def test_neighbors_are_those_of_scikit_learn(images):
    found = build_map(images)
    distances, rows = NearestNeighbors(n_neighbors=11, algorithm="brute").fit(images.table.vectors).kneighbors()
    assert found["n_neighbors"] == 10
    np.testing.assert_array_equal(found["neighbors"].reshape(N, 10), rows[:, :10])
    np.testing.assert_allclose(found["distances"].reshape(N, 10), distances[:, :10], rtol=1e-5)


def test_fewer_neighbors_of_few_and_of_very_many_images(images, monkeypatch):
    few = build_map(make_images(4))
    assert few["n_neighbors"] == 3
    assert sorted(few["neighbors"][:3]) == [1, 2, 3]
    monkeypatch.setattr(page_map, "MOST_DISTANCES", N - 1)
    many = build_map(images)
    assert many["distances"] is None and len(many["neighbors"]) == 10 * N
    monkeypatch.setattr(page_map, "MOST_NEIGHBORS", N - 1)
    assert build_map(images)["neighbors"] is None
    assert build_map(images, n_neighbors=0)["n_neighbors"] == 0


def test_other_maps_and_images_that_are_not_on_them(images, grid):
    found = build_map(images, extra={"UMAP": grid, "t-SNE": np.full((N, 2), np.nan)})
    assert [pair["name"] for pair in found["axes"]] == ["PC1 and PC2", "PC1 and PC3", "UMAP"]
    pair = found["axes"][-1]
    points = np.stack([unpack(found["columns"][pair[axis]]) for axis in "xy"], axis=1)
    np.testing.assert_allclose(points, grid, atol=1e-3)
    with pytest.raises(InputError, match=r"map UMAP: expected \(60, 2\)"):
        build_map(images, extra={"UMAP": grid[1:]})


def test_nothing_to_draw():
    equal = EmbeddingTable(np.ones((5, 3)))
    assert build_map(gather_images({"": equal})) is None
    assert build_map(gather_images({"": EmbeddingTable(np.ones((1, 3)))})) is None
    other = build_map(gather_images({"": equal}), extra={"UMAP": np.arange(10.0).reshape(5, 2)})
    assert [pair["name"] for pair in other["axes"]] == ["UMAP"]


@pytest.mark.parametrize(
    ("n", "dimension", "names"), [(2, 6, ["PC1 and PC2"]), (9, 1, ["PC1"]), (9, 2, ["PC1 and PC2"])]
)
def test_few_images_and_few_dimensions(n, dimension, names):
    found = build_map(make_images(n, dimension, n_unlabelled=0))
    assert [pair["name"] for pair in found["axes"]] == names
    assert all(np.isfinite(unpack(column)).all() for column in found["columns"])


def test_coordinates_of_an_earlier_map_are_found_by_id(images, grid, tmp_path):
    path = tmp_path / "coordinates.csv"
    ids = images.table.object_id
    lines = [f"{ids[row]},,,{x},{y}" for row, (x, y) in enumerate(grid[:-1])] + ["elsewhere,,,1,2"]
    path.write_text("object_id,label,path,tsne1,tsne2\n" + "\n".join(reversed(lines)) + "\n")
    found = read_coordinates(path, images)
    assert list(found) == ["t-SNE"]
    np.testing.assert_array_equal(found["t-SNE"], grid)


def test_coordinates_without_a_map_or_with_faults(images, tmp_path):
    path = tmp_path / "coordinates.csv"
    path.write_text("object_id,pc1,pc2\nimage_000,1,2\n")
    assert read_coordinates(path, images) == {}
    path.write_text("object_id,umap1,umap2\nelsewhere,1,2\n")
    assert read_coordinates(path, images) == {}
    path.write_text("object_id,umap1,umap2\nimage_000,1,north\n")
    with pytest.raises(InputError, match="expected numbers in the columns umap1 and umap2"):
        read_coordinates(path, images)
    path.write_text("object_id,umap1,umap2\nimage_000,1,2\nimage_000,1,2\n")
    with pytest.raises(InputError, match="image_000 is in several rows"):
        read_coordinates(path, images)
    with pytest.raises(InputError, match="does not exist"):
        read_coordinates(tmp_path / "none.csv", images)


def test_scripts_of_bokeh_can_be_put_into_a_page():
    scripts = bokeh_scripts()
    assert len(scripts) == 3
    for script in scripts:
        assert "Bokeh" in script and "</script" not in script.lower() and "<!--" not in script


@pytest.mark.slow
def test_50_000_points_fit_into_8_mb():
    rng = np.random.default_rng(0)
    n = 50_000
    names = np.array([f"a class with a long name {code}" for code in range(121)], dtype=object)
    table = EmbeddingTable(
        rng.normal(size=(n, 64)), [f"cruise_2019_station_{row:08d}" for row in range(n)], names[rng.integers(0, 121, n)]
    )
    images = gather_images({"": table})
    extra = {name: rng.normal(size=(n, 2)) for name in ("UMAP", "t-SNE")}
    text = build_document(images, {"map": build_map(images, extra=extra)}, title="50,000 points")
    assert len(text.encode()) <= 8e6


# ---------------------------------------------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def map_text(images, grid):
    suspects = {"rows": [0, 5, 9, 14, 20], "score": [None, 0.9, 0.85, 0.5, 0.1], "reason": [""] * 5}
    suspects |= {"guess": np.array([1, 2, 3, 0, 1]), "n_neighbors": 1, "neighbors": np.array([1, 2, 3, 4, 5])}
    groups = {
        "cluster": np.array([7, 9]),
        "name": [None, "eggs"],
        "nearest": [None, None],
        "n_images": np.array([3, 2]),
    }
    groups |= {"start": np.array([0, 3, 5]), "rows": np.arange(54, 59)}
    parts = {
        "map": build_map(images, extra={"UMAP": grid}),
        "suspects": suspects,
        "groups": groups,
    }
    return build_document(images, parts, title="Map")


@pytest.fixture
def open_map(tmp_path, open_page):
    """Open a page with a map, and wait until it is drawn."""

    def open_text(text):
        path = tmp_path / "report.html"
        path.write_text(text, encoding="utf-8")
        page = open_page(path, "map")
        page.wait_for_selector("#part-map[data-ready]")
        return page

    return open_text


@pytest.fixture
def map_page(open_map, map_text):
    return open_map(map_text)


def choose_axes(page, name):
    page.get_by_label("Axes").select_option(name)


def positions(page):
    """Return where all images are in the window, px; nan where an image is not on the map."""
    found = page.evaluate("Array.from({length: PE.images.n}, (_, row) => Object.values(PE.map.position(row)))")
    return np.array(found, dtype=float)


def hover(page, x, y):
    page.mouse.move(x - 2, y)
    page.mouse.move(x, y)


def wait_for_tip(page, text):
    page.locator(".map-tip:not([hidden])").filter(has_text=text).wait_for()


def drag(page, corners):
    page.mouse.move(*corners[0])
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(x, y, steps=6)
    page.mouse.up()


def listed(page):
    """Return the ids in the open grid, all of them."""
    page.wait_for_selector("dialog[open] .tile")
    return page.locator("dialog[open] .tile-button").evaluate_all("list => list.map(button => button.title)")


def legend(page):
    """Return the entries of the legend: name -> count."""
    texts = page.locator(".map-legend li:visible button").evaluate_all(
        "list => list.map(button => [...button.querySelectorAll('span')].map(span => span.textContent))"
    )
    return {name: int(count.replace(",", "")) for name, count in texts}


def entry(page, name):
    return page.locator(".map-legend button").filter(has=page.get_by_text(name, exact=True))


def pressed(page):
    return page.locator(".map-legend button[aria-pressed=true] span:first-of-type").all_text_contents()


@pytest.fixture(params=["webgl", "canvas"])
def backend(request, browser_page):
    """How the map is drawn: the browser reports a graphics card, or none."""
    name = "a graphics card" if request.param == "webgl" else "SwiftShader"
    browser_page.add_init_script(
        "const get = WebGLRenderingContext.prototype.getParameter;"
        "WebGLRenderingContext.prototype.getParameter = function (name) {"
        f"  return name === 0x9246 ? '{name}' : get.call(this, name); }};"
    )
    return request.param


def test_points_have_the_colours_of_their_classes_and_the_pointer_shows_the_image(backend, map_page, images):
    assert map_page.evaluate("[...Bokeh.index][0].model.output_backend") == backend
    choose_axes(map_page, "UMAP")
    map_page.mouse.move(2, 2)
    map_page.wait_for_timeout(500)
    shot = np.asarray(Image.open(io.BytesIO(map_page.screenshot())).convert("RGB")).astype(int)
    colors = map_page.evaluate("PE.colors")
    places = positions(map_page)
    for row in range(54):
        x, y = places[row].round().astype(int)
        expected = [int(colors[row % 4][at : at + 2], 16) for at in (1, 3, 5)]
        assert np.abs(shot[y, x] - (0.8 * np.array(expected) + 0.2 * 255)).max() < 12, row
    for row in (0, 13, 59 - 1):
        hover(map_page, *places[row])
        wait_for_tip(map_page, f"image_{row:03d}")
        tip = map_page.locator(".map-tip")
        assert (images.table.label[row] or "(no label)") in tip.text_content()
        assert f"guess: {CLASSES[images.guess[row]]}" in tip.text_content()
        assert tip.locator(".thumb").get_attribute("aria-label") == f"image_{row:03d}"
    hover(map_page, *(places[0] + places[9]) / 2)
    map_page.wait_for_selector(".map-tip", state="hidden")


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_the_picture_stays_inside_the_window(map_page, size):
    map_page.set_viewport_size({"width": size[0], "height": size[1]})
    choose_axes(map_page, "UMAP")
    map_page.locator(".map-plot").scroll_into_view_if_needed()
    map_page.wait_for_timeout(500)
    for row in (0, 7, 48, 55):
        x, y = positions(map_page)[row]
        if not (0 < y < size[1]):
            continue
        hover(map_page, x, y)
        wait_for_tip(map_page, f"image_{row:03d}")
        box = map_page.locator(".map-tip").bounding_box()
        assert box["x"] >= 0 and box["y"] >= 0
        assert box["x"] + box["width"] <= size[0] and box["y"] + box["height"] <= size[1]
        assert not (box["x"] < x < box["x"] + box["width"] and box["y"] < y < box["y"] + box["height"])


def test_a_lasso_lists_exactly_the_images_inside(map_page):
    map_page.get_by_role("button", name="Lasso", exact=True).click()
    places = positions(map_page)
    box = map_page.locator(".map-plot").bounding_box()
    low, high = places.min(axis=0), places.max(axis=0)
    corners = low + (high - low) * np.array([[0.1, 0.2], [0.75, 0.05], [0.55, 0.5], [0.9, 0.85], [0.15, 0.7]])
    expected = np.flatnonzero(Polygon(corners).contains_points(places))
    assert 5 < len(expected) < 50 and (corners[:, 0] > box["x"]).all()
    drag(map_page, [*corners, corners[0]])
    assert listed(map_page) == [f"image_{row:03d}" for row in expected]
    map_page.keyboard.press("Escape")
    assert map_page.get_by_text(f"{len(expected)} images chosen").is_visible()
    map_page.get_by_role("button", name="Open them").click()
    assert len(listed(map_page)) == len(expected)
    map_page.keyboard.press("Escape")
    map_page.get_by_role("button", name="Clear", exact=True).click()
    assert map_page.get_by_role("button", name="Open them").count() == 0


def test_a_box_lists_the_images_inside_of_the_isolated_class(map_page, images):
    choose_axes(map_page, "UMAP")
    entry(map_page, "copepod").click()
    map_page.get_by_role("button", name="Box", exact=True).click()
    places = positions(map_page)
    corner, opposite = places[9] + [-6, 6], places[30] + [6, -6]  # rows 1 to 3, columns 1 to 6
    drag(map_page, [corner, opposite])
    inside = ((places > np.minimum(corner, opposite)) & (places < np.maximum(corner, opposite))).all(axis=1)
    expected = np.flatnonzero(inside & (images.table.label == "copepod"))
    assert len(expected) == 6
    assert listed(map_page) == [f"image_{row:03d}" for row in expected]


def test_the_legend_isolates(map_page):
    counts = {HOSTILE: 14, "copepod": 14, "copepod_nauplii": 13, "salp": 13, "no label": 6}
    assert legend(map_page) == counts
    choose_axes(map_page, "UMAP")
    assert legend(map_page) == counts | {"no label": 5}
    assert map_page.get_by_text("1 image of 60 not on this map").is_visible()
    entry(map_page, "salp").click()
    assert pressed(map_page) == ["salp"]
    places = positions(map_page)
    hover(map_page, *places[3])
    wait_for_tip(map_page, "image_003")
    hover(map_page, *places[1])
    map_page.wait_for_selector(".map-tip", state="hidden")
    entry(map_page, HOSTILE).click(modifiers=["Shift"])
    assert pressed(map_page) == [HOSTILE, "salp"]
    hover(map_page, *places[0])
    wait_for_tip(map_page, "image_000")
    assert HOSTILE in map_page.locator(".map-tip").text_content()
    entry(map_page, HOSTILE).click(modifiers=["Shift"])
    entry(map_page, "salp").focus()
    map_page.keyboard.press("Enter")
    assert pressed(map_page) == []
    assert map_page.evaluate("document.activeElement.textContent").startswith("salp"), "the focus stays"


def test_search_finds_exactly_a_class_or_an_image(map_page):
    search = map_page.get_by_label("Search for a class or an id")
    search.fill("copepod")
    search.press("Enter")
    assert pressed(map_page) == ["copepod"]
    assert map_page.get_by_text("14 images with the label copepod").is_visible()
    search.fill("image_017")
    search.press("Enter")
    map_page.wait_for_selector("dialog[open] h2")
    assert map_page.locator("dialog[open] h2").text_content() == "image_017"
    map_page.keyboard.press("Escape")
    places, box = positions(map_page), map_page.locator(".map-plot").bounding_box()
    assert abs(places[17, 0] - box["x"] - box["width"] / 2) < 60, "it is in the middle"
    search.fill("nauplii")
    search.press("Enter")
    assert map_page.get_by_text("No class or image is called nauplii").is_visible()
    map_page.locator(".map-found").get_by_role("button", name="copepod_nauplii").click()
    assert pressed(map_page) == ["copepod_nauplii"]


def test_accents_of_either_form_are_found_and_copies_are_reached(open_map):
    ids = ["e\u0301.png", "\u00e9.png", "u\u0308 x.png", "a", "b", "c"]  # file names of macOS have accents of their own
    vectors = np.array([[0, 0], [2, 0], [4, 0], [6, 0], [6, 0], [6, 0]], dtype=np.float32)
    images = gather_images({"": EmbeddingTable(vectors, ids, ["e\u0301"] * 6)})
    page = open_map(build_document(images, {"map": build_map(images)}, title="Copies"))
    search, title = page.get_by_label("Search for a class or an id"), page.locator("dialog[open] h2")
    for sought, found in ((ids[0], 0), (ids[1], 1), (ids[2], 2), ("\u00fc x.png", 2)):
        search.fill(sought)
        search.press("Enter")
        title.wait_for()
        assert title.text_content() == ids[found]
        page.keyboard.press("Escape")
    search.fill("\u00fc")
    search.press("Enter")
    page.locator(".map-found").get_by_role("button", name=ids[2]).wait_for()
    x_of = "row => PE.map.position(row).x"
    key = "ArrowRight" if page.evaluate(x_of, 3) > page.evaluate(x_of, 2) else "ArrowLeft"
    page.locator(".map-plot").focus()
    seen = set()
    for pressed_key in (["ArrowLeft"] * 6 + ["ArrowRight"] * 8) if key == "ArrowRight" else ["ArrowRight"] * 8:
        page.keyboard.press(pressed_key)
        seen.add(page.locator(".map-tip strong").text_content())
    assert {"a", "b", "c"} <= seen
    for _ in range(6):
        page.keyboard.press(key)
    assert "2 images more at this place" in page.locator(".map-tip").text_content()


def test_similar_images_open_from_the_map(map_page, images):
    places = positions(map_page)
    distances = np.linalg.norm(places - places[:, None], axis=2) + 1e6 * np.eye(N)
    row = int(distances.min(axis=1).argmax())  # the point with most space around it
    map_page.mouse.click(*places[row])
    map_page.wait_for_selector("dialog[open] h2")
    assert map_page.locator("dialog[open] h2").text_content() == f"image_{row:03d}"
    rows = NearestNeighbors(n_neighbors=10).fit(images.table.vectors).kneighbors(return_distance=False)[row]
    assert listed(map_page) == [f"image_{other:03d}" for other in rows]
    map_page.keyboard.press("Escape")
    map_page.keyboard.press("Enter")  # the map has the focus again, and opens the same image
    map_page.wait_for_selector("dialog[open] h2")
    assert map_page.locator("dialog[open] h2").text_content() == f"image_{row:03d}"


def test_colours_by_guess_suspect_group_sample_and_split(map_page, images):
    shown = {}
    for name in ("guess", "suspect score", "group", "sample", "split"):
        map_page.get_by_label("Colour by").select_option(name)
        shown[name] = legend(map_page)
    guesses = np.array(CLASSES)[images.guess]
    assert shown["guess"] == {name: int((guesses == name).sum()) for name in CLASSES if (guesses == name).any()}
    bins = {"0.1 to 0.26": 1, "0.42 to 0.58": 1, "0.74 to 0.9": 2, "contradiction": 1, "not a suspect": 55}
    assert shown["suspect score"] == bins
    assert shown["group"] == {"group 7": 3, "group 9: eggs": 2, "in no group": 55}
    assert shown["sample"] == {"haul 0": 20, "haul 1": 20, "haul 2": 20}
    assert shown["split"] == {"test": 30, "train": 30}


def test_decisions_change_colours_and_counts(map_page):
    decide = "decision => PE.store.decide(decision)"
    map_page.evaluate(decide, {"action": "relabel", "object_ids": ["image_000", "image_001"], "label": "new name"})
    assert legend(map_page)["new name"] == 2
    assert (legend(map_page)[HOSTILE], legend(map_page)["copepod"]) == (13, 13)
    map_page.evaluate(decide, {"action": "delete", "object_ids": ["image_003"]})
    assert legend(map_page)["salp"] == 12
    map_page.evaluate("PE.store.undo()")
    map_page.evaluate("PE.store.undo()")
    assert legend(map_page) == {HOSTILE: 14, "copepod": 14, "copepod_nauplii": 13, "salp": 13, "no label": 6}


def test_arrow_keys_go_from_point_to_point(map_page):
    choose_axes(map_page, "UMAP")
    map_page.locator(".map-plot").focus()
    map_page.keyboard.press("ArrowRight")  # the point nearest to the middle
    first = int(map_page.locator(".map-tip strong").text_content().removeprefix("image_"))
    map_page.keyboard.press("ArrowRight")
    wait_for_tip(map_page, f"image_{first + 1:03d}")
    map_page.keyboard.press("ArrowUp")
    wait_for_tip(map_page, f"image_{first + 9:03d}")
    map_page.keyboard.press("ArrowLeft")
    wait_for_tip(map_page, f"image_{first + 8:03d}")
    map_page.keyboard.press("Enter")
    map_page.wait_for_selector("dialog[open] h2")
    assert map_page.locator("dialog[open] h2").text_content() == f"image_{first + 8:03d}"
    map_page.keyboard.press("Escape")
    assert map_page.evaluate("document.activeElement.className") == "map-plot"
    width = np.ptp(positions(map_page)[:-1, 0])
    map_page.keyboard.press("+")
    assert np.ptp(positions(map_page)[:-1, 0]) == pytest.approx(1.5 * width, rel=0.01)
    map_page.keyboard.press("0")
    assert np.ptp(positions(map_page)[:-1, 0]) == pytest.approx(width, rel=0.01)


def test_move_zoom_and_reset_by_pointer(map_page, wait_until):
    before = positions(map_page)
    middle = before.mean(axis=0)
    drag(map_page, [middle, middle + np.array([60, 40])])
    np.testing.assert_allclose(positions(map_page) - before, np.broadcast_to([60, 40], before.shape), atol=3)
    moved = positions(map_page)[0, 0]
    map_page.mouse.wheel(0, -300)
    wait_until(map_page, "moved => Math.abs(PE.map.position(0).x - moved) > 20", arg=moved)
    map_page.get_by_role("button", name="Reset the view").click()
    np.testing.assert_allclose(positions(map_page), before, atol=1)


def test_the_plot_follows_light_and_dark(map_page):
    def background():
        box = map_page.locator(".map-plot").bounding_box()
        shot = Image.open(io.BytesIO(map_page.screenshot())).convert("L")
        return shot.getpixel((int(box["x"] + 5), int(box["y"] + 5)))

    assert background() > 240
    map_page.emulate_media(color_scheme="dark")
    map_page.wait_for_timeout(500)
    assert background() < 60


def test_the_legend_is_below_the_plot_on_a_phone(map_page):
    plot, side = map_page.locator(".map-plot"), map_page.locator(".map-side")
    assert side.bounding_box()["x"] > plot.bounding_box()["x"] + plot.bounding_box()["width"]
    map_page.set_viewport_size({"width": 390, "height": 844})
    assert side.bounding_box()["y"] > plot.bounding_box()["y"] + plot.bounding_box()["height"]
    assert map_page.evaluate("document.documentElement.scrollWidth") <= 390


def test_121_classes_each_have_their_own_look_and_a_search(open_map):
    rng = np.random.default_rng(1)
    names = [f"class {code:03d}" for code in range(121)]
    table = EmbeddingTable(rng.normal(size=(242, 8)), label=names * 2)
    images = gather_images({"": table})
    page = open_map(build_document(images, {"map": build_map(images)}, title="121 classes"))
    assert len(legend(page)) == 121
    swatches = page.locator(".map-legend svg").evaluate_all("list => list.map(swatch => swatch.outerHTML)")
    assert len(set(swatches)) == 121
    page.get_by_label("Search the legend").fill("class 07")
    assert len(legend(page)) == 10
    entry(page, "class 077").click()
    assert pressed(page) == ["class 077"]


def test_a_page_without_labels_and_without_a_reference(open_map):
    images = gather_images({"": EmbeddingTable(np.random.default_rng(0).normal(size=(5, 3)))})
    page = open_map(build_document(images, {"map": build_map(images)}, title="No labels"))
    assert legend(page) == {"no label": 5}
    hover(page, *positions(page)[2])
    wait_for_tip(page, "(no label)")


def test_a_touch_opens_an_image_and_presses_none_of_its_buttons(browser, map_text, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(map_text, encoding="utf-8")
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(path.as_uri() + "#map")
    page.wait_for_selector("#part-map[data-ready]")
    choose_axes(page, "UMAP")
    page.evaluate("PE.detail(0)")
    button = page.get_by_role("button", name="Keep").bounding_box()
    page.get_by_role("button", name="Close").click()
    middle = np.array([button["x"] + button["width"] / 2, button["y"] + button["height"] / 2])
    row = int(np.nanargmin(np.abs(positions(page)[:40, 0] - middle[0])))
    page.evaluate("dy => window.scrollBy(0, dy)", positions(page)[row, 1] - middle[1])
    assert np.abs(positions(page)[row] - middle).max() < button["width"] / 2, "the button will be where the point is"
    page.touchscreen.tap(*positions(page)[row])
    page.locator("dialog[open] h2", has_text=f"image_{row:03d}").wait_for()
    page.wait_for_timeout(400)
    assert page.evaluate("PE.store.list.length") == 0
    context.close()
