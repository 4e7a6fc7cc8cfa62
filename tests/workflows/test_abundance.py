"""`abundance`: counts by sample, what is known of the samples, what is written, and what is refused."""

import json
import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from plankton_embed.analysis.body_size import size_spectrum
from plankton_embed.analysis.counts import fit_slope, pool_spectra
from plankton_embed.classifiers.enrollment import add_examples
from plankton_embed.cli import app
from plankton_embed.errors import InputError, MismatchError, OutputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.readers.source import read_source
from plankton_embed.plots.abundance import draw_abundance
from plankton_embed.plots.profile import draw_profile
from plankton_embed.plots.size_spectra import draw_size_spectra
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows.abundance import abundance
from plankton_embed.workflows.classify import classify

CLASSES = ["copepod", "Méduse", "fish<egg", "salp"]
CENTRES = np.random.default_rng(99).normal(size=(4, 6))


def draw(codes, seed, distance=8.0, **columns):
    """Return images of given classes; far apart, almost no prediction is wrong."""
    codes = np.asarray(codes)
    vectors = distance * CENTRES[codes] + np.random.default_rng(seed).normal(size=(len(codes), 6))
    ids = [f"{seed}/{row}" for row in range(len(codes))]
    label = np.array(CLASSES, dtype=object)[codes]
    return EmbeddingTable(vectors, object_id=ids, label=label, provenance={"model_hash": "m"}, **columns)


TRAIN, VAL = draw(np.arange(200) % 4, 0), draw(np.arange(160) % 4, 1)
QUERY = draw([0] * 30 + [1] * 20 + [0] * 10 + [3] * 30, 2)  # 30 + 20 images, then 10 + 30
STATIONS = np.repeat(["b", "a"], [50, 40])


def describe(table=QUERY, **columns):
    return ImageCatalog.from_rows({"object_id": table.object_id, "path": table.object_id, **columns})


def count(query=QUERY, catalog=None, **options):
    options = {"calibration": VAL, "n_draws": 20, "progress": False, **options}
    return abundance(TRAIN, query, catalog=catalog, **options)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "vectors"
    place.mkdir()
    TRAIN.save(place / "train.parquet")
    VAL.save(place / "val.parquet")
    return place


def test_counts_where_predictions_are_right(folder, tmp_path, caplog):
    query = replace(QUERY, sample_id=STATIONS, label=None)
    query.save(tmp_path / "query.parquet")
    out = tmp_path / "out"
    with caplog.at_level(logging.WARNING):
        found = abundance(folder / "train.parquet", tmp_path / "query.parquet", out, n_draws=20, progress=False)
    assert caplog.text == ""
    assert {path.name for path in out.iterdir()} == {
        "abundance.csv", "abundance.png", "composition.png", "corrected.csv", "counts.csv", "samples.csv",
        "summary.json", "totals.csv"
    }  # fmt: skip
    table = pd.read_csv(out / "abundance.csv")
    pd.testing.assert_frame_equal(table, found.table, check_dtype=False)
    assert list(table) == ["sample", "label", "count", "corrected", "low", "high"]
    counts = pd.read_csv(out / "counts.csv", index_col="sample")
    assert list(counts) == ["Méduse", "copepod", "fish<egg", "salp", "unknown"]
    assert counts.to_dict("index") == {
        "a": {"Méduse": 0, "copepod": 10, "fish<egg": 0, "salp": 30, "unknown": 0},
        "b": {"Méduse": 20, "copepod": 30, "fish<egg": 0, "salp": 0, "unknown": 0},
    }
    corrected = pd.read_csv(out / "corrected.csv", index_col="sample")
    np.testing.assert_allclose(corrected, counts, atol=0.2)
    np.testing.assert_allclose(corrected.sum(axis=1), [40, 50], atol=1e-6)
    samples = pd.read_csv(out / "samples.csv")
    assert samples.drop(columns=["fit_p", "why_uncorrected"]).to_dict("list") == {
        "sample": ["a", "b"], "n_images": [40, 50], "n_refused": [0, 0], "correction": ["em"] * 2,
        "shift": ["class mix"] * 2
    }  # fmt: skip
    assert samples["why_uncorrected"].isna().all()
    assert (samples["fit_p"] > 0.01).all()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["analysis"] == "abundance"
    assert (summary["n_images"], summary["n_samples"], summary["n_classes"], summary["n_refused"]) == (90, 2, 4, 0)
    assert (summary["correction"], summary["level"]) == ("em", 0.9)
    assert summary["calibration"] == {"n_images": 160, "accuracy": 1.0}
    with pytest.raises(OutputError, match="exists already"):
        abundance(folder / "train.parquet", query, out, progress=False)


