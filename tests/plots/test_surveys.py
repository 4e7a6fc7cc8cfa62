"""The figures of a survey show what its tables hold, at every size."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from plankton_embed.analysis.body_size import size_spectrum
from plankton_embed.analysis.counts import Abundance
from plankton_embed.plots.abundance import MOST_CLASSES, MOST_COLUMNS, draw_abundance, draw_composition
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.profile import draw_profile, draw_time_series
from plankton_embed.plots.size_spectra import draw_size_spectra

N_IMAGES = 400


def make_survey(n_samples, n_classes, **tables):
    """Return samples with invented counts; class 0 is the commonest."""
    rng = np.random.default_rng(0)
    labels = [f"$family_{row}$ of an order with a name that goes on and on and on {row}" for row in range(n_classes)]
    shares = np.sort(rng.random(n_classes + 1))[::-1]
    corrected = rng.permuted(np.tile(shares / shares.sum(), (n_samples, 1)), axis=1) * 0.5
    corrected[:, 0] += 0.5
    corrected = (N_IMAGES * corrected).ravel()
    names = [f"$net_{row}$ of a cruise with a long name" for row in range(n_samples)]
    table = pd.DataFrame({
        "sample": np.repeat(names, n_classes + 1),
        "label": np.tile(np.array([*labels, "unknown"], dtype=object), n_samples),
        "count": rng.poisson(corrected),
        "corrected": corrected,
        "low": 0.7 * corrected,
        "high": 1.2 * corrected,
    })  # fmt: skip
    samples = pd.DataFrame({"sample": names, "n_images": N_IMAGES, "n_refused": 1})
    summary = {"n_images": n_samples * N_IMAGES, "level": 0.9, "biovolume": "sphere"}
    tables = {"spectra": None, "profile": None, "time_series": None, **tables}
    totals = table.groupby("label", sort=False)[["count", "corrected", "low", "high"]].sum()
    totals = totals.sort_values(["corrected", "count"], ascending=False, kind="stable")
    return Abundance(table, totals, samples, **tables, summary=summary, unknown="unknown")


def names_beside(ax):
    return [tick.get_text() for tick in ax.get_yticklabels()]


@pytest.mark.parametrize(("n_samples", "n_classes"), [(1, 2), (3, 10), (200, 121)])
def test_abundance_shows_the_sums(n_samples, n_classes, tmp_path):
    found = make_survey(n_samples, n_classes)
    ax = draw_abundance(found)
    totals = found.totals
    classes = totals.drop(index="unknown").head(MOST_CLASSES)
    shown = pd.concat([classes, totals.loc[["unknown"]]])
    named, corrected = (np.asarray(points.get_offsets()) for points in ax.collections[1:])
    np.testing.assert_allclose(named[:, 0], shown["count"])
    np.testing.assert_allclose(corrected[:, 0], shown["corrected"])
    ends = [(line[0, 0], line[1, 0]) for line in ax.collections[0].get_segments()]
    np.testing.assert_allclose(ends, shown[["low", "high"]])
    assert names_beside(ax)[-1] == "unknown"
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert ("commonest of 121 classes" in ax.get_title(loc="left")) == (n_classes == 121)
    save_figure(ax, tmp_path / "abundance.png", dpi=40)


def in_fractions(found):
    """Return the survey with factors that differ: 3 for class 0 and 1 for others, and volumes of 2 m³."""
    for table in (found.table, found.totals):
        factor = np.where(table.reset_index()["label"].str.startswith("$family_0$"), 3.0, 1.0)
        for end in ("", "_low", "_high"):
            table[f"individuals{end}"] = factor * table[end.strip("_") or "corrected"]
            table[f"concentration{end}"] = table[f"individuals{end}"] / 2
    found.samples["subsample_factor"] = np.nan
    return found


def test_concentrations_are_shown_where_factors_differ(tmp_path):
    found = in_fractions(make_survey(1, 3))
    ax = draw_abundance(found)
    totals = found.totals.drop(index="unknown").sort_values("concentration", ascending=False)
    assert len(ax.collections) == 2  # names given are of images
    np.testing.assert_allclose(np.asarray(ax.collections[1].get_offsets())[:3, 0], totals["concentration"])
    ends = [(line[0, 0], line[1, 0]) for line in ax.collections[0].get_segments()]
    np.testing.assert_allclose(ends[:3], totals[["concentration_low", "concentration_high"]])
    assert ax.get_xlabel() == "m⁻³"
    found.summary["volume_of"] = "fluid that was run"
    assert draw_abundance(found).get_xlabel() == "m⁻³ in the fluid that was run"
    found.totals["concentration"] = np.nan  # of one sample no volume is known
    assert draw_abundance(found).get_xlabel() == "individuals in the sample"
    cells = np.asarray(draw_composition(found).images[0].get_array())
    individuals = found.by_sample("individuals").to_numpy()
    np.testing.assert_allclose(np.sort(cells), np.sort(individuals / individuals.sum()))
    assert "individuals" in draw_composition(found).get_title(loc="left")
    save_figure(ax, tmp_path / "abundance.png", dpi=40)


@pytest.mark.parametrize(("n_samples", "n_classes"), [(1, 2), (3, 10), (300, 121)])
def test_composition_shows_shares(n_samples, n_classes, tmp_path):
    found = make_survey(n_samples, n_classes)
    ax = draw_composition(found)
    cells = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(cells.sum(axis=1), 1)
    np.testing.assert_allclose(cells[:, 0], found.by_sample().iloc[:, 0] / N_IMAGES)
    columns = [tick.get_text() for tick in ax.get_xticklabels()]
    others = n_classes > MOST_COLUMNS
    assert cells.shape == (n_samples, min(n_classes, MOST_COLUMNS) + others + 1)
    assert columns[-1] == "unknown"
    assert (columns[-2] == f"{n_classes - MOST_COLUMNS} other classes") == others
    assert len(names_beside(ax)) == (n_samples if n_samples < 100 else 100)  # every third
    written = [int(text.get_text()) for text in ax.texts]
    expected = (100 * cells).round().astype(int) if n_samples < 100 else np.zeros(1, dtype=int)
    assert written == expected[expected > 0].tolist()
    save_figure(ax, tmp_path / "composition.png", dpi=40)


def follow(found, along, places, **more):
    """Return the table of two classes over depth or time."""
    two = found.table[found.table["label"].isin(found.totals.index[:2])]
    place = pd.DataFrame({"sample": found.samples["sample"], along: places})
    return two.merge(place, "left", "sample").assign(**more)


def test_profile_goes_down(tmp_path):
    found = make_survey(5, 3)
    table = follow(found, "depth", [5.0, 100, 40, 40, 7])
    for end in ("", "_low", "_high"):
        table[f"concentration{end}"] = table[end.strip("_") or "corrected"] / 2
    found = make_survey(5, 3, profile=table)
    ax = draw_profile(found)
    assert ax.get_ylim()[0] > 100 > 5 > ax.get_ylim()[1]
    whole = ax.figure.axes[0]
    assert len(whole.child_axes) == 2
    first = table[table["label"] == found.totals.index[0]]
    points = np.asarray(ax.collections[1].get_offsets())
    np.testing.assert_allclose(points, first[["concentration", "depth"]])
    line = ax.lines[0].get_xydata()
    assert line[:, 1].tolist() == [5, 7, 40, 100]
    assert line[2, 0] == pytest.approx(first["concentration"].iloc[[2, 3]].mean())
    assert ax.get_xlabel() == "m⁻³"
    save_figure(ax, tmp_path / "profile.png", dpi=40)


def test_profile_of_bins_adds_samples_up(tmp_path):
    names = make_survey(2, 3).samples["sample"]
    table = pd.DataFrame({
        "sample": names[[0, 0, 1]].tolist(), "depth": [5.0, 15, 15], "depth_low": [0.0, 10, 10],
        "depth_high": [10.0, 20, 20], "n_images": 9, "label": "$x_y$", "corrected": [3.0, 4, 5],
    })  # fmt: skip
    ax = draw_profile(make_survey(2, 3, profile=table))
    assert ax.lines[0].get_xydata().tolist() == [[3, 5], [9, 15]]
    assert ax.get_ylim() == (20, 0)
    assert "2 samples, bins of 10 m" in ax.figure.axes[0].get_title(loc="left")
    assert ax.get_title(loc="left") == "$x_y$"
    ax = draw_profile(make_survey(2, 3, profile=table.assign(concentration=table["corrected"] / 2)))
    assert ax.lines[0].get_xdata().tolist() == [1.5, 2.25]  # the mean: concentrations do not add up
    save_figure(ax, tmp_path / "profile.png", dpi=40)


@pytest.mark.parametrize("n_samples", [3, 400])
def test_time_goes_to_the_right(n_samples, tmp_path):
    found = make_survey(n_samples, 3)
    times = pd.date_range("2020-01-01", periods=n_samples, freq="7h").strftime("%Y-%m-%dT%H:%M:%SZ")
    ax = draw_time_series(make_survey(n_samples, 3, time_series=follow(found, "time", times)))
    first = found.table[found.table["label"] == found.totals.index[0]]
    points = np.asarray(ax.collections[1].get_offsets())
    np.testing.assert_allclose(points[:, 1], first["corrected"])
    assert (np.diff(points[:, 0]) > 0).all()
    assert len(ax.lines[0].get_xdata()) == min(n_samples, 60)
    assert len(ax.figure.axes[0].child_axes) == 2
    save_figure(ax, tmp_path / "time_series.png", dpi=40)


@pytest.mark.parametrize("n_samples", [1, 3])
def test_spectra_and_slopes(n_samples, tmp_path):
    rng = np.random.default_rng(1)
    names = make_survey(n_samples, 3).samples["sample"]
    parts = []
    for name in names:
        size = rng.pareto(1.0, 500) + 0.01
        parts += [
            size_spectrum(size, np.ones(500)).assign(sample=name, label=label) for label in ("(all)", "$x$ y", "z")
        ]
        parts.append(size_spectrum(size[:9], np.ones(9)).assign(sample=name, label="unknown"))
    found = make_survey(n_samples, 3, spectra=pd.concat(parts, ignore_index=True))
    left = draw_size_spectra(found)
    right = left.figure.axes[0].child_axes[1]
    assert len(left.lines) == (n_samples if n_samples > 1 else 0) + 2
    legend = [text.get_text() for text in left.get_legend().get_texts()]
    assert [text.startswith("slope -") for text in legend][-1]
    assert len(right.lines) == 2
    bare = found.spectra[found.spectra["label"].isin(["(all)", "unknown"])]
    panel = draw_size_spectra(make_survey(n_samples, 3, spectra=bare)).figure.axes[0].child_axes[1]
    assert [text.get_text() for text in panel.texts] == ["no class was found"]
    assert left.get_xscale() == left.get_yscale() == "log"
    save_figure(left, tmp_path / "spectra.png", dpi=40)


def test_what_is_not_there_is_said():
    found = make_survey(2, 3)
    for draw in (draw_profile, draw_time_series, draw_size_spectra):
        left, right = Figure().subplots(1, 2)
        assert len(draw(found, left).texts) == 1
        assert not right.has_data()
