"""The README is right: its commands, its files, and its Python tour."""

import re
import shutil
from pathlib import Path

import pytest

from plankton_embed.cli import app
from plankton_embed.images.drawn import draw_set

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def text():
    if not README.is_file():
        pytest.skip("no README beside the tests")
    return README.read_text(encoding="utf-8")


def python_tour(text):
    return re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)


def test_the_tour_is_short(text):
    assert len(python_tour(text).strip().splitlines()) <= 15


def test_the_table_lists_exactly_the_commands(text):
    table = text.split("\n## Commands\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `([\w-]+)", table, re.MULTILINE))
    assert listed == {command.name for command in app.registered_commands}


def test_linked_files_are_there(text):
    for path in re.findall(r"\]\(([^)#]+)\)", text):
        if not path.startswith("http"):
            assert (README.parent / path).is_file(), path


@pytest.mark.slow
def test_the_tour_runs(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = draw_set("images", n_per_class=10, classes=("copepod", "medusa", "fish_egg"))
    shutil.copy(images / "copepod" / "copepod_0001.png", "a.png")
    shutil.copy(images / "medusa" / "medusa_0001.png", "b.png")
    Path("catalog.csv").write_text("path,label\na.png,copepod\nb.png,medusa\n")
    variables = {}
    exec(python_tour(text), variables)
    assert variables["vectors"].shape == (2, 64)
    assert len(variables["predictions"]) == 2


@pytest.mark.slow
def test_the_demo_reaches_its_score(tmp_path):
    import plankton_embed as pe

    scores = pe.demo(tmp_path / "demo", progress=False).scores
    assert scores["centroid"]["accuracy"] >= 0.9
    assert scores["knn"]["accuracy"] >= 0.9