def test_water_and_subsample_by_hand():
    catalog = describe(
        sample_id=STATIONS,
        volume=np.where(STATIONS == "a", 2.0, 0.5),
        subsample_factor=np.where(STATIONS == "a", 4.0, 1.0),
        latitude=np.where(STATIONS == "a", -10.5, 60),
        longitude=np.where(STATIONS == "a", np.arange(90) % 2 * -359 + 179.5, 5),  # across the date line
        time=np.where(STATIONS == "a", "2020-01-02T03:04:05Z", "2021-01-01"),
        depth_min=np.where(STATIONS == "a", 10, 20),
        depth_max=np.where(STATIONS == "a", 30, 20),
    )
    found = count(catalog=catalog)
    table = found.table.set_index(["sample", "label"])
    salp = table.loc["a", "salp"]
    assert salp["count"] == 30
    assert salp["individuals"] == pytest.approx(4 * salp["corrected"])
    assert salp["individuals_low"] < 3.5 * salp["low"]  # three in four were not imaged: that varies by chance
    assert salp["individuals_high"] > 4.5 * salp["high"]
    whole = table.loc["b", "copepod"]
    for end in ("", "_low", "_high"):
        assert salp[f"concentration{end}"] == pytest.approx(salp[f"individuals{end}"] / 2)
        assert whole[f"individuals{end}"] == whole[end.strip("_") or "corrected"]  # all was imaged
    assert table.loc["b", "copepod"]["concentration"] == pytest.approx(table.loc["b", "copepod"]["corrected"] / 0.5)
    a, b = found.samples.to_dict("records")
    assert a.pop("longitude") % 360 == pytest.approx(180)
    for name in ("correction", "why_uncorrected", "fit_p", "shift"):
        del a[name]
    assert a == {
        "sample": "a", "n_images": 40, "n_refused": 0, "latitude": -10.5, "time": "2020-01-02T03:04:05Z", "depth": 20,
        "volume": 2, "subsample_factor": 4,
    }  # fmt: skip
    assert (b["longitude"], b["time"], b["depth"]) == (5, "2021-01-01", 20)
    assert found.profile is None  # both at 20 m
    assert found.time_series is None  # two times are no series


def test_volume_alone_and_factor_alone():
    only_volume = count(catalog=describe(sample_id=STATIONS, volume=2.0)).table
    np.testing.assert_allclose(only_volume["concentration"], only_volume["corrected"] / 2)
    assert "individuals" not in only_volume
    only_factor = count(catalog=describe(sample_id=STATIONS, subsample_factor=3)).table
    np.testing.assert_allclose(only_factor["individuals"], only_factor["corrected"] * 3)
    assert "concentration" not in only_factor
    some = count(catalog=describe(sample_id=STATIONS, volume=np.where(STATIONS == "a", 2.0, np.nan))).table
    assert some["concentration"].isna().tolist() == (some["sample"] == "b").tolist()


def write_ecotaxa(folder):
    """Write a tow in two fractions as EcoTaxa has it: 4 and 8 objects, which count for 2 and 16 individuals each."""
    folder.mkdir()
    rows = ["img_file_name\tobject_id\tsample_id\tacq_id\tobject_annotation_category\tobject_annotation_status"
            "\tsample_tot_vol\tacq_sub_part", "[t]\t[t]\t[t]\t[t]\t[t]\t[t]\t[f]\t[f]"]  # fmt: skip
    for row in range(12):
        fraction, factor = ("d1", 2) if row < 4 else ("d2", 16)
        rows.append(f"f{row}.png\tf{row}\ttow_1\ttow_1_{fraction}\tcopepod\tvalidated\t100.0\t{factor}")
        Image.fromarray(np.full((9, 12), 20 * row, np.uint8)).save(folder / f"f{row}.png")
    (folder / "ecotaxa_tow.tsv").write_text("\n".join(rows) + "\n")
    return folder


def test_fractions_of_an_ecotaxa_table(tmp_path, caplog):
    catalog = read_source(write_ecotaxa(tmp_path / "tow"))
    query = draw([0] * 12, 11, sample_id=catalog.frame["sample_id"])
    query = replace(query, object_id=catalog.frame["object_id"].to_numpy())
    with caplog.at_level(logging.WARNING):
        found = count(query, catalog, n_draws=200, output=tmp_path / "out")
    assert "concentration" not in caplog.text
    copepods = found.table.set_index("label").loc["copepod"]
    assert copepods["concentration"] == pytest.approx((4 * 2 + 8 * 16) / 100, rel=0.01)
    assert copepods["individuals"] == pytest.approx(136, rel=0.01)
    assert copepods["concentration_low"] < 0.95  # of about 128 individuals eight were imaged
    assert 1.8 < copepods["concentration_high"] < 4
    assert found.table["concentration"].sum() == pytest.approx(1.36)
    for end in ("", "_low", "_high"):  # of one sample there is one interval
        assert found.totals.loc["copepod", f"concentration{end}"] == copepods[f"concentration{end}"]
    parts = pd.read_csv(tmp_path / "out" / "parts.csv")
    assert parts[["acq_id", "subsample_factor", "n_images"]].to_numpy().tolist() == [
        ["tow_1_d1", 2, 4], ["tow_1_d2", 16, 8]
    ]  # fmt: skip
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["added_up"], summary["volume_of"]) == ({"fractions": 1}, "sea water")
    assert summary["units"]["concentration"] == "m⁻³ in the sea water"
    with caplog.at_level(logging.WARNING):
        halves = count(query, catalog, by="acq_id")
    assert halves.table.groupby("sample")["concentration"].sum().tolist() == pytest.approx([0.08, 1.28])
    assert halves.totals["concentration"].isna().all()  # their water is one: it would be counted twice
    assert (
        "--by acq_id divides the images of 1 sample_id among several samples, so individuals and concentrations"
        in caplog.text
    )


STATION = np.repeat(["s1", "s2"], [50, 40])
WATER = np.repeat(["p", "q", "r"], [30, 20, 40])
IN_FRACTIONS = {"station": STATION, "sample_id": WATER, "volume": np.repeat([2.0, 3, 5], [30, 20, 40]),
                "subsample_factor": np.repeat([4.0, 1, 2, 32], [30, 20, 10, 30])}  # fmt: skip


