"""Random erasing against the published ranges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.training.erasing import erase

N, HEIGHT, WIDTH = 2000, 48, 64
KEPT = 9.0  # in no draw of N(0, 1)


@pytest.fixture(scope="module")
def erased():
    """[n h w 3] after erasing every image."""
    return erase_all(probability=1.0)


def erase_all(probability, shape=(N, HEIGHT, WIDTH, 3), seed=0):
    keys = jax.random.split(jax.random.key(seed), shape[0])
    return np.asarray(jax.jit(erase)(jnp.full(shape, KEPT), keys, probability))


def extent(mask, axis):
    """First and last erased position, [n] each, and that all between are erased."""
    lines = mask.any(axis=axis)
    first = lines.argmax(1)
    last = lines.shape[1] - 1 - lines[:, ::-1].argmax(1)
    np.testing.assert_array_equal(lines.sum(1), last - first + 1)
    return first, last


def test_one_rectangle_of_the_published_area_and_aspect(erased):
    mask = (erased != KEPT).all(axis=-1)
    np.testing.assert_array_equal(mask, (erased != KEPT).any(axis=-1))
    mask = mask[mask.any(axis=(1, 2))]
    assert len(mask) == N  # ten attempts are enough
    top, bottom = extent(mask, axis=2)
    left, right = extent(mask, axis=1)
    height, width = bottom - top + 1, right - left + 1
    np.testing.assert_array_equal(mask.sum((1, 2)), height * width)

    # Sides are rounded to whole pixels: by 4 % each at most, of the least of 12.
    area = height * width / (HEIGHT * WIDTH)
    assert 0.018 < area.min() < 0.03
    assert 0.31 < area.max() < 0.35
    aspect = height / width
    assert 0.27 < aspect.min() < 0.34
    assert 1 / 0.34 < aspect.max() < 1 / 0.27
    # Small ones of all aspects fit: log-uniform, so as many are lower as higher.
    small = aspect[area < 0.1]
    assert np.mean(small < 1) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(small)))


def test_place_is_uniform(erased):
    mask = (erased != KEPT).all(axis=-1)
    for axis, length in ((2, HEIGHT), (1, WIDTH)):
        first, last = extent(mask, axis)
        free = length - (last - first + 1)
        place = first[free > 10] / free[free > 10]
        np.testing.assert_allclose(
            np.quantile(place, [0, 0.5, 1]), [0, 0.5, 1], atol=0.05
        )


def test_fill_is_a_standard_normal_of_its_own_for_every_value(erased):
    fill = erased[erased != KEPT]
    assert np.mean(fill) == pytest.approx(0, abs=0.01)
    assert np.std(fill) == pytest.approx(1, abs=0.01)
    # No two images, pixels or channels share it.
    assert len(np.unique(fill[:1000])) == 1000
    assert len(np.intersect1d(erased[0], erased[1])) <= 1


@pytest.mark.parametrize("probability", [0.0, 0.25])
def test_share_of_erased_images(probability):
    share = np.mean((erase_all(probability) != KEPT).any(axis=(1, 2, 3)))
    bound = 4 * np.sqrt(probability * (1 - probability) / N)
    assert abs(share - probability) <= bound


def test_image_too_small_for_any_rectangle_is_left():
    assert (erase_all(1.0, shape=(20, 1, 1, 3)) == KEPT).all()


def test_image_follows_from_its_key_alone():
    image = jnp.full((3, 16, 16, 3), KEPT)
    keys = jax.random.split(jax.random.key(0), 3)
    whole = erase(image, keys, 1.0)
    np.testing.assert_array_equal(whole[1:2], erase(image[:1], keys[1:2], 1.0))
