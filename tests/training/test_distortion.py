"""Colour distortions against Pillow itself, and for their properties.

For mmsegmentation's and PaddleSeg's own results see test_distortion_parity.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from segnext_jax.training import distortion

FACTORS = [0.5, 0.77, 1.0, 1.23, 1.5]
OFF = {"brightness": 0.0, "contrast": 1.0, "saturation": 1.0, "hue": 0}
BRIGHTNESS, CONTRAST, FIRST, SATURATION, HUE = range(5)
PADDLE = jax.jit(distortion.apply_paddle)
PHOTOMETRIC = jax.jit(distortion.apply_photometric)


def random_image(size=(40, 50)):
    """Uniform colours, grey pixels and the corners of the colour cube."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    image[0] = image[0, :, :1]
    corners = np.stack(np.meshgrid(*[[0, 1, 128, 254, 255]] * 3), -1).reshape(-1, 3)
    image.reshape(-1, 3)[-len(corners) :] = corners
    return image


def planes(image):
    return jnp.moveaxis(jnp.asarray(image, jnp.float32), -1, 0)


def apply_paddle(*, coins, factor=1.0, hue=0.0, order=(0, 1, 2, 3)):
    draw = distortion.PaddleDraw(
        order=jnp.asarray(order)[None],
        coins=jnp.asarray(coins)[None],
        factors=jnp.full((1, 4), factor),
        hue=jnp.full(1, hue),
    )
    return np.asarray(PADDLE(random_image()[None], draw)[0])


def apply_photometric(*coins, image=None, **values):
    """Takes the indices of the coins that are True."""
    coins = np.isin(np.arange(5), coins)
    draw = distortion.PhotometricDraw(coins=coins, **(OFF | values))
    draw = jax.tree.map(lambda x: jnp.asarray(x)[None], draw)
    image = random_image() if image is None else image
    return np.asarray(PHOTOMETRIC(image[None].astype(np.float32), draw)[0])


# paddle: brightness, contrast, saturation, hue


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("enhancer", ["Brightness", "Contrast", "Color"])
def test_paddle_blends_as_pillow(enhancer, factor):
    operation = ["Brightness", "Contrast", "Color"].index(enhancer)
    actual = apply_paddle(coins=np.arange(4) == operation, factor=factor)
    enhance = getattr(ImageEnhance, enhancer)(Image.fromarray(random_image()))
    np.testing.assert_array_equal(actual, enhance.enhance(factor))


@pytest.mark.parametrize("shift", [-18.0, -17.3, -0.6, 0.0, 0.6, 5.9, 17.99])
def test_paddle_shifts_hue_as_pillow(shift):
    actual = apply_paddle(coins=[False, False, False, True], hue=shift)
    hsv = np.array(Image.fromarray(random_image()).convert("HSV"))
    shifted = np.trunc(hsv[..., 0] + shift).astype(int) % 256
    hsv[..., 0] = shifted.astype(np.uint8)
    expected = np.array(Image.fromarray(hsv, "HSV").convert("RGB"))
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_paddle_applies_the_operations_in_the_drawn_order(order):
    actual = apply_paddle(coins=[True, True, True, False], factor=1.3, order=order)
    expected = Image.fromarray(random_image())
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for operation in order:
        if operation < 3:
            expected = enhancers[operation](expected).enhance(1.3)
    np.testing.assert_array_equal(actual, expected)


def test_paddle_with_nothing_drawn_is_the_identity():
    actual = apply_paddle(coins=[False] * 4, factor=1.4, hue=9.0)
    np.testing.assert_array_equal(actual, random_image())


def test_pillow_hsv():
    """The grid has 3000 colours whose hue is a whole number, hard to truncate."""
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), -1).reshape(72, 81, 3)
    image = np.concatenate([grid.astype(np.uint8), random_image((64, 81))])
    actual = jnp.stack(jax.jit(distortion._pillow_hsv)(planes(image)), -1)
    expected = np.array(Image.fromarray(image).convert("HSV"))
    np.testing.assert_array_equal(actual, expected)


def test_pillow_rgb():
    hsv = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    expected = np.array(Image.fromarray(hsv, "HSV").convert("RGB"))
    actual = jnp.stack(jax.jit(distortion._pillow_rgb)(*planes(hsv)), -1)
    np.testing.assert_array_equal(actual, expected)


