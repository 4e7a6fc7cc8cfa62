"""The figure of size spectra."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from plankton_embed.analysis.body_size import size_spectrum
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.size_spectra import draw_size_spectra


@pytest.mark.parametrize("n_samples", [1, 3])
def test_spectra_and_slopes(n_samples, tmp_path, make_survey):
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


def test_what_is_not_there_is_said(make_survey):
    left, right = Figure().subplots(1, 2)
    assert len(draw_size_spectra(make_survey(2, 3), left).texts) == 1
    assert not right.has_data()
