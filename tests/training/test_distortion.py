"""Colour distortions against Pillow itself and OpenCV's documented arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from segnext_jax.training import distortion

FACTORS = [0.5, 0.77, 1.0, 1.23, 1.5]


def random_image(size=(40, 50)):
    """Uniform colours, grey pixels and the corners of the colour cube."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    image[0] = image[0, :, :1]
    corners = np.stack(np.meshgrid(*[[0, 1, 128, 254, 255]] * 3), -1).reshape(-1, 3)
    image.reshape(-1, 3)[-len(corners) :] = corners
    return image


def assert_within(actual, expected, *, levels, share):
    """At most `levels` apart, and apart at all in at most `share` of the values."""
    actual, expected = np.asarray(actual), np.asarray(expected, np.float32)
    difference = np.abs(actual - expected)
    assert difference.max() <= levels
    assert np.mean(difference > 0) <= share


def fixed_draw(monkeypatch, name, *, drawn, factor=1.0, shift=0.0, order=None):
    """Runs a distortion whose coins, factors and order are given."""
    order = jnp.arange(4) if order is None else jnp.asarray(order)
    monkeypatch.setattr(
        jax.random, "bernoulli", lambda key, p, shape: jnp.asarray(drawn)
    )
    monkeypatch.setattr(jax.random, "permutation", lambda key, n: order)
    monkeypatch.setattr(
        jax.random,
        "uniform",
        lambda key, shape, minval, maxval: jnp.full(
            shape, shift if maxval > 2 else factor
        ),
    )
    monkeypatch.setattr(
        jax.random, "randint", lambda key, shape, low, high: jnp.asarray(shift)
    )
    image = jnp.asarray(random_image())[None]
    return getattr(distortion, name)(image, jax.random.split(jax.random.key(0), 1))[0]


# paddle: brightness, contrast, saturation, hue


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("enhancer", ["Brightness", "Contrast", "Color"])
def test_paddle_blends_as_pillow(monkeypatch, enhancer, factor):
    operation = ["Brightness", "Contrast", "Color"].index(enhancer)
    drawn = np.arange(4) == operation
    actual = fixed_draw(monkeypatch, "paddle", drawn=drawn, factor=factor)
    enhance = getattr(ImageEnhance, enhancer)(Image.fromarray(random_image()))
    # Where the blend is a whole number, either may fall just below it.
    assert_within(actual, enhance.enhance(factor), levels=1, share=0.005)


@pytest.mark.parametrize("shift", [-18.0, -17.3, -0.6, 0.0, 0.6, 5.9, 17.99])
def test_paddle_shifts_hue_as_pillow(monkeypatch, shift):
    drawn = [False, False, False, True]
    actual = fixed_draw(monkeypatch, "paddle", drawn=drawn, shift=shift)
    hsv = np.array(Image.fromarray(random_image()).convert("HSV"))
    shifted = np.trunc(hsv[..., 0] + shift).astype(int) % 256
    hsv[..., 0] = shifted.astype(np.uint8)
    expected = np.array(Image.fromarray(hsv, "HSV").convert("RGB"))
    # One level of hue is up to 6 levels of red, green or blue.
    assert_within(actual, expected, levels=6, share=0.005)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_paddle_applies_the_operations_in_the_drawn_order(monkeypatch, order):
    drawn = [True, True, True, False]
    actual = fixed_draw(monkeypatch, "paddle", drawn=drawn, factor=1.3, order=order)
    expected = Image.fromarray(random_image())
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for operation in order:
        if operation < 3:
            expected = enhancers[operation](expected).enhance(1.3)
    # A mean grey or a level apart after one operation is scaled by the next.
    assert_within(actual, expected, levels=3, share=0.02)


def test_pillow_hsv_there_and_back():
    image = random_image((64, 64))
    expected = np.array(Image.fromarray(image).convert("HSV"))
    h, s, v = (np.asarray(a)[..., 0] for a in distortion._pillow_hsv(float32(image)))
    np.testing.assert_array_equal(v, expected[..., 2])
    # Where the truncated value is a whole number, either may fall just below it.
    assert_within(s, expected[..., 1], levels=1, share=0.005)
    assert_within(h, expected[..., 0], levels=1, share=0.005)

    every = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    rgb = np.array(Image.fromarray(every, "HSV").convert("RGB"))
    planes = [float32(every[..., i : i + 1]) for i in range(3)]
    assert_within(distortion._pillow_rgb(*planes), rgb, levels=1, share=0.001)


def test_pillow_grey():
    image = random_image()
    grey = distortion._pillow_grey(float32(image))[..., 0]
    np.testing.assert_array_equal(grey, np.array(Image.fromarray(image).convert("L")))


# photometric


