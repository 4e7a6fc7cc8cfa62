"""Names written for EcoTaxa."""

import csv
import importlib.util
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.readers import ecotaxa as reader
from plankton_embed.images.readers.source import read_source
from plankton_embed.images.writers.ecotaxa import write_ecotaxa

_spec = importlib.util.spec_from_file_location("ecotaxa_rules", Path(__file__).with_name("ecotaxa_rules.py"))
ecotaxa_rules = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ecotaxa_rules)
check_table = ecotaxa_rules.check_table

CATEGORY, STATUS = "object_annotation_category", "object_annotation_status"
IDS = ["m106_1", "m106_2", "é 3", "007", 'a "b"']
LABELS = ["Calanus", "egg<other", "unknown", "Méduse", "t001"]


def make_catalog(root, ids=IDS, **columns):
    return ImageCatalog.from_rows(
        {"object_id": ids, "path": [f"{n}.png" for n in range(len(ids))], **columns}, root=root
    )


def make_names(ids=IDS, labels=LABELS):
    return pd.DataFrame({"object_id": ids, "label": labels, "probability": 0.5})


def test_every_predicted_object_has_its_row_and_rejected_ones_have_none(tmp_path):
    path = tmp_path / "ecotaxa_names.tsv"
    counts = write_ecotaxa(path, make_catalog(tmp_path), make_names())
    assert (
        path.read_bytes()
        == (
            "\ufeffobject_id\tobject_annotation_category\tobject_annotation_status\n[t]\t[t]\t[t]\n"
            "m106_1\tCalanus\tpredicted\nm106_2\tegg<other\tpredicted\n007\tMéduse\tpredicted\n"
            '"a ""b"""\tt001\tpredicted\n'
        ).encode()
    )
    assert counts.to_dict() == {
        "n_rows": 4, "n_objects": 4, "n_validated": 0, "n_unknown": 1, "n_dropped": 0, "n_unnamed": 0,
        "n_corrected": 0, "n_deleted": 0,
    }  # fmt: skip
    assert check_table(path, is_update=True)[3]["object_id"] == 'a "b"'


@pytest.mark.parametrize("status", ["validated", "dubious", "discarded", "Validated ", "V", "anything"])
def test_what_a_person_has_decided_is_kept_unless_overridden(tmp_path, caplog, status):
    catalog = make_catalog(tmp_path, annotation_status=["predicted", status, None, None, "predicted"])
    path = tmp_path / "ecotaxa.tsv"
    counts = write_ecotaxa(path, catalog, make_names())
    assert [row["object_id"] for row in check_table(path, is_update=True)] == ["m106_1", "007", 'a "b"']
    assert (counts.n_validated, counts.n_unknown) == (1, 1)
    assert "objects left out: 1 validated, dubious or discarded, 1 unknown\n" in caplog.text
    counts = write_ecotaxa(path, catalog, make_names(), replace_validated=True, overwrite=True)
    assert [row["object_id"] for row in check_table(path, is_update=True)] == ["m106_1", "m106_2", "007", 'a "b"']
    assert counts.n_validated == 0


def correct(*rows):
    return pd.DataFrame(rows, columns=["object_id", "action", "label"])


