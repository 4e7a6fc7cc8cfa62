"""Taxonomies read from files: Newick, ranks, lineages, and what is malformed."""

import io

import numpy as np
import pandas as pd
import pytest

from plankton_embed.analysis.taxonomy_files import parse_newick, read_taxonomy
from plankton_embed.errors import InputError

FIVE = ["aurelia", "calanus", "detritus", "oithona", "paracalanus"]


def leaves_of(part):
    return frozenset([part]) if isinstance(part, str) else frozenset().union(*map(leaves_of, part))


def groups_of(part):
    return set() if isinstance(part, str) else {leaves_of(part)}.union(*map(groups_of, part))


def test_newick_names_quotes_comments_lengths_and_unary_nodes():
    found = parse_newick("[a tree]\n((('it''s (a) b':1e-3,copepod_x:[&rate=2]2)Copepoda)Arthro poda:.5,\n c[!]:3)95;")
    assert found.parent.tolist() == [-1, 0, 1, 2, 2, 0]
    assert found.names == (None, "Arthro poda", "Copepoda", "it's (a) b", "copepod_x", "c")  # 95 is a support value
    assert found.level.tolist() == [0, 1, 2, 3, 3, 1]
    assert found.height.tolist() == [3, 2, 1, 0, 0, 0]
    assert found.classes == {"it's (a) b": 3, "copepod_x": 4, "c": 5}
    assert found.level_names == ("root", "level 1", "level 2", "label")


@pytest.mark.parametrize("seed", range(5))
def test_newick_gives_the_groups_that_went_in(seed, random_tree):
    part, text = random_tree(np.random.default_rng(seed), 15)
    found = parse_newick(text)
    names = sorted(found.classes)
    assert set(names) == leaves_of(part)
    groups = [frozenset(np.array(names)[members].tolist()) for members in found.clades(names).values()]
    assert set(groups) == {group for group in groups_of(part) if len(group) > 1}
    assert len(groups) == len(set(groups))


@pytest.mark.parametrize("seed", range(3))
def test_newick_is_read_as_by_scikit_bio(seed, random_tree):
    skbio = pytest.importorskip("skbio")
    _, text = random_tree(np.random.default_rng(seed), 15)
    found, names = parse_newick(text), np.array(sorted(parse_newick(text).classes))
    groups = {frozenset(names[members].tolist()) for members in found.clades(names.tolist()).values()}
    read = skbio.TreeNode.read(io.StringIO(text))
    assert groups == set(read.subsets()) | {frozenset(tip.name for tip in read.tips())}


def test_deep_trees_are_read():
    deep = parse_newick("(" * 3000 + "a" + ",b)" + ")" * 2999 + ";")
    assert deep.level.max() == 3000
    assert deep.distances(["a", "b"]).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("((a,b),c;", "line 1, character 1: this bracket is not closed"),
        ("(a,b),c);", r"line 1, character 6: ',' is out of place; brackets must pair"),
        ("(a,\n(b,c)));", r"line 2, character 7: '\)' is out of place"),
        ("(a,b)(c,d);", "character 6"),
        ("(a,,b);", "character 4: expected the name of a leaf"),
        ("(a,());", "name of a leaf"),
        (";", "name of a leaf"),
        ("(a,\nb, a);", "line 2, character 4: a second leaf is named 'a'"),
        ("(a,'b);", 'character 4: "\'" starts a quote or comment that does not end'),
        ("(a,b[x);", "does not end"),
        ("(a:x,b);", "length that is not a number"),
        ("(a 'b',c);", "is out of place"),
        ("(a,b);(c,d);", "character 7: expected nothing after the semicolon"),
    ],
)
def test_malformed_newick_says_where(text, message):
    with pytest.raises(InputError, match=message):
        parse_newick(text)