def test_fractions_and_samples_add_up():
    area = np.where(np.arange(90) < 50, 25 * np.pi, 100 * np.pi)
    found = count(catalog=describe(**IN_FRACTIONS, feature_area=area, pixel_size=10.0), by="station", n_draws=100)
    table = found.table.set_index(["sample", "label"])
    # 30 copepods that count 4 and 20 medusae that count 1 in 2 + 3 m³; 10 copepods by 2 and 30 salps by 32 in 5 m³
    expected = {("s1", "copepod"): 24, ("s1", "Méduse"): 4, ("s2", "copepod"): 4, ("s2", "salp"): 192}
    for row, concentration in expected.items():
        assert table.loc[row, "concentration"] == pytest.approx(concentration, rel=0.02)
        body = (1 if row[0] == "s1" else 8) * np.pi / 6e3  # mm³
        assert table.loc[row, "biovolume"] == pytest.approx(body * table.loc[row, "individuals"])
        assert table.loc[row, "biovolume_concentration"] == pytest.approx(body * concentration, rel=0.02)
    assert found.samples["volume"].tolist() == [5, 5]
    assert found.samples["added_up"].tolist() == ["samples", "fractions"]
    spectrum = found.spectra[found.spectra["label"] == "(all)"].set_index("sample")
    assert spectrum["count"].groupby("sample").sum().tolist() == [140, 980]
    np.testing.assert_allclose(spectrum.loc[["s1"], "biovolume"].sum(), 140 * np.pi / 6e3)
    totals = found.totals
    sums = found.table.groupby("label")["individuals"].sum()
    np.testing.assert_allclose(totals["individuals"], sums[totals.index])
    np.testing.assert_allclose(totals["concentration_high"], totals["individuals_high"] / 10)
    assert (totals["individuals_low"] <= totals["individuals"]).all()
    widths = found.table.groupby("label")["individuals_high"].sum()
    assert totals.loc["copepod", "individuals_high"] < widths["copepod"]  # errors of two samples in part cancel out
    one = count(QUERY.select(STATION == "s2"), describe(**IN_FRACTIONS), by="station", n_draws=100).table
    of_both = found.table[found.table["sample"] == "s2"].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, of_both[list(one)])  # a sample depends on no other


def test_the_fraction_with_the_largest_factor_decides_how_sure_a_count_is():
    names = np.repeat("s", 90)
    factor = np.where(np.arange(90) < 80, 1.0, 64.0)
    narrow, wide = (
        count(catalog=describe(sample_id=names, volume=1.0, subsample_factor=given), n_draws=200).table.set_index(
            "label"
        )
        for given in (np.ones(90), factor)
    )
    salps = wide.loc["salp"]  # 20 by 1 and 10 by 64
    assert salps["individuals"] == pytest.approx(660, rel=0.02)
    poisson = 1.645 * 64 * np.sqrt(10)
    assert (salps["individuals_high"] - salps["individuals_low"]) / 2 == pytest.approx(poisson, rel=0.3)
    assert narrow.loc["salp", "individuals_high"] - narrow.loc["salp", "individuals_low"] < 5
    absent = wide.loc["fish<egg"]  # no image: none, or few that were not in a sixty-fourth
    assert absent["individuals"] < 1
    assert 64 < absent["individuals_high"] < 200


def test_an_object_with_several_images_counts_once(caplog):
    query = draw([0] * 6, 5)
    ids = ["o1/1", "o1", "o1/2", "o2", "o3", "o4"]  # by their rank, not in the order of the table
    query = replace(query, object_id=np.array(ids, dtype=object))
    samples = {"sample_id": ["t", "t", "t", "t", "t", "u"], "volume": [2.0] * 6}
    catalog = describe(query, ecotaxa_id=["o1", "o1", "o1", "o2", None, "o1"], **samples)  # o1 of u is another object
    with caplog.at_level(logging.WARNING):
        found = count(query, catalog)
    assert found.by_sample("count")["copepod"].to_dict() == {"t": 3, "u": 1}
    assert found.by_sample("concentration")["copepod"].round(6).to_dict() == {"t": 1.5, "u": 0.5}
    assert "2 images are further images of an object" in caplog.text
    assert "more images of these samples" not in caplog.text


def test_objects_of_one_id_in_two_acquisitions_count_twice():
    query = replace(draw([0] * 3, 5), object_id=np.array(["d1/o", "d2/o", "d2/o/1"], dtype=object))
    fractions = {"acq_id": ["d1", "d2", "d2"], "subsample_factor": [2.0, 16, 16], "volume": [2.0] * 3}
    found = count(query, describe(query, ecotaxa_id=["o"] * 3, sample_id=["t"] * 3, **fractions))
    assert found.by_sample("count")["copepod"].to_dict() == {"t": 2}
    assert found.by_sample("concentration")["copepod"].round(6).to_dict() == {"t": 9.0}


def test_profiles_of_nets_at_one_station():
    catalog = describe(**IN_FRACTIONS, depth_min=np.repeat([5.0, 25, 45], [30, 20, 40]))
    profile = count(catalog=catalog, by="station", depth_bin=10).profile
    copepods = profile[profile["label"] == "copepod"].set_index("depth")
    np.testing.assert_allclose(copepods["individuals"], [120, 0, 20], atol=1)
    np.testing.assert_allclose(copepods["concentration"], [60, 0, 4], atol=0.5)
    across = describe(**IN_FRACTIONS, depth_min=np.concatenate([np.linspace(0, 39, 60), np.full(30, 5.0)]))
    unknown = count(catalog=across, by="station", depth_bin=10).profile
    assert "concentration" not in unknown  # no net is from one bin
    assert unknown["individuals"].notna().all()


