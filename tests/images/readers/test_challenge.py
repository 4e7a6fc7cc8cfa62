"""Challenge sets in every layout."""

import gzip
import io
import logging
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.preparation import open_image
from plankton_embed.images.readers.challenge import recognize
from plankton_embed.images.readers.source import read_source

IDS = ["32756761", "32756762", "32756763", "32756764", "32756765"]
DATE = "2013-09-19"
META = """\
objid,projid,id,status,latitude,longitude,objdate,objtime,depth_min,depth_max,unique_name,lineage,level1,level2
32756761,133,9,V,43.685,7.3155,2013-09-19,09:05:00,0,75.5,Copepoda<Maxillopoda,living>Crustacea>Copepoda,copepods,Calanoida
32756762,133,9,P,43.685,7.3155,20130919,0905,0,75.5,dead<Copepoda,living>Crustacea>Copepoda>dead,copepods,
32756763,133,9,V,-43.5,-7,2013-09-20,235959,,,"a, b",not-living>detritus,NA,detritus
32756764,133,9,,,,,,,,é,,copepods,"a, b"
32756765,133,9,D,1,2,2013-09-21,,5,6,x,y,detritus,detritus
"""
FEATURES = """\
objid,area,mean,perim.
32756763,300,3.5,
32756761,100,1.5,-7
32756765,500,5.5,1e3
32756764,400,,NA
"""


def picture(objid):
    """Grey, with the object's number in every pixel."""
    return np.full((4, 6), int(objid) % 200, dtype=np.uint8)


def png(objid):
    out = io.BytesIO()
    Image.fromarray(picture(objid)).save(out, "png")
    return out.getvalue()


def put_images(folder, names, kind):
    """Write pictures by their path below the folder, into imgs.zip or as files."""
    if kind == "zip":
        with zipfile.ZipFile(folder / "imgs.zip", "w") as archive:
            for name, objid in names.items():
                archive.writestr(name, png(objid))
        return
    for name, objid in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(objid))


@pytest.fixture(params=["zip", "folder"])
def flowcam(tmp_path, request):
    """A set as the FlowCam one: images beside meta.csv and features."""
    put_images(tmp_path, {f"imgs/{objid}.png": objid for objid in IDS}, request.param)
    (tmp_path / "meta.csv").write_text(META, encoding="utf-8")
    (tmp_path / "features_native.csv").write_text(FEATURES)
    return tmp_path


def column(catalog, name):
    values = catalog.frame[name]
    return [value if known else None for value, known in zip(values, values.notna(), strict=True)]


def test_everything_of_the_flowcam_set_is_read(flowcam, caplog):
    with caplog.at_level(logging.WARNING):
        catalog = read_source(flowcam, status="validated,dubious,empty")
    assert "dropped 1 of 5 rows, because they have no level2" in caplog.text
    assert "features_native.csv: 1 objects have no row" in caplog.text
    kept = [IDS[0], *IDS[2:]]
    assert column(catalog, "object_id") == kept
    assert catalog.labels == ["Calanoida", "detritus", "a, b", "detritus"]
    for path, objid in zip(catalog.paths, kept, strict=True):
        assert np.array_equal(np.asarray(open_image(path)), picture(objid))
    assert column(catalog, "latitude") == [43.685, -43.5, None, 1]
    assert column(catalog, "longitude") == [7.3155, -7, None, 2]
    assert column(catalog, "depth_max") == [75.5, None, None, 6]
    assert column(catalog, "time") == ["2013-09-19T09:05:00Z", "2013-09-20T23:59:59Z", None, "2013-09-21"]
    assert column(catalog, "annotation_status") == ["validated", "validated", None, "dubious"]
    assert column(catalog, "lineage") == ["living>Crustacea>Copepoda", "not-living>detritus", None, "y"]
    assert list(catalog.features) == ["area", "mean", "perim."]
    expected = [[100, 1.5, -7], [300, 3.5, np.nan], [400, np.nan, np.nan], [500, 5.5, 1000]]
    assert np.array_equal(catalog.features.to_numpy(), expected, equal_nan=True)


def test_the_catalog_is_saved_and_read_again(flowcam):
    catalog = read_source(flowcam / "meta.csv")
    again = ImageCatalog.load(catalog.save(flowcam / "catalog.csv"))
    assert again.paths == catalog.paths
    assert again.labels == catalog.labels
    pd.testing.assert_frame_equal(again.features, catalog.features)