def test_corrections_of_a_person_are_written_as_validated(tmp_path, caplog):
    status, labels = ["validated", None, None, "validated", None], ["egg", "egg", "egg", "egg", None]
    catalog = make_catalog(tmp_path, annotation_status=status, label=labels)
    names = make_names(IDS[:4], LABELS[:4])  # one image has no prediction, one was rejected
    decided = correct((IDS[0], "relabel", "larva"), (IDS[1], "keep", ""), (IDS[2], "relabel", "larva"),
                      (IDS[3], "keep", ""), (IDS[4], "relabel", "zoea"))  # fmt: skip
    path = tmp_path / "ecotaxa.tsv"
    counts = write_ecotaxa(path, catalog, names, corrections=decided)
    rows = check_table(path, is_update=True)
    assert [(row["object_id"], row[CATEGORY], row[STATUS]) for row in rows] == [
        (IDS[0], "larva", "validated"), (IDS[1], "egg", "validated"), (IDS[2], "larva", "validated"),
        (IDS[4], "zoea", "validated"),
    ]  # fmt: skip
    assert (counts.n_corrected, counts.n_validated, counts.n_unknown) == (4, 1, 0)  # the 4th was validated before
    decided = correct((IDS[1], "delete", ""))
    counts = write_ecotaxa(path, catalog, names, corrections=decided, replace_validated=True, overwrite=True)
    assert [row["object_id"] for row in check_table(path, is_update=True)] == [IDS[0], IDS[3]]
    assert counts.n_deleted == 1
    assert "1 deleted by a person" in caplog.text


def test_corrections_of_an_object_of_several_images(tmp_path):
    ids = ["x#0", "x#1", "y#0", "y#1", "z#0"]
    paths = [f"{name.replace('#', '')}.png" for name in ids]
    catalog = ImageCatalog.from_rows({"object_id": ids, "ecotaxa_id": list("xxyyz"), "path": paths}, root=tmp_path)
    names = make_names(ids, ["a", "b", "a", "b", "a"])
    decided = correct(("x#1", "relabel", "larva"), ("y#0", "delete", ""), ("z#0", "delete", ""))
    path = tmp_path / "ecotaxa.tsv"
    counts = write_ecotaxa(path, catalog, names, corrections=decided, image_names=True)
    assert [tuple(row.values()) for row in check_table(path)] == [
        ("x", "x0.png", "larva", "validated"), ("x", "x1.png", "larva", "validated"), ("y", "y1.png", "b", "predicted"),
    ]  # fmt: skip
    assert (counts.n_objects, counts.n_deleted) == (2, 1)
    decided = correct(("x#0", "relabel", "egg"), ("x#1", "relabel", "larva"))
    with pytest.raises(InputError, match="the object x have different labels, 'egg' and 'larva'; give them one label"):
        write_ecotaxa(path, catalog, names, corrections=decided, overwrite=True)


def test_an_object_of_several_images_has_the_name_of_the_first(tmp_path):
    catalog = ImageCatalog.from_rows(
        {
            "object_id": ["x#0", "x#1", "y#0", "z#0", "z#1"],
            "ecotaxa_id": ["x", "x", "y", "z", "z"],
            "path": ["sub/x0.png", "sub/x1.png", "y.png", "z0.png", "z1.png"],
            "annotation_status": [None, None, None, None, "validated"],
        },
        root=tmp_path,
    )
    names = make_names(["x#1", "x#0", "y#0", "z#0"], ["other", "Calanus", "Oithona", "Calanus"])
    counts = write_ecotaxa(tmp_path / "ecotaxa.tsv", catalog, names)
    rows = check_table(tmp_path / "ecotaxa.tsv", is_update=True)
    assert [(row["object_id"], row[CATEGORY]) for row in rows] == [("x", "Calanus"), ("y", "Oithona")]
    assert (counts.n_objects, counts.n_validated, counts.n_unnamed) == (2, 1, 0)  # z, by its second image

    counts = write_ecotaxa(tmp_path / "ecotaxa_images.txt", catalog, names, image_names=True)
    rows = check_table(tmp_path / "ecotaxa_images.txt")
    assert [tuple(row.values()) for row in rows] == [
        ("x", "sub/x0.png", "Calanus", "predicted"),
        ("x", "sub/x1.png", "Calanus", "predicted"),
        ("y", "y.png", "Oithona", "predicted"),
    ]
    assert (counts.n_rows, counts.n_objects) == (3, 2)


