"""The figure of counts shows what its table holds, at every size."""

import numpy as np
import pandas as pd
import pytest

from plankton_embed.plots.abundance import MOST_CLASSES, draw_abundance
from plankton_embed.plots.composition import draw_composition
from plankton_embed.plots.figure import save_figure


def names_beside(ax):
    return [tick.get_text() for tick in ax.get_yticklabels()]


@pytest.mark.parametrize(("n_samples", "n_classes"), [(1, 2), (3, 10), (200, 121)])
def test_abundance_shows_the_sums(n_samples, n_classes, tmp_path, make_survey):
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


def test_concentrations_are_shown_where_factors_differ(tmp_path, make_survey):
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