def test_labels_are_validated_and_numbers_of_nines_are_missing(flowcam, caplog):
    catalog = read_source(flowcam)
    assert catalog.labels == ["Calanoida", "detritus", None, None]
    assert column(catalog, "unvalidated_label") == [None, None, "a, b", "detritus"]
    assert "2 of 4 images have one; the names of 2 other rows (1 empty, 1 dubious)" in caplog.text
    (flowcam / "meta.csv").write_text(META.replace("75.5", "999999").replace(",5,6,", ",6,5,"), encoding="utf-8")
    (flowcam / "features_native.csv").write_text(FEATURES.replace("perim.", "bx"))
    catalog = read_source(flowcam)
    assert column(catalog, "depth_max") == [None, None, None, 5]
    assert "depth_max: expected a measured value; found '999999'" in caplog.text
    assert "depth_min: expected the smaller of the two depths; found '6'" in caplog.text
    assert list(catalog.features) == ["area", "mean"]
    assert column(catalog, "native_bx") == [-7, None, None, 1000]
    with pytest.raises(SettingError, match=r"status: expected one or more of validated, .*; found 'sure'"):
        read_source(flowcam, status="sure")


def test_the_class_is_of_the_column_requested(flowcam):
    every = "validated,predicted,dubious,empty"
    assert read_source(flowcam, label_column="level1", status=every).labels == ["copepods"] * 3 + ["detritus"]
    names = read_source(flowcam, label_column="unique_name", status=every).labels
    assert names == ["Copepoda<Maxillopoda", "dead<Copepoda", "a, b", "é", "x"]
    with pytest.raises(
        SettingError, match=r"label_column: .* has classes in level2, level1, unique_name; found 'level3'"
    ):
        read_source(flowcam, label_column="level3")


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_a_set_of_class_folders_and_taxa(tmp_path, kind):
    classes = dict(zip(IDS, ["Copepoda", "Copepoda", "detritus", "part<Crustacea", "detritus"], strict=True))
    names = {f"imgs/{taxon.replace('<', '_')}/{objid}.jpg": objid for objid, taxon in classes.items()}
    put_images(tmp_path, names | {"imgs/._32756761.jpg": "1"}, kind)
    rows = "".join(f"{objid},{taxon},living>{taxon}\n" for objid, taxon in reversed(classes.items()))
    (tmp_path / "taxa.csv.gz").write_bytes(gzip.compress(f"objid,taxon,lineage\n{rows}".encode()))
    for name, factor in (("native", 1), ("skimage", 10)):
        table = "".join(f"{objid},{factor * k},{k}\n" for k, objid in enumerate(IDS))
        text = f"objid,area,only_{name}\n{table}"
        (tmp_path / f"features_{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    catalog = read_source(tmp_path)
    assert catalog.labels == [*classes.values()][::-1]
    assert column(catalog, "lineage") == [f"living>{taxon}" for taxon in catalog.labels]
    assert list(catalog.features) == ["native_area", "only_native", "skimage_area", "only_skimage"]
    assert catalog.features.to_numpy()[:, [0, 2]].tolist() == [[k, 10 * k] for k in (4, 3, 2, 1, 0)]
    for path, objid in zip(catalog.paths, IDS[::-1], strict=True):
        assert np.array_equal(np.asarray(open_image(path)), picture(objid))


def test_a_set_with_its_own_split(tmp_path):
    put_images(tmp_path, {f"imgs/{objid}.png": objid for objid in IDS[:3]}, "folder")
    header = "objid,taxon_level1,lineage_level1,taxon_level2,plankton,set,img_path\n"
    rows = [
        f"{objid},one,a>one,two,TRUE,{split},imgs/" for objid, split in zip(IDS, ["train", "val", "test"], strict=False)
    ]
    (tmp_path / "taxa.csv").write_text(header + "\n".join(rows) + "\n\n")
    catalog = read_source(tmp_path)
    assert column(catalog, "split") == ["train", "val", "test"]
    assert catalog.labels == ["two"] * 3
    assert column(catalog, "lineage") == ["a>one"] * 3
    assert catalog.features.empty
    assert read_source(tmp_path, label_column="taxon_level1").labels == ["one"] * 3


def test_other_folders_are_no_challenge_sets(tmp_path):
    assert not recognize(tmp_path, ["meta.csv"])
    (tmp_path / "imgs").mkdir()
    assert recognize(tmp_path, ["meta.csv"])
    assert recognize(tmp_path / "taxa.csv.gz", ["taxa.csv.gz"])
    assert not recognize(tmp_path, ["sub/meta.csv", "other.csv"])
    assert not recognize(tmp_path / "other.csv", ["other.csv"])


def change(flowcam, old, new, name="meta.csv"):
    text = (flowcam / name).read_text(encoding="utf-8")
    assert old in text
    (flowcam / name).write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "old", "new", "message", "n_good"),
    [
        ("meta.csv", "32756765,", "32756763,", "row 6, column objid: expected .* once; found 32756763 again", 3),
        ("meta.csv", "32756765,", ",", "row 6, column objid: expected the id of an object; found an empty cell", 3),
        ("meta.csv", "32756765,", "99,", r"row 6, column objid: expected an image 99\.jpg in imgs.*; found none", 3),
        ("features_native.csv", "32756765,", "32756761,", "native.csv, row 4, column objid: .* 32756761 again", 4),
    ],
)  # fmt: skip
def test_faulty_rows_are_reported_or_ignored(flowcam, name, old, new, message, n_good):
    change(flowcam, old, new, name)
    with pytest.raises(InputError, match=message):
        read_source(flowcam)
    good = read_source(flowcam, keep_going=True)
    assert len(good) == n_good
    assert good.frame["object_id"].is_unique