def test_pillow_grey():
    image = random_image()
    grey = jax.jit(distortion._pillow_grey)(planes(image))
    np.testing.assert_array_equal(grey, np.array(Image.fromarray(image).convert("L")))


def test_pillow_mean_is_rounded_and_holds_large_images():
    mean = jax.jit(distortion._pillow_mean)
    assert mean(jnp.array([[3.0, 4.0]])) == 4
    assert mean(jnp.array([[3.0, 3.0, 4.0]])) == 3
    assert mean(jnp.full((2048, 4096), 255.0)) == 255


# photometric


@pytest.mark.parametrize(
    ("rgb", "hsv"),
    [  # cv2.cvtColor(COLOR_RGB2HSV)
        ((255, 0, 0), (0, 255, 255)),
        ((0, 128, 255), (105, 255, 255)),
        ((10, 10, 10), (0, 0, 10)),
        ((0, 0, 0), (0, 0, 0)),
    ],
)
def test_opencv_hsv_of_single_colours(rgb, hsv):
    actual = jax.jit(distortion._opencv_hsv)(planes([[rgb]]))
    np.testing.assert_array_equal(np.ravel(actual), hsv)


def test_opencv_rgb_is_the_documented_formula():
    """f(n) = V - V·S·max(0, min(k, 4 - k, 1)), k = (n + H/60°) mod 6, truncated;
    whole numbers may be one lower."""
    hsv = np.random.default_rng(1).integers(0, (180, 256, 256), (40, 40, 3))
    h, s, v = (hsv / (30, 255, 1)).transpose(2, 0, 1)
    k = (np.array([5, 3, 1])[:, None, None] + h) % 6
    expected = v - v * s * np.maximum(0, np.minimum(np.minimum(k, 4 - k), 1))
    actual = np.asarray(jax.jit(distortion._opencv_rgb)(*planes(hsv)))
    is_whole = abs(expected - expected.round()) < 1e-6
    np.testing.assert_array_equal(actual[~is_whole], np.floor(expected[~is_whole]))
    below = expected[is_whole].round() - actual[is_whole]
    assert set(below) == {0, 1}


def test_one_minus_product_is_rounded_once():
    x = jnp.arange(256) * np.float32(1 / 255)
    y = (jnp.arange(180) * np.float32(1 / 30) % 1)[:, None]
    actual = np.asarray(jax.jit(distortion._one_minus_product)(x, y))
    expected = np.float32(1 - np.float64(x) * np.float64(y))
    # Of 46080, those that lie in the middle between two numbers.
    assert np.sum(actual != expected) <= 7
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2**-24)


def to_uint8(image):
    """What mmsegmentation's `convert` does: clip, then truncate."""
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("coins", [(), (FIRST,)])
def test_photometric_with_nothing_drawn_is_the_identity(coins):
    values = {"brightness": 9.0, "contrast": 1.4, "saturation": 1.4, "hue": 9}
    actual = apply_photometric(*coins, **values)
    np.testing.assert_array_equal(actual, random_image())


@pytest.mark.parametrize("shift", [-31.5, 0.4, 20.0])
def test_photometric_brightness_adds(shift):
    actual = apply_photometric(BRIGHTNESS, brightness=shift)
    np.testing.assert_array_equal(actual, to_uint8(random_image() + shift))


@pytest.mark.parametrize("coins", [(CONTRAST,), (CONTRAST, FIRST)])
@pytest.mark.parametrize("factor", FACTORS)
def test_photometric_contrast_multiplies(factor, coins):
    actual = apply_photometric(*coins, contrast=factor)
    expected = random_image().astype(np.float32) * np.float32(factor)
    np.testing.assert_array_equal(actual, to_uint8(expected))


def test_photometric_contrast_is_before_or_after_the_hue():
    hue = {"contrast": 1.5, "hue": 10}
    contrasted = to_uint8(random_image() * 1.5)
    first = apply_photometric(CONTRAST, FIRST, HUE, **hue)
    np.testing.assert_array_equal(
        first, apply_photometric(HUE, image=contrasted, **hue)
    )
    last = apply_photometric(CONTRAST, HUE, **hue)
    np.testing.assert_array_equal(last, to_uint8(apply_photometric(HUE, **hue) * 1.5))
    assert np.mean(np.abs(first - last) > 1) > 0.2


