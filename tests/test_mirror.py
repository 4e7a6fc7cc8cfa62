"""The tests mirror the package: a file for a command, a test file for a module; and files stay short."""

import importlib
from pathlib import Path

import pytest
import typer

import plankton_embed
from plankton_embed.cli import app

TESTS, PACKAGE = Path(__file__).parent, Path(plankton_embed.__file__).parent
SHARED = {"train": "run", "demo": "run"}  # commands of one file
SHARED_BY_FIGURES = {"class_rows", "figure", "text"}
OF_SEVERAL_MODULES = {
    "test_api_pages.py",  # docs/api/
    "test_benchmarks.py",  # the programs in benchmarks/
    "test_cli_options.py",  # the command line beside the functions
    "test_examples.py",
    "test_extending.py",  # docs/extending.md
    "test_chain.py",  # from readers over vectors and names to writers
    "test_language.py",  # the words of docs, help and messages
    "test_mirror.py",
    "test_public_names.py",  # what `import plankton_embed` gives
    "test_readme.py",
    "training/test_killed.py",  # the trainer and its checkpoints, in processes that are killed
    "training/test_learning.py",  # all objectives, over the trainer and the alarms of a collapse
}
MAY_BE_LONG = {"cli.py", "images/drawn.py", *(f"images/readers/{p.name}" for p in PACKAGE.glob("images/readers/*.py"))}


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands))
def test_a_command_has_a_file_and_a_test_file_of_its_name(command):
    name = SHARED.get(command, command).replace("-", "_")
    assert (PACKAGE / "workflows" / f"{name}.py").is_file()
    assert (TESTS / "workflows" / f"test_{name}.py").is_file()


def test_a_test_file_is_named_after_a_module_or_a_package():
    paths = {path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    modules = {path: PACKAGE / path.parent / path.stem.removeprefix("test_") for path in paths}
    without = {
        path.as_posix()
        for path, module in modules.items()
        if not (module.with_suffix(".py").exists() or module.is_dir())
    }
    assert without == OF_SEVERAL_MODULES


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("plots/[a-z]*.py")), ids=lambda path: path.stem)
def test_a_figure_has_a_file_of_its_name(path):
    drawing = [name for name in vars(importlib.import_module(f"plankton_embed.plots.{path.stem}")) if "draw_" in name]
    assert (f"draw_{path.stem}" in drawing) == (path.stem not in SHARED_BY_FIGURES)


def test_no_file_is_longer_than_600_lines():
    lines = {
        p.relative_to(PACKAGE).as_posix(): p.read_text(encoding="utf-8").count("\n") for p in PACKAGE.rglob("*.py")
    }
    assert {name: n for name, n in lines.items() if n > 600 and name not in MAY_BE_LONG} == {}
