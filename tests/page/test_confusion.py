"""Confusion: what is scored, beside scikit-learn; in a browser cells, pairs, toggle, keys, and many classes."""

import logging

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from plankton_embed.output import write_frame
from plankton_embed.page.confusion import build_confusion
from plankton_embed.page.document import build_document
from plankton_embed.page.images import gather_images
from plankton_embed.table import EmbeddingTable

HOSTILE = "<script>alert(1)</script>"
NAMES = np.array([HOSTILE, "copepod", "fish", "salp"], dtype=object)


def make_images(n_per_class=12, names=NAMES, noise=0.6, splits=True):
    """Images of classes that overlap; with splits, every third image is of the test split."""
    rng = np.random.default_rng(3)
    code = np.repeat(np.arange(len(names)), n_per_class)
    centres = np.eye(len(names), max(len(names), 3))
    vectors = centres[code] + noise * rng.normal(size=(len(code), centres.shape[1]))
    table = EmbeddingTable(vectors, [f"image {row}" for row in range(len(code))], np.array(names, dtype=object)[code])
    if not splits:
        return gather_images({"": table})
    is_test = np.arange(len(code)) % 3 == 0
    return gather_images({"train": table.select(~is_test), "test": table.select(is_test)})


def write_predictions(path, images, rows, predicted, **columns):
    frame = pd.DataFrame({"object_id": images.table.object_id[rows], "label": predicted})
    write_frame(path, frame.assign(true_label=images.table.label[rows]).assign(**columns))
    return path


def as_matrix(found):
    n = len(found["labels"])
    return confusion_matrix(found["truth"], found["predicted"], labels=np.arange(n))


@pytest.fixture(scope="module")
def images():
    return make_images()


@pytest.fixture
def predictions(images, tmp_path):
    """The predictions of the test images: one of each kind of mistake, and one rejected."""
    rows = np.flatnonzero(images.split == "test")
    predicted = images.table.label[rows].copy()
    predicted[0], predicted[1], predicted[5] = "copepod", "copepod", "unknown"
    predicted[8] = "salp"
    return write_predictions(tmp_path / "predictions.csv", images, rows, predicted)


# ---------------------------------------------------------------------------------------------------- data


def test_predictions_of_a_file(images, predictions):
    found = build_confusion(images, predictions)
    rows = np.flatnonzero(images.split == "test")
    frame = pd.read_csv(predictions)
    labels = [HOSTILE, "copepod", "fish", "salp", "unknown"]  # unknown last
    assert found["labels"] == labels
    assert found["rows"].tolist() == rows.tolist()
    assert [labels[code] for code in found["truth"]] == frame["true_label"].tolist()
    assert [labels[code] for code in found["predicted"]] == frame["label"].tolist()
    assert found["of"] == "predictions.csv: the predictions of 16 test images"
    assert found["when"].endswith("UTC")
    precision, recall, f1, support = precision_recall_fscore_support(
        frame["true_label"], frame["label"], labels=labels, zero_division=np.nan
    )
    per_class = found["per_class"]
    assert per_class["support"] == support.tolist()
    assert per_class["predicted"] == [2, 5, 3, 5, 1]
    for name, values in (("precision", precision), ("recall", recall)):
        np.testing.assert_allclose(np.array(per_class[name], dtype=float), values)
    assert per_class["recall"][-1] is None  # no image is unknown in truth
    np.testing.assert_allclose(per_class["f1"][:4], f1[:4])


def test_rows_that_are_not_on_the_page_or_have_no_label_are_counted(images, tmp_path):
    rows = np.flatnonzero(images.split == "test")[:4]
    path = write_predictions(tmp_path / "predictions.csv", images, rows, images.table.label[rows])
    frame = pd.read_csv(path, dtype=str)
    frame.loc[0, "object_id"], frame.loc[1, "true_label"] = "elsewhere", None
    write_frame(path, frame)
    found = build_confusion(images, path)
    assert found["rows"].tolist() == rows[2:].tolist()
    assert "2 further rows have no label or no image on this page" in found["of"]