@pytest.mark.parametrize(
    ("name", "old", "new", "message", "column", "left"),
    [
        ("meta.csv", "43.685,7.3155,2013", "93.685,7.3155,2013", "row 2, column latitude: .*93.685", "latitude", None),
        ("meta.csv", "-43.5,-7", "-43.5,7°W", "row 4, column longitude: .*-180 to 180; found '7°W'", "longitude", None),
        ("meta.csv", "0,75.5,Cop", "0,deep,Cop", "row 2, column depth_max: .* found 'deep'", "depth_max", None),
        ("meta.csv", "2013-09-20", "2013-09-31", "row 4, column objdate: .*-31.; .* no time", "time", None),
        ("meta.csv", "2013-09-20", "20.9.2013", "row 4, column objdate", "time", None),
        ("meta.csv", "09:05:00", "9 h", "row 2, column objtime: .* HHMMSS; found '9 h'; .* its date", "time", DATE),
        ("features_native.csv", "500,5.5", "500,wide", "native.csv, row 4, .*'wide'; .* empty", "feature_mean", None),
    ],
)  # fmt: skip
def test_a_wrong_cell_costs_itself_alone(flowcam, caplog, name, old, new, message, column, left):
    whole = read_source(flowcam).frame
    change(flowcam, old, new, name)
    frame = read_source(flowcam).frame
    assert re.search(f"kept: .*{message}", caplog.text)
    differs = frame[column].astype(object).ne(whole[column]) & whole[column].notna()
    assert differs.sum() == 1
    value = frame.loc[differs, column].iloc[0]
    assert value == left if left else pd.isna(value)
    pd.testing.assert_frame_equal(frame.drop(columns=column), whole.drop(columns=column))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("meta.csv", "objid", "id_of", "expected a column objid; found id_of, projid"),
        ("meta.csv", "unique_name,lineage,level1,level2", "a,b,c,d", "expected a column with classes, level2, level1"),
        ("meta.csv", "133,9,V", "133,9,V,V", "meta.csv: expected 14 cells a row, as in the header; found 15 in row 2"),
        ("features_native.csv", "327", "99", "expected features of the set's objects; found none"),
        ("meta.csv", "\n327", "\n99", "expected images named 9956761.jpg and so on, by objid; found none"),
    ],
)
def test_what_makes_a_set_unreadable_is_reported(flowcam, name, old, new, message):
    change(flowcam, old, new, name)
    if name == "meta.csv":
        (flowcam / "features_native.csv").unlink()
    with pytest.raises(InputError, match=message):
        read_source(flowcam)


def test_files_beside_is_counted(flowcam, caplog):
    change(flowcam, "32756765,133", "99,133")
    put_images(flowcam, {f"imgs/{objid}.png": objid for objid in [*IDS, "99"]}, "zip")
    (flowcam / "features_more.csv").write_text("objid,name,only\n32756761,a,1\n32756763,b,3\n")
    with caplog.at_level(logging.WARNING):
        catalog = read_source(flowcam)
    assert "ignored 1 images that are not in meta.csv" in caplog.text
    assert "features_native.csv: 1 rows do not belong to an object" in caplog.text
    assert "ignored the column name, because it holds text" in caplog.text
    assert list(catalog.features) == ["only", "area", "mean", "perim."]
    assert column(catalog, "feature_only") == [1, 3, None, None]


