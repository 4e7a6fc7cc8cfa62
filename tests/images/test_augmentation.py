"""Training-only changes: the eight views exactly, borders, chance."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plankton_embed.images.augmentation import augment
from plankton_embed.settings import AugmentationSettings

EXACT = 5e-3  # of 255: what float32 leaves between neighbours as unlike as those of noise
NOTHING = AugmentationSettings(flip=False, rotation=0, zoom=0, stretch=0, shift=0, brightness=0)


def random_images(n=4, channels=1, side=96):
    return 255 * torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0))


def change(images, background=255.0, views=None, seed=0, settings=None, **changes):
    settings = settings or NOTHING.model_copy(update=changes)
    n, channels = images.shape[:2]
    views = torch.zeros(n, dtype=torch.int64) if views is None else torch.as_tensor(views)
    generator = torch.Generator().manual_seed(seed)
    return augment(images, torch.full((n, channels), background), views, settings, generator)


@pytest.mark.parametrize(("channels", "side"), [(1, 96), (3, 75)])
def test_nothing_changes_where_nothing_may(channels, side):
    images = random_images(channels=channels, side=side)
    torch.testing.assert_close(change(images), images, rtol=0, atol=EXACT)


def test_the_eight_views_are_the_quarter_turns_of_an_image_and_of_its_mirror_image():
    image = random_images(1)
    seen = change(image.expand(8, -1, -1, -1), views=range(8))
    turns = [torch.rot90(picture, k, (2, 3))[0] for picture in (image, image.flip(3)) for k in range(4)]
    matches = [[i for i, turn in enumerate(turns) if (turn - view).abs().max() < EXACT] for view in seen]
    assert [matches[view] for view in (0, 2, 4, 6)] == [[0], [2], [4], [6]]
    assert sorted(matches[:4]) == [[0], [1], [2], [3]]  # whichever way a quarter turn goes
    assert sorted(matches[4:]) == [[4], [5], [6], [7]]


@pytest.mark.parametrize("background", [0.0, 200.0])
@pytest.mark.parametrize("changes", [{"rotation": 180}, {"shift": 0.5}, {"zoom": 0.9}])
def test_borders_that_open_up_take_the_background(background, changes):
    body = torch.full((32, 1, 75, 75), 100.0)  # fills the picture, so that all else is border
    changed = change(body, background, **changes)
    opened = (changed - 100).abs().amax(dim=(1, 2, 3)) > 1
    assert opened.any()
    assert float(changed.min()) == pytest.approx(min(100, background), abs=EXACT)
    assert float(changed.max()) == pytest.approx(max(100, background), abs=EXACT)
    nothing_to_see = torch.full((32, 1, 75, 75), background)
    torch.testing.assert_close(change(nothing_to_see, background, **changes), nothing_to_see)


def test_a_shift_moves_by_at_most_its_share():
    images = torch.zeros(64, 1, 100, 100)
    images[:, :, 50, 50] = 255
    rows = change(images, 0.0, shift=0.1).flatten(2).argmax(dim=2).squeeze() // 100
    assert (rows - 50).abs().max() in (9, 10, 11)
    assert (rows - 50).abs().float().mean() > 2


def test_a_zoom_changes_the_area_by_at_most_its_share():
    images = torch.zeros(64, 1, 100, 100)
    images[:, :, 30:70, 30:70] = 255
    sides = (change(images, 0.0, zoom=0.2).sum(dim=(1, 2, 3)) / 255).sqrt()
    assert 31.9 < sides.min() < 34
    assert 46 < sides.max() < 48.1


def test_a_stretch_changes_the_sides_by_at_most_its_share_and_keeps_the_area():
    images = torch.zeros(64, 1, 100, 100)
    images[:, :, 30:70, 30:70] = 255
    changed = change(images, 0.0, stretch=0.25)[:, 0] / 255
    widths, heights = changed[:, 50].sum(dim=1), changed[:, :, 50].sum(dim=1)
    assert torch.allclose(widths * heights, torch.tensor(1600.0), rtol=0.02)
    assert 31.5 < widths.min() < 34
    assert 47 < widths.max() < 50.5


def test_contrast_leaves_the_background_and_brightness_moves_it():
    images = torch.full((64, 1, 75, 75), 120.0)
    images[:, :, 30:40, 30:40] = 60
    changed = change(images, 120.0, brightness=0.2)
    ground, body = changed[:, 0, 0, 0], changed[:, 0, 35, 35]
    assert 0.15 * 127.5 < (ground - 120).abs().max() <= 0.2 * 127.5 + 1e-3
    contrast = (ground - body) / 60
    assert 0.8 <= contrast.min() < 0.85
    assert 1.15 < contrast.max() <= 1.2 + 1e-5


@pytest.mark.parametrize(
    "changes", [{"rotation": 180}, {"zoom": 0.2}, {"stretch": 0.2}, {"shift": 0.1}, {"brightness": 0.2}]
)
def test_every_image_changes_in_its_own_way_and_the_seed_settles_it(changes):
    images = random_images(1).expand(6, -1, -1, -1)
    first, again, other = (change(images, seed=s, **changes) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(image.flatten().tolist()) for image in first}) == 6


def test_half_of_the_images_are_mirrored():
    images = random_images(1, side=75).expand(200, -1, -1, -1)
    changed = change(images, flip=True)
    mirrored = [(picture - images[0].flip(2)).abs().max() < 1e-2 for picture in changed]
    as_they_were = [(picture - images[0]).abs().max() < 1e-2 for picture in changed]
    assert sum(mirrored) + sum(as_they_were) == 200
    assert 70 < sum(mirrored) < 130


@settings(max_examples=20)
@given(
    strength=st.builds(
        AugmentationSettings, flip=st.booleans(), rotation=st.floats(0, 180), zoom=st.floats(0, 0.99),
        stretch=st.floats(0, 0.99), shift=st.floats(0, 0.5), brightness=st.floats(0, 0.99),
    ),
    background=st.floats(0, 255), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_pixels_stay_in_range(strength, background, seed):
    changed = change(random_images(3, side=75), background, [0, 3, 6], seed, strength)
    assert changed.shape == (3, 1, 75, 75)
    assert changed.isfinite().all()
    assert 0 <= changed.min() <= changed.max() <= 255


@pytest.mark.parametrize("part", [slice(0, None, 3), slice(2, None, 3), slice(None)])
def test_a_part_of_a_batch_is_changed_as_in_the_whole_batch(part):
    images, background, views = random_images(8), torch.arange(8.0)[:, None] * 30, torch.arange(8)
    settings, seed = AugmentationSettings(), 3
    whole = augment(images, background, views, settings, torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed)
    assert torch.equal(augment(images[part], background[part], views, settings, generator, part), whole[part])
