"""The tanglegram: what is drawn, and that it can be read."""

from itertools import combinations, permutations

import numpy as np
import pytest
from matplotlib.figure import Figure

from plankton_embed.analysis.taxonomy_comparison import compare_taxonomy
from plankton_embed.analysis.taxonomy_files import parse_newick
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.taxonomy_comparison import draw_taxonomy_comparison
from plankton_embed.table import EmbeddingTable


def compare(points, text):
    vectors = np.array(list(points.values()), dtype=np.float32).reshape(len(points), -1)
    return compare_taxonomy(EmbeddingTable(vectors, label=list(points)), parse_newick(text), n_permutations=9)


def compare_many(n):
    """Classes of long names in random places, in groups of three in groups of two."""
    names = [f"a_rather_long_class_name_that_says_{i:03}" for i in range(n)]
    triples = [f"({','.join(names[i : i + 3])})Triple{i}" for i in range(0, n, 3)]
    pairs = [f"({','.join(triples[i : i + 2])})Pair_of_triples_{i}" for i in range(0, len(triples), 2)]
    vectors = np.random.default_rng(0).normal(size=(n, 8))
    return compare(dict(zip(names, vectors, strict=True)), f"({','.join(pairs)});")


def places(ax, names):
    """The rows of every class on the left and on the right."""
    return [
        {
            text.get_text(): text.get_position()[1]
            for text in ax.texts
            if text.get_text() in names and text.get_ha() == side
        }
        for side in ("right", "left")
    ]


def test_trees_that_agree_are_drawn_without_a_crossing():
    points = {"a": 0, "b": 1, "c": 5, "d": 6.5, "e": 20}
    ax = draw_taxonomy_comparison(compare(points, "(e,((d,c)DC,(b,a)BA)ABCD);"))
    left, right = places(ax, points)
    assert left == right
    assert sorted(left.values()) == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert "0 crossings" in ax.texts[-1].get_text()
    assert "3 of the taxonomy's 3 groups shared" in ax.get_title(loc="left")
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert len(dots) == 2 * 3 + 1  # on both sides, and one that says what they mean
    assert {"DC", "BA", "ABCD"} <= {text.get_text() for text in ax.texts}


def test_lines_are_the_redder_the_more_others_they_cross():
    points = dict(zip("abcdefghijkl", np.random.default_rng(0).normal(size=(12, 3)), strict=True))
    ax = draw_taxonomy_comparison(compare(points, "((a,(b,c)),((d,e),(f,g)),(h,(i,(j,(k,l)))));"))
    left, right = places(ax, points)
    crossed = {name: sum((left[name] - left[o]) * (right[name] - right[o]) < 0 for o in points) for name in points}
    assert len(set(crossed.values())) > 2
    assert f"0 to {max(crossed.values())} others; {sum(crossed.values()) // 2} crossings" in ax.texts[-1].get_text()
    green = {}
    for name in points:
        ends = [left[name], right[name]]
        (line,) = (line for line in ax.lines if list(line.get_ydata()) == ends and line.get_linewidth() == 1.3)
        green[name] = line.get_color()[1]
    for a, b in combinations(points, 2):
        assert np.sign(crossed[a] - crossed[b]) == np.sign(green[b] - green[a])


def test_branches_are_turned_to_the_fewest_crossings_of_all():
    points = dict(zip("abcde", np.random.default_rng(1).normal(size=(5, 2)), strict=True))
    compared = compare(points, "((a,b),(c,d),e);")
    names = compared.classes

    def turnings(groups):
        """All lines of the classes in which every group stands together."""
        for line in permutations(range(5)):
            place = np.argsort(line)
            if all(np.ptp(place[list(group)]) == len(group) - 1 for group in groups):
                yield place

    learned = [compared.tree.members(node) for node in range(5, 9)]
    given = [np.flatnonzero(members) for members in compared.taxonomy.clades(names).values()]
    upper = np.triu_indices(5, 1)
    fewest = min(
        ((one[upper[0]] - one[upper[1]]) * (other[upper[0]] - other[upper[1]]) < 0).sum()
        for one in turnings(learned)
        for other in turnings(given)
    )
    assert f"; {fewest} crossings" in draw_taxonomy_comparison(compared).texts[-1].get_text()


@pytest.mark.parametrize("n", [3, 40, 60])
def test_nothing_overlaps_at_1000_pixels(tmp_path, n):
    ax = draw_taxonomy_comparison(compare_many(n))
    figure = ax.figure
    assert figure.get_size_inches()[0] == pytest.approx(10, abs=0.2)
    figure.set_dpi(100)
    figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in (*ax.texts, ax.title)]
    assert len(boxes) > 2 * n
    crossing = [(a, b) for (a, p), (b, q) in combinations(boxes, 2) if a and b and p.overlaps(q)]
    assert crossing == []
    assert min(text.get_fontsize() for text in ax.texts) / 72 * 100 >= 9
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for _, box in boxes)
    assert save_figure(ax, tmp_path / "tangle.png", dpi=50).stat().st_size > 1000


def test_given_axes_are_drawn_on_and_dollars_are_no_formulas(tmp_path):
    points = {"a$_{b": 0, "$x$": 1, "c": 5}
    ax = Figure(figsize=(10, 3)).add_subplot()
    assert draw_taxonomy_comparison(compare(points, "(c,('a$_{b','$x$')'$y$');"), ax) is ax
    save_figure(ax, tmp_path / "dollars.png")
    assert {"a$_{b", "$x$", "$y$"} <= {text.get_text() for text in ax.texts}
