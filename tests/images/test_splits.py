from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import train_test_split

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import SPLITS, ImageCatalog, content_hashes
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.splits import (
    _apportion,
    check_leaks,
    is_learnable,
    mark_contradictions,
    note_contradictions,
    split_catalog,
)

FRACTIONS = st.sampled_from([(0.7, 0.1, 0.2), (0.5, 0.0, 0.5), (1.0, 0.0, 0.0), (0.1, 0.6, 0.3), (0.8, 0.2, 0.0)])


def build(labels, **columns):
    """Build a catalog of images that need not be there."""
    ids = [str(i) for i in range(len(labels))]
    return ImageCatalog.from_rows({"object_id": ids, "path": [f"{i}.png" for i in ids], "label": labels, **columns})


def counts(catalog):
    """Images of each class in each split."""
    frame = catalog.frame.fillna({"label": "-"})
    table = pd.crosstab(frame["label"], frame["split"])
    return table.reindex(columns=SPLITS, fill_value=0).T.to_dict("list")


@pytest.mark.parametrize(
    ("n", "fractions", "expected"),
    [
        (10, (0.7, 0.1, 0.2), [7, 1, 2]),
        (100, (0.7, 0.1, 0.2), [70, 10, 20]),
        (7, (0.7, 0.1, 0.2), [5, 1, 1]),  # 4.9 0.7 1.4
        (6, (0.5, 0.25, 0.25), [3, 2, 1]),  # 3 1.5 1.5: a tie goes to the first
        (3, (0.7, 0.1, 0.2), [2, 0, 1]),  # 2.1 0.3 0.6
        (1, (0.1, 0.6, 0.3), [1, 0, 0]),  # a single image is for training
        (5, (1.0, 0.0, 0.0), [5, 0, 0]),
        (5, (0.5, 0.0, 0.5), [3, 0, 2]),
    ],
)
def test_counts_by_hand(n, fractions, expected):
    assert counts(split_catalog(build(["a"] * n), fractions)) == {"a": expected}


@pytest.mark.parametrize("n", [30_000_000, 30_000_001])
def test_shares_that_nearly_sum_to_one_divide_a_large_class_whole(n):
    assert _apportion(np.array([n]), np.array([[1 / 3 - 1e-7] * 3])).tolist() == [[n - 20_000_000, *[10_000_000] * 2]]


@given(labels=st.lists(st.sampled_from("abc"), min_size=1, max_size=60), fractions=FRACTIONS, seed=st.integers(0, 9))
@settings(max_examples=60)
def test_single_images_are_divided_exactly(labels, fractions, seed):
    for label, found in counts(split_catalog(build(labels), fractions, seed=seed)).items():
        n = labels.count(label)
        assert sum(found) == n
        assert found[0] > 0
        off = np.abs(np.array(found) - n * np.array(fractions))
        assert off.max() < 1 or n * fractions[0] < 1  # unless train had to take one
        assert not any(found[side] for side in (1, 2) if fractions[side] == 0)


@given(
    rows=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 8) | st.none()), min_size=1, max_size=60),
    hashes=st.lists(st.integers(0, 20) | st.none(), min_size=60, max_size=60),
    files=st.lists(st.integers(0, 30), min_size=60, max_size=60),
    fractions=FRACTIONS,
)
@settings(max_examples=100)
def test_nothing_is_torn_apart_and_every_class_is_trained(rows, hashes, files, fractions):
    labels, samples = zip(*rows, strict=True)
    n = len(rows)
    catalog = ImageCatalog.from_rows(
        {"object_id": range(n), "path": files[:n], "label": labels, "sample_id": samples, "depth": 0.0}
    )
    shown = [None if h is None else f"h{h}" for h in hashes[:n]]
    divided = split_catalog(catalog, fractions, group_by="sample_id", hashes=shown).frame.assign(hash=shown)
    for key in ("sample_id", "path", "hash"):
        assert (divided.dropna(subset=key).groupby(key)["split"].nunique() == 1).all()
    assert set(divided.loc[divided["split"] == "train", "label"]) == set(labels)
    assert not any((divided["split"] == name).any() for name, share in zip(SPLITS, fractions, strict=True) if not share)
    pd.testing.assert_frame_equal(divided.drop(columns=["split", "hash"]), catalog.frame)


