"""Counts: unknown images, abundance and shift as the commands write them, and damaged; in a browser tables, bars."""

import json
import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.output import write_frame
from plankton_embed.page.counts import build_counts, build_unknowns, read_abundance, read_shift
from plankton_embed.page.document import build_document
from plankton_embed.page.images import gather_images
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows.abundance import abundance
from plankton_embed.workflows.shift import shift

NAMES = np.array(["<u>fish</u>", "copepod", "salp"], dtype=object)


def draw(n, seed, shift_by=0.0, **columns):
    rng = np.random.default_rng(seed)
    code = np.arange(n) % len(NAMES)
    vectors = 4 * np.eye(3, 5)[code] + rng.normal(size=(n, 5)) + shift_by
    return EmbeddingTable(vectors, [f"{seed}/{row}" for row in range(n)], NAMES[code], **columns)


TRAIN, VAL = draw(120, 0), draw(60, 1)
STATIONS = np.array(["north", "south", "<b>west</b>"], dtype=object)[np.repeat([0, 1, 2], 30)]
QUERY = draw(90, 2, sample_id=STATIONS)
SHIFTED = replace(QUERY, vectors=QUERY.vectors + 3 * (STATIONS == "south")[:, None])  # another appearance
IMAGES = gather_images({"train": TRAIN, "test": QUERY})


@pytest.fixture(scope="module")
def abundance_folder(tmp_path_factory):
    """What the command writes: with volumes and factors."""
    folder = tmp_path_factory.mktemp("abundance") / "abundance"
    rows = {"object_id": QUERY.object_id, "path": QUERY.object_id, "sample_id": QUERY.sample_id}
    catalog = ImageCatalog.from_rows({**rows, "volume": [2.5] * 90, "subsample_factor": [4.0] * 90})
    options = {"calibration": VAL, "n_draws": 20, "progress": False}
    abundance(TRAIN, QUERY, folder, catalog=catalog, **options)
    return folder


@pytest.fixture(scope="module")
def shift_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shift") / "shift"
    shift(TRAIN, SHIFTED, folder, calibration=VAL, n_permutations=1000, n_draws=20, progress=False)
    return folder


@pytest.fixture
def rejected(tmp_path):
    """Predictions with two rejected images."""
    frame = pd.DataFrame({"object_id": QUERY.object_id, "label": QUERY.label, "best_label": QUERY.label})
    frame["novelty_score"] = np.linspace(0.1, 0.9, len(frame))
    frame.loc[[3, 40], "label"] = "unknown"
    write_frame(tmp_path / "predictions.csv", frame)
    return tmp_path / "predictions.csv"


# ---------------------------------------------------------------------------------------------------- unknowns


def test_rejected_images_have_the_highest_novelty_first(rejected):
    part = build_unknowns(IMAGES, rejected)
    ids = IMAGES.table.object_id[part["rows"]].tolist()
    assert ids == ["2/40", "2/3"]
    assert part["score"] == pytest.approx([0.1 + 0.8 * 40 / 89, 0.1 + 0.8 * 3 / 89])
    assert part["best"] == ["copepod", "<u>fish</u>"]
    assert part["measure"] == "novelty score"


def test_without_rejected_images_the_page_ranks_by_distance(rejected, tmp_path, caplog):
    by_distance = {"kind": "distance", "of": "new"}
    assert build_unknowns(IMAGES) == by_distance
    assert build_unknowns(IMAGES, tmp_path / "missing.csv") == by_distance
    write_frame(rejected, pd.read_csv(rejected).assign(label="copepod"))
    assert build_unknowns(IMAGES, rejected) == by_distance
    rejected.write_text("nothing\n")
    assert build_unknowns(IMAGES, rejected) == by_distance  # the confusion warns of this file
    assert caplog.text == ""
    assert build_unknowns(gather_images({"": TRAIN})) == {"kind": "distance", "of": "all"}


def test_without_labels_there_are_no_unknowns():
    bare = gather_images({"": EmbeddingTable(np.eye(3))})
    assert build_unknowns(bare) is None
    assert build_counts(bare) is None


# ---------------------------------------------------------------------------------------------------- folders