def test_why_amounts_are_missing_is_reported_once(caplog):
    volume = np.where(np.arange(90) == 3, np.nan, IN_FRACTIONS["volume"])
    with caplog.at_level(logging.WARNING):
        found = count(catalog=describe(**{**IN_FRACTIONS, "volume": volume}))
    table = found.table.set_index("sample")
    assert table.loc["p", "concentration"].isna().all()
    assert table.loc["p", "individuals"].notna().all()
    assert table.loc[["q", "r"], "concentration"].notna().all()
    assert found.samples["why_missing"].tolist() == ["volume is missing for some images", "", ""]
    assert found.summary["why_missing"] == {"volume is missing for some images": 1}
    assert "no concentration for 1 of 3 samples, such as p: volume is missing for some images" in caplog.text
    assert found.totals["concentration"].isna().all()  # of no part of the samples
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        without = count(catalog=describe(sample_id=WATER))
    assert "no concentrations: the catalog has no column volume" in caplog.text
    assert without.summary["why_missing"] == {"there is no column volume": 3}
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        count(QUERY.select(np.arange(60)), describe(**IN_FRACTIONS))
    assert "the catalog has 30 more images of these samples that are not counted" in caplog.text


def test_volumes_that_contradict_one_another_cost_their_sample_alone(caplog):
    columns = {"sample_id": WATER, "subsample_factor": 2.0, "feature_area": 9.0, "pixel_size": 10.0}
    right = np.repeat([2.0, 3, 5], [30, 20, 40])
    wrong = np.where(np.arange(90) == 3, 20.0, right)
    with caplog.at_level(logging.WARNING):
        found = count(catalog=describe(**columns, volume=wrong))
    expected = count(catalog=describe(**columns, volume=right))
    table, whole = found.table.set_index("sample"), expected.table.set_index("sample")
    assert table.loc["p", ["concentration", "biovolume_concentration"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(table.loc[["q", "r"]], whole.loc[["q", "r"]])
    pd.testing.assert_series_equal(table["individuals"], whole["individuals"])
    assert set(found.spectra["sample"]) == {"q", "r"}
    assert found.totals["concentration"].isna().all()
    warning = "no concentration for 1 of 3 samples, such as p (2, 20 m³): several volumes in one sample_id"
    assert caplog.text.count("no concentration for") == caplog.text.count(warning) == 1


def test_amounts_that_cannot_be_cost_their_sample_alone(caplog):
    volume, factor = np.where(WATER == "p", 5e8, 5.0), np.where(WATER == "q", -1, 8)
    found = count(catalog=describe(sample_id=WATER, volume=volume, subsample_factor=factor))
    expected = ["volume is missing", "subsample_factor is missing (1: all was imaged)", ""]
    assert found.samples["why_missing"].tolist() == expected
    table = found.table.set_index("sample")
    assert table["concentration"].notna().groupby(level=0).all().tolist() == [False, False, True]
    assert "column volume: expected m³ of water per sample, above 1e-9 (a microlitre) and up to 1e6; found 5e+08 in 30 rows, such as that of sample_id p; left out; check the unit" in caplog.text  # noqa: E501  # fmt: skip
    assert "column subsample_factor: expected sample / imaged part" in caplog.text


def test_the_fluid_that_was_run_is_reported():
    fluid = describe(sample_id=WATER, volume=1e-6, volume_of="fluid that was run",
                     depth_min=np.repeat([1.0, 2, 3], [30, 20, 40]))  # fmt: skip
    found = count(catalog=fluid)
    assert found.of_volume == " in the fluid that was run"
    assert found.summary["units"]["concentration"] == "m⁻³ in the fluid that was run"
    assert found.samples["volume_of"].tolist() == ["fluid that was run"] * 3
    assert draw_profile(found).get_xlabel().split() == ["m⁻³", "in", "the", "fluid", "that", "was", "run"]
    mixed = np.where(WATER == "p", "sea water", "fluid that was run")
    both = count(catalog=describe(sample_id=WATER, volume=1e-6, volume_of=mixed))
    assert both.of_volume == " in the sea water or fluid that was run"
    assert both.totals["concentration"].isna().all()


def test_sizes_by_hand():
    # 10 µm a pixel; discs 100 µm across, of which the second sample has 8 times the volume
    area = np.where(STATIONS == "a", 25 * np.pi, 100 * np.pi)
    catalog = describe(sample_id=STATIONS, feature_area=area, pixel_size=10.0, volume=0.5, subsample_factor=2.0)
    found = count(catalog=catalog)
    table = found.table.set_index(["sample", "label"])
    for sample, one in (("a", np.pi / 6e3), ("b", 8 * np.pi / 6e3)):
        rows = table.loc[sample]
        np.testing.assert_allclose(rows["biovolume"], 2 * one * rows["corrected"], atol=1e-9)
        np.testing.assert_allclose(rows["biovolume_concentration"], rows["biovolume"] / 0.5)
        spectrum = found.spectra[(found.spectra["sample"] == sample) & (found.spectra["label"] == "(all)")]
        pd.testing.assert_frame_equal(
            spectrum.drop(columns=["sample", "label"]).reset_index(drop=True),
            size_spectrum([one] * rows["count"].sum(), [2.0] * rows["count"].sum(), 0.5),
        )
    assert found.summary["biovolume"] == "sphere"
    assert set(found.spectra["label"]) == {"(all)", "copepod", "Méduse", "salp"}
    ellipses = describe(feature_area=area, feature_major=10.0, feature_minor=5.0, pixel_size=10.0)
    assert count(catalog=ellipses).summary["biovolume"] == "ellipsoid"
    fewer = describe(feature_area=area, feature_major=np.where(area > 100, 9, np.nan), feature_minor=5.0, pixel_size=1)
    assert count(catalog=fewer).summary["biovolume"] == "sphere"  # known more often


def test_spectra_of_samples_that_share_their_water_are_not_pooled(caplog):
    columns = {"sample_id": "tow", "acq_id": STATIONS, "feature_area": np.geomspace(1, 1e4, 90), "pixel_size": 10.0}
    catalog = describe(**columns, volume=5.0, subsample_factor=np.where(STATIONS == "a", 2.0, 16))
    whole, parts = count(catalog=catalog), count(catalog=catalog, by="acq_id")
    assert (whole.shares_water, parts.shares_water) == (False, True)
    assert pool_spectra(whole.spectra, whole.samples, whole.shares_water)["nbss"].notna().all()
    pooled = pool_spectra(parts.spectra, parts.samples, parts.shares_water)
    assert pooled["nbss"].isna().all()
    assert pooled["biovolume"].gt(0).any()
    left = draw_size_spectra(parts).figure.axes[0].child_axes[0]
    assert "all 2 samples together: volume of water unknown (samples share it)" in left.get_legend_handles_labels()[1]
    assert np.isnan(fit_slope(pooled)).all()


def test_rejected_images_have_a_column_of_their_own():
    strange = replace(draw([0] * 15, 7), vectors=np.full((15, 6), 99, dtype=np.float32))
    known = draw(np.arange(100) % 4, 8)
    query = EmbeddingTable(
        np.concatenate([known.vectors, strange.vectors]), sample_id=["s"] * 115, provenance=known.provenance
    )
    found = count(query, unknown_rate=0.1)
    n_refused = (classify(TRAIN, query, calibration=VAL, unknown_rate=0.1, progress=False)["label"] == "unknown").sum()
    unknown = found.table.iloc[-1]
    assert (unknown["label"], unknown["count"], found.samples["n_refused"][0]) == ("unknown", n_refused, n_refused)
    assert n_refused > 15
    assert found.table["count"].sum() == 115
    assert found.table["corrected"].sum() == pytest.approx(115, abs=1e-6)
    rejected = found.summary["calibration"]["rejected"]
    assert rejected == pytest.approx(0.1, abs=0.05)
    assert unknown["corrected"] == pytest.approx(115 - (115 - n_refused) / (1 - rejected), abs=2)
    assert unknown["low"] < unknown["corrected"] < unknown["high"]
    all_known = count(known, unknown_rate=0.5).table  # more are raised than there are images, or about as many
    assert all_known["corrected"].sum() == pytest.approx(100, abs=1e-6)
    assert all_known["corrected"].iloc[-1] < 15
    alone = count(replace(strange, label=None), unknown_rate=0.1).table
    assert alone["corrected"].tolist() == [0, 0, 0, 0, 15]
    assert alone["high"].tolist() == [0, 0, 0, 0, 15]


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("xyz")), min_size=1, max_size=40),
    st.sampled_from(["em", "confusion"]),
    st.sampled_from([None, 0.1]),
    st.sampled_from(["centroid", "knn"]),
)
@example([(0, "x")] * 20, "em", None, "centroid")  # not a mixture: not corrected
def test_corrected_counts_add_up(images, correction, unknown_rate, method):
    query = draw([code for code, _ in images], 5, distance=1.0, sample_id=[name for _, name in images])
    calibration = draw(np.arange(80) % 4, 6, distance=1.0)
    options = {"correction": correction, "unknown_rate": unknown_rate, "method": method, "calibration": calibration}
    found = count(query, **options)
    sums = found.table.groupby("sample")[["count", "corrected"]].sum()
    n_images = pd.Series([name for _, name in images]).value_counts().sort_index()
    assert sums["count"].tolist() == n_images.tolist() == found.samples["n_images"].tolist()
    np.testing.assert_allclose(sums["corrected"], n_images, atol=1e-6)
    is_raw = found.table["sample"].isin(found.samples["sample"][found.samples["correction"] == "none"])  # not a mixture
    raw, corrected = found.table[is_raw], found.table[~is_raw]
    assert raw[["low", "high"]].isna().all(axis=None)
    assert raw["corrected"].equals(raw["count"].astype(float))
    assert (corrected["low"] <= corrected["corrected"]).all()
    assert (corrected["corrected"] <= corrected["high"]).all()


