"""Tables of EcoTaxa that people and programs really write: what can be read is, and what was changed is reported."""

import logging
import zipfile

import numpy as np
import pytest
from PIL import Image

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.source import read_source, recognize_format

NOTES = "img_file_name\tobject_id\tsample_comment\n[t]\t[t]\t[t]\n"


def write(folder, text, images, name="ecotaxa_tow.tsv", encoding="utf-8"):
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        Image.new("L", (6, 5), 99).save(folder / image)
    (folder / name).write_bytes(text.encode(encoding))
    return folder


def write_rows(folder, columns, rows, **options):
    """Write a table of objects o0, o1, … with one image each; `rows` are the cells of the other columns."""
    lines = ["\t".join(["img_file_name", "object_id", *columns])]
    lines += ["\t".join([f"o{number}.png", f"o{number}", *row]) for number, row in enumerate(rows)]
    images = [f"o{number}.png" for number in range(len(rows))]
    return write(folder, "\n".join(lines) + "\n", images, **options)


def values(catalog, column):
    found = catalog.frame[column]
    return [value if known else None for value, known in zip(found, found.notna(), strict=True)]


# ---------------------------------------------------------------------------------------------- quotes

OPEN_QUOTE = ["calm", '"big net', "calm", "calm", '5" mesh', "calm"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (OPEN_QUOTE, OPEN_QUOTE),
        (["calm", '"big net', "calm"], ["calm", '"big net', "calm"]),
        (['"calm"', '"a ""b"" c"', '"open', '"calm"'], ["calm", 'a "b" c', '"open', "calm"]),
    ],
)  # fmt: skip
def test_a_stray_quote_costs_no_object(tmp_path, caplog, cells, expected):
    rows = "".join(f"v{number}.png\tv{number}\t{cell}\n" for number, cell in enumerate(cells))
    folder = write(tmp_path / "in", NOTES + rows, [f"v{number}.png" for number in range(len(cells))])
    for ending in ("\n", "\r\n"):
        (folder / "ecotaxa_tow.tsv").write_bytes((NOTES + rows).replace("\n", ending).encode())
        assert values(read_source(folder), "sample_comment") == expected
    line = next(number for number, cell in enumerate(cells, 3) if cell.count('"') % 2)
    assert (
        f"ecotaxa_tow.tsv, row {line}: expected quotes in pairs around whole cells; found a stray quote" in caplog.text
    )


@pytest.mark.parametrize("types", [[], ["[t]\t[t]\t[t]\t[f]"]])
@pytest.mark.parametrize("stray", ['"14.5', '14.5"'])
def test_a_stray_quote_costs_no_number(tmp_path, caplog, types, stray):
    cells = ["12.5", "13.5", stray, "15.5"]
    rows = [f"o{n}.png\to{n}\ts1\t{cell}" for n, cell in enumerate(cells)]
    text = "\n".join(["img_file_name\tobject_id\tsample_id\tobject_area", *types, *rows]) + "\n"
    catalog = read_source(write(tmp_path, text, [f"o{n}.png" for n in range(4)]))
    assert catalog.features["area"].tolist() == [12.5, 13.5, 14.5, 15.5]
    line = 4 + len(types)
    assert (
        f"row {line}, column object_area: expected quotes in pairs around whole cells; found '{stray}'" in caplog.text
    )


def test_a_stray_quote_makes_no_other_sample_object_or_class(tmp_path, caplog):
    columns = ["sample_id", "object_annotation_category"]
    rows = [["s1", "Copepoda"], ['"s1', "Copepoda"], ["s1", '"Copepoda'], ['s1"', "Copepoda"]]
    catalog = read_source(write_rows(tmp_path, columns, rows))
    assert values(catalog, "sample_id") == ["s1"] * 4
    assert catalog.labels == ["Copepoda"] * 4
    assert "row 3, column sample_id: expected quotes in pairs around whole cells; found '\"s1'" in caplog.text


def test_the_seconds_of_a_position_are_no_stray_quote(tmp_path):
    catalog = read_source(write_rows(tmp_path, ["object_lat"], [["43°30'36\""], ['"43.5'], ["43.5"]]))
    assert catalog.frame["latitude"].tolist() == pytest.approx([43.51, 43.5, 43.5])


