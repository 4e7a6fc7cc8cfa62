"""Every example runs, is short, and ends in a picture or a table."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("[0-9]*.py"))


def test_there_are_ten_and_each_is_short():
    assert len(EXAMPLES) == 10
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 60 for path in EXAMPLES)


@pytest.mark.slow
def test_every_example_runs(tmp_path):
    environment = {**os.environ, "MPLBACKEND": "agg"}
    for path in EXAMPLES:  # in order: the first one trains the network that all use
        done = subprocess.run(
            [sys.executable, str(path)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{path.name}: {done.stderr}"
        assert done.stdout.strip()
