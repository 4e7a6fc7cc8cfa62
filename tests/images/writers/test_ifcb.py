"""Class scores for IFCB dashboards."""

import re
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from plankton_embed.errors import DependencyError, InputError, OutputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.readers.source import read_source
from plankton_embed.images.writers.ifcb import write_class_scores

h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra ifcb)")

NEW, OLD = "D20130526T095207_IFCB013", "IFCB5_2012_028_081515"
CLASSES = ["Guinardia", "Chaetoceros sp.", "mix"]


def make_catalog(bins, rois):
    ids = [f"{bin_id}_{roi:05}" for bin_id, roi in zip(bins, rois, strict=True)]
    rows = {"object_id": ids, "path": [f"{name}.png" for name in ids], "ifcb_bin": bins, "roi_number": rois}
    return ImageCatalog.from_rows(rows)


def make_names(catalog, scores, classes=CLASSES):
    columns = {f"p({name})": scores[:, place] for place, name in enumerate(classes)}
    return pd.DataFrame({"object_id": catalog.frame["object_id"], "label": "mix", **columns})


@pytest.fixture
def catalog():
    return make_catalog([NEW, OLD, NEW, NEW], [7, 1, 2, 65535])


SCORES = np.array([[0.5, 0.25, 0.25], [0, 1, 0], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]])


def read_as_a_dashboard_does(root, bin_id):
    """Find the file among folders whose names are part of its own, and read scores with names in ASCII."""
    name = f"{bin_id}_class.h5"
    year, day = re.search(r"(\d{4})_(\d{3})_", name).groups() if bin_id.startswith("I") else (None, None)
    path = root / f"D{year}" / f"D{year}_{day}" / name
    if year is None:
        (path,) = [p for p in root.rglob(name) if all(part in name for part in p.relative_to(root).parts)]
    with h5py.File(path) as file:
        labels = [label.decode("ascii") for label in file["class_labels"][:]]
        return pd.DataFrame(file["output_scores"][:], columns=labels, index=file["roi_numbers"][:])


def test_each_bin_has_its_file(catalog, tmp_path):
    counts = write_class_scores(tmp_path, catalog, make_names(catalog, SCORES), CLASSES, model_id="resnet 1")
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.h5")}
    assert files == {f"D2013/D20130526/{NEW}_class.h5", f"D2012/D2012_028/{OLD}_class.h5"}
    assert counts.to_dict() == {"n_bins": 2, "n_images": 4, "n_unknown": 0, "n_unnamed": 0}
    with h5py.File(tmp_path / f"D2013/D20130526/{NEW}_class.h5") as file:
        assert set(file) == {"metadata", "output_scores", "output_classes", "class_labels", "roi_numbers"}
        assert file["roi_numbers"][:].tolist() == [2, 7, 65535]
        assert file["roi_numbers"].dtype == np.uint16
        assert file["output_scores"].dtype == file["output_classes"].dtype == np.float16
        np.testing.assert_array_equal(file["output_scores"][:], SCORES[[2, 0, 3]].astype(np.float16))
        assert file["output_classes"][:].tolist() == [2, 0, 2]  # from 0, as class_labels
        assert file["class_labels"].asstr()[:].tolist() == CLASSES
        assert h5py.check_string_dtype(file["class_labels"].dtype).length is None
        metadata = dict(file["metadata"].attrs)
        assert file["metadata"].shape is None
    assert metadata.pop("timestamp").endswith("+00:00")
    assert metadata == {"version": "v3", "model_id": "resnet 1", "bin_id": NEW}
    for bin_id, rois in ((NEW, [2, 7, 65535]), (OLD, [1])):
        assert read_as_a_dashboard_does(tmp_path, bin_id).index.tolist() == rois


def test_scores_of_a_joined_image_are_written_under_its_first_target(tmp_path):
    rows = "".join(
        f"{trigger},{'0,' * 8}{box},0\n" for trigger, box in ((1, "0,0,9,8,1"), (1, "5,2,9,8,73"), (2, "0,0,3,2,145"))
    )
    for suffix, content in ((".adc", rows), (".hdr", "x"), (".roi", "\0" * 152)):
        (tmp_path / f"{OLD}{suffix}").write_text(content)
    catalog = read_source(tmp_path)
    write_class_scores(tmp_path / "scores", catalog, make_names(catalog, SCORES[:2]), CLASSES)
    assert read_as_a_dashboard_does(tmp_path / "scores", OLD).index.tolist() == [1, 3]


def test_rejected_and_unpredicted_images_are_reported(catalog, tmp_path, caplog):
    names = make_names(catalog, SCORES).assign(label=["unknown", "mix", "mix", "mix"]).drop(index=1)
    counts = write_class_scores(tmp_path, catalog, names, CLASSES)
    assert (counts.n_bins, counts.n_images, counts.n_unknown, counts.n_unnamed) == (1, 3, 1, 1)
    assert "1 images were rejected (unknown)" in caplog.text
    assert "1 images of the catalog have no prediction" in caplog.text
    assert read_as_a_dashboard_does(tmp_path, NEW).index.tolist() == [2, 7, 65535]