@pytest.mark.parametrize("header", ['"sample_id\tobject_area', 'sample_id"\tobject_area', 'sample_id\tobject_area"'])
def test_a_stray_quote_in_the_header_costs_no_column(tmp_path, caplog, header):
    rows = "".join(f"o{n}.png\to{n}\ts1\t{n}.5\n" for n in range(3))
    text = f"img_file_name\tobject_id\t{header}\n{rows}"
    catalog = read_source(write(tmp_path, text, [f"o{n}.png" for n in range(3)]))
    assert values(catalog, "sample_id") == ["s1"] * 3
    assert catalog.features["area"].tolist() == [0.5, 1.5, 2.5]
    assert "row 1: expected quotes in pairs around whole cells; found a stray quote; the names of the" in caplog.text


def test_line_ends_and_tabs_inside_good_quotes_stay(tmp_path, caplog):
    text = NOTES + 'a.png\ta\t"two\nlines\tand a tab"\nb.png\tb\t"x"\n'
    assert values(read_source(write(tmp_path, text, ["a.png", "b.png"])), "sample_comment")[1] == "x"
    assert caplog.text == ""


def test_a_cell_that_holds_rows_is_a_fault_where_other_cells_have_line_ends(tmp_path):
    text = NOTES.replace("object_id", "object_id\tsample_a").replace("]\t", "]\t[t]\t", 1)
    text += 'a.png\ta\t"two\nlines"\ty\nb.png\tb\t"big\ty\nc.png\tc\tx\ty\nd.png\td\t5" x\ty\n'
    folder = write(tmp_path, text, [f"{name}.png" for name in "abcd"])
    with pytest.raises(
        InputError, match=r"ecotaxa_tow\.tsv, row 5: expected cells that do not contain other rows; found a cell"
    ):
        read_source(folder)


@pytest.mark.parametrize("header", ["image_file_name\tobject_id\tsample_id", "[t]\t[t]\t[t]"])
def test_a_table_beside_images_that_lacks_a_column_is_not_ignored(tmp_path, header):
    folder = write_rows(tmp_path, ["sample_id"], [["s"]] * 2)
    table = folder / "ecotaxa_tow.tsv"
    table.write_text("\n".join([header, *table.read_text().split("\n")[1:]]))
    with pytest.raises(InputError, match=r"ecotaxa_tow\.tsv: expected a table of EcoTaxa; .*found .*no img_file_name"):
        read_source(folder)


def test_images_that_no_row_names_are_counted(tmp_path, caplog):
    folder = write(tmp_path / "in", NOTES + "a.png\ta\tx\n", ["a.png", "b.png", "c.png"])
    faults = Faults()
    assert len(read_source(folder, faults=faults)) == 1
    (fault,) = faults.found
    assert fault.kept
    assert f"expected images that the tables list; found {folder}/b.png and 1 more, which no row lists" in caplog.text
    caplog.clear()
    assert len(read_source(folder / "ecotaxa_tow.tsv")) == 1
    assert "b.png and 1 more" in caplog.text
    write(folder, NOTES + "b.png\tb\tx\nc.png\tc\tx\n", [], name="ecotaxa_b.tsv")
    caplog.clear()
    assert len(read_source(folder)) == 3
    assert len(read_source(folder / "ecotaxa_tow.tsv")) == 1  # the other table names them
    assert caplog.text == ""


# ---------------------------------------------------------------------------------------------- types and rows


def test_declared_types_count_for_free_object_columns_alone(tmp_path, caplog):
    header = "object_id\timg_file_name\tacq_id\tacq_lut_filter\tobject_lat\tsample_x\tobject_area\n"
    text = header + "[t]\t[t]\t\t[f]\t[n]\t[z]\t[f]\no1\ta.jpg\tx\tno\t45.5\t3\t7\n"
    folder = write(tmp_path / "in", text, ["a.jpg"])
    catalog = read_source(folder)
    row = catalog.frame.iloc[0]
    assert (row["acq_id"], row["acq_lut_filter"], row["latitude"], row["sample_x"]) == ("x", "no", 45.5, 3)
    assert list(catalog.features) == ["area"]
    for message in (
        "row 2, column acq_id: expected [t] or [f]; found nothing; the column is read as its own type",
        "row 3, column acq_lut_filter: expected numbers, as [f] declares; found 'no'; the column is read as text",
        "row 2, column object_lat: expected [t] or [f]; found '[n]'",
    ):
        assert message in caplog.text
    for kind in ("[n]", ""):
        (folder / "ecotaxa_tow.tsv").write_text(text.replace("[z]\t[f]", f"[z]\t{kind}"))
        with pytest.raises(InputError, match=r"row 2, column object_area: expected \[t\] or \[f\]"):
            read_source(folder)
        assert read_source(folder, keep_going=True).features.empty


