"""Flip, distortion and normalisation on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from segnext_jax.training.augment import augment
from segnext_jax.training.distortion import DISTORTIONS

HEIGHT, WIDTH = 6, 8
MEAN = np.array([123.675, 116.28, 103.53])
STDDEV = np.array([58.395, 57.12, 57.375])
SIZES = [(6, 8), (6, 5), (4, 8), (3, 2)]  # of the part that is not padding


def make_config(flip_probability=0.5, distortion="none"):
    return ConfigDict({"flip_probability": flip_probability, "distortion": distortion})


def make_batch(sizes=SIZES):
    """Random everywhere: also where there is padding, which must not show."""
    rng = np.random.default_rng(0)
    shape = (len(sizes), HEIGHT, WIDTH)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (*shape, 3)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, 19, shape), jnp.uint8),
        "size": jnp.asarray(sizes, jnp.int32),
    }


def grey_levels(image):
    return np.asarray(image) * STDDEV + MEAN


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_flip_mirrors_image_and_label_left_of_the_padding(probability):
    batch = make_batch()
    image, label = augment(batch, jax.random.key(0), make_config(probability))
    assert (image.dtype, label.dtype) == (jnp.float32, jnp.int32)
    step = -1 if probability else 1
    for i, (h, w) in enumerate(SIZES):
        expected = np.asarray(batch["image"])[i, :h, :w][:, ::step]
        np.testing.assert_allclose(grey_levels(image)[i, :h, :w], expected, atol=1e-4)
        expected = np.asarray(batch["label"])[i, :h, :w][:, ::step]
        np.testing.assert_array_equal(label[i, :h, :w], expected)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_padding_is_0_after_normalisation_and_ignored(distortion):
    config = make_config(distortion=distortion)
    image, label = augment(make_batch(), jax.random.key(0), config)
    for i, (h, w) in enumerate(SIZES):
        padding = np.ones((HEIGHT, WIDTH), bool)
        padding[:h, :w] = False
        assert not np.asarray(image)[i][padding].any()
        assert (np.asarray(label)[i][padding] == 255).all()
        assert np.asarray(image)[i][~padding].all()
        assert (np.asarray(label)[i][~padding] < 19).all()


@pytest.mark.parametrize("distortion", ["photometric", "paddle"])
def test_distortion_stays_within_the_grey_levels_and_leaves_labels(distortion):
    batch = make_batch([(HEIGHT, WIDTH)] * 8)
    plain, plain_label = augment(batch, jax.random.key(1), make_config())
    config = make_config(distortion=distortion)
    image, label = augment(batch, jax.random.key(1), config)
    np.testing.assert_array_equal(label, plain_label)
    values = grey_levels(image)
    np.testing.assert_allclose(values, values.round(), atol=1e-4)
    assert values.round().min() >= 0
    assert values.round().max() <= 255
    assert np.sum(np.abs(image - plain).max(axis=(1, 2, 3)) > 0) >= 5


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_result_follows_from_key_and_position(distortion):
    """Example i is the same in a batch of any size; another key is another draw."""
    config = make_config(distortion=distortion)
    same = {k: jnp.repeat(v[:1], 4, axis=0) for k, v in make_batch().items()}
    whole = augment(same, jax.random.key(0), config)
    again = augment(same, jax.random.key(0), config)
    half = augment({k: v[:2] for k, v in same.items()}, jax.random.key(0), config)
    others = [augment(same, jax.random.key(s), config)[0] for s in range(1, 6)]
    for a, b, c in zip(whole, again, half, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[:2], c)
    assert any(not np.array_equal(whole[0], other) for other in others)
    assert any(not np.array_equal(other[0], other[1]) for other in others)


def test_half_of_the_examples_are_flipped():
    image = jnp.tile(jnp.array([[[0] * 3, [255] * 3]], jnp.uint8), (400, 1, 1, 1))
    batch = {
        "image": image,
        "label": jnp.zeros((400, 1, 2), jnp.uint8),
        "size": jnp.tile(jnp.array([1, 2]), (400, 1)),
    }
    image, _ = augment(batch, jax.random.key(0), make_config())
    share = np.mean(image[:, 0, 0, 0] > 0)
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 400)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_jit_changes_nothing(distortion):
    """But for rounding at the border of two grey levels."""
    config = make_config(distortion=distortion)

    def run(batch, key):
        return augment(batch, key, config)

    eager = run(make_batch(), jax.random.key(0))
    jitted = jax.jit(run)(make_batch(), jax.random.key(0))
    np.testing.assert_array_equal(jitted[1], eager[1])
    difference = np.abs(grey_levels(jitted[0]) - grey_levels(eager[0]))
    assert difference.max() < 1.001
    assert np.mean(difference > 1e-3) < 0.02


def test_unknown_distortion_is_named():
    with pytest.raises(
        ValueError, match=r"config\.augment\.distortion is 'hue': use one of none"
    ):
        augment(make_batch(), jax.random.key(0), make_config(distortion="hue"))