def test_same_seed_same_split_other_seed_another():
    catalog = build(["a", "b"] * 50, sample_id=[str(i // 3) for i in range(100)])
    for group_by in (None, "sample_id"):
        first, again, other = (
            split_catalog(catalog, seed=s, group_by=group_by).frame["split"].tolist() for s in (1, 1, 2)
        )
        assert first == again
        assert first != other


def test_the_same_counts_as_scikit_learn():
    labels = ["a"] * 50 + ["b"] * 30 + ["c"] * 20
    _, test = train_test_split(labels, test_size=0.2, stratify=labels, random_state=0)
    ours = counts(split_catalog(build(labels), (0.8, 0.0, 0.2)))
    assert {label: found[2] for label, found in ours.items()} == {label: test.count(label) for label in "abc"}


def test_every_image_has_the_same_chance():
    catalog = build(["a"] * 10)
    often = sum((split_catalog(catalog, seed=s).frame["split"] == "test").to_numpy() for s in range(300))
    assert often.min() > 30  # 60 expected, 7 spread
    assert often.max() < 90


def test_unlabelled_images_are_divided_like_a_class():
    assert counts(split_catalog(build([None] * 10 + ["a"] * 10)))["-"] == [7, 1, 2]


def test_an_empty_sample_joins_nothing():
    assert counts(split_catalog(build(["a"] * 10, sample_id=[None] * 10), group_by="sample_id"))["a"] == [7, 1, 2]


def test_groups_of_even_size_are_divided_exactly():
    samples = [str(i // 10) for i in range(1000)]
    divided = split_catalog(build(["a", "b"] * 500, sample_id=samples), group_by="sample_id")
    assert counts(divided) == {"a": [350, 50, 100], "b": [350, 50, 100]}


@pytest.mark.parametrize("seed", range(5))
def test_fractions_hold_for_samples_of_very_different_sizes(seed):
    rng = np.random.default_rng(seed)
    sizes = np.maximum(rng.lognormal(3, 1.2, 300).astype(int), 1)
    samples = np.repeat(np.arange(300), sizes)
    mixes = rng.dirichlet([3.0, 2.0, 1.0, 0.5], 300)
    labels = np.concatenate([rng.choice(list("abcd"), size, p=mix) for size, mix in zip(sizes, mixes, strict=True)])
    divided = split_catalog(build(labels, sample_id=samples.astype(str)), group_by="sample_id", seed=seed)
    found = np.array(list(counts(divided).values()))
    assert np.abs(found / found.sum(axis=1, keepdims=True) - [0.7, 0.1, 0.2]).max() < 0.02


def test_single_images_make_up_for_what_a_large_group_took():
    samples = ["big"] * 40 + [None] * 60  # the big one goes to train
    divided = split_catalog(build(["a"] * 100, sample_id=samples), group_by="sample_id")
    assert counts(divided)["a"] == [70, 10, 20]


def test_a_group_larger_than_its_side_leaves_the_rest_in_proportion():
    samples = ["big"] * 90 + [None] * 30  # train wants 84 and has 90
    divided = split_catalog(build(["a"] * 120, sample_id=samples), group_by="sample_id")
    assert counts(divided)["a"] == [90, 10, 20]


def test_a_class_that_lives_in_one_sample_is_trained():
    labels = ["common"] * 90 + ["rare"] * 3 + ["common"] * 7
    samples = [str(i // 10) for i in range(100)]
    for seed in range(10):
        divided = split_catalog(build(labels, sample_id=samples), (0.1, 0.1, 0.8), group_by="sample_id", seed=seed)
        assert counts(divided)["rare"] == [3, 0, 0]


def test_objects_of_one_image_file_stay_together():
    catalog = ImageCatalog.from_rows({"object_id": range(40), "path": [f"{i // 4}.png" for i in range(40)]})
    assert (split_catalog(catalog).frame.groupby("path")["split"].nunique() == 1).all()


def test_an_old_split_is_replaced():
    assert counts(split_catalog(build(["a"] * 10, split=["test"] * 10)))["a"] == [7, 1, 2]


def test_any_column_may_group():
    catalog = build(["a"] * 20, depth=np.arange(20) // 5)
    assert (split_catalog(catalog, group_by="depth").frame.groupby("depth")["split"].nunique() == 1).all()


def test_an_unknown_column_or_wrong_fractions_are_refused():
    with pytest.raises(InputError, match=r"no column cruise; its columns are \['object_id'"):
        split_catalog(build(["a"]), group_by="cruise")
    for fractions in [(0.5, 0.5), (0.0, 0.5, 0.5), (0.7, 0.2, 0.2)]:
        with pytest.raises(SettingError, match="fractions"):
            split_catalog(build(["a"]), fractions)


@pytest.mark.parametrize("group_by", [None, "sample_id"])
def test_a_hundred_thousand_images_are_divided_as_requested(group_by):
    n = 100_000
    catalog = build([f"c{i % 121}" for i in range(n)], sample_id=[str(i // 10) for i in range(n)])
    done = split_catalog(catalog, hashes=[str(i) for i in range(n)], group_by=group_by)
    shares = done.frame["split"].value_counts(normalize=True)
    assert [shares[name] for name in ("train", "val", "test")] == pytest.approx([0.7, 0.1, 0.2], abs=0.01)


# --- leaks

TWINS = build(list("aaaaaa"), split=["train", "val", "test", "train", "train", "test"])


def test_no_leak_no_change():
    catalog, keep = check_leaks(TWINS, ["1", "2", "3", "4", "4", None])
    assert catalog is TWINS
    assert keep.all()


@pytest.mark.parametrize(
    ("hashes", "kept"),
    [
        (["x", "x", "x", "1", "2", "3"], [2, 3, 4, 5]),  # test over val over train
        (["x", "x", "1", "2", "3", "4"], [1, 2, 3, 4, 5]),  # val over train
        (["x", "1", "x", "x", "2", "x"], [1, 2, 4, 5]),  # twins inside test stay
        ([None, None, None, "x", "x", "x"], [0, 1, 2, 5]),  # an unknown content is like no other
    ],
)
def test_duplicates_are_dropped_from_the_lesser_side(hashes, kept):
    catalog, keep = check_leaks(TWINS, hashes, drop_duplicates=True)
    assert np.flatnonzero(keep).tolist() == kept
    assert catalog.frame["object_id"].tolist() == [str(row) for row in kept]


def test_a_leak_is_refused_and_both_files_are_named():
    with pytest.raises(InputError) as fault:
        check_leaks(TWINS, ["x", "1", "x", "2", "3", "4"])
    first, second = str(fault.value).splitlines()[:2]
    assert first.startswith("1 images have copies in another split")
    assert second == f"  {TWINS.paths[0]} (train) = {TWINS.paths[2]} (test)"
    assert "--drop-duplicates" in str(fault.value)


def test_many_leaks_are_counted_and_five_are_named():
    catalog = build(["a"] * 20, split=["train", "test"] * 10)
    with pytest.raises(InputError) as fault:
        check_leaks(catalog, [str(i // 2) for i in range(20)])
    assert str(fault.value).count("(train) = ") == 5
    assert "10 images" in str(fault.value)
    assert "… and 5 more" in str(fault.value)


def test_a_catalog_not_divided_is_refused():
    with pytest.raises(InputError, match="without a split"):
        check_leaks(build(["a"]), ["x"])


def test_copies_of_files_are_kept_together_and_pass_the_check(tmp_path):
    paths = [tmp_path / f"{i}.{('png', 'bmp', 'tif')[i % 3]}" for i in range(30)]
    for number, path in enumerate(paths):
        Image.new("L", (3, 3), number // 3).save(path)
    catalog = ImageCatalog.from_rows({"path": paths, "label": ["a"] * 30})
    hashes = content_hashes(catalog.paths, progress=False)
    divided = split_catalog(catalog, hashes=hashes)
    assert check_leaks(divided, hashes)[1].all()
    assert counts(divided)["a"] == [21, 3, 6]


def test_copies_with_two_labels_name_one_another():
    catalog = build(["a", "b", "a", None, "a", "b", "c", "b"])
    marked = mark_contradictions(catalog, ["x", "x", "x", "x", "y", None, None, "z"]).frame["contradicts"]
    assert marked.fillna("").tolist() == ["1", "0", "1", "", "", "", "", ""]  # no label contradicts nothing
    clean = mark_contradictions(build(["a", "b"]), ["x", "y"])
    assert "contradicts" not in clean.frame
    assert "contradicts" not in mark_contradictions(build(["a", "a"], contradicts=["1", "0"]), ["x", "x"]).frame
    assert len(mark_contradictions(ImageCatalog.from_rows({"path": []}, allow_empty=True), [])) == 0


def test_contradictions_are_scored_but_not_learned_from():
    catalog = build(list("abababc"), split=["train", "train", "val", "val", "test", "test", "train"])
    marked = mark_contradictions(catalog, list("xxyyzzw"))
    assert is_learnable(marked).tolist() == [False] * 4 + [True] * 3
    assert is_learnable(catalog).all()


def test_contradictions_are_noted_with_both_labels_and_both_files():
    catalog = mark_contradictions(build(["a", "b", "c"]), ["x", "x", "y"])
    faults = Faults()
    note_contradictions(catalog, faults)
    (one, other) = faults.to_frame().to_dict("records")
    assert (one["file"], one["column"], one["outcome"]) == (catalog.paths[0], "label", "kept")
    assert one["found"].startswith(f"'a' here, 'b' in {catalog.paths[1]}")
    assert other["found"].startswith(f"'b' here, 'a' in {catalog.paths[0]}")
    faults = Faults()
    note_contradictions(catalog.select([0, 2]), faults, np.array([True, False]))  # its copy was dropped
    assert faults.to_frame()["outcome"].tolist() == ["lost"]
    assert "another in 1" in faults.found[0].found


def test_the_real_benchmark_has_its_leaks_named_or_none(data_folder, ndsb_folder):
    catalog = ImageCatalog.load(data_folder / "ndsb40.csv", root=ndsb_folder)
    hashes = content_hashes(catalog.paths, progress=False)
    kept, keep = check_leaks(catalog, hashes, drop_duplicates=True)
    assert check_leaks(kept, np.array(hashes)[keep])[1].all()
    assert (kept.frame["split"] == "test").sum() == (catalog.frame["split"] == "test").sum()