def test_a_sample_depends_on_no_other():
    query = replace(draw(np.arange(90) % 4, 5, distance=1.0), sample_id=STATIONS)
    both, one = count(query), count(query.select(STATIONS == "a"))
    pd.testing.assert_frame_equal(both.table[both.table["sample"] == "a"], one.table)


def test_depths_within_samples():
    depth = np.concatenate([np.linspace(0, 49, 50), np.full(40, 71.0)])
    catalog = describe(sample_id=STATIONS, depth_min=depth)
    found = count(catalog=catalog)
    profile = found.profile
    assert set(profile["label"]) == {"copepod", "Méduse", "salp"}
    assert ((profile["depth_high"] - profile["depth_low"]) == 5).all()
    in_b = profile[profile["sample"] == "b"]
    copepods = in_b[in_b["label"] == "copepod"].sort_values("depth")
    assert copepods["depth_low"].tolist() == list(range(0, 50, 5))
    np.testing.assert_allclose(copepods["corrected"], [5] * 6 + [0] * 4, atol=0.2)  # 30, then 20 of another class
    assert copepods["n_images"].tolist() == [5] * 10
    wider = count(catalog=catalog, depth_bin=50).profile
    assert sorted(set(zip(wider["sample"], wider["depth_low"], strict=True))) == [("a", 50), ("b", 0)]
    with pytest.raises(SettingError, match="makes 7101 bins"):
        count(catalog=catalog, depth_bin=0.01)
    with pytest.raises(SettingError, match="all images of a sample have the same depth"):
        count(catalog=describe(sample_id=STATIONS), depth_bin=5)
    with pytest.raises(SettingError, match="above 0"):
        count(catalog=catalog, depth_bin=-1)


