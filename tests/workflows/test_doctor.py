"""`doctor`: what is installed, and how to mend it."""

import json

from typer.testing import CliRunner

from plankton_embed.cli import app
from plankton_embed.workflows import doctor as doctor_module


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_doctor_is_well_here(monkeypatch):
    monkeypatch.setitem(doctor_module.EXTRAS, "video", ("no_such_package",))
    done = call("doctor", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["healthy"] is True
    assert found["extra video"] == "not installed (pip install 'plankton_embed[video]')"


def test_doctor_names_the_mending_line_of_two_faiss_builds(monkeypatch):
    monkeypatch.setattr(doctor_module, "installed_faiss", lambda: {"faiss-cpu": "1", "faiss-gpu": "1"})
    done = call("doctor")
    assert done.exit_code == 1
    assert "pip uninstall -y faiss-cpu faiss-gpu" in done.stdout
