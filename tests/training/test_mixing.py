"""Mixup and CutMix: one λ for image and target, and the partner."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.training.mixing import mix

HEIGHT, WIDTH = 20, 30
KEYS = 300


@pytest.fixture(scope="module")
def draws():
    """alphas → (image [k 4 h w 3], target [k 4 4]) of k keys.

    Image i is i everywhere and has class i.
    """
    index = jnp.arange(4)
    image = jnp.broadcast_to(
        index[:, None, None, None].astype(jnp.uint8), (4, HEIGHT, WIDTH, 3)
    )

    def draw(mixup_alpha, cutmix_alpha):
        def one(key):
            return mix(
                image,
                jax.nn.one_hot(index, 4),
                key,
                mixup_alpha=mixup_alpha,
                cutmix_alpha=cutmix_alpha,
            )

        keys = jax.random.split(jax.random.key(0), KEYS)
        return tuple(np.asarray(x) for x in jax.jit(jax.vmap(one))(keys))

    return draw


ALPHAS = [(0.8, 1.0), (0.8, 0.0), (0.0, 1.0)]


@pytest.mark.parametrize(("mixup_alpha", "cutmix_alpha"), ALPHAS)
def test_target_is_the_share_of_own_pixels(draws, mixup_alpha, cutmix_alpha):
    """Image and target hold the same λ; the partner is that of the reversed batch."""
    image, target = draws(mixup_alpha, cutmix_alpha)
    own = target[:, 0, 0]
    assert image.dtype == target.dtype == np.float32
    np.testing.assert_allclose(target.sum(-1), 1, rtol=1e-6)
    for i in range(4):
        np.testing.assert_allclose(target[:, i, i], own, rtol=1e-6)
        np.testing.assert_allclose(target[:, i, 3 - i], 1 - own, atol=1e-6)
        expected = own * i + (1 - own) * (3 - i)
        np.testing.assert_allclose(image[:, i].mean((1, 2, 3)), expected, atol=1e-5)


def test_mixup_blends_all_pixels_alike(draws):
    image, target = draws(0.8, 0.0)
    np.testing.assert_array_equal(image.min((2, 3, 4)), image.max((2, 3, 4)))
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)).
    own = target[:, 0, 0]
    variance = 1 / (4 * 2.6)
    assert own.mean() == pytest.approx(0.5, abs=4 * np.sqrt(variance / KEYS))
    assert own.var() == pytest.approx(variance, rel=0.2)


def test_cutmix_pastes_one_box_of_the_partner(draws):
    image, target = draws(0.0, 1.0)
    pasted = (image[:, 0] == 3).all(-1)
    np.testing.assert_array_equal(pasted, (image[:, 0] != 0).any(-1))
    rows, columns = pasted.any(2), pasted.any(1)
    np.testing.assert_array_equal(pasted, rows[:, :, None] & columns[:, None])
    for lines in (rows, columns):  # without a gap: at most one way in
        assert (np.sum(lines[:, 1:] & ~lines[:, :-1], axis=1) + lines[:, 0] <= 1).all()
    np.testing.assert_allclose(1 - target[:, 0, 0], pasted.mean((1, 2)), atol=1e-6)
    # Not clipped, both sides are √(1 - λ) of the image's, down to an even number.
    inner = ~(rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1])
    height, width = rows[inner].sum(1), columns[inner].sum(1)
    assert inner.sum() > 20
    assert (height % 2 == 0).all() and (width % 2 == 0).all()
    assert (np.abs(height / HEIGHT - width / WIDTH) < 2 / HEIGHT).all()
    # λ is uniform before the clipping, so that no box is as likely as a whole one.
    assert pasted.mean((1, 2)).max() > 0.8


def test_half_of_the_batches_get_each(draws):
    image, _ = draws(0.8, 1.0)
    is_mixup = (image[:, 0] != 0).all((1, 2, 3)) & (image[:, 0] != 3).all((1, 2, 3))
    assert abs(is_mixup.mean() - 0.5) < 4 * np.sqrt(0.25 / KEYS)


def test_nothing_is_mixed_without_alphas(draws):
    image, target = draws(0.0, 0.0)
    assert image.dtype == np.float32
    assert (image == np.arange(4)[:, None, None, None]).all()
    assert (target == np.eye(4)).all()


def test_image_without_a_pasted_pixel_is_bit_for_bit_itself():
    image = jnp.asarray(
        np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)), jnp.uint8
    )
    target = jnp.eye(2)
    mixed, _ = mix(image, target, jax.random.key(3), mixup_alpha=0, cutmix_alpha=1.0)
    own = np.asarray(mixed[0] == image[0]).all(-1)
    other = np.asarray(mixed[0] == image[1]).all(-1)
    assert (own | other).all()
