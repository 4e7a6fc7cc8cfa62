"""The rules of EcoTaxa's import, checked on the raw bytes of a table; nothing of the library is used."""

import csv
import io
from pathlib import PurePosixPath

PREFIXES = ("object_", "acq_", "process_", "sample_", "img_")
STATUSES = ("predicted", "validated", "dubious", "discarded")
NUMERIC = ("object_lat", "object_lon", "img_rank")


def check_table(path, is_update=False):
    """Return the rows of a table that the import takes, as dicts; fail at what it would refuse or misread.

    With `is_update` the objects are there already, so that `img_file_name` may be missing.
    """
    assert path.name.startswith("ecotaxa"), "the import looks for ecotaxa*"
    assert path.suffix in (".tsv", ".txt"), "the import looks for *.tsv and *.txt"
    raw = path.read_bytes()
    text = raw[3:].decode("utf-8") if raw.startswith(b"\xef\xbb\xbf") else raw.decode("latin-1")
    assert "\ufeff" not in text, "one byte order mark only"
    header, types, *rows = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t", quotechar='"', strict=True))
    fields = [name.strip().lower() for name in header]
    assert len(set(fields)) == len(fields), "a column stands twice"
    assert all(name.startswith(PREFIXES) for name in fields)
    assert "object_id" in fields
    assert is_update or "img_file_name" in fields
    assert types == ["[f]" if name in NUMERIC else "[t]" for name in fields]
    assert rows, "no objects"
    found = [dict(zip(fields, row, strict=True)) for row in rows]
    for row in found:
        check_row(row)
    keys = [(row["object_id"], row.get("img_file_name")) for row in found]
    assert len(set(keys)) == len(keys), "an image of an object stands twice"
    return found


def check_row(row):
    for value in row.values():
        assert value == value.strip()
        assert len(value) <= 250
        assert value.isprintable() or not any(c in value for c in "\t\r\n\x0b\x0c\0\x85\u2028\u2029")
        assert value.lower() not in ("", "na", "nan"), "taken for empty"
    status, category = row.get("object_annotation_status"), row.get("object_annotation_category")
    assert (status is None) == (category is None), "a status needs a category, and a category a status"
    if category is not None:
        assert status in STATUSES
        assert 1 <= len(category.split("<")) <= 2
        assert all(part and part == part.strip() for part in category.split("<")), "Name or Name<Parent"
    if "img_file_name" in row:
        image = PurePosixPath(row["img_file_name"])
        assert not image.is_absolute()
        assert ".." not in image.parts
