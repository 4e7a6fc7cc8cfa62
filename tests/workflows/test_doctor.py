"""`doctor`: what is installed, and how to fix it."""

import importlib.metadata
import json

from typer.testing import CliRunner

from plankton_embed.cli import app
from plankton_embed.workflows import doctor as doctor_module


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_doctor_is_well_here(monkeypatch):
    requires = importlib.metadata.requires("plankton_embed")
    changed = [text.replace("imageio-ffmpeg", "no_such_package") for text in requires]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: changed)
    done = call("doctor", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["healthy"] is True
    assert found["extra video"] == "not installed (pip install 'plankton_embed[video]')"
    assert found["extra ifcb"] == f"h5py {importlib.metadata.version('h5py')}"


def test_doctor_reads_what_is_needed_from_the_metadata(monkeypatch):
    requires = [
        "numpy>=2.0",
        "no_such_package[x]; python_version > '3'",
        'h5py (>=3) ; extra == "ifcb"',
        "x; extra == 'test'",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: requires)
    done = call("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1 and found["healthy"] is False
    assert found["problems"][0] == "no_such_package is not installed. To fix it: pip install no_such_package"
    assert {"numpy", "extra ifcb"} <= set(found) and not {"x", "torch", "extra test"} & set(found)


def test_doctor_reports_that_the_package_is_not_installed(monkeypatch):
    def fail(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", fail)
    monkeypatch.setattr(importlib.metadata, "version", fail)
    found = json.loads(call("doctor", "--json").stdout)
    assert found["problems"][0].startswith("plankton_embed is not installed")


def test_doctor_reports_how_to_fix_two_faiss_builds(monkeypatch):
    monkeypatch.setattr(doctor_module, "installed_faiss", lambda: {"faiss-cpu": "1", "faiss-gpu": "1"})
    done = call("doctor")
    assert done.exit_code == 1
    assert "pip uninstall -y faiss-cpu faiss-gpu" in done.stdout