def test_abundance_of_a_folder(abundance_folder):
    part = read_abundance(abundance_folder)
    table = pd.read_csv(abundance_folder / "abundance.csv")
    assert [one["name"] for one in part["amounts"]] == ["count", "corrected", "individuals", "concentration"]
    units = [one["unit"] for one in part["amounts"]]
    assert units == ["images", "images, corrected", "in the whole sample", "m⁻³ in the sea water"]
    assert [one["has_interval"] for one in part["amounts"]] == [False, True, True, True]
    assert part["level"] == 0.9
    assert part["samples"] == ["<b>west</b>", "north", "south"]
    filled = table[(table.drop(columns=["sample", "label"]) != 0).any(axis=1)]
    found = part["table"]
    assert [part["samples"][code] for code in found["sample"]] == filled["sample"].tolist()
    assert [part["labels"][code] for code in found["label"]] == filled["label"].tolist()
    for column, renamed in (("count", "count"), ("low", "corrected_low"), ("concentration_high",) * 2):
        np.testing.assert_allclose(found[renamed], filled[column], rtol=1e-6)
    totals = pd.read_csv(abundance_folder / "totals.csv")
    assert part["totals"]["label"] == totals["label"].tolist() == part["labels"]
    np.testing.assert_allclose(part["totals"]["individuals"], totals["individuals"])
    assert part["about"]["volume"] == [2.5] * 3
    assert part["about"]["n_images"] == [30] * 3
    samples = pd.read_csv(abundance_folder / "samples.csv")
    assert list(part["about"]) == [name for name in samples if samples[name].notna().any()]


def test_shift_of_a_folder(shift_folder):
    part = read_shift(shift_folder)
    samples = pd.read_csv(shift_folder / "samples.csv")
    assert part["samples"]["sample_id"] == [None, *samples["sample_id"][1:]]
    assert part["samples"]["verdict"] == samples["verdict"].tolist()
    assert "appearance" in part["samples"]["verdict"]
    np.testing.assert_allclose(part["samples"]["vectors_effect"], samples["vectors_effect"])
    classes = pd.read_csv(shift_folder / "classes.csv")
    assert part["classes"]["label"] == classes["label"].tolist()
    np.testing.assert_allclose(np.array(part["classes"]["share"]), classes["share"])


def test_empty_columns_are_left_out(shift_folder, tmp_path):
    for name in ("samples.csv", "classes.csv"):
        frame = pd.read_csv(shift_folder / name)
        frame = frame.assign(calibration_novelty=np.nan) if name == "classes.csv" else frame.assign(mix_effect=np.nan)
        write_frame(tmp_path / name, frame.head(1))  # all images together, which have no sample_id
    part = read_shift(tmp_path)
    assert "mix_effect" not in part["samples"]
    assert "calibration_novelty" not in part["classes"]
    assert part["samples"]["sample_id"] == part["classes"]["sample_id"] == [None]


def test_a_folder_that_is_missing_gives_no_part(tmp_path, caplog):
    assert read_abundance(None) is None
    assert read_abundance(tmp_path / "missing") is None
    assert read_shift(tmp_path / "missing") is None
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("abundance.csv", lambda frame: frame.drop(columns="low"), "low is missing"),
        ("abundance.csv", lambda frame: frame.assign(concentration="much"), "column concentration: expected numbers"),
        ("abundance.csv", lambda frame: frame.assign(label="krill"), "column label: expected the values of totals.csv"),
        ("totals.csv", None, "totals.csv does not exist"),
        ("samples.csv", lambda frame: frame.assign(volume="a bucket"), "column volume: expected numbers"),
    ],
)
def test_a_damaged_abundance_gives_one_warning(abundance_folder, tmp_path, caplog, name, change, message):
    for path in abundance_folder.glob("*.csv"):
        if path.name == name and change is None:
            continue
        frame = pd.read_csv(path)
        write_frame(tmp_path / path.name, change(frame) if path.name == name else frame)
    with caplog.at_level(logging.WARNING):
        assert read_abundance(tmp_path) is None
    assert len(caplog.records) == 1
    assert name in caplog.text
    assert message in caplog.text


@pytest.mark.parametrize(("name", "column"), [("samples.csv", "vectors_effect"), ("classes.csv", "share")])
def test_a_damaged_shift_gives_one_warning(shift_folder, tmp_path, caplog, name, column):
    for path in shift_folder.glob("*.csv"):
        frame = pd.read_csv(path)
        write_frame(tmp_path / path.name, frame.assign(**{column: "x"}) if path.name == name else frame)
    with caplog.at_level(logging.WARNING):
        assert read_shift(tmp_path) is None
    assert len(caplog.records) == 1
    assert f"{name}, column {column}: expected numbers; found 'x' in row 2" in caplog.text


