"""What images go through in training, by hand."""
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.augmentation import (
    augment,
    displace,
    elastic_fields,
    moments,
    random_holes,
    random_transforms,
)
from training.config import Experiment

CONFIG = Experiment()


def images(count=6, size=8, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), np.uint8)


def transformed(x, config, seed=(0, 0)):
    t = random_transforms(seed, len(x), *x.shape[1:3], config)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(x, tf.float32), transforms=t, output_shape=x.shape[1:3], fill_value=0.0,
        interpolation="BILINEAR", fill_mode="CONSTANT").numpy()


def test_flip_and_shift_are_exact():
    x = np.repeat(images(1, size=9), 400, axis=0)
    flips = transformed(x, dataclasses.replace(CONFIG, horizontal_flip=True))
    kinds = [np.array_equal(y, x[0]) + 2 * np.array_equal(y, x[0, :, ::-1]) for y in flips]
    assert set(kinds) == {1, 2} and 140 < kinds.count(1) < 260
    moved = transformed(x, dataclasses.replace(CONFIG, shift=1))[:, 3:6, 3:6]
    windows = {(r, c): x[0, 3 + r:6 + r, 3 + c:6 + c] for r in (-1, 0, 1) for c in (-1, 0, 1)}
    seen = [next(k for k, w in windows.items() if np.array_equal(w, y)) for y in moved]
    assert set(seen) == set(windows) and min(map(seen.count, windows)) > 20


def test_an_image_is_mirrored_or_not_whatever_is_drawn(monkeypatch):
    """Also for a draw of exactly 0, one in eight millions: never its middle column throughout."""
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda shape, *_: tf.zeros(shape))
    transforms = random_transforms([0, 0], 2, 5, 5, Experiment(horizontal_flip=True))
    np.testing.assert_allclose(transforms, [[1, 0, 0, 0, 1, 0, 0, 0]] * 2, atol=1e-6)


def test_rotation_and_zoom_keep_the_centre_and_their_bounds():
    config = dataclasses.replace(CONFIG, rotation=30.0, zoom=0.2)
    t = random_transforms((0, 0), 1000, 9, 9, config).numpy()
    centre = t[:, [0, 3]] * 4 + t[:, [1, 4]] * 4 + t[:, [2, 5]]
    np.testing.assert_allclose(centre, 4, atol=1e-4)
    angle = np.degrees(np.arctan2(t[:, 3], t[:, 0]))
    scale = np.hypot(t[:, 0], t[:, 3])
    assert 27 < angle.max() <= 30 and -30 <= angle.min() < -27
    assert 1.15 < scale.max() <= 1.2001 and 1 / 1.2001 <= scale.min() < 0.87


def test_elastic_fields_are_smooth_and_of_unit_variance():
    fields = elastic_fields((0, 0), 2000, 12, 20).numpy()
    assert fields.shape == (2000, 12, 20, 2)
    np.testing.assert_allclose(fields.std(0), 1, atol=0.08)
    np.testing.assert_allclose(fields.mean(0), 0, atol=0.11)

    def correlation(a, b):
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]
    # noise under a Gaussian of s pixels correlates over d pixels by exp(-d^2 / 4 s^2)
    near = correlation(fields[:, 6, 10], fields[:, 6, 14])
    assert near == pytest.approx(np.exp(-1 / 4), abs=0.06)
    assert abs(correlation(fields[..., 0], fields[..., 1])) < 0.05


def test_displacement_by_hand():
    x = np.float32([[0, 1, 2], [10, 11, 12], [20, 21, 22]])[None, ..., None]
    fields = np.zeros((1, 3, 3, 2), np.float32)
    np.testing.assert_array_equal(displace(x, fields), x)
    fields[0, 1, 1] = 0.25, -0.5  # from a quarter below and a half to the left: 11 + 2.5 - 0.5
    fields[0, 0, 0] = -3, 9       # outside: the border goes on
    seen = displace(x, fields).numpy()[0, ..., 0]
    assert seen[1, 1] == 13.0 and seen[0, 0] == 2.0 and seen[2, 2] == 22.0
    assert displace(np.float32([[[[7]]]]), np.ones((1, 1, 1, 2), np.float32)).numpy() == 7


def test_displacement_is_that_of_keras():
    x = np.float32(images(4, size=9, channels=3))
    fields = 3 * elastic_fields((1, 2), 4, 9, 9).numpy()
    n, y, x_, c = np.meshgrid(*map(np.arange, x.shape), indexing="ij")
    there = np.stack([n, y + fields[..., :1], x_ + fields[..., 1:], c])
    expected = keras.ops.image.map_coordinates(x, np.float32(there), order=1, fill_mode="nearest")
    np.testing.assert_allclose(displace(x, fields), expected, atol=1e-3)


def test_elastic_distorts_what_is_trained_on():
    config, x = dataclasses.replace(CONFIG, elastic=1.0), np.float32(images(6, size=9))
    seeds = {stream: tf.constant([1, 2]) for stream in ("transforms", "elastic", "holes")}
    one, = augment([x], seeds, config, 0.0, 1 / 255)
    parts = augment([x[:4], x[4:]], seeds, config, 0.0, 1 / 255)
    np.testing.assert_allclose(one, np.concatenate(parts), atol=1e-3)
    field = elastic_fields([1, 2], 6, 9, 9)
    np.testing.assert_allclose(one, displace(x, field), atol=1e-3)
    assert np.abs(one - x).mean() > 10


def test_cutout_hides_one_square():
    holes = random_holes((0, 0), 500, 12, 12, 4)[..., 0].numpy()
    areas = holes.sum((1, 2))
    assert areas.max() == 16 and areas.min() >= 4
    for hole in holes[:20]:
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        assert hole.sum() == len(rows) * len(columns) and len(rows) <= 4


def test_moments():
    half_white = np.array([0, 255] * 1500, np.uint8).reshape(1500, 2, 1, 1)
    assert moments(half_white) == (0.5, 0.5)
    images = np.random.default_rng(0).integers(0, 256, (2100, 3, 2, 3)).astype(np.uint8)
    np.testing.assert_allclose(moments(images), (images.mean() / 255, images.std() / 255))
    assert moments(np.full((2, 3, 3, 1), 51, np.uint8)) == (0.2, 1.0)  # all of one grey
