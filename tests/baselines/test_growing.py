"""System A's data steps: what is dropped, capped and grown, by hand; and twins across the split."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from plankton_embed.baselines.growing import cap_classes, cluster_centroids, divide_and_grow, drop_classes, grow_classes
from plankton_embed.errors import DependencyError, InputError, SettingError


def draw(sizes, shape=(6, 5), seed=0):
    labels = np.repeat([f"c{n}" for n in range(len(sizes))], sizes)
    return np.random.default_rng(seed).integers(0, 256, (len(labels), *shape), dtype=np.uint8), labels


def count(labels):
    return dict(zip(*(part.tolist() for part in np.unique(labels, return_counts=True)), strict=True))


def test_missing_labels_and_listed_classes_are_dropped():
    assert drop_classes(["a", None, "b", float("nan"), "artefact", "a"], ["artefact"]).tolist() == [0, 2, 5]
    with pytest.raises(SettingError, match="no image has the class"):
        drop_classes(["a", None], ["artifact"])


def test_large_classes_are_capped():
    labels = np.array(["a"] * 50 + ["b"] * 3 + ["c"] * 11)
    rows = cap_classes(labels, most=10)
    assert count(labels[rows]) == {"a": 10, "b": 3, "c": 10}
    assert (np.diff(rows) > 0).all()
    assert rows.tolist() == cap_classes(labels, most=10).tolist()
    assert rows.tolist() != cap_classes(labels, most=10, seed=1).tolist()


def test_the_seven_passes_double_what_is_small_at_that_moment():
    images, labels = draw([12, 600, 250, 1000])
    grown = grow_classes(images, labels)
    assert count(grown.labels) == {"c0": 12 * 2**7, "c1": 1200, "c2": 1000, "c3": 1000}


def test_each_pass_changes_the_images_as_said():
    images, labels = draw([1], shape=(6, 6))
    grown = grow_classes(images, labels).images
    first, pillow = images[0], Image.fromarray(images[0])
    assert len(grown) == 128
    np.testing.assert_array_equal(grown[0], first)
    np.testing.assert_array_equal(grown[1], first[:, ::-1])
    np.testing.assert_array_equal(grown[2], first[::-1])
    np.testing.assert_array_equal(grown[3], first[::-1, ::-1])
    np.testing.assert_array_equal(grown[4], np.asarray(pillow.filter(ImageFilter.BLUR)))
    np.testing.assert_array_equal(grown[8], np.rot90(first))
    np.testing.assert_array_equal(grown[16], np.asarray(pillow.filter(ImageFilter.SMOOTH)))
    np.testing.assert_array_equal(grown[32], np.asarray(pillow.filter(ImageFilter.DETAIL)))
    np.testing.assert_array_equal(grown[64], np.asarray(pillow.filter(ImageFilter.SHARPEN)))


def test_growing_knows_the_source_and_keeps_the_shape():
    images, labels = draw([2, 3], shape=(8, 4, 3))
    grown = grow_classes(images, labels, least=4)
    assert grown.images.shape == (4 + 6, 8, 4, 3)
    assert grown.sources.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert (grown.labels == labels[grown.sources]).all()


def test_the_quarter_turn_of_a_tall_image_is_stretched():
    images, labels = draw([1], shape=(8, 4))
    turned = Image.fromarray(images[0]).transpose(Image.Transpose.ROTATE_90).resize((4, 8), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(grow_classes(images, labels).images[8], np.asarray(turned))


@settings(max_examples=25)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.integers(0, 5))
def test_no_picture_lies_on_both_sides(sizes, seed):
    images, labels = draw(sizes)
    train, test = divide_and_grow(images, labels, least=20, seed=seed)
    assert not set(train.sources) & set(test.sources)
    assert set(train.sources) | set(test.sources) == set(range(len(labels)))
    assert set(train.labels) == set(labels)
    np.testing.assert_array_equal(test.images, images[test.sources])  # the test part is natural
    np.testing.assert_array_equal(train.labels, labels[train.sources])


def test_the_leak_puts_twins_on_both_sides():
    images, labels = draw([10, 10])
    train, test = divide_and_grow(images, labels, least=20, leak=True)
    assert len(train) + len(test) == 40
    assert len(test) == 8
    twins = set(train.sources) & set(test.sources)
    assert len(twins) >= 5
    assert count(test.labels) == {"c0": 4, "c1": 4}


def test_cluster_centroids_are_as_many_as_the_smallest_class():
    pytest.importorskip("imblearn")
    near, far = np.full((6, 4, 4), 10, np.uint8), np.full((6, 4, 4), 200, np.uint8)
    images = np.concatenate([near, far, near[:2]])
    labels = np.array(["many"] * 12 + ["few"] * 2)
    pixels, names = cluster_centroids(images, labels)
    assert count(names) == {"many": 2, "few": 2}
    assert pixels.dtype == np.uint8
    assert pixels.shape == (4, 4, 4)
    assert sorted(pixels[names == "many"][:, 0, 0].tolist()) == [10, 200]


def test_without_imbalanced_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "imblearn.under_sampling", None)
    with pytest.raises(DependencyError, match=r"plankton_embed\[balance\]"):
        cluster_centroids(*draw([2, 3]))


def test_wrong_input_is_named():
    images, labels = draw([2, 2])
    with pytest.raises(InputError, match="one label for each image"):
        grow_classes(images, labels[:3])
    with pytest.raises(InputError, match="uint8"):
        grow_classes(images.astype(float), labels)
    with pytest.raises(InputError, match="missing, the first in row 1"):
        grow_classes(images, ["a", None, "b", "b"])
    with pytest.raises(SettingError, match="test_fraction"):
        divide_and_grow(images, labels, 1.0)
    with pytest.raises(SettingError, match="least"):
        grow_classes(images, labels, 0)
    with pytest.raises(SettingError, match="most"):
        cap_classes(labels, 0)