def test_files_of_other_bins_stay_and_none_is_overwritten(catalog, tmp_path):
    names = make_names(catalog, SCORES)
    write_class_scores(tmp_path, catalog.select([0, 2, 3]), names.iloc[[0, 2, 3]], CLASSES)
    with pytest.raises(OutputError, match=rf"{NEW}_class\.h5 exists already"):
        write_class_scores(tmp_path, catalog, names, CLASSES)
    assert not (tmp_path / "D2012").exists()  # nothing is written where one is refused
    write_class_scores(tmp_path, catalog.select([1]), names.iloc[[1]], CLASSES)
    assert len(list(tmp_path.rglob("*.h5"))) == 2
    write_class_scores(tmp_path, catalog, make_names(catalog, SCORES[:, ::-1]), CLASSES, overwrite=True)
    assert read_as_a_dashboard_does(tmp_path, OLD).to_numpy().tolist() == [[0, 1, 0]]
    assert read_as_a_dashboard_does(tmp_path, NEW).loc[7, "mix"] == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"ifcb_bin": "../20130526"},
            "expected D20130526T095207_IFCB013 or IFCB5_2012_028_081515; found '../20130526'",
        ),
        ({"ifcb_bin": None}, "expected a bin and a ROI number"),
        ({"roi_number": 1.5}, "roi_number 1.5"),
        ({"roi_number": 70000}, "from 1 to 65535"),
        ({"roi_number": np.nan}, "found ifcb_bin D20130526T095207_IFCB013 and roi_number an empty cell; correct"),
        ({"ifcb_bin": OLD, "roi_number": 1}, "ROI 1 of the bin IFCB5_2012_028_081515 is in two rows"),
    ],
)
def test_what_is_no_roi_is_refused(catalog, tmp_path, change, message):
    frame = catalog.frame.astype({"roi_number": float, "ifcb_bin": object})
    for column, value in change.items():
        frame.loc[2, column] = value
    with pytest.raises(InputError, match=re.escape(message)):
        write_class_scores(tmp_path, ImageCatalog(frame), make_names(catalog, SCORES), CLASSES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: names.drop(columns="p(mix)"), "p(<class>) for every class; mix missing; classify with --all-"),
        (lambda names: names.assign(**{"p(mix)": 1.5}), "column p(mix): expected a probability from 0 to 1; found 1.5"),
        (
            lambda names: names.assign(**{"p(mix)": "much"}),
            "column p(mix): expected a probability from 0 to 1; found much",
        ),
        (lambda names: names.assign(**{"p(mix)": np.nan}), "to 1; found an empty cell; classify with --all-prob"),
        (lambda names: names.assign(object_id="zebra"), "is in two rows"),
    ],
)
def test_what_are_no_scores_is_refused(catalog, tmp_path, change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        write_class_scores(tmp_path, catalog, change(make_names(catalog, SCORES)), CLASSES)
    assert not list(tmp_path.iterdir())


def test_classes_that_a_dashboard_cannot_read_are_refused(catalog, tmp_path):
    for classes, message in ((["a", "b", "Méduse"], "ASCII only; found 'Méduse'"), (["a", "b", "a"], "2 different")):
        with pytest.raises(InputError, match=message):
            write_class_scores(tmp_path, catalog, make_names(catalog, SCORES, classes), classes)
    with pytest.raises(InputError, match="for every class; all missing"):
        write_class_scores(tmp_path, catalog, make_names(catalog, SCORES), [])
    with pytest.raises(InputError, match="ifcb_bin, roi_number is missing"):
        plain = ImageCatalog(catalog.frame.drop(columns=["ifcb_bin", "roi_number"]))
        write_class_scores(tmp_path, plain, make_names(catalog, SCORES), CLASSES)


def test_without_h5py_the_line_that_installs_it_is_reported(catalog, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DependencyError, match=r"pip install 'plankton_embed\[ifcb\]'"):
        write_class_scores(tmp_path, catalog, make_names(catalog, SCORES), CLASSES)


LABEL = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12)
TABLES_EACH = 10


@settings(max_examples=100)
@given(st.lists(LABEL, min_size=1, max_size=5, unique=True), st.data())
def test_scores_are_read_as_they_were_written(tmp_path_factory, classes, data):
    """A hundred times ten tables, a bin each."""
    folder = tmp_path_factory.mktemp("scores")
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=TABLES_EACH, max_size=TABLES_EACH))
    scores = data.draw(npst.arrays(np.float64, (sum(sizes), len(classes)), elements=st.floats(0, 1), fill=st.nothing()))
    rois = data.draw(npst.arrays(np.int64, sum(sizes), elements=st.integers(1, 65535), unique=True))
    bins = [f"D201305{10 + place}T095207_IFCB013" for place in range(TABLES_EACH)]
    catalog = make_catalog(np.repeat(bins, sizes).tolist(), rois.tolist())
    shuffled = make_names(catalog, scores, classes).sample(frac=1, random_state=0)
    write_class_scores(folder, catalog, shuffled, classes)
    expected = pd.DataFrame(scores, columns=classes).set_axis(rois)
    for bin_id, rows in catalog.frame.groupby("ifcb_bin").groups.items():
        found = read_as_a_dashboard_does(folder, bin_id)
        true = expected.iloc[rows].sort_index()
        assert found.index.tolist() == true.index.tolist()
        assert found.columns.tolist() == classes
        np.testing.assert_allclose(found, true, rtol=2**-11, atol=2**-25)
