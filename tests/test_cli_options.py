"""The options of the command line are those of the Python functions: names, defaults, help, and forms of before."""

import inspect

import pytest
import typer
from typer.testing import CliRunner

import plankton_embed as pe
from plankton_embed.cli import GROUPS, OLD_OPTIONS, app

COMMANDS = typer.main.get_command(app).commands
ARRANGED = {  # parameters that a command makes of other options, or that only Python has
    "progress": "--quiet",
    "settings": "--preset, --settings, --set, …",
    "preparation": "--preset, --set",
    "faults": "a count is printed",
    "batch_size": "Python",
    "objective": "Python",
    "older": "Python, of earlier releases",
    "k": "Python, of earlier releases",
}


def function_of(command):
    return getattr(pe, command.replace("-", "_"))


@pytest.mark.parametrize("command", COMMANDS)
def test_defaults_are_those_of_the_python_function(command):
    signature = inspect.signature(function_of(command)).parameters
    options = {option.name: option for option in COMMANDS[command].params}
    for name, parameter in signature.items():
        if name in options and not options[name].required:
            expected = "" if parameter.default == () else parameter.default  # a list, given as text
            assert options[name].default == expected, name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_parameter_is_an_option_or_is_arranged(command):
    options = {option.name for option in COMMANDS[command].params}
    missing = set(inspect.signature(function_of(command)).parameters) - options - set(ARRANGED)
    if command == "demo":
        missing -= {"settings"}
    assert not missing


def test_every_command_is_in_one_group_and_its_help_fits_a_line():
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(COMMANDS)
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert "..." not in shown.split("Start:")[1] and max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_that_can_be_read(command):
    text = " ".join(CliRunner().invoke(app, [command, "--help"]).stdout.split())
    example = text.split("Example: plankton-embed ")[1].split()
    context = COMMANDS[command].make_context(command, example[1:], resilient_parsing=False)
    assert example[0] == command and context.params


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (["pca", "run", "--film", "-o", "f.gif"], "film", "pca --film is now film"),
        (["relations", "v.csv", "--query", "a", "b", "c"], "analogy", "relations --query is now analogy"),
        (["catalog", "s", "-o", "c.csv", "--split", ".5,.3,.2"], "catalog", "--split is now --fractions"),
        (["pca", "v.csv", "-o", "out", "-m", "umap"], "pca", "-m is now --projection"),
        (["clusters", "v.csv", "-o", "out", "--only=p.csv"], "clusters", "--only is now --predictions"),
        (["search", "run", "a.png", "-k", "3"], "search", "-k is now -n"),
        (["search", "run", "a.png", "-k3"], "search", "-k is now -n"),
        (["clusters", "v.csv", "-o", "out", "-mhdbscan"], "clusters", "-m is now --clustering"),
        (["search", "run", "someone/model", "a.png"], "search", "is now search INDEX IMAGE --model MODEL"),
    ],
)
def test_forms_of_earlier_releases_are_understood_with_a_warning(old, new, message, monkeypatch):
    called = []
    monkeypatch.setattr(pe, new.replace("-", "_"), lambda **given: called.append(given))
    monkeypatch.setattr("plankton_embed.console." + new, lambda *_: None)
    done = CliRunner().invoke(app, old)
    assert done.exit_code == 0, done.output
    assert message in done.stderr and len(called) == 1


@pytest.mark.parametrize(
    "old", [["v.csv", "--query", "a", "b", "c", "-k4"], ["--query", "a", "b", "c", "--split", "val", "v.csv"]]
)
def test_an_analogy_of_earlier_releases_may_be_given_before_its_vectors(old, monkeypatch):
    called = []
    monkeypatch.setattr(pe, "analogy", lambda **given: called.append(given))
    monkeypatch.setattr("plankton_embed.console.analogy", lambda *_: None)
    assert CliRunner().invoke(app, ["relations", *old]).exit_code == 0
    assert (str(called[0]["vectors"]), called[0]["a"], called[0]["b"], called[0]["c"]) == ("v.csv", "a", "b", "c")
    assert called[0].get("n_results", 4) == 4


def test_options_that_are_renamed_exist_under_the_new_name():
    for command, names in OLD_OPTIONS.items():
        options = {name for option in COMMANDS[command].params for name in option.opts}
        assert set(names.values()) <= options, command
        assert not set(names) & options, command


def test_only_given_options_are_passed_on(monkeypatch):
    called = []
    monkeypatch.setattr(pe, "pca", lambda **given: called.append(given))
    monkeypatch.setattr("plankton_embed.console.pca", lambda *_: None)
    assert CliRunner().invoke(app, ["pca", "v.csv", "-o", "out", "--components", "2"]).exit_code == 0
    assert set(called[0]) == {"vectors", "output", "n_components"}


def test_images_that_are_not_there_are_not_taken_for_a_model(monkeypatch):
    called = []
    monkeypatch.setattr(pe, "search", lambda **given: called.append(given))
    monkeypatch.setattr("plankton_embed.console.search", lambda *_: None)
    assert CliRunner().invoke(app, ["search", "run", "gone.png", "b.png"]).exit_code == 0
    assert called[0]["model"] is None and len(called[0]["images"]) == 2


def test_a_quiet_command_prints_a_result_that_is_written_nowhere(monkeypatch):
    monkeypatch.setattr(pe, "analogy", lambda **_: None)
    monkeypatch.setattr("plankton_embed.console.analogy", lambda *_: print("found"))
    assert CliRunner().invoke(app, ["analogy", "v.csv", "a", "b", "c", "-q"]).stdout == "found\n"