def test_a_summary_may_be_missing_but_not_damaged(abundance_folder, tmp_path, caplog):
    for path in abundance_folder.glob("*.csv"):
        write_frame(tmp_path / path.name, pd.read_csv(path))
    part = read_abundance(tmp_path)
    assert part["level"] is None
    assert part["amounts"][-1] == {"name": "concentration", "unit": "", "has_interval": True}
    (tmp_path / "summary.json").write_text("{")
    assert read_abundance(tmp_path) is None
    assert "summary.json cannot be read as JSON" in caplog.text


# ---------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture
def open_counts(open_page, tmp_path):
    def open_it(images=IMAGES, **folders):
        path = tmp_path / "page.html"
        part = build_counts(images, **folders)
        path.write_text(build_document(images, {"counts": part}, title="A page"), encoding="utf-8")
        return open_page(path)

    return open_it


def texts(rows):
    return [[cell.inner_text() for cell in row.locator("td").all()] for row in rows.all()]


def rows_of(place):
    return [int(tile.get_attribute("data-row")) for tile in place.locator(".tile").all()]


def test_only_the_parts_that_there_are_have_a_heading(open_counts, abundance_folder, shift_folder, rejected):
    page = open_counts()
    assert [head.inner_text() for head in page.locator("main h2").all()] == ["Unknowns"]
    page = open_counts(predictions=rejected, abundance=abundance_folder, shift=shift_folder)
    assert [head.inner_text() for head in page.locator("main h2").all()] == ["Unknowns", "Abundance", "Shift"]
    page.get_by_role("group", name="Go to").get_by_role("button", name="Shift").click()
    assert page.evaluate("document.activeElement.textContent") == "Shift"
    assert page.locator(".counts-shift h2").bounding_box()["y"] < 300


def test_the_farthest_images_are_first(open_counts):
    page = open_counts()
    new = np.flatnonzero(~IMAGES.reference)
    order = new[np.argsort(-IMAGES.distance[new], kind="stable")]
    assert rows_of(page.locator(".counts-unknowns")) == order[:60].tolist()
    first = page.locator(".counts-unknowns .tile").first
    assert first.locator(".tile-note").inner_text() == f"distance {IMAGES.distance[order[0]]:.3g}"
    page.get_by_role("button", name="Decide about several").click()
    assert rows_of(page.locator("dialog[open]")) == order.tolist()
    page.locator("dialog[open] .tile-button").first.click()
    page.locator("dialog[open]").get_by_role("button", name="Keep all").click()
    page.keyboard.press("Escape")
    assert rows_of(page.locator(".counts-unknowns")) == order[1:61].tolist()  # decided images leave the list


def test_rejected_images_show_their_best_class(open_counts, rejected):
    page = open_counts(predictions=rejected)
    block = page.locator(".counts-unknowns")
    assert IMAGES.table.object_id[rows_of(block)].tolist() == ["2/40", "2/3"]
    assert block.locator(".tile-note").first.inner_text() == "best: copepod, novelty score 0.46"
    assert "2 images rejected as unknown" in block.inner_text()


def test_abundance_by_sample_and_class_with_intervals_and_units(open_counts, abundance_folder):
    page = open_counts(abundance=abundance_folder)
    block = page.locator(".counts-abundance")
    totals = pd.read_csv(abundance_folder / "totals.csv").sort_values("concentration", ascending=False)
    totals = totals[totals["concentration_high"] > 0]
    shown = texts(block.locator(".amounts tbody tr"))
    assert [row[0] for row in shown] == totals["label"].tolist()
    assert [float(row[2]) for row in shown] == pytest.approx(totals["concentration"].tolist(), rel=0.01)
    assert "concentration (m⁻³ in the sea water)" in block.inner_text()
    assert "90\u00a0% interval" in block.inner_text()
    assert block.locator(".amount-bar").count() == len(shown)

    page.get_by_label("Sample:").select_option(label="<b>west</b>")
    page.get_by_label("Amount:").select_option("individuals")
    table = pd.read_csv(abundance_folder / "abundance.csv")
    west = table[table["sample"] == "<b>west</b>"].set_index("label")
    for label, _, value, low, high in texts(block.locator(".amounts tbody tr")):
        expected = west.loc[label, ["individuals", "individuals_low", "individuals_high"]].tolist()
        assert [float(text.replace(",", "")) for text in (value, low, high)] == pytest.approx(expected, rel=0.01)
    bar = block.locator(".amount-bar").first
    assert bar.locator("line").count() == 3  # the interval and its ends
    rectangle, interval = bar.locator("rect").bounding_box(), bar.locator("line").first.bounding_box()
    assert interval["x"] <= rectangle["x"] + rectangle["width"] + 1 <= interval["x"] + interval["width"] + 3

    page.get_by_label("Sample:").select_option("each")
    page.get_by_label("Class:").select_option(label="copepod")
    page.get_by_label("Amount:").select_option("count")
    counts = {row[0]: int(row[2]) for row in texts(block.locator(".amounts tbody tr"))}
    assert counts == table[table["label"] == "copepod"].set_index("sample")["count"].to_dict()


