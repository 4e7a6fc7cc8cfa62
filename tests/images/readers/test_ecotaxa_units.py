"""Pixel sizes, volumes and the unit of sizes: by hand, for each instrument, and with the reason where there is none."""

import numpy as np
import pytest
from PIL import Image

from plankton_embed.analysis.body_size import measure_bodies, unit_size
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.source import read_source


def write(folder, columns, rows, size=(20, 30)):
    """Write a table of objects o0, o1, … with one image each."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(["img_file_name", "object_id", *columns])]
    for number, row in enumerate(rows):
        Image.new("L", size, 99).save(folder / f"o{number}.png")
        lines.append("\t".join([f"o{number}.png", f"o{number}", *map(str, row)]))
    (folder / "ecotaxa_a.tsv").write_text("\n".join(lines) + "\n")
    return folder


def column(catalog, name):
    return catalog.frame[name].tolist() if name in catalog.frame else None


def density(catalog):
    return (catalog.frame["subsample_factor"] / catalog.frame["volume"]).groupby(catalog.frame["sample_id"]).sum()


# ---------------------------------------------------------------------------------------------- pixels


def test_the_pixel_size_of_a_planktoscope(tmp_path, caplog):
    one = write(tmp_path / "one", ["object_mean", "process_pixel_size"], [(400, 0.53)] * 3)
    assert column(read_source(one), "pixel_size") == [0.53] * 3
    assert caplog.text == ""
    both = write(tmp_path / "both", ["object_area", "process_pixel", "process_pixel_size"], [(400, 0.73, 0.53)] * 3)
    assert column(read_source(both), "pixel_size") == [0.53] * 3
    assert "column process_pixel: expected the same pixel size as in another column; found 0.73 µm in 3 rows; 0.53 µm is used" in caplog.text  # noqa: E501  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("process_particle_pixel_size_mm", 10.6, "10600 µm"), ("process_pixel_size", 0.0106, "0.0106 µm")],
)
def test_a_pixel_size_that_no_instrument_has_is_left_out(tmp_path, caplog, name, value, message):
    catalog = read_source(write(tmp_path, [name], [(value,)] * 2))
    assert column(catalog, "pixel_size") is None
    expected = f"column {name}: expected pixels of 0.05 to 1000 µm; found {value} in 2 rows, which would be {message}"
    assert expected in caplog.text


# ---------------------------------------------------------------------------------------------- volumes

NET = ["sample_id", "acq_id", "sample_tot_vol", "acq_sub_part"]
SCOPE = ["sample_id", "acq_id", "acq_instrument", "acq_imaged_volume", "sample_concentrated_sample_volume"]
SCOPE += ["sample_total_volume", "sample_dilution_factor"]


def test_fractions_of_a_net_carry_their_own_factors(tmp_path):
    rows = [("tow_1", "d1", "100.0", 2)] * 4 + [("tow_1", "d2", "100.0", 16)] * 8
    assert density(read_source(write(tmp_path, NET, rows)))["tow_1"] == pytest.approx(1.36)


def test_volumes_and_factors_that_contradict_one_another_are_reported_at_once(tmp_path, caplog):
    rows = [("tow_1", "d1", 100, 2), ("tow_1", "d2", 90, 2), ("tow_2", "d1", 50, 2), ("tow_2", "d1", 50, 4)]
    faults = Faults()
    catalog = read_source(write(tmp_path, NET, rows), faults=faults)
    assert column(catalog, "volume") == [100, 90, 50, 50]
    assert column(catalog, "subsample_factor") == [2, 2, 2, 4]
    assert (faults.n_lost, faults.n_kept) == (0, 2)
    volume = "column sample_tot_vol: expected one volume in all rows of a sample_id; found several in 1, such as tow_1 (90, 100 m³)"  # noqa: E501  # fmt: skip
    assert volume in caplog.text
    factor = "column acq_sub_part: expected one factor in all rows of an acq_id; found several in 1, such as d1 (2, 4)"
    assert factor in caplog.text
    caplog.clear()
    scope = [("s", "a", "planktoscope", 2, 40, 60, ""), ("s", "a", "planktoscope", 2, 40, 70, "")]
    read_source(write(tmp_path / "scope", SCOPE, scope))
    assert "column sample_total_volume: expected one volume in all rows of a sample_id" in caplog.text


def test_volumes_that_cannot_be_empty_the_cell(tmp_path, caplog):
    rows = [("a", "x", 5e8, 2), ("b", "x", 1e-9, 2), ("c", "x", 1e-8, 2)]
    assert column(read_source(write(tmp_path, NET, rows)), "volume") == pytest.approx(
        [np.nan, np.nan, 1e-8], nan_ok=True
    )
    message = (
        "column sample_tot_vol: expected m³ of water, a number above 1e-9 and up to 1e6; found '500000000.0'; the cell"
    )
    assert message in caplog.text
    scope = [("s", "a", "planktoscope", 1e-4, 40, 60, ""), ("t", "a", "planktoscope", 2, 40, 6e12, "")]
    assert column(read_source(write(tmp_path / "scope", SCOPE, scope)), "volume") is None
    assert "row 2, column acq_imaged_volume: expected ml imaged, a number above 0.001" in caplog.text
    uvp = write(tmp_path / "uvp", ["sample_id", "acq_instrument", "acq_volimage"], [("s", "uvp5", 1.0)])
    assert np.isnan(column(read_source(uvp, images_per_sample=1e12), "volume")).all()
    assert "uvp: expected" not in caplog.text
    assert "/uvp, column volume: expected m³ of water per sample" in caplog.text


def test_a_volume_without_a_factor_is_none_and_a_factor_below_1_is_reported(tmp_path, caplog):
    catalog = read_source(write(tmp_path, NET, [("a", "x", 10, ""), ("b", "x", 10, 0.5), ("c", "x", "", 4)]))
    assert np.isnan(column(catalog, "volume")[0])
    assert column(catalog, "volume")[1] == 10
    assert column(catalog, "subsample_factor")[1:] == [0.5, 4]
    assert "column volume: expected acq_sub_part besides sample_tot_vol, for concentrations; found no value for 1 image, so" in caplog.text  # noqa: E501  # fmt: skip
    assert "row 3, column acq_sub_part: expected a sub-sampling factor of 1 or more; found '0.5'" in caplog.text


def test_the_sea_water_of_a_planktoscope(tmp_path):
    rows = [("s", "a", "PlanktoScope v2.5", 2.5, 40, 60, "1")] * 3 + [("t", "b", "PlanktoScope v2.5", 2, 40, 50, "")]
    catalog = read_source(write(tmp_path, SCOPE, rows))
    assert density(catalog)["s"] / 1000 == pytest.approx(3 / 2.5 * 40 / 60)  # l⁻¹
    assert column(catalog, "volume") == [0.06, 0.06, 0.06, 0.05]
    assert column(catalog, "subsample_factor") == [16, 16, 16, 20]


def test_repeated_acquisitions_of_a_planktoscope_are_one(tmp_path, caplog):
    rows = [("s", "a", "", 2, 40, 60, "")] * 2 + [("s", "b", "", 6, 40, 60, "")] * 6
    assert density(read_source(write(tmp_path, SCOPE, rows)))["s"] == pytest.approx(8 * 40 / 8 / 0.06)
    assert "expected one acquisition of each sample; found several of 1" in caplog.text


def test_an_acquisition_with_two_volumes_has_none(tmp_path, caplog):
    rows = [("s", "a", "", 2, 40, 60, ""), ("s", "a", "", 6, 40, 60, ""), ("t", "a", "", 2, 40, 60, "")]
    catalog = read_source(write(tmp_path, SCOPE, rows))
    assert column(catalog, "subsample_factor") == pytest.approx([np.nan, np.nan, 20], nan_ok=True)
    assert "expected one volume in all rows of an acquisition; found several in 1, such as a" in caplog.text
    assert "several of" not in caplog.text


@pytest.mark.parametrize(("dilution", "factor"), [(None, None), ("multiply", 40), ("divide", 10), ("ignore", 20)])
def test_a_dilution_needs_its_direction(tmp_path, caplog, dilution, factor):
    folder = write(tmp_path, SCOPE, [("s", "a", "planktoscope", 2, 40, 60, 2)] * 2)
    catalog = read_source(folder, dilution=dilution)
    assert column(catalog, "subsample_factor") == (None if factor is None else [factor] * 2)
    assert column(catalog, "volume") == (None if factor is None else [0.06] * 2)
    assert ("give catalog --dilution multiply, divide or ignore" in caplog.text) == (factor is None)


@pytest.mark.parametrize("missing", [3, 4, 5])
def test_a_planktoscope_without_a_column_has_no_concentration(tmp_path, caplog, missing):
    row = ["s", "a", "PlanktoScope", 2, 40, 60, ""]
    row[missing] = ""
    catalog = read_source(write(tmp_path, SCOPE, [row] * 2))
    assert not {"volume", "subsample_factor"} & set(catalog.frame)
    assert (
        f"expected {SCOPE[missing]} of a PlanktoScope, for concentrations; found no value for 2 images" in caplog.text
    )


def test_a_uvp_needs_the_number_of_images(tmp_path, caplog):
    columns = ["sample_id", "acq_instrument", "acq_volimage"]
    folder = write(tmp_path / "in", columns, [("s1", "uvp5", 1.02)] * 2 + [("s2", "uvp5", 1.02)])
    assert "volume" not in read_source(folder).frame
    assert "found no value for 3 images, so they have no volume and no concentration; give it with catalog --images-per-sample" in caplog.text  # noqa: E501  # fmt: skip
    catalog = read_source(folder, images_per_sample="1000")
    assert column(catalog, "volume") == pytest.approx([1.02] * 3)
    assert column(catalog, "subsample_factor") == [1] * 3
    table = tmp_path / "counts.csv"
    table.write_text("sample;images\ns1;500\n", encoding="utf-8-sig")
    volume = column(read_source(folder, images_per_sample=table), "volume")
    assert volume[:2] == pytest.approx([0.51] * 2)
    assert np.isnan(volume[2])
    table.write_text("sample,images\ns1,500\nzz,5\n")
    with pytest.raises(InputError, match="expected values of sample_id in the source; found zz"):
        read_source(folder, images_per_sample=table)
    table.write_text("sample,images\ns1,none\n")
    with pytest.raises(InputError, match="sample s1: expected each sample once, with a number above 0; found 'none'"):
        read_source(folder, images_per_sample=table)


def test_options_that_have_no_meaning_are_refused(tmp_path):
    net = write(tmp_path / "net", NET, [("a", "x", 10, 1)])
    for option, message in (
        ({"dilution": "multiply"}, "dilution: it applies to volumes of a PlanktoScope"),
        ({"images_per_sample": 5}, "images_per_sample: it applies to tables of a UVP"),
        ({"images_per_sample": "0"}, None),
        ({"feature_unit": "um"}, "feature_unit: it applies to object_area, object_major and object_minor"),
        ({"feature_unit": "mm"}, "feature_unit: expected px or um; found 'mm'"),
        ({"dilution": "double"}, "dilution: expected multiply or divide or ignore; found 'double'"),
    ):
        with pytest.raises(SettingError, match=message):
            read_source(net, **option)
    scope = write(tmp_path / "scope", SCOPE, [("s", "a", "planktoscope", 2, 40, 60, 1)])
    with pytest.raises(SettingError, match="has a sample_dilution_factor other than 1; leave it out"):
        read_source(scope, dilution="divide")


# ---------------------------------------------------------------------------------------------- unit of sizes

BOX = ["object_area", "object_width", "object_height", "process_pixel_size"]


def write_boxes(folder, scale, pixel_size, more=()):
    """Write four objects of 100 px² in boxes of 10 × 20 px and more, in units of which one is 1/scale px."""
    boxes = [(10 + n, 20 + n) for n in range(4)]
    rows = [
        (100 * scale**2, scale * width, scale * height, pixel_size, *(((width, height)) if more else ()))
        for width, height in boxes
    ]
    return write(folder, [*BOX, *more], rows)


@pytest.mark.parametrize(
    ("scale", "pixel_size", "more", "unit"),
    [
        (1, 10.6, (), None),
        (10.6, 10.6, (), "um"),  # larger than their own images
        (100, 10.6, (), "unknown"),
        (1, 0.53, ("object_image_w", "object_image_h"), None),
        (0.53, 0.53, ("object_image_w", "object_image_h"), "um"),
        (0.53, 10.6, ("object_bbox_width", "object_bbox_height"), "unknown"),
    ],
)
def test_sizes_in_micrometres_are_recognized_by_boxes_in_pixels(tmp_path, caplog, scale, pixel_size, more, unit):
    folder = write_boxes(tmp_path, scale, pixel_size, more)
    catalog = read_source(folder)
    assert column(catalog, "size_unit") == (None if unit is None else [unit] * 4)
    sizes = measure_bodies(catalog.features, unit_size(catalog.frame))
    if unit == "unknown":
        assert sizes.empty or sizes["esd"].isna().all()
        assert "give catalog --feature-unit px or um" in caplog.text
        assert column(read_source(folder, feature_unit="um"), "size_unit") == ["um"] * 4
        assert column(read_source(folder, feature_unit="px"), "size_unit") is None
    else:
        assert list(sizes["esd"]) == pytest.approx([2 * np.sqrt(100 / np.pi) * pixel_size] * 4)


@pytest.mark.parametrize(("width", "unit"), [(18, None), (11, "unknown"), (4, None)])  # images: 20 × 30 px
def test_the_unit_of_a_planktoscope_is_given_where_nothing_shows_it(tmp_path, caplog, width, unit):
    pixel_size = 10.6 if width == 4 else 0.53  # in µm 18 is larger than the image, and 4 of 10.6 a speck
    folder = write(tmp_path, BOX, [(0.7 * width**2, width, width, pixel_size)] * 3)
    catalog = read_source(folder)
    assert column(catalog, "size_unit") == (None if unit is None else [unit] * 3)
    assert ("of a PlanktoScope, whose tables have pixels or µm" in caplog.text) == (unit == "unknown")
    assert column(read_source(folder, feature_unit="um"), "size_unit") == ["um"] * 3
    assert column(read_source(folder, feature_unit="px"), "size_unit") is None


def test_areas_beside_areas_in_pixels(tmp_path):
    folder = write(tmp_path, ["object_area_px", "object_area"], [(1111, 25), (800, 18), (38895, 875), (49683, 1118)])
    assert column(read_source(folder), "size_unit") == ["unknown"] * 4
