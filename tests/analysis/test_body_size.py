"""Diameters, biovolumes, spectra."""

import numpy as np
import pandas as pd
import pytest

from plankton_embed.analysis.body_size import measure_bodies, size_spectrum


def test_a_disc_of_known_size():
    # 100 µm across at 10 µm a pixel: 10 px across, 25π px²
    features = pd.DataFrame({"area": [25 * np.pi], "major": [20.0], "minor": [10.0]})
    sizes = measure_bodies(features, [10.0])
    assert sizes["esd"][0] == pytest.approx(100)
    assert sizes["biovolume_sphere"][0] == pytest.approx(np.pi / 6 * 0.1**3)
    assert sizes["biovolume_ellipsoid"][0] == pytest.approx(4 / 3 * np.pi * 0.1 * 0.05 * 0.05)


def test_areas_of_a_flowcam_are_in_micrometres_already():
    sizes = measure_bodies(pd.DataFrame({"abd_area": [np.pi * 50**2], "area": [7.0]}), [3.0])
    assert sizes["esd"][0] == pytest.approx(100)


def test_what_is_missing_stays_missing():
    sizes = measure_bodies(pd.DataFrame({"area": [4.0, 4.0, -1.0]}), [1.0, np.nan, 1.0])
    assert list(sizes["esd"].notna()) == [True, False, False]
    assert "biovolume_ellipsoid" not in sizes
    assert measure_bodies(pd.DataFrame({"area": [4.0]})).empty


def test_spectrum_by_hand():
    spectrum = size_spectrum([1.0, 1.5, 2.0, 7.9, np.nan, 0.0], [1, 2, 1, 10, 5, 5], water=2.0)
    assert spectrum["low"].tolist() == [1, 2, 4]
    assert spectrum["count"].tolist() == [3, 1, 10]
    assert spectrum["biovolume"].tolist() == [4, 2, 79]
    assert spectrum["nbss"].tolist() == [2, 0.5, 79 / 8]
    assert spectrum["esd_low"].iloc[0] == pytest.approx(np.cbrt(6 / np.pi) * 1000)


def test_the_spectrum_keeps_all_biovolume():
    rng = np.random.default_rng(0)
    size, weight = rng.lognormal(-3, 2, 500), rng.random(500)
    spectrum = size_spectrum(size, weight)
    assert (spectrum["nbss"] * (spectrum["high"] - spectrum["low"])).sum() == pytest.approx((size * weight).sum())
    assert size_spectrum([], []).empty