def test_abundance_is_downloaded_as_it_was(open_counts, abundance_folder):
    page = open_counts(abundance=abundance_folder)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download abundance.csv").click()
    found = pd.read_csv(download.value.path()).set_index(["sample", "label"])
    table = pd.read_csv(abundance_folder / "abundance.csv").set_index(["sample", "label"])
    np.testing.assert_allclose(found["individuals_high"], table["individuals_high"][found.index], rtol=1e-6)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download samples.csv").click()
    assert pd.read_csv(download.value.path())["sample"].tolist() == ["<b>west</b>", "north", "south"]


def test_a_sample_that_is_not_corrected_has_no_interval_and_the_reason(open_counts, abundance_folder, tmp_path):
    for path in abundance_folder.glob("*.csv"):
        frame = pd.read_csv(path)
        if path.name == "samples.csv":
            is_bare = frame["sample"] == "south"
            frame["correction"] = np.where(is_bare, "none", "em")
            frame["why_uncorrected"] = np.where(is_bare, "unknown classes", "")
        if path.name == "abundance.csv":
            bounds = [name for name in frame if name.endswith(("low", "high"))]
            frame.loc[frame["sample"] == "south", bounds] = np.nan
        write_frame(tmp_path / path.name, frame)
    page = open_counts(abundance=tmp_path)
    block = page.locator(".counts-abundance")
    assert "1 of 3 samples are not corrected" in block.inner_text()
    page.get_by_label("Sample:").select_option(label="south")
    assert "The counts of this sample are not corrected: unknown classes." in block.inner_text()
    first = block.locator(".amounts tbody tr").first
    assert [cell.inner_text() for cell in first.locator("td").all()][3:] == ["–", "–"]
    assert first.locator("line").count() == 0


def test_shift_has_the_verdict_first_and_four_digits(open_counts, shift_folder):
    page = open_counts(shift=shift_folder)
    block = page.locator(".counts-shift")
    samples = pd.read_csv(shift_folder / "samples.csv")
    rows = texts(block.locator(".shift-table tbody tr"))
    assert [row[0] for row in rows] == ["all images together", *samples["sample_id"][1:]]
    assert [row[1][1:].strip() for row in rows] == samples["verdict"].tolist()
    heads = [head.inner_text() for head in block.locator(".shift-table th").all()]
    effects = [row[heads.index("differences: effect")] for row in rows]
    assert effects == [f"{float(f'{value:.4g}')}" for value in samples["vectors_effect"]]
    assert {row[heads.index("appearance: flagged")] for row in rows} == {"yes", "no"}
    assert "the images look different from the calibration images" in block.inner_text()


def test_a_sample_opens_its_classes(open_counts, shift_folder):
    page = open_counts(shift=shift_folder)
    block = page.locator(".counts-shift")
    assert block.locator(".shift-classes h3").inner_text() == "Predicted classes of all images together"
    block.get_by_role("button", name="<b>west</b>", exact=True).click()
    assert block.locator(".shift-classes h3").inner_text() == "Predicted classes of <b>west</b>"
    classes = pd.read_csv(shift_folder / "classes.csv")
    west = classes[classes["sample_id"] == "<b>west</b>"]
    rows = texts(block.locator(".shift-classes tbody tr"))
    assert [(row[0], int(row[1])) for row in rows] == list(zip(west["label"], west["n_images"], strict=True))


def test_it_fits_a_phone(open_counts, abundance_folder, shift_folder):
    page = open_counts(abundance=abundance_folder, shift=shift_folder)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_summary_names_the_level(abundance_folder):
    summary = json.loads((abundance_folder / "summary.json").read_text(encoding="utf-8"))
    assert read_abundance(abundance_folder)["level"] == summary["level"]