def test_a_sample_with_other_images_is_not_corrected(caplog):
    """Far from the known classes is a third of sample a; its counts are the predictions, without intervals."""
    known = draw(np.arange(120) % 4, 11)
    others = replace(draw([0] * 20, 12), vectors=draw([0] * 20, 12).vectors + np.float32(12))
    query = add_examples(known, others)
    sample_id = np.repeat(np.array(["b", "a", "a"], dtype=object), [80, 40, 20])
    factor = np.where(sample_id == "a", 2.0, 1.0)
    query = replace(query, sample_id=sample_id)
    with caplog.at_level(logging.WARNING):
        found = count(query, catalog=describe(query, sample_id=sample_id, subsample_factor=factor))
    samples = found.samples.set_index("sample")
    assert samples["correction"].to_dict() == {"a": "none", "b": "em"}
    assert samples["fit_p"]["a"] < 0.01 < samples["fit_p"]["b"]
    assert "not a mixture of the classes" in samples["why_uncorrected"]["a"]
    assert samples["shift"].to_dict() == {"a": "appearance", "b": "alike"}
    assert found.summary["n_uncorrected"] == 1
    assert "1 of 2 samples are not corrected and have no intervals, such as a" in caplog.text
    assert "the images of 1 of 2 samples look unlike the calibration images, such as a (appearance)" in caplog.text
    a, b = (found.table[found.table["sample"] == name] for name in "ab")
    assert a["corrected"].tolist() == a["count"].tolist()
    assert a["individuals"].tolist() == (2 * a["count"]).tolist()
    assert a[["low", "high", "individuals_low", "individuals_high"]].isna().all(axis=None)
    assert b.notna().all(axis=None)
    assert found.totals[["low", "high"]].isna().all(axis=None)  # of all samples together
    assert found.totals["corrected"].sum() == pytest.approx(140)
    draw_abundance(found)


def test_totals_have_no_unknown_images_that_single_samples_have_by_chance():
    """40 samples of 25 images, none of an unknown class: by chance more or fewer are rejected than expected."""
    codes = np.arange(1000) % 4
    query = replace(draw(codes, 14), sample_id=np.array([f"s{row // 25}" for row in range(1000)], dtype=object))
    found = count(query, unknown_rate=0.1)
    whole = count(replace(query, sample_id=None), unknown_rate=0.1).totals
    of_samples = found.table.groupby("label")["corrected"].sum()
    assert found.totals["corrected"].sum() == pytest.approx(1000)
    assert found.totals["corrected"]["unknown"] < of_samples["unknown"] / 2
    assert found.totals["corrected"]["unknown"] == pytest.approx(whole["corrected"]["unknown"], abs=10)
    assert (found.totals["low"] <= found.totals["corrected"]).all()
    assert (found.totals["corrected"] <= found.totals["high"]).all()


def test_samples_too_small_for_a_test_are_tested_together():
    """Six samples of 10 images, half of them far from the known classes; and one of 60 that is as it should be."""
    known, others = draw(np.arange(90) % 4, 11), draw([0] * 30, 12)
    query = add_examples(known, replace(others, vectors=others.vectors + np.float32(12)))
    sample_id = np.array([f"s{row % 6}" if row < 30 or row >= 90 else "whole" for row in range(120)], dtype=object)
    samples = count(replace(query, sample_id=sample_id)).samples.set_index("sample")
    small = samples.drop(index="whole")
    assert small["n_images"].eq(10).all()
    assert small["fit_p"].nunique() == 1
    assert small["correction"].eq("none").all()
    assert samples["correction"]["whole"] == "em"


def test_few_images_of_another_instrument_are_reported(caplog):
    """All 17 get one name; alone the counts do not show it."""
    query = replace(draw([1] * 17, 13), vectors=draw([1] * 17, 13).vectors + np.float32(3))
    with caplog.at_level(logging.WARNING):
        found = count(query, unknown_rate=None)
    assert found.table["count"].max() == 17
    assert found.samples["shift"].tolist() == ["appearance"]
    assert "look unlike the calibration images, such as all (appearance)" in caplog.text


def test_samples_along_depth_and_time(tmp_path):
    names = np.repeat(["p", "q", "r"], 30)
    times = np.repeat(["2020-05-01T00:00:00Z", "2020-03-01", "2020-04-01T12:00:00+02:00"], 30)
    catalog = describe(sample_id=names, depth_min=np.repeat([30, 10, 20], 30), time=times, volume=2, pixel_size=3,
                       feature_area=np.geomspace(1, 1e5, 90))  # fmt: skip
    found = count(catalog=catalog, output=tmp_path / "out")
    assert found.profile.groupby("label")["sample"].agg(list).tolist() == [["q", "r", "p"]] * 3
    assert found.time_series.groupby("label")["sample"].agg(list).tolist() == [["q", "r", "p"]] * 3
    np.testing.assert_allclose(found.profile["concentration"], found.profile["corrected"] / 2)
    assert found.samples["time"].tolist() == ["2020-05-01T00:00:00Z", "2020-03-01", "2020-04-01T12:00:00+02:00"]
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made >= {"profile.csv", "profile.png", "time_series.csv", "time_series.png", "size_spectra.csv"}


def test_by_another_column(caplog):
    station = np.array([7.0, np.nan, 10.5])[np.arange(90) % 3]
    with caplog.at_level(logging.WARNING):
        found = count(catalog=describe(station=station, volume=np.arange(90) % 3 + 1.0), by="station")
    assert found.samples["sample"].tolist() == ["7", "10.5", "(none)"]
    assert found.samples["n_images"].tolist() == [30, 30, 30]
    assert found.samples["volume"].tolist()[:2] == [1, 3]
    assert np.isnan(found.samples["volume"][2])
    assert "30 images have no station; they are the sample (none)" in caplog.text


