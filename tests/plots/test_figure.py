"""Saving figures, and what loading the plots does not load."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import plankton_embed.plots
from plankton_embed.errors import SettingError
from plankton_embed.plots.figure import new_axes, save_figure


def test_saved_figure_is_an_image_of_the_asked_resolution(tmp_path):
    ax = new_axes(4, 2)
    path = save_figure(ax, tmp_path / "new" / "figure.png", dpi=100)
    with Image.open(path) as image:
        assert abs(image.width - 400) < 30
    assert [p.name for p in path.parent.iterdir()] == ["figure.png"]
    assert save_figure(ax, tmp_path / "figure.svg").read_text().lstrip().startswith("<?xml")
    with pytest.raises(SettingError, match="xyz"):
        save_figure(ax, tmp_path / "figure.xyz")


def test_plots_load_no_torch_and_no_pyplot():
    modules = [f"plankton_embed.plots.{p.stem}" for p in Path(plankton_embed.plots.__path__[0]).glob("[a-z]*.py")]
    code = f"import sys, {', '.join(modules)}; print(len({{'torch', 'matplotlib.pyplot'}} & set(sys.modules)))"
    root = Path(plankton_embed.plots.__path__[0]).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert len(modules) >= 9
    assert done.stdout.strip() == "0"
