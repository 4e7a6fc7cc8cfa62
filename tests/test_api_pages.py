"""The pages docs/api/*.md list every public name, once, and nothing that is not there."""

import importlib
import re
from pathlib import Path

import pytest

import plankton_embed

FOLDER = Path(__file__).parents[1] / "docs" / "api"
ENTRY = re.compile(r"^\.\. auto(?:function|class):: plankton_embed\.([\w.]+)", re.MULTILINE)
LISTED = [name for path in sorted(FOLDER.glob("*.md")) for name in ENTRY.findall(path.read_text(encoding="utf-8"))]


def test_every_public_name_is_on_a_page_and_no_name_twice():
    names = {*plankton_embed.__all__, *(f"baselines.{name}" for name in plankton_embed.baselines.__all__)} - {
        "baselines"
    }
    assert names - set(LISTED) == set()
    assert sorted(LISTED) == sorted(set(LISTED))


@pytest.mark.parametrize("name", LISTED)
def test_a_listed_name_is_there_documented_and_public_where_it_can_be(name):
    module, _, own = name.rpartition(".")
    value = getattr(importlib.import_module(f"plankton_embed.{module}".rstrip(".")), own)
    assert value.__doc__
    assert not module or own not in plankton_embed.__all__