def test_tables_as_spreadsheets_save_them(flowcam):
    (flowcam / "features_native.csv").unlink(missing_ok=True)
    (flowcam / "features_native.csv.gz").unlink(missing_ok=True)
    meta = META.replace("detritus", "détritus µ")
    wanted = None
    for encoding, line_end in (("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("latin-1", "\r"), ("utf-16", "\r\n")):
        (flowcam / "meta.csv").write_bytes(meta.replace("\n", line_end).encode(encoding))
        frame = read_source(flowcam).frame
        wanted = frame if wanted is None else wanted
        assert frame.equals(wanted)
        assert "détritus µ" in set(frame["label"])
    (flowcam / "meta.csv").write_bytes(meta.encode("utf-16-le"))
    with pytest.raises(
        InputError, match=r"meta\.csv cannot be read as CSV: expected text .* zero byte at 1; save it as UTF-8"
    ):
        read_source(flowcam)


def test_commas_in_a_table_with_commas_and_rows_that_a_quote_takes_in_are_reported(tmp_path, caplog):
    put_images(tmp_path, {f"imgs/{objid}.png": objid for objid in IDS[:3]}, "folder")
    meta = "objid,level2,latitude\n" + "".join(f"{objid},a,45.5\n" for objid in IDS[:3])
    (tmp_path / "meta.csv").write_text(meta)
    (tmp_path / "features_x.csv").write_text(f'objid,area\n{IDS[0]},"1,234"\n{IDS[1]},2\n{IDS[2]},3\n')
    assert column(read_source(tmp_path), "feature_area") == [None, 2, 3]
    assert "row 2, column area: expected a number; found '1,234'; the cell is read as empty" in caplog.text
    (tmp_path / "meta.csv").write_text(
        meta.replace(f"{IDS[1]},a", f'{IDS[1]},"a').replace(f"{IDS[2]},a", f'{IDS[2]},a"')
    )
    with pytest.raises(InputError, match=r"meta\.csv: row 3: .* found a quote that takes in 2 lines"):
        read_source(tmp_path)


def test_decimal_commas_are_read_and_infinite_numbers_are_gaps(tmp_path):
    put_images(tmp_path, {f"imgs/{objid}.png": objid for objid in IDS[:2]}, "folder")
    (tmp_path / "meta.csv").write_text(f"objid;level2;latitude\n{IDS[0]};a;45,5\n{IDS[1]};b;-7,25\n")
    (tmp_path / "features_x.csv").write_text(f"objid;area;mean\n{IDS[0]};1,5;inf\n{IDS[1]};;2\n")
    (tmp_path / "features_y.csv").mkdir()
    catalog = read_source(tmp_path)
    assert column(catalog, "latitude") == [45.5, -7.25]
    np.testing.assert_array_equal(catalog.features[["area", "mean"]], [[1.5, np.nan], [np.nan, 2]])


def test_a_folder_that_links_to_itself_is_read_once(tmp_path):
    put_images(tmp_path, {f"imgs/a/{objid}.png": objid for objid in IDS}, "folder")
    (tmp_path / "imgs" / "a" / "loop").symlink_to(tmp_path / "imgs")
    (tmp_path / "meta.csv").write_text(META, encoding="utf-8")
    kept = [objid for objid in IDS if objid != IDS[1]]  # has no class
    assert read_source(tmp_path).paths == [str(tmp_path / "imgs" / "a" / f"{objid}.png") for objid in kept]


def test_two_images_of_an_object_are_reported(tmp_path):
    put_images(tmp_path, {f"imgs/a/{objid}.png": objid for objid in IDS} | {"imgs/b/32756763.jpg": IDS[0]}, "zip")
    (tmp_path / "meta.csv").write_text(META, encoding="utf-8")
    with pytest.raises(
        InputError, match=r"imgs\.zip: expected one image per object; found a second image, imgs/b/32756763"
    ):
        read_source(tmp_path)


def test_missing_and_broken_files_are_reported(flowcam):
    (flowcam / "features_native.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"features_native\.csv\.gz cannot be read as CSV: Not a gzipped file"):
        (flowcam / "features_native.csv").rename(flowcam / "kept")
        read_source(flowcam)
    (flowcam / "features_native.csv.gz").write_bytes(gzip.compress(FEATURES.encode())[:-12])
    with pytest.raises(InputError, match=r"features_native\.csv\.gz cannot be read as CSV"):
        read_source(flowcam)
    (flowcam / "features_native.csv.gz").write_bytes(gzip.compress(FEATURES.encode()))
    (flowcam / "kept").rename(flowcam / "features_native.csv")
    with pytest.raises(InputError, match=r"expected one table features_native; found one with \.gz and one without"):
        read_source(flowcam)
    (flowcam / "features_more.csv").write_text("objid,size\n")
    (flowcam / "features_native.csv.gz").unlink()
    with pytest.raises(InputError, match=r"features_more\.csv: expected features of the set's objects; found no rows"):
        read_source(flowcam)
    (flowcam / "taxa.csv").write_text("objid,taxon\n")
    with pytest.raises(InputError, match=r"expected one of meta.csv.*; found meta.csv, taxa.csv"):
        read_source(flowcam)
    (flowcam / "imgs.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"imgs\.zip cannot be read: File is not a zip file"):
        read_source(flowcam / "meta.csv")


def test_a_set_without_classes_is_reported(flowcam):
    change(flowcam, "Calanoida", "")
    change(flowcam, "detritus", "")
    change(flowcam, '"a, b"\n', "NA\n")
    with pytest.raises(InputError, match="expected classes in the column level2; found none; choose another column"):
        read_source(flowcam)