def test_an_object_whose_first_image_has_no_name_takes_that_of_the_next(tmp_path):
    catalog = make_catalog(tmp_path, ["x#0", "x#1", "y"], ecotaxa_id=["x", "x", None])
    counts = write_ecotaxa(tmp_path / "ecotaxa.tsv", catalog, make_names(["x#1"], ["Calanus"]))
    rows = check_table(tmp_path / "ecotaxa.tsv", is_update=True)
    assert [(row["object_id"], row[CATEGORY]) for row in rows] == [("x", "Calanus")]
    assert counts.n_unnamed == 1  # y, which EcoTaxa calls as the catalog does


def test_images_are_named_from_the_folder_of_the_new_table(tmp_path):
    (tmp_path / "project" / "images").mkdir(parents=True)
    catalog = make_catalog(tmp_path / "project" / "images", img_file_name=[f"images/{n}.jpg" for n in range(5)])
    for folder, start in (("project", "images/"), ("project/images", ""), (".", "project/images/")):
        path = tmp_path / folder / "ecotaxa_new.tsv"
        write_ecotaxa(path, catalog, make_names(), image_names=True)
        assert check_table(path)[1]["img_file_name"] == f"{start}1.png"
        assert (path.parent / start).samefile(tmp_path / "project" / "images")


def test_images_are_copied_beside_the_table_under_names_of_their_own(tmp_path):
    pixels = np.arange(40, dtype=np.uint8).reshape(5, 8)
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels + number).save(tmp_path / folder / "Same.png")
    with zipfile.ZipFile(tmp_path / "imgs.zip", "w") as archive:
        archive.write(tmp_path / "b" / "Same.png", "deep/same.png")
    Image.fromarray(pixels + 3).save(tmp_path / "collage.tif")
    Image.fromarray(np.full((5, 8), 255, np.uint8)).save(tmp_path / "mask.tif")
    np.save(tmp_path / "all.npy", np.stack([pixels, pixels + 4]).astype(np.uint16) * 256)
    paths = ["a/Same.png", "b/Same.png", "imgs.zip/deep/same.png", "collage.tif/4x3+1+1&mask.tif", "all.npy/1"]
    catalog = ImageCatalog.from_rows({"object_id": IDS, "path": paths}, root=tmp_path)
    path = tmp_path / "new" / "ecotaxa_names.tsv"
    labels = ["Calanus", "egg", "egg", "Méduse", "t001"]
    assert write_ecotaxa(path, catalog, make_names(labels=labels), copy_images=True).n_rows == 5
    names = [row["img_file_name"] for row in check_table(path)]
    assert names[:3] == [f"ecotaxa_names_images/{name}.png" for name in ("Same", "Same_2", "same_3")]
    assert names[3:] == ["ecotaxa_names_images/collage_tif_4x3_1_1_mask_tif.png", "ecotaxa_names_images/all_npy_1.png"]
    copied = [np.asarray(Image.open(path.parent / name)) for name in names]
    wanted = [pixels, pixels + 1, pixels + 1, (pixels + 3)[1:4, 1:5], (pixels.astype(np.uint16) + 4) * 256]
    assert all(np.array_equal(*pair) for pair in zip(copied, wanted, strict=True))
    assert sorted(names) == sorted(str(p.relative_to(path.parent)) for p in path.parent.glob("*/*"))


def test_copies_are_of_the_rows_written_and_replace_nothing(tmp_path):
    for number in range(5):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    path, copies = tmp_path / "out" / "ecotaxa.tsv", tmp_path / "out" / "ecotaxa_images"
    write_ecotaxa(path, make_catalog(tmp_path), make_names(), copy_images=True)
    assert sorted(p.name for p in copies.iterdir()) == ["0.png", "1.png", "3.png", "4.png"]  # 2 was refused
    with pytest.raises(OutputError, match=r"ecotaxa_images exists already.*delete it"):
        write_ecotaxa(path, make_catalog(tmp_path), make_names(), copy_images=True, overwrite=True)
    gone = make_catalog(tmp_path / "gone", ["a"])
    with pytest.raises(InputError, match=r"gone/0\.png cannot be copied: .*does not exist"):
        write_ecotaxa(tmp_path / "late" / "ecotaxa.tsv", gone, make_names(["a"], ["c"]), copy_images=True)
    assert list((tmp_path / "late").iterdir()) == []


