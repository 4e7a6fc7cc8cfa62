"""Highest losses: which images, in which order; the sheet; and the loop of a person's corrections."""

import logging

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plankton_embed.baselines.fine_tuned import FineTunedNet
from plankton_embed.baselines.inputs import read_pixels
from plankton_embed.baselines.losses import LOSS_COLUMNS, highest_losses, propose_corrections, write_highest_losses
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.corrections import read_corrections
from plankton_embed.workflows.apply_corrections import apply_corrections
from plankton_embed.workflows.contact_sheets import losses_sheet

PROBABILITIES = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5], [0.05, 0.05, 0.9], [1.0, 0.0, 0.0]]
CLASSES = ["ant", "bee", "cat"]
IDS = [f"o{number}" for number in range(5)]
PATHS = [f"{name}.png" for name in IDS]


def listed(labels=("ant", "ant", "bee", "ant", "cat"), n=10, classes=CLASSES, probabilities=PROBABILITIES):
    return highest_losses(np.array(classes), np.array(probabilities), labels, IDS, PATHS, n)


def test_losses_by_hand():
    table = listed()
    assert table.columns.tolist() == list(LOSS_COLUMNS)
    assert table["object_id"].tolist() == ["o4", "o3", "o1", "o2", "o0"]
    assert table["path"].tolist() == ["o4.png", "o3.png", "o1.png", "o2.png", "o0.png"]
    assert table["label"].tolist() == ["cat", "ant", "ant", "bee", "ant"]
    assert table["predicted"].tolist() == ["ant", "cat", "bee", "cat", "ant"]
    np.testing.assert_allclose(table["loss"][1:], -np.log([0.05, 0.1, 0.25, 0.7]))
    assert table["loss"][0] == pytest.approx(-np.log(1e-12))  # of a probability of 0
    assert table["probability"].tolist() == [1, 0.9, 0.8, 0.5, 0.7]
    assert table["true_probability"].tolist() == [0, 0.05, 0.1, 0.25, 0.7]
    pd.testing.assert_frame_equal(listed(n=2), table.head(2))


def test_the_order_of_the_classes_does_not_matter():
    turned = np.array(PROBABILITIES)[:, [2, 0, 1]]
    pd.testing.assert_frame_equal(listed(classes=["cat", "ant", "bee"], probabilities=turned), listed())


def test_numbers_may_be_labels():
    numbered = listed([3, 3, 40, 3, 7], classes=[3, 40, 7])
    assert numbered["predicted"].tolist() == [3, 7, 40, 7, 3]
    np.testing.assert_array_equal(numbered["loss"], listed()["loss"])


def test_images_of_other_classes_are_left_out_and_counted(caplog):
    with caplog.at_level(logging.WARNING):
        table = listed(["ant", "dog", "bee", "eel", "cat"])
    assert table["object_id"].tolist() == ["o4", "o2", "o0"]
    assert caplog.messages == ["2 images are of classes that the classifier was not trained on, and are left out"]


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"n": 0}, SettingError, "n: expected at least 1"),
        ({"labels": ["ant"] * 4}, InputError, "5 images, 4 labels, 5 object_ids, 5 paths"),
        ({"labels": ["dog"] * 5}, InputError, "none of the 5 labels is a class .* such as .*ant"),
        ({"labels": ["ant", None, "ant", "ant", "ant"]}, InputError, "labels are missing, the first in row 1"),
    ],
)
def test_wrong_input_is_named(change, error, named):
    with pytest.raises(error, match=named):
        listed(**change)


def test_the_file_is_a_corrections_file_in_which_all_are_kept(tmp_path):
    table = listed()
    path = write_highest_losses(table, tmp_path)
    assert path == tmp_path / "highest_losses.csv"
    with pytest.raises(OutputError, match="exists already"):
        write_highest_losses(table, tmp_path)
    write_highest_losses(table.head(3), path, overwrite=True)
    corrections = read_corrections(path)
    assert corrections["object_id"].tolist() == ["o4", "o3", "o1"]
    assert set(corrections["action"]) == {"keep"}
    assert corrections["label"].tolist() == ["ant", "cat", "bee"]  # the new label, if it is to be relabelled
    assert corrections["reason"].tolist()[1] == "loss 3.00, labelled ant"
    written = pd.read_csv(path)
    assert written.columns.tolist() == [
        *("object_id", "action", "label", "reason", "true_label", "path", "loss", "probability", "true_probability")
    ]
    assert written["true_label"].tolist() == ["cat", "ant", "ant"]
    np.testing.assert_allclose(written["loss"], table["loss"][:3])