@pytest.mark.parametrize("ending", ["\n", ""])
def test_an_empty_last_cell_may_be_missing(tmp_path, caplog, ending):
    header = "object_id\timg_file_name\tobject_annotation_category\tobject_annotation_status\tsample_comment\n"
    row = "\ta.jpg\tdetritus\tvalidated"
    folder = write(tmp_path, f"{header}[t]\t[t]\t[t]\t[t]\t[t]\no1{row}\no2{row}{ending}", ["a.jpg"])
    assert read_source(folder).labels == ["detritus"] * 2
    assert (
        "expected 5 values, as in the header; found 4; the last is read as empty (and 1 more such row)" in caplog.text
    )
    faults = Faults()
    read_source(folder, faults=faults)
    assert ("the file ends in this row: is it complete?" in faults.found[-1].found) == (ending == "")


# ---------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_degrees_and_minutes(tmp_path, encoding):
    rows = [
        ("43°00 0", "17°00 0"),
        ("-1°30 0", "-0°30 36"),
        ("43°30'S", "17°30.5' E"),
        ("45,5", "-17.25"),
        ("45.5 N", "7 W"),
    ]
    catalog = read_source(write_rows(tmp_path, ["object_lat", "object_lon"], rows, encoding=encoding))
    assert values(catalog, "latitude") == [43, -1.5, -43.5, 45.5, 45.5]
    assert values(catalog, "longitude") == pytest.approx([17, -0.51, 17 + 30.5 / 60, -17.25, -7])


@pytest.mark.parametrize(
    "value", ["north", "95", "43°75 0", "-1°30 S", "1°30 E", "999999", "inf", "1°30 0 0", "43.5.1"]
)
def test_a_position_that_cannot_be_read_is_missing(tmp_path, caplog, value):
    catalog = read_source(write_rows(tmp_path, ["object_lat", "object_lon"], [("1", "2"), (value, "2")]))
    assert values(catalog, "latitude") == [1, None]
    assert f"row 3, column object_lat: expected a latitude, a number from -90 to 90 or degrees and minutes such as 43°30 0; found '{value}'; the cell is read as empty" in caplog.text  # noqa: E501  # fmt: skip


@pytest.mark.parametrize("nines", ["99999", "999999", "99999.0", "-9999999", "99999.99", "999999,0", "9.99999e5"])
@pytest.mark.parametrize("column", ["sample_tot_vol", "acq_sub_part", "object_depth_max", "process_pixel_size"])
def test_numbers_of_nines_are_missing(tmp_path, caplog, nines, column):
    catalog = read_source(write_rows(tmp_path, [column, "sample_id"], [("7", "a"), (nines, "b"), (nines, "b")]))
    name = {"object_depth_max": "depth_max"}.get(column, column)
    assert values(catalog, name) == [7, None, None]
    assert f"row 3, column {column}: expected a measured value; found '{nines}', a number of nines" in caplog.text
    assert caplog.text.count(f"column {column}: expected a measured value") == 1
    assert "(and 1 more such row)" in caplog.text


def test_a_tow_without_a_measured_volume_has_none(tmp_path):
    columns = ["sample_id", "sample_tot_vol", "acq_sub_part", "object_depth_min", "object_depth_max"]
    rows = [("tow_a", "25.0", "2", "0", "50")] * 4 + [("tow_b", "999999", "4", "0", "9999999")] * 4
    frame = read_source(write_rows(tmp_path, columns, rows)).frame
    one, other = frame[frame["sample_id"] == "tow_a"], frame[frame["sample_id"] == "tow_b"]
    assert (one["subsample_factor"] / one["volume"]).sum() == pytest.approx(0.32)
    assert other["volume"].isna().all()
    assert other["depth_max"].isna().all()


