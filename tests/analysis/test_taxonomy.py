"""A taxonomy against the learned space: trees read, five classes by hand, scipy, all groups by brute force."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr
from sklearn.metrics import balanced_accuracy_score

from plankton_embed.analysis.class_means import average_classes
from plankton_embed.analysis.taxonomy import back_off, roll_up
from plankton_embed.analysis.taxonomy_comparison import compare_taxonomy
from plankton_embed.analysis.taxonomy_files import parse_newick, read_taxonomy
from plankton_embed.errors import InputError, SettingError
from plankton_embed.table import EmbeddingTable

RANKS = """label,phylum,order,genus
calanus,Arthropoda,Calanoida,Calanus
paracalanus,Arthropoda,Calanoida,Paracalanus
oithona,Arthropoda,Cyclopoida,Oithona
aurelia,Cnidaria,Semaeostomeae,Aurelia
detritus,,,
"""
FIVE = ["aurelia", "calanus", "detritus", "oithona", "paracalanus"]
POINTS = {"calanus": 0, "paracalanus": 1, "oithona": 3, "aurelia": 10, "detritus": 20}


@pytest.fixture
def read(tmp_path):
    def read(text, name="tree.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return read_taxonomy(path)

    return read


def table_of(points, n=2):
    """Images of every class, spread by 0.1 around one point of a line."""
    names = [name for name in points for _ in range(n)]
    values = [[points[name] + 0.1 * (row % n - (n - 1) / 2)] for row, name in enumerate(names)]
    return EmbeddingTable(np.array(values, dtype=np.float32), label=names)


def random_tree(rng, n):
    """A tree over n classes as nested tuples, forks of 2 to 4, and its text."""
    parts = [f"class {i}" for i in range(n)]
    text = [f"'{part}'" for part in parts]
    while len(parts) > 1:
        chosen = sorted(rng.choice(len(parts), min(len(parts), rng.integers(2, 5)), replace=False), reverse=True)
        below, words = [parts.pop(i) for i in chosen], [text.pop(i) for i in chosen]
        parts.append(tuple(below))
        text.append(f"({','.join(words)})")
    return parts[0], text[0] + ";"


def leaves_of(part):
    return frozenset([part]) if isinstance(part, str) else frozenset().union(*map(leaves_of, part))


def groups_of(part):
    return set() if isinstance(part, str) else {leaves_of(part)}.union(*map(groups_of, part))


# --- reading


def test_newick_names_quotes_comments_lengths_and_unary_nodes():
    found = parse_newick("[a tree]\n((('it''s (a) b':1e-3,copepod_x:[&rate=2]2)Copepoda)Arthro poda:.5,\n c[!]:3)95;")
    assert found.parent.tolist() == [-1, 0, 1, 2, 2, 0]
    assert found.names == (None, "Arthro poda", "Copepoda", "it's (a) b", "copepod_x", "c")  # 95 is a support value
    assert found.level.tolist() == [0, 1, 2, 3, 3, 1]
    assert found.height.tolist() == [3, 2, 1, 0, 0, 0]
    assert found.classes == {"it's (a) b": 3, "copepod_x": 4, "c": 5}
    assert found.level_names == ("root", "level 1", "level 2", "label")


@pytest.mark.parametrize("seed", range(5))
def test_newick_gives_the_groups_that_went_in(seed):
    part, text = random_tree(np.random.default_rng(seed), 15)
    found = parse_newick(text)
    names = sorted(found.classes)
    assert set(names) == leaves_of(part)
    groups = [frozenset(np.array(names)[members].tolist()) for members in found.clades(names).values()]
    assert set(groups) == {group for group in groups_of(part) if len(group) > 1}
    assert len(groups) == len(set(groups))


def test_deep_trees_and_the_trees_we_write_are_read(read):
    deep = parse_newick("(" * 3000 + "a" + ",b)" + ")" * 2999 + ";")
    assert deep.level.max() == 3000
    assert deep.distances(["a", "b"]).tolist() == [[0, 1], [1, 0]]
    compared = compare_taxonomy(table_of(POINTS), read(RANKS))
    names = [f"{name}'s" for name in compared.classes]
    written = parse_newick(compared.tree.newick(names))
    assert sorted(written.classes) == names
    assert len(written.clades(names)) == 4


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
        ("(a:x,b);", "length that is no number"),
        ("(a 'b',c);", "is out of place"),
        ("(a,b);(c,d);", "character 7: expected nothing after the semicolon"),
    ],
)
def test_malformed_newick_says_where(text, message):
    with pytest.raises(InputError, match=message):
        parse_newick(text)


def test_ranks_with_gaps(read):
    found = read(RANKS)
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
        ("label,order,order\na,b,c", "row 1: expected a name of its own"),
        ("label,lineage\n", "expected a row a class"),
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


def test_files_that_are_no_taxonomy(read, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_taxonomy(tmp_path / "none.nwk")
    with pytest.raises(InputError, match=r"ends in .*\.nwk.*found \.xlsx"):
        read("x", "tree.xlsx")
    with pytest.raises(InputError, match="zero byte"):
        read(RANKS, encoding="utf-16-le")
    assert read("(a,(b,c));", "tree.txt").classes.keys() == {"a", "b", "c"}


# --- comparing


def test_five_classes_by_hand(read):
    found = compare_taxonomy(table_of(POINTS), read(RANKS))
    assert found.classes == FIVE
    # Ward joins calanus and paracalanus, oithona to them, aurelia and detritus, and all
    assert found.clades["clade"].tolist() == ["Arthropoda", "Calanoida"]
    assert found.clades["level"].tolist() == ["phylum", "order"]
    assert found.clades["classes"].tolist() == [("calanus", "oithona", "paracalanus"), ("calanus", "paracalanus")]
    assert found.clades["is_shared"].all()
    assert found.rf_distance == 1  # aurelia with detritus
    assert found.rf_normalised == pytest.approx(1 / 5)
    assert found.only_in_table == found.only_in_taxonomy == ()


def test_a_class_in_the_wrong_place_by_hand(read):
    moved = POINTS | {"paracalanus": 12}  # 2 from aurelia
    found = compare_taxonomy(table_of(moved), read(RANKS)).misplaced.set_index("label")
    assert found.index.tolist()[:3] == ["paracalanus", "calanus", "oithona"]
    # calanus: oithona and aurelia of three are nearer than paracalanus; of the pairs paracalanus, oithona with
    # aurelia, detritus one is the wrong way round
    assert found["misplacement"].tolist()[:3] == pytest.approx([1, (2 / 3 + 1 / 4) / 2, 1 / 4])
    assert found["misplacement"].isna().tolist() == [False] * 3 + [True] * 2
    worst = found.loc["paracalanus"]
    assert (worst["nearest_in_space"], worst["nearest_in_taxonomy"], worst["place"]) == ("aurelia", "calanus", 4)
    assert worst["distance"] == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_correlations_and_groups_agree_with_scipy_and_brute_force(seed):
    rng = np.random.default_rng(seed)
    part, text = random_tree(rng, 12)
    names = sorted(leaves_of(part))
    table = EmbeddingTable(rng.normal(size=(60, 4)).astype(np.float32), label=np.repeat(names, 5))
    taxonomy = parse_newick(text)
    found = compare_taxonomy(table, taxonomy, n_permutations=9)
    means = average_classes(table).vectors.astype(float)
    ward, given = linkage(means, "ward"), squareform(taxonomy.distances(names))
    assert found.cophenetic_correlation == pytest.approx(pearsonr(cophenet(ward), given)[0])
    assert found.distance_correlation == pytest.approx(pearsonr(pdist(means), given)[0])

    learned, clusters = set(), [frozenset([name]) for name in names]
    for a, b in ward[:, :2].astype(int):
        clusters.append(clusters[a] | clusters[b])
        learned.add(clusters[-1])
    learned, groups = ({g for g in trees if 2 <= len(g) <= 11} for trees in (learned, groups_of(part)))
    assert found.rf_distance == len(learned ^ groups)
    assert found.rf_normalised == pytest.approx(len(learned ^ groups) / (len(learned) + len(groups)))
    assert set(map(frozenset, found.clades["classes"])) == groups
    for row in found.clades.itertuples():
        own = frozenset(row.classes)
        assert row.is_shared == (own in learned)
        best = max(len(own & other) / len(own | other) for other in learned)
        assert row.jaccard == pytest.approx(best)
        assert len(own & set(row.nearest)) / len(own | set(row.nearest)) == pytest.approx(best)
        assert set(np.array(names)[found.tree.members(row.node)]) == set(row.nearest)


def test_taxonomic_distance_is_the_height_of_the_lowest_group_that_holds_both():
    part, text = random_tree(np.random.default_rng(1), 10)
    taxonomy = parse_newick(text)
    names = sorted(taxonomy.classes)
    found = pd.DataFrame(taxonomy.distances(names), names, names)

    def depth(below):
        return 0 if isinstance(below, str) else 1 + max(map(depth, below))

    def lowest(below, pair):
        inside = [child for child in below if not isinstance(child, str) and pair <= leaves_of(child)]
        return lowest(inside[0], pair) if inside else below

    for a, b in combinations(names, 2):
        assert found.loc[a, b] == found.loc[b, a] == depth(lowest(part, {a, b}))


def test_a_tree_agrees_with_itself():
    rng = np.random.default_rng(0)
    table = EmbeddingTable(rng.normal(size=(20, 3)).astype(np.float32), label=[f"c{i:02}" for i in range(20)])
    first = compare_taxonomy(table, parse_newick("(" + ",".join(table.classes) + ");"), n_permutations=1)
    own = compare_taxonomy(table, parse_newick(first.tree.newick(first.classes)))
    assert (own.rf_distance, own.rf_normalised) == (0, 0)
    assert own.clades["is_shared"].all()
    assert len(own.clades) == 18
    assert own.cophenetic_p == 0.001


def test_a_taxonomy_that_says_nothing_has_no_correlation():
    found = compare_taxonomy(table_of(POINTS), parse_newick("(" + ",".join(FIVE) + ");"))
    assert np.isnan([found.cophenetic_correlation, found.cophenetic_p, found.distance_p]).all()
    assert found.clades.empty
    assert found.rf_normalised == 1
    assert found.misplaced["misplacement"].isna().all()
    assert np.isnan(found.to_dict()["cophenetic_correlation"])


def test_the_order_of_rows_and_of_the_file_changes_nothing(read):
    table = table_of(POINTS | {"paracalanus": 12}, n=4)
    lines = RANKS.strip().split("\n")
    one = compare_taxonomy(table, read(RANKS), seed=3)
    order = np.random.default_rng(0).permutation(len(table))
    other = compare_taxonomy(table.select(order), read("\n".join([lines[0], *lines[:0:-1]])), seed=3)
    assert one.to_dict() == other.to_dict()
    assert set(one.clades["classes"]) == set(other.clades["classes"])
    pd.testing.assert_frame_equal(one.misplaced, other.misplaced)
    np.testing.assert_allclose(one.distances, other.distances, atol=1e-6)


def test_p_values_count_all_permutations():
    # of 24 orders of four classes, 8 keep ((a, b), (c, d)), so about a third of permutations reach the correlation
    table = table_of({"a": 0, "b": 1, "c": 10, "d": 11})
    found = compare_taxonomy(table, parse_newick("((a,b),(c,d));"), n_permutations=2000)
    assert found.cophenetic_correlation == pytest.approx(1)
    assert found.cophenetic_p == pytest.approx(1 / 3, abs=0.04)
    assert found.distance_p == pytest.approx(1 / 3, abs=0.04)


def test_p_values_are_even_where_names_say_nothing():
    rng = np.random.default_rng(0)
    _, text = random_tree(rng, 9)
    taxonomy = parse_newick(text)
    vectors = (rng.normal(size=(9, 3)).astype(np.float32) for _ in range(60))
    tables = (EmbeddingTable(rows, label=sorted(taxonomy.classes)) for rows in vectors)
    p_values = [compare_taxonomy(table, taxonomy, n_permutations=19).distance_p for table in tables]
    assert np.mean(p_values) == pytest.approx(0.525, abs=0.08)
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.08)


def test_only_shared_classes_are_compared_and_inner_nodes_count(read):
    points = {"calanus": 0, "oithona": 1, "Cnidaria": 5, "stranger": 3}
    found = compare_taxonomy(table_of(points), read(RANKS))
    assert found.classes == ["Cnidaria", "calanus", "oithona"]
    assert found.only_in_table == ("stranger",)
    assert found.only_in_taxonomy == ("aurelia", "detritus", "paracalanus")
    assert found.taxonomic.tolist() == [[0, 4, 4], [4, 0, 3], [4, 3, 0]]


def test_comparisons_that_cannot_be_made(read):
    with pytest.raises(InputError, match=r"at least 3 classes .* found 2 of 3 and 5"):
        compare_taxonomy(table_of({"calanus": 0, "oithona": 1, "x": 2}), read(RANKS))
    with pytest.raises(SettingError, match="at least 1; found 0"):
        compare_taxonomy(table_of(POINTS), read(RANKS), n_permutations=0)


# --- rolling up and backing off


def test_errors_rolled_up_by_hand(read):
    truth = ["calanus"] * 3 + ["oithona", "aurelia", "detritus"]
    names = ["calanus", "paracalanus", "oithona", "aurelia", "aurelia", "unknown"]
    found = roll_up(truth, names, read(RANKS)).set_index("level")
    assert found.index.tolist() == ["label", "genus", "order", "phylum"]
    assert found["accuracy"].tolist() == pytest.approx([2 / 6, 2 / 6, 3 / 6, 4 / 6])
    # recall of calanus (Calanoida, Arthropoda), oithona, aurelia, detritus
    assert found["balanced_accuracy"].tolist() == pytest.approx(
        [(1 / 3 + 0 + 1 + 0) / 4, (1 / 3 + 0 + 1 + 0) / 4, (2 / 3 + 0 + 1 + 0) / 4, (3 / 4 + 1 + 0) / 3]
    )
    assert found["n_groups"].tolist() == [4, 4, 4, 3]
    assert (found["n"] == 6).all()
    assert (found["n_outside"] == 1).all()


def test_accuracy_never_falls_on_the_way_up_and_starts_at_the_usual_one():
    rng = np.random.default_rng(0)
    _, text = random_tree(rng, 20)
    taxonomy = parse_newick(text)
    names = [*taxonomy.classes, "a stranger"]
    truth, given = rng.choice(names, 500), rng.choice(names, 500)
    given = np.where(rng.random(500) < 0.4, truth, given)
    found = roll_up(truth, given, taxonomy)
    assert found["accuracy"][0] == (truth == given).mean()
    assert found["balanced_accuracy"][0] == pytest.approx(balanced_accuracy_score(truth, given))
    assert (np.diff(found["accuracy"]) >= 0).all()
    assert found["level"].tolist() == ["label", *(f"level {n}" for n in range(len(found) - 1, 0, -1))]


def test_broader_names_are_right_from_their_level_up(read):
    found = roll_up(["calanus"], ["Calanoida"], read(RANKS))
    assert found["accuracy"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(("truth", "names"), [([], []), (["a"], ["a", "b"]), (["a", None], ["a", "b"])])
def test_names_that_cannot_be_rolled_up(read, truth, names):
    with pytest.raises(InputError):
        roll_up(truth, names, read(RANKS))


PROBABILITIES = np.array(
    [
        [0, 0.95, 0, 0, 0.05],  # calanus
        [0, 0.5, 0, 0.05, 0.45],  # a calanoid
        [0.02, 0.5, 0, 0.4, 0.08],  # an arthropod
        [0.5, 0.3, 0, 0.1, 0.1],
        [0.91, 0, 0.09, 0, 0],
    ],
    dtype=np.float32,
)


def test_backing_off_by_hand(read):
    found = back_off(PROBABILITIES, FIVE, read(RANKS))
    assert found["label"].tolist() == ["calanus", "Calanoida", "Arthropoda", "root", "aurelia"]
    assert found["level"].tolist() == ["label", "order", "phylum", "root", "label"]
    assert found["probability"].tolist() == pytest.approx([0.95, 0.95, 0.98, 1, 0.91])
    sure = back_off(PROBABILITIES, FIVE, read(RANKS), certainty=1)
    assert sure["label"].tolist() == ["Calanoida", "Arthropoda", "root", "root", "root"]
    low = back_off(PROBABILITIES, FIVE, read(RANKS), certainty=0.4)
    assert low["label"].tolist() == ["calanus", "calanus", "calanus", "aurelia", "aurelia"]


@pytest.mark.parametrize("certainty", [0.3, 0.6, 0.9, 1.0])
def test_backing_off_takes_the_lowest_group_by_brute_force(certainty):
    rng = np.random.default_rng(0)
    part, text = random_tree(rng, 12)
    taxonomy = parse_newick(text)
    names = sorted(taxonomy.classes)
    values = rng.dirichlet(np.full(12, 0.2), 100)
    found = back_off(values, names, taxonomy, certainty)
    columns = {name: column for column, name in enumerate(names)}

    def walk(below, level):
        yield level, leaves_of(below)
        for child in () if isinstance(below, str) else below:
            yield from walk(child, level + 1)

    groups = list(walk(part, 0))
    for row, (label, probability) in zip(values, found[["label", "probability"]].itertuples(index=False), strict=True):
        sums = [(level, row[[columns[name] for name in group]].sum(), group) for level, group in groups]
        _, best, group = max((item for item in sums if item[1] >= certainty - 1e-6), key=lambda item: item[:2])
        assert probability == pytest.approx(best)
        shown = sorted(group)
        more = f" + {len(shown) - 2} more" if len(shown) > 2 else ""
        assert label == ("root" if len(shown) == 12 else ", ".join(shown[:2]) + more)


def test_classes_outside_stand_under_the_root(read):
    names = ["odd", "calanus", "oithona"]
    found = back_off([[0.95, 0.05, 0], [0.5, 0.1, 0.4], [0, 0.3, 0.7]], names, read(RANKS))
    assert found["label"].tolist() == ["odd", "root", "Arthropoda"]
    left_open = read(RANKS).hang(names).members(names)[found["node"]]
    assert left_open.tolist() == [[True, False, False], [True] * 3, [False, True, True]]


def test_backing_off_refuses_what_is_no_distribution(read):
    taxonomy = read(RANKS)
    with pytest.raises(InputError, match="row 1 does not"):
        back_off([[0.5, 0.5], [0.5, 0.4]], ["calanus", "oithona"], taxonomy)
    with pytest.raises(InputError, match="row 0 does not"):
        back_off([[np.nan, 1]], ["calanus", "oithona"], taxonomy)
    with pytest.raises(InputError, match="column a class"):
        back_off([[0.5, 0.5]], ["calanus"], taxonomy)
    with pytest.raises(InputError, match="named once"):
        back_off([[0.5, 0.5]], ["calanus", "calanus"], taxonomy)
    with pytest.raises(SettingError, match=r"above 0 and at most 1; found 1\.2"):
        back_off([[1.0]], ["calanus"], taxonomy, certainty=1.2)


def test_names_are_composed_as_those_of_catalogs(tmp_path):
    (tmp_path / "t.nwk").write_text("((Me\u0301duse,copepod)Animalia,diatom);", encoding="utf-8")
    assert set(read_taxonomy(tmp_path / "t.nwk").classes) == {"Méduse", "copepod", "diatom"}
