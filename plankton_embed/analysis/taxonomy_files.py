"""Read taxonomies: trees in Newick format, and tables of lineages or ranks."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from plankton_embed.analysis.taxonomy import FINEST, Taxonomy
from plankton_embed.errors import InputError
from plankton_embed.spreadsheet import check_quotes, clean_label, find_delimiter, read_text

NEWICK_SUFFIXES, TABLE_SUFFIXES = (".nwk", ".newick", ".tree", ".tre"), (".csv", ".tsv")  # .txt may be either
LABEL_COLUMNS = ("label", "object_annotation_category")  # ours, EcoTaxa's
LINEAGE_COLUMNS = ("lineage", "object_annotation_hierarchy")

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_TOKEN = re.compile(
    r"\s+|\[[^\]]*\]|'(?:[^']|'')*'|[(),;]"  # blanks, a comment, a quoted name, a mark
    rf"|:\s*(?:\[[^\]]*\]\s*)*{_NUMBER.pattern}"  # a length, perhaps after comments
    r"|[^\s()\[,:;']+(?:[ \t]+[^\s()\[,:;']+)*"  # a name, perhaps of several words
)


def read_taxonomy(path: str | Path) -> Taxonomy:
    """Read a taxonomy: a tree in Newick format, or a table in UTF-8 or Latin-1.

    Newick (`.nwk`, `.newick`, `.tree`, `.tre`, `.txt`): see `parse_newick`. Table (`.csv`, `.tsv`, `.txt`), separated
    by comma, semicolon or tab, one row per class: `label` and `lineage`, such as `Animalia>Copepoda>Calanoida`,
    broadest first, whose last step may be the label; or `label` and one column per rank, broadest first, empty (or NA)
    if a class has no such rank. EcoTaxa's `object_annotation_category` and `object_annotation_hierarchy` are read too.
    A label may be in many rows if its lineage is the same in all.

    Raises:
        InputError: the file is missing, empty, not text, or not a tree; the message gives the position.
    """
    path = Path(path)
    if path.suffix.lower() not in (*NEWICK_SUFFIXES, *TABLE_SUFFIXES, ".txt"):
        expected = ", ".join((*NEWICK_SUFFIXES, *TABLE_SUFFIXES, ".txt"))
        raise InputError(
            f"{path}: expected a taxonomy as a file that ends in {expected}; found {path.suffix or 'no ending'}"
        )
    text = unicodedata.normalize("NFC", read_text(path, "taxonomy"))  # as the labels of catalogs are
    if not text.strip():
        raise InputError(f"{path} is empty; expected a tree in Newick format, or a table with the column label")
    is_tree = path.suffix.lower() in NEWICK_SUFFIXES or (path.suffix.lower() == ".txt" and text.lstrip()[0] in "([")
    return parse_newick(text, str(path)) if is_tree else _parse_table(text, str(path))


def parse_newick(text: str, source: str = "the tree") -> Taxonomy:
    """Read a tree in Newick format; its leaves are the classes, its levels are counted from the root.

    Names may be 'quoted', with quotes in them doubled. Underscores are kept. Lengths, [comments] and inner names that
    are numbers (support values) are ignored.

    Args:
        text: one tree, with or without a semicolon at its end.
        source: its name in error messages.

    Raises:
        InputError: the text is not a tree, a leaf has no name, or two have the same; with line and character.
    """

    def fail(at: int, fault: str) -> InputError:
        line, character = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        return InputError(f"{source}, line {line}, character {character}: {fault}")

    nodes = _Nodes()
    starts, opened = [0], list[int]()  # where nodes start, and the brackets that are open
    inner, classes = set[int](), dict[str, int]()
    node, at = 0, 0
    complete = False  # whether the node has its name, its length or its children
    has_ended = False  # whether the semicolon has come
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise fail(
                at, f"{text[at]!r} starts a quote or comment that does not end, or a length that is not a number"
            )
        token, start, at = match.group(), at, match.end()
        if token.isspace() or token[0] == "[":
            continue
        if has_ended:
            raise fail(
                start, f"expected nothing after the semicolon; found {token[:20]!r}; give one tree for each file"
            )
        if (token == "(" and not complete) or (token in ",)" and opened):
            if token != "(":
                node = nodes.parent[node]
            if complete := token == ")":
                opened.pop()
                continue
            if token == "(":
                opened.append(start)
                inner.add(node)
            node = nodes.add(node, None, nodes.level[node] + 1)
            starts.append(at)
        elif token[0] in ":;":
            complete, has_ended = True, token == ";"
        elif token[0] not in "(),]" and nodes.names[node] is None and (node in inner or not complete):
            nodes.names[node] = token[1:-1].replace("''", "'") if token[0] == "'" else token
            starts[node], complete = start, True
        else:
            raise fail(start, f"{token[:20]!r} is out of place; brackets must pair, and commas separate the branches")
    if opened:
        raise fail(opened[-1], f"this bracket is not closed, nor are {len(opened) - 1} others; brackets must pair")
    for node, name in enumerate(nodes.names):
        if node in inner:
            nodes.names[node] = None if name is None or _NUMBER.fullmatch(name) else name or None
        elif not name:
            raise fail(starts[node], "expected the name of a leaf; found none; name every leaf")
        elif classes.setdefault(name, node) != node:
            raise fail(starts[node], f"a second leaf is named {name!r}; give every leaf its own name")
    return nodes.finish(classes)


def _parse_table(text: str, source: str) -> Taxonomy:
    """Read a table of classes with a lineage or with ranks."""
    delimiter = find_delimiter(text.replace("\r", "\n"))
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    try:
        check_quotes(text.encode(), delimiter)
        reader.fieldnames = header = [name.strip().lower() for name in reader.fieldnames or ()]
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{source}, row {reader.line_num}: cannot be read as a table: {error}") from error
    except InputError as error:
        raise InputError(f"{source}, {error}") from error
    label_column = next((name for name in LABEL_COLUMNS if name in header), None)
    lineage_column = next((name for name in LINEAGE_COLUMNS if name in header), None)
    if label_column is None or len(header) < 2:
        raise InputError(f"{source}, row 1: expected the columns label and lineage, or label and ranks; found {header}")
    if "" in header or len(set(header)) < len(header):
        raise InputError(f"{source}, row 1: expected a different name for every column; found {header}")
    ranks = [] if lineage_column else [name for name in header if name != label_column]

    nodes = _Nodes()
    node_at = dict[tuple[int, int, str], int]()
    parent_of = dict[tuple[int, str], tuple[int, int]]()  # of a name at a rank: its parent, and the first row with it
    classes, row_of = dict[str, int](), dict[str, int]()
    for number, row in rows:
        if None in row:
            raise InputError(f"{source}, row {number}: expected {len(header)} cells as in row 1; found more")
        label, *cells = (
            clean_label(row[name]) for name in (label_column, *([lineage_column] if lineage_column else ranks))
        )
        if label == "[t]" or not (label or any(cells)):  # EcoTaxa's row of column kinds; an empty row
            continue
        if not label:
            raise InputError(f"{source}, row {number}: expected a label; found none; name the class or remove the row")
        if lineage_column:
            cells = [step.strip() for step in cells[0].split(">")] if cells[0] else []
            if "" in cells:
                raise InputError(f"{source}, row {number}: a step of the lineage of {label!r} is empty; name it")
            cells = cells[:-1] if cells[-1:] == [label] else cells
        node = 0
        for depth, name in enumerate([*cells, label], 1):
            if depth <= len(ranks) and name in ("", "NA"):
                continue
            above, node = node, node_at.setdefault((node, depth, name), len(nodes.parent))
            if node == len(nodes.parent):
                nodes.add(above, name, depth)
            other, other_row = parent_of.setdefault((depth, name), (above, number))
            if depth <= len(ranks) and other != above:
                here, there = (repr(nodes.names[parent] or "the root") for parent in (above, other))
                raise InputError(
                    f"{source}, row {number}: {ranks[depth - 1]} {name!r} is under {here}, "
                    f"in row {other_row} under {there}; put it under one of them, or leave it empty"
                )
        if classes.setdefault(label, node) != node:
            raise InputError(
                f"{source}, row {number}: label {label!r} has another lineage in row {row_of[label]}; keep one of them"
            )
        row_of.setdefault(label, number)
    if not classes:
        raise InputError(f"{source}: expected one row per class below the header; found none")
    return nodes.finish(classes, ranks)


class _Nodes:
    """The nodes of a taxonomy while it is read."""

    def __init__(self) -> None:
        self.parent, self.level = [-1], [0]
        self.names: list[str | None] = [None]

    def add(self, parent: int, name: str | None, level: int) -> int:
        self.parent.append(parent)
        self.names.append(name)
        self.level.append(level)
        return len(self.parent) - 1

    def finish(self, classes: dict[str, int], ranks: Sequence[str] = ()) -> Taxonomy:
        inner = ranks or [f"level {number}" for number in range(1, max(self.level))]
        return Taxonomy(
            np.array(self.parent), tuple(self.names), np.array(self.level), ("root", *inner, FINEST), classes
        )
