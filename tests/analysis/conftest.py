"""Fixtures of the tests of taxonomies."""

import pytest

from plankton_embed.analysis.taxonomy_files import read_taxonomy


@pytest.fixture
def ranks():
    """Five classes with their ranks, one of them with none, as a CSV."""
    return """label,phylum,order,genus
calanus,Arthropoda,Calanoida,Calanus
paracalanus,Arthropoda,Calanoida,Paracalanus
oithona,Arthropoda,Cyclopoida,Oithona
aurelia,Cnidaria,Semaeostomeae,Aurelia
detritus,,,
"""


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a taxonomy from this text."""

    def read_text(text, name="tree.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return read_taxonomy(path)

    return read_text


@pytest.fixture
def random_tree():
    """Return a function that draws a tree over n classes, as nested tuples with forks of 2 to 4 and as text."""

    def draw(rng, n):
        parts = [f"class {i}" for i in range(n)]
        text = [f"'{part}'" for part in parts]
        while len(parts) > 1:
            chosen = sorted(rng.choice(len(parts), min(len(parts), rng.integers(2, 5)), replace=False), reverse=True)
            below, words = [parts.pop(i) for i in chosen], [text.pop(i) for i in chosen]
            parts.append(tuple(below))
            text.append(f"({','.join(words)})")
        return parts[0], text[0] + ";"

    return draw