def test_depths_that_no_ocean_has_are_missing_and_turned_ones_are_reported(tmp_path, caplog):
    rows = [("0", "12001"), ("50", "10"), ("-9999", "10"), ("deep", "10911")]
    catalog = read_source(write_rows(tmp_path, ["object_depth_min", "object_depth_max"], rows))
    assert values(catalog, "depth_min") == [0, 50, None, None]
    assert values(catalog, "depth_max") == [None, 10, 10, 10911]
    assert "row 3, column object_depth_min: expected the smaller of the two depths; found '50'" in caplog.text
    assert "row 2, column object_depth_max: expected a depth in m, a number up to 12,000; found '12001'" in caplog.text


def test_features_of_nines_stay_and_are_reported(tmp_path, caplog):
    catalog = read_source(write_rows(tmp_path, ["object_mean", "object_area"], [("99999", "99999"), ("99999", "5e5")]))
    assert list(catalog.features["mean"]) == [99999, 99999]
    assert "column object_mean: expected measured values; found '99999' in 2 rows" in caplog.text
    assert "object_area" not in caplog.text


def test_places_on_the_scan_are_no_features(tmp_path):
    columns = [
        "object_area",
        "object_mean",
        "object_x",
        "object_y",
        "object_bx",
        "object_by",
        "object_xm",
        "object_width",
    ]
    rows = [(str(900 + n), str(12.5 + n), *[str(140 * n)] * 5, "41.5") for n in range(4)]
    catalog = read_source(write_rows(tmp_path, columns, rows))
    assert list(catalog.features) == ["area", "mean", "width"]
    assert values(catalog, "object_bx") == [0, 140, 280, 420]


# ---------------------------------------------------------------------------------------------- labels


def write_statuses(folder, statuses):
    columns = ["sample_id", "object_annotation_category", "object_annotation_status"]
    names = ["copepod", "medusa"]
    rows = [("tow_1", names[n % 2] if status is not None else "", status or "") for n, status in enumerate(statuses)]
    return write_rows(folder, columns, rows)


def test_labels_are_those_that_a_person_has_validated(tmp_path, caplog):
    statuses = ["validated"] * 6 + ["predicted"] * 4 + ["dubious"] * 2 + ["Discarded"] * 2 + [None] * 2
    folder = write_statuses(tmp_path / "in", statuses)
    catalog = read_source(folder)
    assert catalog.labels == ["copepod", "medusa"] * 3 + [None] * 10
    assert values(catalog, "unvalidated_label") == [None] * 6 + ["copepod", "medusa"] * 4 + [None] * 2
    assert values(catalog, "annotation_status")[6:14] == ["predicted"] * 4 + ["dubious"] * 2 + ["discarded"] * 2
    assert "6 of 16 images have one; the names of 8 other rows (4 predicted, 2 dubious, 2 discarded) are" in caplog.text
    assert "are in the column unvalidated_label; use more of them with --status" in caplog.text
    more = read_source(folder, status="validated, Predicted")
    assert sum(label is not None for label in more.labels) == 10
    assert read_source(folder, status=["dubious"]).labels[10:12] == ["copepod", "medusa"]
    again = tmp_path / "catalog.csv"
    catalog.save(again)
    assert values(read_source(again), "unvalidated_label") == values(catalog, "unvalidated_label")


def test_a_class_map_may_name_classes_that_are_not_validated(tmp_path):
    catalog = read_source(write_statuses(tmp_path, ["validated", "predicted"]))
    assert catalog.with_classes(class_map={"medusa": "jelly", "copepod": "crustacean"}).labels == ["crustacean", None]


def test_a_class_map_renames_names_that_are_not_validated_too(tmp_path):
    catalog = read_source(write_statuses(tmp_path, ["validated", "predicted", "validated", "predicted"]))
    assert values(catalog, "unvalidated_label") == [None, "medusa", None, "medusa"]
    renamed = catalog.with_classes(class_map={"medusa": "Hydrozoa"})
    assert renamed.labels == ["copepod", None, "copepod", None]
    assert values(renamed, "unvalidated_label") == [None, "Hydrozoa", None, "Hydrozoa"]
    dropped = catalog.with_classes(class_map={"medusa": ""})
    assert dropped.labels == renamed.labels and values(dropped, "unvalidated_label") == [None] * 4
    assert dropped.frame.dtypes.equals(catalog.frame.dtypes)


