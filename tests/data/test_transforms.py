"""Augmentation: geometry of image and mask together, void where there is no photo, the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.data import Augmentation

PAD = np.array([11, 12, 13], np.uint8)


def coded(height, width):
    """A photo whose colour says its mask: class = red // 20."""
    mask = (np.add.outer(np.arange(height) // 7, np.arange(width) // 5) % 4).astype(np.uint8)
    image = np.stack([mask * 20 + 30] * 3, axis=-1).astype(np.uint8)
    return image, mask


@given(
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    seed=st.integers(0, 1000),
    class_crops=st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_image_and_mask_stay_together_and_the_rest_is_void(height, width, seed, class_crops):
    augment = Augmentation(crop=(33, 49), scale=(1.0, 1.0), class_crops=class_crops)
    image, mask = augment(*coded(height, width), np.random.default_rng(seed), PAD)
    assert image.shape == (33, 49, 3)
    inside = mask != 255
    assert inside.sum() == min(height, 33) * min(width, 49)
    assert np.array_equal((image[inside][:, 0] - 30) // 20, mask[inside])
    assert (image[~inside] == PAD).all()


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_scaling_keeps_them_together_but_for_edges(seed):
    augment = Augmentation(crop=(65, 65), scale=(0.5, 2.0))
    image, mask = augment(*coded(60, 90), np.random.default_rng(seed), PAD)
    inside = mask != 255
    agree = np.abs(image[inside][:, 0].astype(int) - (mask[inside].astype(int) * 20 + 30)) <= 10
    assert agree.mean() > 0.6  # pixels next to an edge between classes are blended


def test_masks_never_hold_a_label_that_was_not_there():
    """A mask is never blended: between class 1 and 3 there is no 2."""
    mask = np.where(np.arange(50) % 2, 3, 1).astype(np.uint8)[None].repeat(50, 0)
    image = np.zeros((50, 50, 3), np.uint8)
    for seed in range(20):
        _, out = Augmentation(crop=(40, 40))(image, mask, np.random.default_rng(seed), PAD)
        assert set(np.unique(out)) <= {1, 3, 255}


def test_flip_mirrors_both_about_every_other_time():
    image, mask = coded(33, 33)
    augment = Augmentation(crop=(33, 33), scale=(1.0, 1.0))
    flipped = 0
    for seed in range(200):
        new_image, new_mask = augment(image, mask, np.random.default_rng(seed), PAD)
        turned = np.array_equal(new_mask, mask[:, ::-1])
        assert turned or np.array_equal(new_mask, mask)
        assert np.array_equal(new_image, image[:, ::-1] if turned else image)
        flipped += turned
    assert 70 < flipped < 130


def test_class_crops_find_small_classes():
    mask = np.zeros((200, 200), np.uint8)
    mask[150:153, 40:43] = 1
    image = np.zeros((200, 200, 3), np.uint8)

    def share(class_crops):
        augment = Augmentation(crop=(33, 33), scale=(1.0, 1.0), class_crops=class_crops)
        return np.mean([(augment(image, mask, np.random.default_rng(s), PAD)[1] == 1).any() for s in range(200)])

    assert share(1.0) > 0.4 > 0.1 > share(0.0)


def test_colours_change_the_photo_alone_and_only_if_asked():
    image, mask = coded(33, 33)
    plain = Augmentation(crop=(33, 33), scale=(1.0, 1.0), flip=False)
    assert np.array_equal(plain(image, mask, np.random.default_rng(0), PAD)[0], image)
    vivid = Augmentation(
        crop=(33, 33), scale=(1.0, 1.0), flip=False, brightness=0.3, contrast=0.3, saturation=0.3, gamma=0.3
    )
    new_image, new_mask = vivid(image, mask, np.random.default_rng(0), PAD)
    assert np.array_equal(new_mask, mask)
    assert not np.array_equal(new_image, image)


def taken(image, seed=0, **options):
    augment = Augmentation(crop=image.shape[:2], scale=(1.0, 1.0), flip=False, **options)
    return augment(image, np.zeros(image.shape[:2], np.uint8), np.random.default_rng(seed), PAD)[0].astype(float)


def test_white_balance_gives_each_channel_a_gain_of_its_own():
    grey = np.full((64, 64, 3), 100, np.uint8)
    gains = np.array([taken(grey, seed, white_balance=0.3)[0, 0] / 100 for seed in range(200)])
    assert gains.min() >= 0.69
    assert gains.max() <= 1.3
    assert (gains.std(axis=0) > 0.12).all()
    assert np.abs(np.corrcoef(gains.T) - np.eye(3)).max() < 0.25


def test_noise_is_drawn_up_to_its_deviation():
    grey = np.full((65, 65, 3), 100, np.uint8)
    deviations = [taken(grey, seed, noise=0.1).std() for seed in range(100)]
    assert min(deviations) < 4
    assert 20 < max(deviations) < 26
    assert abs(taken(grey, noise=0.1).mean() - 100) < 0.5
    assert taken(np.full((33, 33, 3), 255, np.uint8), noise=0.5).max() == 255  # does not wrap


def test_blur_spreads_a_point_over_as_many_pixels():
    point = np.zeros((65, 65, 3), np.uint8)
    point[32, 32] = 255
    distances = (np.arange(65) - 32.0) ** 2

    def spread(seed):
        shares = taken(point, seed, blur=2.0)[..., 0].sum(axis=0)
        return np.sqrt((shares * distances).sum() / shares.sum())

    spreads = [spread(seed) for seed in range(50)]
    assert min(spreads) < 0.5
    assert 1.6 < max(spreads) < 2.1


def test_what_is_not_asked_for_draws_no_numbers():
    """A recipe that was trained before an augmentation came trains as it did."""
    image = coded(60, 60)[0]
    light = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.4, "gamma": 0.3}
    without = Augmentation(crop=(33, 33), **light)
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    without.taken(image, rng)
    other.uniform(size=4)
    assert rng.random() == other.random()


@pytest.mark.parametrize("seed", [0, 7])
def test_the_same_seed_gives_the_same_sample(seed):
    augment = Augmentation(crop=(33, 33), brightness=0.3, saturation=0.3, blur=1.0, noise=0.1, class_crops=0.5)
    first = augment(*coded(60, 60), np.random.default_rng(seed), PAD)
    second = augment(*coded(60, 60), np.random.default_rng(seed), PAD)
    other = augment(*coded(60, 60), np.random.default_rng(seed + 1), PAD)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_light_that_stays_changes_no_value():
    """A table of whole numbers that were cut instead of rounded would darken the photo."""
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    nearly = Augmentation(crop=(33, 33), gamma=1e-9)
    np.testing.assert_array_equal(nearly.taken(values, np.random.default_rng(0)), values)