def opencv_hsv(image):
    """cvtColor(RGB2HSV) of uint8 as documented: V = max, S = 255·(V − min) / V, and
    H in half degrees, rounded; its fixed-point tables differ by one in a few pixels."""
    hsv = np.zeros_like(image, np.float64)
    for index in np.ndindex(image.shape[:2]):
        r, g, b = (float(x) for x in image[index])
        v = max(r, g, b)
        chroma = v - min(r, g, b)
        s = 255 * chroma / v if v else 0
        if chroma == 0:
            degrees = 0.0
        elif v == r:
            degrees = 60 * (g - b) / chroma
        elif v == g:
            degrees = 120 + 60 * (b - r) / chroma
        else:
            degrees = 240 + 60 * (r - g) / chroma
        hsv[index] = np.floor(degrees % 360 / 2 + 0.5) % 180, np.floor(s + 0.5), v
    return hsv


def opencv_rgb(hsv):
    """The inverse: f(n) = V − V·S·max(0, min(k, 4 − k, 1)), k = (n + H/60°) mod 6."""
    h, s, v = hsv[..., 0] / 30, hsv[..., 1] / 255, hsv[..., 2]
    planes = []
    for n in (5, 3, 1):
        k = (n + h) % 6
        planes.append(v - v * s * np.maximum(0, np.minimum(np.minimum(k, 4 - k), 1)))
    # Its vectorised path truncates (OpenCV 4.11 and 5.0).
    return np.floor(np.stack(planes, -1) + 1e-4)


def test_opencv_hsv():
    image = random_image()
    actual = np.concatenate(distortion._opencv_hsv(float32(image)), -1)
    expected = opencv_hsv(image)
    difference = np.abs(actual - expected)
    difference[..., 0] = np.minimum(difference[..., 0], 180 - difference[..., 0])
    assert difference.max() <= 1
    assert np.mean(difference > 0) <= 0.02


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
    image = jnp.array(rgb, jnp.float32).reshape(1, 1, 3)
    actual = np.concatenate(distortion._opencv_hsv(image), -1)
    np.testing.assert_array_equal(actual[0, 0], hsv)


def test_opencv_rgb():
    rng = np.random.default_rng(1)
    hsv = rng.integers(0, (180, 256, 256), (40, 40, 3)).astype(np.float32)
    actual = distortion._opencv_rgb(*jnp.split(jnp.asarray(hsv), 3, axis=-1))
    assert_within(actual, opencv_rgb(hsv), levels=1, share=0.001)


def to_uint8(image):
    """What mmsegmentation's `convert` does: clip, then truncate."""
    return np.clip(image, 0, 255).astype(np.uint8)


BRIGHTNESS, CONTRAST, FIRST, SATURATION, HUE = range(5)


@pytest.mark.parametrize("drawn", [[False] * 5, [False, False, True, False, False]])
def test_photometric_with_nothing_drawn_is_the_identity(monkeypatch, drawn):
    actual = fixed_draw(monkeypatch, "photometric", drawn=drawn, factor=1.4, shift=9)
    np.testing.assert_array_equal(actual, random_image())


@pytest.mark.parametrize("shift", [-31.5, 0.4, 20.0])
def test_photometric_brightness_adds(monkeypatch, shift):
    drawn = np.arange(5) == BRIGHTNESS
    actual = fixed_draw(monkeypatch, "photometric", drawn=drawn, shift=shift)
    np.testing.assert_array_equal(actual, to_uint8(random_image() + shift))


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("factor", FACTORS)
def test_photometric_contrast_multiplies(monkeypatch, factor, is_first):
    drawn = [False, True, is_first, False, False]
    actual = fixed_draw(monkeypatch, "photometric", drawn=drawn, factor=factor)
    assert_within(actual, to_uint8(random_image() * factor), levels=1, share=0.005)


@pytest.mark.parametrize(("factor", "hue"), [(0.6, 0), (1.4, 0), (1.0, 17), (0.8, -18)])
def test_photometric_saturation_and_hue(monkeypatch, factor, hue):
    drawn = [False, False, True, factor != 1, hue != 0]
    actual = fixed_draw(
        monkeypatch, "photometric", drawn=drawn, factor=factor, shift=hue
    )
    hsv = opencv_hsv(random_image())
    hsv[..., 0] = (hsv[..., 0] + hue) % 180
    hsv[..., 1] = to_uint8(hsv[..., 1] * factor)
    # One level of hue or saturation is up to 255 / 30 levels of red, green or blue.
    difference = np.abs(actual - opencv_rgb(hsv))
    assert difference.max() <= 9
    assert np.mean(difference > 0) <= 0.02


def test_photometric_contrast_is_before_or_after_the_hue(monkeypatch):
    """Before it clips first: a shift of hue then finds other values."""
    first, last = (
        fixed_draw(
            monkeypatch,
            "photometric",
            drawn=[False, True, is_first, False, True],
            factor=1.5,
            shift=10,
        )
        for is_first in (True, False)
    )
    contrasted = to_uint8(random_image() * 1.5)
    hsv = opencv_hsv(contrasted)
    hsv[..., 0] = (hsv[..., 0] + 10) % 180
    assert np.mean(np.abs(first - opencv_rgb(hsv)) > 1) < 0.02
    assert np.mean(np.abs(last - opencv_rgb(hsv)) > 1) > 0.2


# both


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


def float32(image):
    return jnp.asarray(image, jnp.float32)