def test_an_empty_status_is_not_validated_and_no_column_keeps_all(tmp_path, caplog):
    columns = ["object_annotation_category", "object_annotation_status"]
    folder = write_rows(tmp_path / "in", columns, [("copepod", "validated"), ("medusa", "")])
    assert read_source(folder).labels == ["copepod", None]
    assert (
        "row 3, column object_annotation_status: expected a status, as there is a category; found nothing"
        in caplog.text
    )
    assert read_source(folder, status="validated,empty").labels == ["copepod", "medusa"]
    write(folder, "img_file_name\tobject_id\tobject_annotation_category\no0.png\tp\tegg\n", [], name="ecotaxa_b.tsv")
    assert set(read_source(folder).labels) == {"copepod", "egg", None}


def test_a_source_without_a_validated_row_is_read_with_a_hint(tmp_path, caplog):
    folder = write_statuses(tmp_path / "in", ["predicted"] * 3)
    assert read_source(folder).labels == [None] * 3
    assert "no image has one; the names of 3 other rows (3 predicted)" in caplog.text
    assert "use more of them with --status, such as --status validated,predicted" in caplog.text


def test_a_status_needs_a_source_that_has_one(tmp_path):
    folder = write_statuses(tmp_path / "in", ["validated"])
    for wrong in ("sure", "", "validated,"):
        with pytest.raises(SettingError, match=r"status: expected one or more of validated, .*; found '"):
            read_source(folder, status=wrong)
    (folder / "ecotaxa_tow.tsv").unlink()
    with pytest.raises(
        SettingError, match=r"status: it applies to the format ecotaxa and challenge; the source is .* folder"
    ):
        read_source(folder, status="validated")


def test_one_object_id_in_two_samples_is_two_objects(tmp_path, caplog):
    text = "img_file_name\tobject_id\tsample_id\n"
    text += "a.png\to\ts1\nb.png\to\ts2\nc.png\to\ts2\nd.png\tp\ts2\n"
    frame = read_source(write(tmp_path, text, [f"{name}.png" for name in "abcd"])).frame
    assert list(frame["object_id"]) == ["s1/o", "s2/o", "s2/o/1", "p"]
    assert list(frame["ecotaxa_id"]) == ["o", "o", "o", "p"]
    assert "found 1 in several samples, such as o in s1 and s2; these are different objects" in caplog.text


def test_one_name_under_two_parents_is_two_classes(tmp_path, caplog):
    columns = ["object_annotation_category", "object_annotation_hierarchy"]
    rows = [
        ("egg", "A>fish>egg"),
        ("egg", "A>squid>egg"),
        ("egg", ""),
        ("egg<squid", ""),
        ("mysid", "A>mysid"),
    ]
    assert read_source(write_rows(tmp_path, columns, rows)).labels == [
        "egg<fish",
        "egg<squid",
        "egg",
        "egg<squid",
        "mysid",
    ]
    assert "expected each class name under one parent, in one form; found others, which are read as the classes egg<fish, egg<squid" in caplog.text  # noqa: E501  # fmt: skip
    caplog.clear()
    assert read_source(write_rows(tmp_path, columns, rows[:1] + rows[4:])).labels == ["egg", "mysid"]
    assert "each class name" not in caplog.text


# ---------------------------------------------------------------------------------------------- ZIPs


