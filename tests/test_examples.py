"""Every example runs, is short, and draws the picture that its page shows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
RUN = """
import runpy, sys
from gallery_pictures import find_figures
figures = find_figures(runpy.run_path(sys.argv[1]))
assert figures and all(axes.has_data() for figure in figures for axes in figure.axes), "no picture"
"""


def test_there_are_ten_and_each_is_short():
    assert len(EXAMPLES) == 10
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 60 for path in EXAMPLES)


@pytest.mark.slow
def test_every_example_runs(tmp_path):
    paths = os.pathsep.join([str(ROOT / "examples"), str(ROOT / "docs"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": paths}
    for path in EXAMPLES:  # in order: the first one trains the network that all use
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(path)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{path.name}: {done.stderr}"
        assert done.stdout.strip()