def test_without_samples_all_images_are_one(caplog):
    with caplog.at_level(logging.WARNING):
        found = count()
    assert found.samples["sample"].tolist() == ["all"]
    assert "no image has a sample_id" in caplog.text


def test_catalog_is_joined_by_object_id():
    shuffled = describe(sample_id=STATIONS).select(np.random.default_rng(0).permutation(90))
    more = ImageCatalog.from_rows(
        pd.concat([shuffled.frame, pd.DataFrame({"object_id": ["other"], "path": ["o"], "sample_id": ["c"]})])
    )
    pd.testing.assert_frame_equal(count(catalog=more).table, count(replace(QUERY, sample_id=STATIONS)).table)
    own = replace(QUERY, sample_id=STATIONS)
    assert count(own, describe(volume=1.0)).samples["sample"].tolist() == ["a", "b"]  # those of the vectors
    with pytest.raises(InputError, match=r"lacks 40 of 90 images by object_id, such as 2/50"):
        count(catalog=describe().select(np.arange(50)))


def test_what_makes_counts_less_certain_is_reported(caplog):
    with caplog.at_level(logging.WARNING):
        few = QUERY.select(np.arange(19))
        count(few, calibration=VAL.select(VAL.label != "salp"))
    assert "1 of 4 classes have fewer than 5 calibration images (1 have none)" in caplog.text
    assert "uncertain: salp (0)" in caplog.text
    assert "1 of 1 samples have fewer than 20 images" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        count(catalog=describe(feature_area=[np.nan, *[9] * 89], pixel_size=2))
    assert "1 of 90 images have no body size" in caplog.text


def test_calibration_images_of_the_reference_are_left_out(caplog):
    with pytest.raises(InputError, match="are in the reference too"):
        count(calibration=TRAIN)
    both = add_examples(VAL, TRAIN.select(np.arange(40)))
    with caplog.at_level(logging.WARNING):
        mixed = count(calibration=both)
    assert f"40 of {len(both)} images are in the reference too and left out" in caplog.text
    pd.testing.assert_frame_equal(mixed.table, count(calibration=VAL).table)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"latitude": ["1"] * 5 + ["north"] * 85}, r"row 6, column latitude: expected a number .* found 'north'"),
        ({"time": "14:20"}, r"column time: expected ISO 8601, .*found '14:20' for 2/0"),
        ({"feature_area": ["1", "large"] * 45, "pixel_size": 1}, r"row 2, column feature_area: .*'large'"),
    ],
)
def test_metadata_that_cannot_be(columns, message):
    with pytest.raises(InputError, match=message):
        count(catalog=describe(sample_id=STATIONS, **columns))


def test_what_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="abundance needs a calibration set"):
        abundance(TRAIN, QUERY, progress=False)
    with pytest.raises(InputError, match="no labelled image of the 4 classes"):
        count(calibration=replace(VAL, label=None))
    with pytest.raises(MismatchError, match="other"):
        count(replace(QUERY, provenance={"model_hash": "other"}))
    with pytest.raises(InputError, match="vectors have no column station; give the catalog"):
        count(by="station")
    with pytest.raises(InputError, match="the catalog has no column station; it has object_id"):
        count(catalog=describe(), by="station")
    with pytest.raises(InputError, match="the column station is empty"):
        count(catalog=describe(station=[None] * 90), by="station")
    with pytest.raises(InputError, match="no images to count"):
        count(QUERY.select([]))
    with pytest.raises(SettingError, match="root: it can only be used with a catalog file"):
        count(root=tmp_path)
    with pytest.raises(SettingError, match="draws: expected at least 20"):
        count(n_draws=3)
    with pytest.raises(SettingError, match="correction: expected one of em, confusion"):
        count(correction="magic")
    with pytest.raises(InputError, match=r"none\.csv does not exist"):
        abundance(folder / "train.parquet", tmp_path / "none.csv", progress=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "summary.json").write_text('{"analysis": "pca"}')
    with pytest.raises(OutputError, match="contains pca, not abundance"):
        count(output=tmp_path / "other", overwrite=True)


def test_images_bring_their_own_catalog(tmp_path, folder, in_pixels, drawn_folder):
    """A run's model embeds the images of a catalog, whose samples and volumes are then known."""
    from plankton_embed.embedding import embed_source as embed
    from plankton_embed.images.readers.folder import read_folder

    run = tmp_path / "run"
    in_pixels.save(run / "model")
    images = read_folder(drawn_folder)
    table = embed(in_pixels, images, progress=False)
    for split, start in (("train", 0), ("val", 1)):
        table.select(np.arange(start, len(table), 3)).save(run / "vectors" / f"{split}.parquet")
    query = images.select(np.arange(2, len(table), 3))
    frame = query.frame.assign(sample_id=np.where(np.arange(len(query)) % 2, "odd", "even"), volume=2.0)
    ImageCatalog(frame).save(tmp_path / "query.csv")
    found = abundance(run, tmp_path / "query.csv", n_draws=20, device="cpu", progress=False)
    assert found.samples["sample"].tolist() == ["even", "odd"]
    assert found.samples["volume"].tolist() == [2, 2]
    assert found.samples["n_images"].sum() == len(query)
    with pytest.raises(SettingError, match="catalog: it can only be used with vectors"):
        abundance(run, tmp_path / "query.csv", catalog=tmp_path / "query.csv", device="cpu", progress=False)