def test_the_class_map_gives_names_of_ecotaxa(tmp_path, caplog):
    path = tmp_path / "ecotaxa.tsv"
    class_map = {"Calanus": "Calanus<Calanidae", "egg<other": "egg<other", "t001": "", "Me\u0301duse": "Medusae"}
    counts = write_ecotaxa(path, make_catalog(tmp_path), make_names(), class_map=class_map)
    assert [row[CATEGORY] for row in check_table(path, is_update=True)] == ["Calanus<Calanidae", "egg<other", "Medusae"]
    assert counts.n_dropped == 1
    assert "not in the class map" not in caplog.text
    write_ecotaxa(path, make_catalog(tmp_path), make_names(), class_map={"Calanus": "x"}, overwrite=True)
    assert (
        "classes that are not in the class map, so written with their names unchanged: Méduse, egg<other, t001"
        in caplog.text
    )
    with pytest.raises(SettingError, match="unknown were rejected"):
        write_ecotaxa(path, make_catalog(tmp_path), make_names(), class_map={"unknown": "x"}, overwrite=True)
    renamed = {"Calanus": "unknown"}  # a category of that name is no refusal
    write_ecotaxa(path, make_catalog(tmp_path), make_names(), class_map=renamed, overwrite=True)
    assert check_table(path, is_update=True)[0][CATEGORY] == "unknown"


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("NA", "object_annotation_category 'NA': which EcoTaxa reads as empty; rename the class with a class map"),
        ("nan", "which EcoTaxa reads as empty"),
        ("a\tb", "without tabs, line ends"),
        ("a\nb", "without tabs, line ends"),
        ("a\u2028b", "without tabs, line ends"),
        (" a", "outer blanks"),
        ("x" * 251, "at most 250 characters, found 251"),
        ("a<b<c", "expected Name or Name<Parent"),
        ("<b", "expected Name or Name<Parent"),
        ("a<", "expected Name or Name<Parent"),
        ("a < b", "expected Name or Name<Parent"),
        ("", "row 3, column label: expected text; found an empty cell"),
        (None, "row 3, column label: expected text; found an empty cell"),
    ],
)
def test_a_category_that_ecotaxa_would_misread_is_refused(tmp_path, label, message):
    labels = ["Calanus", label, *LABELS[2:]]
    with pytest.raises(InputError, match=re.escape(message)):
        write_ecotaxa(tmp_path / "ecotaxa.tsv", make_catalog(tmp_path), make_names(labels=labels))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (make_names(["m106_1", "m106_1"], ["a", "b"]), "row 3: object_id m106_1 is in two rows"),
        (
            make_names(["m106_1", "zebra", "x"], ["a", "b", "c"]),
            r"row 3: expected images of the catalog; found object_id zebra, which is not in it \(2 of 3 are not\)",
        ),
        (make_names([], []), "predictions: expected at least one image"),
        (make_names([None], ["a"]), "row 2, column object_id: expected text"),
        (make_names().drop(columns="label"), "expected the columns object_id, label; label is missing"),
        (make_names(IDS[:1], ["unknown"]), "no object is left to write: 1 unknown, 4 without a prediction"),
    ],
)
def test_names_that_do_not_fit_the_catalog_are_refused(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        write_ecotaxa(tmp_path / "ecotaxa.tsv", make_catalog(tmp_path), names)


def test_ids_and_images_that_ecotaxa_would_misread_are_refused(tmp_path):
    path = tmp_path / "ecotaxa.tsv"
    for object_id, message in (("NA", "reads as empty"), ("a\tb", "without tabs"), ("y" * 251, "at most 250")):
        with pytest.raises(InputError, match=rf"object_id .*{message}.*in the catalog"):
            write_ecotaxa(path, make_catalog(tmp_path, [object_id]), make_names([object_id], ["a"]))
    twice = make_catalog(tmp_path, ["a", "b"], ecotaxa_id=["x", "x"], path=["i.png", "i.png"])
    with pytest.raises(InputError, match=r"object_id x, img_file_name i\.png is in two rows"):
        write_ecotaxa(path, twice, make_names(["a"], ["c"]), image_names=True)
    samples = make_catalog(tmp_path, ["s1/x", "s2/x"], ecotaxa_id=["x", "x"], sample_id=["s1", "s2"])
    with pytest.raises(InputError, match="several objects have the id x, each in another sample"):
        write_ecotaxa(path, samples, make_names(["s1/x", "s2/x"], ["c", "d"]))
    assert not path.exists()


def test_an_object_of_another_sample_with_the_same_id_is_another_object(tmp_path, caplog):
    catalog = make_catalog(
        tmp_path,
        *(["s1/x", "s2/x"],),
        ecotaxa_id=["x", "x"],
        sample_id=["s1", "s2"],
        annotation_status=["validated", "predicted"],
    )
    path = tmp_path / "ecotaxa.tsv"
    counts = write_ecotaxa(path, catalog, make_names(["s2/x"], ["c"]))
    assert (counts.n_rows, counts.n_validated, counts.n_unnamed) == (1, 0, 1)  # it is not the one that is validated
    assert check_table(path, is_update=True)[0]["object_id"] == "x"
    assert "also ids of objects in other samples" in caplog.text


def test_images_that_ecotaxa_would_not_find_are_refused(tmp_path):
    far = make_catalog(tmp_path / "far", ["a"])
    with pytest.raises(InputError, match=r"are not below the folder of the table.*--copy-images"):
        write_ecotaxa(tmp_path / "near" / "ecotaxa.tsv", far, make_names(["a"], ["c"]), image_names=True)
    with zipfile.ZipFile(tmp_path / "imgs.zip", "w") as archive:
        archive.writestr("imgs/a.png", b"")
    inside = ImageCatalog.from_rows({"object_id": ["a"], "path": ["imgs.zip/imgs/a.png"]}, root=tmp_path)
    with pytest.raises(InputError, match=r"are inside another file.*--copy-images"):
        write_ecotaxa(tmp_path / "ecotaxa.tsv", inside, make_names(["a"], ["c"]), image_names=True)
    assert write_ecotaxa(tmp_path / "ecotaxa.tsv", inside, make_names(["a"], ["c"])).n_rows == 1


def test_the_output_has_a_name_that_ecotaxa_finds_and_is_not_overwritten(tmp_path):
    arguments = (make_catalog(tmp_path), make_names())
    for name, message in (("names.tsv", "starts with ecotaxa"), ("ecotaxa.csv", r"ends in \.tsv")):
        with pytest.raises(OutputError, match=message):
            write_ecotaxa(tmp_path / name, *arguments)
    write_ecotaxa(tmp_path / "ecotaxa.tsv", *arguments)
    with pytest.raises(OutputError, match="exists already"):
        write_ecotaxa(tmp_path / "ecotaxa.tsv", *arguments)


# ------------------------------------------------------------------------------------------ round trips

LETTERS = "aB7é.ß魚🦐 \"'`,;|>()#%=+-\\/&\u00a0\u0301"
TEXT = st.text(LETTERS, min_size=1, max_size=8).map(lambda text: f"x{text}y")  # no outer blanks, never na
PART = st.text(LETTERS.replace(" ", "").replace("\u00a0", ""), min_size=3, max_size=9)
NAME = st.one_of(PART, TEXT, st.builds("{}<{}".format, PART, TEXT))
STATUS_OF = st.sampled_from(["", "predicted", "validated", "dubious", "refused"])
ROWS = st.lists(st.tuples(TEXT, NAME, STATUS_OF), min_size=1, max_size=4, unique_by=lambda row: row[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@pytest.mark.parametrize("n_examples", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_what_is_written_is_read_as_it_was(folder, n_examples):
    settings(max_examples=n_examples)(given(ROWS, st.booleans())(check_round_trip))(folder)


def check_round_trip(folder, rows, image_names):
    rows.append(("last", "Calanus", "predicted"))
    ids = [row[0] for row in rows]
    names = make_names(ids, ["unknown" if status == "refused" else label for _, label, status in rows])
    paths = [str(folder / f"{number}.png") for number in range(len(rows))]
    statuses = [None if status == "refused" else status for _, _, status in rows]
    catalog = ImageCatalog(pd.DataFrame({"object_id": ids, "path": paths, "annotation_status": statuses}))
    path = folder / "ecotaxa_names.tsv"
    counts = write_ecotaxa(path, catalog, names, image_names=image_names, overwrite=True)
    expected = [
        {"object_id": object_id, "img_file_name": f"{number}.png", CATEGORY: label, STATUS: "predicted"}
        for number, (object_id, label, status) in enumerate(rows)
        if status in ("", "predicted")
    ]
    if not image_names:
        for row in expected:
            del row["img_file_name"]
    assert check_table(path, is_update=not image_names) == expected
    assert counts.n_rows == len(expected)


def test_another_library_reads_and_accepts_it(tmp_path):
    archive = pytest.importorskip("pyecotaxa.archive", reason="pyecotaxa is not installed")
    ids, labels = ["007", "é 3", 'a "b"'], ["Calanus<Calanidae", "Méduse", "12"]
    folder = tmp_path / "bundle"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((4, 5), number, dtype=np.uint8)).save(folder / f"{number}.png")
    write_ecotaxa(folder / "ecotaxa_names.tsv", make_catalog(folder, ids), make_names(ids, labels), image_names=True)
    frame = archive.read_tsv(folder / "ecotaxa_names.tsv")
    assert frame["object_id"].tolist() == ids
    assert frame["img_file_name"].tolist() == ["0.png", "1.png", "2.png"]
    assert frame[CATEGORY].tolist() == labels
    assert set(frame[STATUS]) == {"predicted"}
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as bundle:
        for path in folder.iterdir():
            bundle.write(path, path.name)
    with archive.Archive(tmp_path / "bundle.zip") as opened:
        opened.validate()


@pytest.mark.skipif(not hasattr(reader, "read"), reason="no reader")
def test_our_own_reader_finds_the_names_again(tmp_path):
    ids, labels = ["007", "é 3", "NaN-1"], ["Calanus<Calanidae", "Méduse", "NA.1"]
    for number in range(3):
        Image.fromarray(np.full((4, 5), number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    write_ecotaxa(
        tmp_path / "ecotaxa_names.tsv", make_catalog(tmp_path, ids), make_names(ids, labels), image_names=True
    )
    assert set(read_source(tmp_path, source_format="ecotaxa").labels) == {None}  # nobody has validated them
    catalog = read_source(tmp_path, source_format="ecotaxa", status="predicted")
    assert catalog.labels == labels
    assert catalog.frame["ecotaxa_id"].tolist() == ids
    assert set(catalog.frame["annotation_status"]) == {"predicted"}
    assert catalog.frame["img_file_name"].tolist() == ["0.png", "1.png", "2.png"]
    again = write_ecotaxa(
        tmp_path / "ecotaxa_names.tsv", catalog, catalog.frame[["object_id", "label"]], image_names=True, overwrite=True
    )
    assert again.n_rows == 3
    with (tmp_path / "ecotaxa_names.tsv").open(encoding="utf-8-sig", newline="") as file:
        assert [row[2] for row in csv.reader(file, delimiter="\t")][2:] == labels
