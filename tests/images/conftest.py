"""What the tests of catalogs share."""

import pytest


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a text file."""

    def write_text(text, name="c.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_text(text, encoding=encoding)
        return path

    return write_text