def test_zips_inside_a_folder_or_a_zip_are_named(tmp_path, caplog):
    folder = write_rows(tmp_path / "in", ["object_area"], [("1",), ("2",)])
    packed = tmp_path / "zips" / "tow.zip"
    packed.parent.mkdir()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    assert recognize_format(packed.parent) == "ecotaxa"
    with pytest.raises(
        InputError, match=r"found tow\.zip with such tables; give it as a source of its own, or unpack it"
    ):
        read_source(packed.parent)
    outer = tmp_path / "outer.zip"
    with zipfile.ZipFile(outer, "w") as archive:
        archive.write(packed, "tow.zip")
    with pytest.raises(InputError, match=r"1 inner ZIPs, such as tow\.zip: unpack it and give these"):
        read_source(outer)
    packed.rename(folder / "tow.zip")
    assert len(read_source(folder)) == 2  # not four
    assert "expected tables outside of ZIPs; found tow.zip, not read" in caplog.text
    caplog.clear()
    with zipfile.ZipFile(outer, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    with caplog.at_level(logging.WARNING):
        assert len(read_source(outer)) == 2
    assert "expected tables and images outside of inner ZIPs; found tow.zip" in caplog.text


def test_many_rows_with_missing_numbers_are_one_warning(tmp_path, caplog):
    text = "img_file_name\tobject_id\tsample_tot_vol\tobject_lat\n"
    text += "".join(f"a.png\to{number}\t999999\tx\n" for number in range(20_000))
    catalog = read_source(write(tmp_path, text, ["a.png"]))
    assert np.isnan(catalog.frame.get("latitude", np.nan)).all()
    assert len(caplog.records) == 2
    assert "and 19999 more such rows" in caplog.text


def test_one_id_in_two_acquisitions_of_a_sample_is_two_objects(tmp_path, caplog):
    columns = ["object_id", "img_file_name", "sample_id", "acq_id"]
    rows = [("1", "a", "s1", "d1"), ("1", "b", "s1", "d2"), ("1", "c", "s1", "d2"), ("2", "d", "s1", "d1")]
    rows += [("1", "e", "s2", "d1"), ("3", "f", "s2", "d1")]
    text = "\n".join("\t".join(row) for row in [columns, *((o, f"{i}.png", s, a) for o, i, s, a in rows)]) + "\n"
    catalog = read_source(write(tmp_path, text, [f"{row[1]}.png" for row in rows]))
    assert values(catalog, "object_id") == ["s1/d1/1", "s1/d2/1", "s1/d2/1/1", "2", "s2/1", "3"]
    assert "found 1 in several acquisitions of one sample, such as 1 in d1 and d2; these are different" in caplog.text
    assert "found 1 in several samples, such as 1 in s1 and s2; these are different objects" in caplog.text


# ---------------------------------------------------------------------------------------------- signs of numbers


def test_a_comma_of_thousands_is_no_decimal_comma(tmp_path, caplog):
    columns = ["sample_tot_vol", "acq_sub_part", "object_area", "object_lat"]
    frame = read_source(
        write_rows(tmp_path, columns, [["1,250", "1", "1,200", "43.5"], ["900", "1", "900", "43.5"]])
    ).frame
    assert frame["volume"].tolist() == pytest.approx([np.nan, 900], nan_ok=True)
    assert frame["object_area"].tolist() == ["1,200", "900"]
    assert (
        "row 2, column sample_tot_vol: expected m³ of water, a number above 1e-9 and up to 1e6; found '1,250'"
        in caplog.text
    )
    assert "row 2, column object_area: expected numbers, as most cells are; found '1,200'; the column is" in caplog.text


def test_three_decimals_behind_commas_are_decimals_where_no_number_has_a_point(tmp_path):
    columns = ["sample_tot_vol", "acq_sub_part", "object_area"]
    catalog = read_source(write_rows(tmp_path, columns, [["1,250", "1", "12,5"], ["2,500", "1", "13"]]))
    assert catalog.frame["volume"].tolist() == [1.25, 2.5]
    assert catalog.features["area"].tolist() == [12.5, 13]


def test_a_column_of_numbers_that_becomes_text_is_reported(tmp_path, caplog):
    catalog = read_source(write_rows(tmp_path, ["object_area"], [["12.5"], ["13"], ["bad"]]))
    assert catalog.features.empty
    assert "row 4, column object_area: expected numbers, as most cells are; found 'bad'; the column is" in caplog.text


def test_categories_that_are_ids_alone_are_reported(tmp_path, caplog):
    columns = ["object_annotation_category", "object_annotation_category_id", "object_annotation_status"]
    rows = [["Copepoda", "25828", "validated"], ["", "25828", "validated"]]
    assert read_source(write_rows(tmp_path, columns, rows)).labels == ["Copepoda", None]
    assert "row 3, column object_annotation_category: expected the name of the category, as there is its" in caplog.text