def test_without_predictions_the_guesses_of_the_test_images_are_scored(images):
    found = build_confusion(images)
    rows = np.flatnonzero(images.split == "test")
    train = images.table.select(images.split == "train")
    means = np.stack([train.vectors[train.label == name].mean(axis=0) for name in NAMES])
    nearest = ((images.table.vectors[rows][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert found["rows"].tolist() == rows.tolist()
    assert found["predicted"].tolist() == nearest.tolist()
    assert found["of"] == "the class of the nearest class mean, for 16 labelled test images"


def test_without_test_images_every_image_is_left_out_of_its_own_mean():
    images = make_images(splits=False)
    found = build_confusion(images, "no_such_file.csv")
    vectors, labels = images.table.vectors.astype(float), images.label_index
    for row, predicted in zip(found["rows"], found["predicted"], strict=True):
        others = np.arange(len(images)) != row
        means = np.stack([vectors[others & (labels == code)].mean(axis=0) for code in range(len(NAMES))])
        assert ((vectors[row] - means) ** 2).sum(axis=1).argmin() == predicted
    assert len(found["rows"]) == 48
    assert "48 labelled images, each left out of the mean of its own class" in found["of"]
    assert "training" not in found["of"]


def test_training_images_are_scored_with_a_word_of_caution():
    images = make_images(splits=False)
    of_run = gather_images({"train": images.table})
    assert "new images are predicted right less often" in build_confusion(of_run)["of"]


def test_a_damaged_or_foreign_file_gives_one_warning(images, predictions, caplog):
    frame = pd.read_csv(predictions)
    for damaged, message in (
        (frame.drop(columns="true_label"), "true_label is missing"),
        (frame.assign(object_id="elsewhere"), "expected the object_id of images of this page"),
    ):
        caplog.clear()
        write_frame(predictions, damaged)
        with caplog.at_level(logging.WARNING):
            found = build_confusion(images, predictions)
        assert len(caplog.records) == 1
        assert "predictions.csv" in caplog.text
        assert message in caplog.text
        assert "nearest class mean" in found["of"]


def test_nothing_to_score():
    table = EmbeddingTable(np.eye(3), ["a", "b", "c"])
    assert build_confusion(gather_images({"": table})) is None


def test_one_class_has_no_errors():
    found = build_confusion(make_images(5, names=["copepod"]))
    assert found["labels"] == ["copepod"]
    assert found["truth"].tolist() == found["predicted"].tolist() == [0, 0]
    assert found["per_class"]["recall"] == [1.0]


# ---------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture
def open_confusion(open_page, tmp_path):
    """Open a page that has only this part; without pictures."""

    def open_it(images, part):
        path = tmp_path / "page.html"
        path.write_text(build_document(images, {"confusion": part}, title="A page"), encoding="utf-8")
        return open_page(path)

    return open_it


def rows_of_dialog(page):
    return [int(tile.get_attribute("data-row")) for tile in page.query_selector_all("dialog[open] .tile")]


def test_a_cell_opens_exactly_its_images(images, open_confusion):
    part = build_confusion(images)
    matrix, labels = as_matrix(part), part["labels"]
    assert (matrix - np.diag(np.diag(matrix))).any(), "the test needs errors"
    page = open_confusion(images, part)
    assert page.locator(".matrix td button").count() == (matrix > 0).sum()
    for truth, predicted in zip(*matrix.nonzero(), strict=True):
        n = int(matrix[truth, predicted])
        name = f"{labels[truth]} predicted as {labels[predicted]}: {n} image{'s' * (n != 1)}"
        cell = page.locator(f".matrix button[data-t='{truth}'][data-p='{predicted}']")
        assert cell.get_attribute("aria-label") == name
        assert cell.inner_text() == str(n)
        cell.click()
        assert page.locator("dialog[open] h2").inner_text() == name
        wanted = part["rows"][(part["truth"] == truth) & (part["predicted"] == predicted)]
        assert rows_of_dialog(page) == wanted.tolist()
        page.keyboard.press("Escape")
        assert page.locator("dialog").count() == 0
    assert HOSTILE in page.locator(".matrix tbody th").first.inner_text()


def test_the_worst_pair_is_first_and_opens_its_images(images, predictions, open_confusion):
    part = build_confusion(images, predictions)
    page = open_confusion(images, part)
    first = page.locator(".pairs tbody tr").first
    cells = [cell.inner_text() for cell in first.locator("td").all()]
    assert cells == [HOSTILE, "copepod", "2", "50.0 %"]
    first.get_by_role("button", name=f"{HOSTILE} predicted as copepod: 2 images").click()
    assert rows_of_dialog(page) == part["rows"][:2].tolist()
    page.keyboard.press("Escape")
    page.locator(".pairs th button", has_text="true class").click()
    names = [row.locator("td").first.inner_text() for row in page.locator(".pairs tbody tr").all()]
    assert names == sorted(names)


def test_count_or_share_of_the_row(images, open_confusion):
    page = open_confusion(images, build_confusion(images))
    page.get_by_role("button", name="Share of the row").click()
    sums = page.evaluate("""() => [...document.querySelectorAll(".matrix tbody tr")].map(row =>
        [...row.querySelectorAll("button")].reduce((sum, cell) => sum + Number(cell.textContent), 0))""")
    assert all(abs(total - 100) <= 2 for total in sums)
    assert page.get_by_role("button", name="Share of the row").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Count").click()
    total = page.evaluate(
        "[...document.querySelectorAll('.matrix button')].reduce((s, b) => s + Number(b.textContent), 0)"
    )
    assert total == 16


def test_keys_move_between_cells_and_open_one(images, open_confusion):
    part = build_confusion(images)
    page = open_confusion(images, part)
    assert page.locator(".matrix button[tabindex='0']").count() == 1  # one stop for Tab
    page.locator(".confusion-classes").focus()
    page.keyboard.press("Tab")
    at = "[document.activeElement.dataset.t, document.activeElement.dataset.p].map(Number)"
    row, column = page.evaluate(at)
    matrix = as_matrix(part)
    assert matrix[row, column] > 0
    page.keyboard.press("End")
    assert page.evaluate(at) == [row, int(np.flatnonzero(matrix[row])[-1])]
    page.keyboard.press("Home")
    assert page.evaluate(at) == [row, int(np.flatnonzero(matrix[row])[0])]
    column = page.evaluate(at)[1]
    page.keyboard.press("ArrowDown")
    below = [int(other) for other in np.flatnonzero(matrix[:, column]) if other > row]
    assert page.evaluate(at) == [below[0], column]
    page.keyboard.press("Enter")
    wanted = part["rows"][(part["truth"] == below[0]) & (part["predicted"] == column)]
    assert rows_of_dialog(page) == wanted.tolist()
    page.keyboard.press("Escape")
    assert page.evaluate(at) == [below[0], column]  # the focus returns


def test_a_class_opens_the_matrix_of_what_it_is_confused_with(images, predictions, open_confusion):
    page = open_confusion(images, build_confusion(images, predictions))
    page.get_by_role("button", name="fish", exact=True).click()
    heads = [head.inner_text() for head in page.locator(".matrix tbody th").all()]
    assert heads == ["fish", "salp"]
    assert page.locator(".confusion-classes").evaluate("select => select.selectedOptions[0].textContent") == "fish"


def test_decisions_do_not_change_the_scored_matrix_silently(images, predictions, open_confusion):
    part = build_confusion(images, predictions)
    page = open_confusion(images, part)
    before = page.locator(".matrix").inner_text()
    assert page.locator(".confusion-since").is_hidden()
    page.locator(".pairs tbody tr").first.get_by_role("button").click()
    page.locator("dialog[open]").get_by_role("button", name="Tick all").click()
    page.locator("dialog[open]").get_by_role("button", name="Relabel all").click()
    page.keyboard.type("copepod")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    text = page.locator(".confusion-since").inner_text()
    assert text.startswith("2 scored images were relabelled or deleted since then")
    assert part["when"] in text
    assert page.locator(".matrix").inner_text() == before
    page.get_by_role("button", name="Undo").click()
    assert page.locator(".confusion-since").is_hidden()


def test_no_errors(open_confusion):
    images = make_images(6, noise=0.01)
    page = open_confusion(images, build_confusion(images))
    assert page.get_by_text("No errors: every scored image is predicted as its true class.").is_visible()
    assert page.locator(".matrix td button").count() == 4


def test_one_class(open_confusion):
    images = make_images(6, names=["copepod"])
    page = open_confusion(images, build_confusion(images))
    assert page.get_by_text("2 of 2 images right (100 %)").is_visible()
    assert page.locator(".matrix td button").count() == 1


def test_many_classes_show_the_worst_first_and_can_be_scrolled(open_confusion):
    names = [f"class {number:03d} with a long name" for number in range(121)]
    images = make_images(6, names=names, noise=0.35)
    page = open_confusion(images, build_confusion(images))
    assert 2 <= page.locator(".matrix tbody tr").count() <= 20
    page.locator(".confusion-classes").select_option("all")
    assert page.locator(".matrix tbody tr").count() == 121
    box = page.locator(".matrix-box")
    box.scroll_into_view_if_needed()
    box.evaluate("box => box.scrollTo(900, 900)")
    frame = box.bounding_box()
    corner = page.locator(".matrix thead th").first.bounding_box()
    row = page.locator(".matrix tbody th").nth(60).bounding_box()
    column = page.locator(".matrix thead th").nth(40).bounding_box()
    assert abs(corner["x"] - frame["x"]) < 3
    assert abs(corner["y"] - frame["y"]) < 3
    assert abs(row["x"] - frame["x"]) < 3  # the names stay at the edges
    assert abs(column["y"] - frame["y"]) < 3
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_fits_a_phone(images, predictions, open_confusion):
    page = open_confusion(images, build_confusion(images, predictions))
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