def test_the_sheet_shows_truth_guess_loss_and_probability(tmp_path):
    for number, path in enumerate(PATHS):
        Image.new("L", (9, 7), 40 * number).save(tmp_path / path)
    table = listed()
    table["path"] = [str(tmp_path / path) for path in table["path"]]
    sheet = losses_sheet(table, per_row=3)
    assert sheet.title == "The 5 highest losses: true label → prediction"
    assert [len(tiles) for _, tiles in sheet.rows] == [3, 2]
    tiles = [tile for _, row in sheet.rows for tile in row]
    assert tiles[1].caption == "ant\n→ cat\nloss 3.00, p 0.90"
    assert np.asarray(tiles[1].image).tolist() == np.full((7, 9), 120).tolist()
    assert [tile.frame for tile in tiles] == ["wrong"] * 4 + ["right"]


def test_the_whole_loop(tmp_path, draw_shapes):
    """Train, write, let a person relabel one image and delete another, apply, train again."""
    images, labels = draw_shapes(60, 32)
    rows = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        rows.append({"object_id": f"o{number}", "path": f"{number}.png", "label": label})
    rows[6]["label"] = "bar"  # is a disc
    images[9] = np.random.default_rng(0).integers(0, 256, (32, 32))  # is nothing
    Image.fromarray(images[9]).save(tmp_path / "9.png")
    catalog = ImageCatalog.from_rows(pd.DataFrame(rows), source="drawn", root=tmp_path)

    def train(catalog):
        pixels = read_pixels(catalog, 32, 32, progress=False)
        net = FineTunedNet(
            weights="none", frozen=True, epochs=20, batch_size=16, learning_rate=5e-3, watch=None, patience=None,
            device="cpu", precision="float32",
        )  # fmt: skip
        return net.fit(pixels, catalog.labels), pixels

    net, pixels = train(catalog)
    table = highest_losses(
        net.classes_, net.predict_proba(pixels), catalog.labels, catalog.frame["object_id"], catalog.paths
    )
    assert len(table) == 10
    assert table["object_id"][0] == "o6"
    assert table["predicted"][0] == "disc"
    path = write_highest_losses(table, tmp_path / "losses" / "highest_losses.csv")

    sheet = pd.read_csv(path).set_index("object_id")  # what a person does
    sheet.loc["o6", "action"] = "relabel"  # to what it was taken for
    other = next(name for name in sheet.index if name != "o6")
    sheet.loc[other, "action"] = "delete"
    sheet.to_csv(path)

    done = apply_corrections(catalog, path, tmp_path / "corrected.csv")
    assert done.n_kept == 8
    again = ImageCatalog.load(tmp_path / "corrected.csv")
    after = dict(zip(again.frame["object_id"], again.labels, strict=True))
    before = dict(zip(catalog.frame["object_id"], catalog.labels, strict=True))
    assert after == {name: label for name, label in {**before, "o6": "disc"}.items() if name != other}
    second, pixels = train(again)
    assert len(pixels) == 59
    assert second.history_["loss"].iloc[-1] < net.history_["loss"].iloc[-1]
    rest = highest_losses(
        second.classes_, second.predict_proba(pixels), again.labels, again.frame["object_id"], again.paths, n=59
    )
    assert rest.set_index("object_id").loc["o6", "label"] == "disc"
    assert other not in rest["object_id"].tolist()


def test_proposals_follow_the_table():
    pd.testing.assert_series_equal(propose_corrections(listed())["path"], listed()["path"])
    assert propose_corrections(listed().head(0)).empty
