"""The eight views by hand, in torch and in numpy."""

import numpy as np
import torch

from plankton_embed.images.views import VIEWS, turn_images, turn_view


def test_the_numbers_of_views():
    assert {n: list(views) for n, views in VIEWS.items()} == {1: [0], 2: [0, 2], 4: [0, 1, 2, 3], 8: list(range(8))}


def test_views_of_a_tensor_by_hand():
    image = torch.tensor([[1, 2], [3, 4]])[None, None]
    seen = [turn_view(image, view)[0, 0].tolist() for view in range(8)]
    assert seen[0] == [[1, 2], [3, 4]]
    assert seen[2] == [[4, 3], [2, 1]]
    assert seen[4] == [[2, 1], [4, 3]]
    assert seen[6] == [[3, 4], [1, 2]]
    assert sorted(seen[1:4:2]) == [[[2, 4], [1, 3]], [[3, 1], [4, 2]]]  # whichever way a quarter turn goes
    assert sorted(seen[5:8:2]) == [[[1, 3], [2, 4]], [[4, 2], [3, 1]]]


def test_views_of_arrays_are_all_different_and_by_hand():
    square = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    turned = turn_images(np.repeat(square, 8, axis=0), np.arange(8))
    assert len(np.unique(turned.reshape(8, -1), axis=0)) == 8
    np.testing.assert_array_equal(turned[1], np.rot90(square[0]))
    np.testing.assert_array_equal(turned[4], square[0, :, ::-1])
    tall = np.arange(6, dtype=np.uint8).reshape(1, 3, 2)
    turned = turn_images(np.repeat(tall, 4, axis=0), np.arange(4))
    np.testing.assert_array_equal(turned[1], tall[0, ::-1, ::-1])
    np.testing.assert_array_equal(turned[2], tall[0, :, ::-1])
    np.testing.assert_array_equal(turned[3], tall[0, ::-1])


def test_both_forms_give_the_same_views():
    image = np.random.default_rng(0).integers(0, 256, (5, 5), dtype=np.uint8)
    seen = [turn_view(torch.from_numpy(image)[None, None], view)[0, 0].numpy() for view in range(8)]
    np.testing.assert_array_equal(turn_images(np.stack([image] * 8), np.arange(8)), seen)