def test_ranks_with_gaps(read, ranks):
    found = read(ranks)
    assert found.level_names == ("root", "phylum", "order", "genus", "label")
    expected = pd.DataFrame(4, FIVE, FIVE)
    expected.loc["calanus", "paracalanus"] = expected.loc["paracalanus", "calanus"] = 2
    for name in ("calanus", "paracalanus"):
        expected.loc[name, "oithona"] = expected.loc["oithona", name] = 3
    np.fill_diagonal(values := expected.to_numpy(copy=True), 0)
    np.testing.assert_array_equal(found.distances(FIVE), values)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_lineages_whatever_divides_and_encodes_them(read, delimiter, encoding):
    rows = [
        ("label", "lineage"),
        ("nauplius é", "living>Copepoda"),  # the label stands under its lineage
        ("Calanus", "living > Copepoda > Calanus"),  # or ends it
        ("Copepoda", "living>Copepoda"),  # or stands above others
        ("artifact", ""),
    ]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    found = read(text, "tree.txt", encoding)
    names = ["nauplius é", "Calanus", "Copepoda", "artifact"]
    assert list(found.classes) == names
    assert found.distances(names).tolist() == [[0, 1, 1, 3], [1, 0, 1, 3], [1, 1, 0, 3], [3, 3, 3, 0]]


def test_an_ecotaxa_export_is_read(read):
    text = "object_id\tobject_annotation_category\tobject_annotation_hierarchy\n[t]\t[t]\t[t]\n"
    text += "1\tother<Copepoda\tliving>Copepoda>other\n2\tdetritus\tnot-living>detritus\n3\t\t\n"
    text += "4\tother<Copepoda\tliving>Copepoda>other\n5\tother<Medusa\tliving>Medusa>other\n"
    found = read(text, "export.tsv")
    assert list(found.classes) == ["other<Copepoda", "detritus", "other<Medusa"]
    assert found.distances(list(found.classes))[0].tolist() == [0, 4, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("name,lineage\na,b>c", r"row 1: expected the columns label and lineage.*found \['name', 'lineage'\]"),
        ("label\na", "row 1: expected the columns"),
        ("label,order,order\na,b,c", "row 1: expected a different name"),
        ("label,lineage\n", "expected one row per class"),
        ("label,lineage\na,b>c\na,b>d", "row 3: label 'a' has another lineage in row 2"),
        ("label,lineage\na,b>>c", "row 2: a step of the lineage of 'a' is empty"),
        ("label,lineage\n,b>c", "row 2: expected a label"),
        ("label,order\na,b,c", "row 2: expected 2 cells"),
        ('label,phylum,order\na,"P,O\nb,Q"" ,O\n', "row 2: found a quote that is not closed|row 2: .* takes in"),
        ("label,phylum,order\na,P,O\nb,Q,O", "row 3: order 'O' is under 'Q', in row 2 under 'P'"),
        ("label,phylum,order\na,,O\nb,Q,O", "row 3: order 'O' is under 'Q', in row 2 under 'the root'"),
    ],
)
def test_malformed_tables_say_where(read, text, message):
    with pytest.raises(InputError, match=message):
        read(text)


def test_files_that_are_not_a_taxonomy(read, tmp_path, ranks):
    with pytest.raises(InputError, match="does not exist"):
        read_taxonomy(tmp_path / "none.nwk")
    with pytest.raises(InputError, match=r"ends in .*\.nwk.*found \.xlsx"):
        read("x", "tree.xlsx")
    with pytest.raises(InputError, match="zero byte"):
        read(ranks, encoding="utf-16-le")
    assert read("(a,(b,c));", "tree.txt").classes.keys() == {"a", "b", "c"}


def test_names_are_composed_as_those_of_catalogs(tmp_path):
    (tmp_path / "t.nwk").write_text("((Me\u0301duse,copepod)Animalia,diatom);", encoding="utf-8")
    assert set(read_taxonomy(tmp_path / "t.nwk").classes) == {"Méduse", "copepod", "diatom"}