def test_command(folder, tmp_path):
    QUERY.save(tmp_path / "query.npz")
    describe(sample_id=STATIONS).save(tmp_path / "catalog.csv")
    arguments = ["abundance", folder / "train.parquet", tmp_path / "query.npz", "--draws", "20", "-q", "-o"]
    given = ["--catalog", tmp_path / "catalog.csv", "--correction", "confusion", "--unknown-rate", ".1"]
    done = CliRunner().invoke(app, [str(a) for a in [*arguments, tmp_path / "out", *given, "--json"]])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert (printed["n_samples"], printed["n_images"], printed["correction"]) == (2, 90, "confusion")
    assert (printed["unknown_rate"], printed["refuse_by"]) == (0.1, "neighbor")
    shown = CliRunner().invoke(app, [str(a) for a in [*arguments, tmp_path / "out2", *given] if a != "-q"])
    assert shown.exit_code == 0, shown.output
    assert "copepod" in shown.stdout
    wrong = CliRunner().invoke(app, [str(a) for a in [*arguments, tmp_path / "out3", "--by", "station"]])
    assert wrong.exit_code == 1
    assert "vectors have no column station" in wrong.output


def assert_same(found, wanted):
    """All tables and plain values of two abundances are equal."""
    for name in ("table", "totals", "samples", "spectra", "profile", "time_series", "parts"):
        one, other = getattr(found, name), getattr(wanted, name)
        assert (one is None) == (other is None), name
        if one is not None:
            pd.testing.assert_frame_equal(one, other)
    assert found.to_dict() == wanted.to_dict()


def survey_of(n, seed=0):
    """Return vectors of several samples in no order, and their catalog with all that a survey uses."""
    rng = np.random.default_rng(seed)
    query = draw(rng.integers(4, size=n), 5)
    sample = rng.integers(7, size=n)
    catalog = describe(
        query,
        sample_id=np.array([*"abcdef", None], dtype=object)[sample],
        station=np.array([1, 2, 3, 1, 2, 3, 9])[sample],
        time=np.array([f"2014-04-2{day}T10:00:00Z" for day in range(7)], dtype=object)[sample],
        latitude=sample / 10, longitude=-sample / 10,
        depth_min=rng.integers(0, 90, size=n), depth_max=rng.integers(90, 100, size=n),
        volume=np.array([0.5, 1, 2, 4, 8, 16, np.nan])[sample], acq_id=np.array(["x", "y"], dtype=object)[sample % 2],
        subsample_factor=np.array([1, 2, 4, 1, 1, 1, 1])[sample], pixel_size=10.6,
        feature_area=rng.integers(50, 500, size=n), feature_major=rng.random(n) * 20 + 10,
        feature_minor=rng.random(n) * 10 + 1,
    )  # fmt: skip
    return query, catalog


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"by": "station", "unknown_rate": 0.1, "intervals_by": None},
        {"method": "knn", "correction": "confusion", "depth_bin": 20.0},
        {"intervals_by": "station"},
    ],
    ids=["plain", "station", "confusion", "whole samples"],
)
def test_folders_of_vectors_and_catalogs_give_what_files_give(tmp_path, write_shards, options):
    query, catalog = survey_of(400)
    val = replace(VAL, columns={"station": np.arange(len(VAL)) % 8})
    vectors = write_shards(query, tmp_path / "vectors")
    order = np.random.default_rng(1).permutation(len(catalog))  # the rows of the catalog are in another order
    catalogs = write_shards(catalog.select(order), tmp_path / "catalogs", ends=(0.2, 0.7))
    wanted = count(query, catalog.select(order), **(options | {"calibration": val}))
    found = count(vectors, catalogs, **(options | {"calibration": val}))
    assert_same(found, wanted)
    same = write_shards(catalog, tmp_path / "same", ends=(0.9,))
    assert_same(count(vectors, same, **(options | {"calibration": val})), wanted)


def test_folders_without_a_catalog_and_with_further_images_of_objects(tmp_path, write_shards):
    query, catalog = survey_of(300)
    own = replace(query, sample_id=catalog.frame["sample_id"].to_numpy(dtype=object, na_value=None))
    vectors = write_shards(own, tmp_path / "vectors")
    assert_same(count(vectors), count(own))
    objects = np.arange(300) // 2  # two images of each
    ids = [f"o{number}" + ("" if row % 2 == 0 else "/1") for row, number in enumerate(objects)]
    several = replace(query, object_id=ids)
    images = ImageCatalog.from_rows({
        "object_id": ids, "path": ids, "ecotaxa_id": [f"o{number}" for number in objects],
        "sample_id": [f"s{number % 3}" for number in objects], "volume": 1.0, "comment": "x",
    })  # fmt: skip
    folders = write_shards(several, tmp_path / "several"), write_shards(images, tmp_path / "images")
    wanted = count(several, images)
    assert_same(count(*folders), wanted)
    assert wanted.samples["n_images"].sum() == 150


def test_what_is_refused_of_folders(tmp_path, write_shards):
    query, catalog = survey_of(60)
    vectors = write_shards(query, tmp_path / "vectors")
    some = write_shards(catalog.select(np.arange(50)), tmp_path / "some")
    with pytest.raises(InputError, match=r"lacks 10 of 60 images by object_id, such as 5/50"):
        count(vectors, some)
    with pytest.raises(InputError, match=r"the catalog has no column cruise; it has .*feature_area"):
        count(vectors, some, by="cruise")


def test_the_temporary_file_is_beside_the_output_and_gone(tmp_path, write_shards):
    query, catalog = survey_of(60)
    vectors, catalogs = write_shards(query, tmp_path / "v"), write_shards(catalog, tmp_path / "c")
    TRAIN.save(tmp_path / "train.parquet")
    VAL.save(tmp_path / "val.parquet")
    out = tmp_path / "new" / "out"
    arguments = ["abundance", tmp_path / "train.parquet", vectors, "--catalog", catalogs, "-o", out, "--draws", 20]
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    assert [path.name for path in out.parent.iterdir()] == ["out"]