def test_photometric_hue_is_after_the_saturation():
    """And has a conversion of its own."""
    both = apply_photometric(SATURATION, HUE, saturation=0.8, hue=-18)
    saturated = apply_photometric(SATURATION, saturation=0.8)
    expected = apply_photometric(HUE, image=saturated, hue=-18)
    np.testing.assert_array_equal(both, expected)


@pytest.mark.parametrize("factor", [0.5, 1.4])
def test_photometric_saturation_leaves_hue_and_value(factor):
    image = random_image()
    actual = apply_photometric(SATURATION, saturation=factor)
    np.testing.assert_array_equal(actual.max(-1), image.max(-1))
    spread, before = np.ptp(actual, -1), np.ptp(image.astype(int), -1)
    top = image.max(-1)
    np.testing.assert_allclose(spread, np.minimum(before * factor, top), atol=2)


# both


def test_draws_stay_in_the_published_ranges():
    keys = jax.random.split(jax.random.key(0), 2000)
    draw = jax.jit(jax.vmap(distortion.draw_photometric))(keys)
    paddle = jax.jit(jax.vmap(distortion.draw_paddle))(keys)
    assert set(np.unique(draw.hue)) == set(range(-18, 18))
    for values, low, high in [
        (draw.brightness, -32, 32),
        (draw.contrast, 0.5, 1.5),
        (draw.saturation, 0.5, 1.5),
        (paddle.factors, 0.5, 1.5),
        (paddle.hue, -18, 18),
    ]:
        margin = (high - low) / 100
        assert low <= values.min() < low + margin
        assert high - margin < values.max() <= high


@pytest.mark.parametrize("name", ["photometric", "paddle"])
def test_results_are_grey_levels(name):
    image = jnp.broadcast_to(jnp.asarray(random_image((8, 16))), (64, 8, 16, 3))
    keys = jax.random.split(jax.random.key(0), 64)
    result = jax.jit(distortion.DISTORTIONS[name])(image, keys)
    assert result.dtype == jnp.float32
    np.testing.assert_array_equal(result, jnp.round(result))
    assert result.min() >= 0
    assert result.max() <= 255


# Four standard errors of a share of 1/2 in 1000 draws.
HALF = pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 1000))


def distort_patches(name, colours):
    image = jnp.broadcast_to(
        jnp.asarray(colours, jnp.uint8), (1000, 1, len(colours), 3)
    )
    keys = jax.random.split(jax.random.key(0), 1000)
    return np.asarray(jax.jit(distortion.DISTORTIONS[name])(image, keys))[:, 0]


def test_photometric_draws_each_operation_half_of_the_time():
    """Black shows brightness, a grey contrast too, a colour all."""
    grey = distort_patches("photometric", [(100, 100, 100)])[:, 0]
    assert (grey == grey[:, :1]).all()  # saturation and hue leave grey
    unchanged = np.mean(grey[:, 0] == 100)
    assert unchanged == pytest.approx(0.25, abs=0.07)
    colour = distort_patches("photometric", [(160, 90, 90)])[:, 0]
    assert np.mean(colour[:, 1] == colour[:, 2]) == HALF  # no hue
    assert np.mean((colour == (160, 90, 90)).all(-1)) == pytest.approx(1 / 16, abs=0.03)


def test_paddle_draws_each_operation_half_of_the_time():
    # On a constant grey contrast and saturation do nothing: 100 is its own mean.
    grey = distort_patches("paddle", [(100, 100, 100)])[:, 0]
    assert (grey == grey[:, :1]).all()
    assert np.mean(grey[:, 0] == 100) == pytest.approx(0.5, abs=0.08)
    assert 50 <= grey.min() < 55
    assert 145 < grey.max() <= 150
    colour = distort_patches("paddle", [(160, 90, 90)])[:, 0]
    # 9 in 36 hue shifts fall within a level of green and blue here.
    assert np.mean(colour[:, 1] == colour[:, 2]) == pytest.approx(0.5, abs=0.1)
