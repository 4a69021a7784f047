"""Every operation against what its definition says about chosen pixels."""

import collections
import itertools

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from data import randaugment
from data.randaugment import FILL, OPERATIONS, Operation, RandAugmentRecipe

PUBLISHED = RandAugmentRecipe(2, 9.0, 0.5)


def apply(image, name, magnitude, sign=1, resampling=Resampling.BILINEAR):
    operation = Operation(name, magnitude, sign, resampling)
    return np.asarray(randaugment.apply(Image.fromarray(image), [operation]))


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)


@pytest.fixture
def every_value():
    """A grey ramp, [16 16 3]: pixel i has the value i."""
    return np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, -1)


def values(image):
    """Of a ramp after an operation that treats grey values one by one, [256]."""
    assert (image == image[..., :1]).all()
    return image[..., 0].ravel().astype(int)


def test_invert(every_value):
    assert (values(apply(every_value, "Invert", 9)) == 255 - np.arange(256)).all()


def test_autocontrast_uses_the_whole_range():
    image = np.array([[[50] * 3, [100] * 3, [150] * 3]], np.uint8)
    assert apply(image, "AutoContrast", 0)[0, :, 0].tolist() == [0, 127, 255]


def test_equalize_makes_values_equally_frequent():
    dark = (np.arange(4096).reshape(64, 64) // 128).astype(np.uint8)  # 128 of 0..31
    image = np.repeat(dark[..., None], 3, -1)
    equalized = values(apply(image, "Equalize", 0)).reshape(32, 128)
    assert (equalized == equalized[:, :1]).all()
    np.testing.assert_allclose(equalized[:, 0], np.linspace(0, 255, 32), atol=10)


@pytest.mark.parametrize(
    ("magnitude", "bits"), [(0, 4), (2.4, 4), (5, 2), (9, 1), (10, 0)]
)
def test_posterize_keeps_the_upper_bits(every_value, magnitude, bits):
    result = values(apply(every_value, "PosterizeIncreasing", magnitude))
    step = 2 ** (8 - bits)
    assert (result == np.arange(256) // step * step).all()


@pytest.mark.parametrize(
    ("magnitude", "threshold"), [(0, 256), (5, 128), (9, 26), (10, 0)]
)
def test_solarize_inverts_from_the_threshold_on(every_value, magnitude, threshold):
    result = values(apply(every_value, "SolarizeIncreasing", magnitude))
    i = np.arange(256)
    assert (result == np.where(i < threshold, i, 255 - i)).all()


@pytest.mark.parametrize(("magnitude", "amount"), [(0, 0), (5, 55), (9, 99), (10, 110)])
def test_solarize_add_brightens_the_dark_half(every_value, magnitude, amount):
    result = values(apply(every_value, "SolarizeAdd", magnitude))
    i = np.arange(256)
    assert (result == np.where(i < 128, i + amount, i)).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_magnitude_zero_changes_nothing(noise, sign):
    for name in set(OPERATIONS) - {
        "AutoContrast",
        "Equalize",
        "Invert",
        "PosterizeIncreasing",
    }:
        for resampling in (Resampling.BILINEAR, Resampling.BICUBIC):
            unchanged = apply(noise, name, 0, sign, resampling)
            np.testing.assert_array_equal(unchanged, noise, err_msg=name)


@pytest.mark.parametrize(
    ("magnitude", "sign", "factor"), [(5, 1, 1.45), (5, -1, 0.55), (10, -1, 0.1)]
)
def test_brightness_multiplies(every_value, magnitude, sign, factor):
    result = values(apply(every_value, "BrightnessIncreasing", magnitude, sign))
    np.testing.assert_allclose(result, np.clip(factor * np.arange(256), 0, 255), atol=1)


@pytest.mark.parametrize(("sign", "factor"), [(1, 1.81), (-1, 0.19)])
def test_contrast_is_about_the_mean_grey(every_value, sign, factor):
    result = values(apply(every_value, "ContrastIncreasing", 9, sign))
    expected = np.clip(128 + factor * (np.arange(256) - 128), 0, 255)
    np.testing.assert_allclose(result, expected, atol=1)


@pytest.mark.parametrize(("sign", "factor"), [(1, 1.45), (-1, 0.55)])
def test_colour_is_about_the_grey_of_the_pixel(sign, factor):
    pixel = np.array([[[120, 100, 60]]], np.uint8)
    grey = 0.299 * 120 + 0.587 * 100 + 0.114 * 60
    expected = grey + factor * (pixel - grey)
    np.testing.assert_allclose(
        apply(pixel, "ColorIncreasing", 5, sign), expected, atol=1
    )


def test_sharpness_blurs_and_sharpens_edges():
    step = np.zeros((5, 8, 3), np.uint8)
    step[:, :4], step[:, 4:] = 100, 150
    row = [apply(step, "SharpnessIncreasing", 9, sign)[2, 3:5, 0] for sign in (-1, 1)]
    # Smoothing has weights 1 1 1, 1 5 1, 1 1 1 over 13: 100 + 50 * 3 / 13 = 111.5.
    np.testing.assert_allclose(row[0], [100 + 0.81 * 11.5, 150 - 0.81 * 11.5], atol=1)
    np.testing.assert_allclose(row[1], [100 - 0.81 * 11.5, 150 + 0.81 * 11.5], atol=1)


@pytest.mark.parametrize("resampling", [Resampling.BILINEAR, Resampling.BICUBIC])
@pytest.mark.parametrize("sign", [-1, 1])
def test_translations_move_whole_images(noise, sign, resampling):
    """By 45 % at magnitude 10: 27 of 60 pixels, 18 of 40."""
    x = apply(noise, "TranslateXRel", 10, sign, resampling)
    y = apply(noise, "TranslateYRel", 10, sign, resampling)
    if sign > 0:  # to the left, and up
        np.testing.assert_array_equal(x[:, :33], noise[:, 27:])
        np.testing.assert_array_equal(y[:22], noise[18:])
        assert (x[:, 33:] == FILL).all() and (y[22:] == FILL).all()
    else:
        np.testing.assert_array_equal(x[:, 27:], noise[:, :33])
        np.testing.assert_array_equal(y[18:], noise[:22])
        assert (x[:, :27] == FILL).all() and (y[:18] == FILL).all()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", ["ShearX", "ShearY"])
def test_shears_move_in_proportion(name, sign):
    """Row y is moved by 0.2 * (y + 1/2) at magnitude 20 / 3."""
    image = np.zeros((60, 60, 3), np.uint8)
    image[:, 30] = 200
    if name == "ShearY":
        image = image.transpose(1, 0, 2)
    result = apply(image, name, 20 / 3, sign)[..., 0].astype(float)
    if name == "ShearY":
        result = result.T
    inside = result[:, 12:48]  # where no border comes in
    centre = inside @ np.arange(12, 48) / inside.sum(1)
    expected = 30 - sign * 0.2 * (np.arange(60) + 0.5)
    np.testing.assert_allclose(centre, expected, atol=0.05)


@pytest.mark.parametrize("sign", [-1, 1])
def test_rotation_is_about_the_centre(sign):
    """By 30 degrees at magnitude 10, with sign 1 against the clock."""
    image = np.zeros((81, 81, 3), np.uint8)
    image[39:42, 65:68] = 250  # 26 to the right of the centre, (40, 40)
    result = apply(image, "Rotate", 10, sign)[..., 0].astype(float)
    assert result[0, 0] == FILL[0]
    inside = result[15:66, 15:66]
    y, x = np.indices(inside.shape) + 15
    centre = [(i * inside).sum() / inside.sum() - 40 for i in (y, x)]
    expected = [-sign * 26 * np.sin(np.pi / 6), 26 * np.cos(np.pi / 6)]
    np.testing.assert_allclose(centre, expected, atol=0.1)


def test_operations_follow_each_other(noise):
    invert, add = (
        Operation(name, 9.0, 1, Resampling.BILINEAR)
        for name in ("Invert", "SolarizeAdd")
    )
    image = Image.fromarray(noise)
    both = np.asarray(randaugment.apply(image, [invert, add]))
    np.testing.assert_array_equal(both, apply(255 - noise, "SolarizeAdd", 9))
    assert (np.asarray(randaugment.apply(image, [])) == noise).all()


def test_draw_is_a_function_of_seed_and_example():
    def draws(seed):
        return [randaugment.draw(PUBLISHED, seed, k) for k in range(50)]

    assert draws(0) == draws(0) != draws(1)


def test_draw_is_pinned():
    """It must never change: a resumed run would see other data."""
    (only,) = randaugment.draw(PUBLISHED, 7, 1)
    assert (only.name, only.sign, only.resampling) == ("Rotate", -1, Resampling.BICUBIC)
    assert only.magnitude == pytest.approx(9.023558700953833)


def test_statistics_of_the_draws():
    drawn = [randaugment.draw(PUBLISHED, 0, k) for k in range(6000)]
    # Each of two operations is applied with probability 1/2.
    lengths = np.bincount([len(operations) for operations in drawn]) / 6000
    np.testing.assert_allclose(lengths, [0.25, 0.5, 0.25], atol=0.02)
    operations = [operation for two in drawn for operation in two]
    counts = collections.Counter(operation.name for operation in operations)
    frequencies = [counts[name] / len(operations) for name in OPERATIONS]
    np.testing.assert_allclose(frequencies, 1 / 15, atol=0.012)
    assert np.mean([x.sign for x in operations]) == pytest.approx(0, abs=0.04)
    bicubic = np.mean([x.resampling == Resampling.BICUBIC for x in operations])
    assert bicubic == pytest.approx(0.5, abs=0.02)
    # N(9, 0.5) clipped at 10, two standard deviations above.
    magnitudes = np.array([x.magnitude for x in operations])
    assert magnitudes.max() == 10
    assert np.mean(magnitudes == 10) == pytest.approx(0.0228, abs=0.006)
    quantiles = np.quantile(magnitudes, [0.0228, 0.1587, 0.5, 0.8413])
    np.testing.assert_allclose(quantiles, [8, 8.5, 9, 9.5], atol=0.05)


def test_same_operation_can_be_drawn_twice():
    recipe = RandAugmentRecipe(8, 9.0, 0.5)
    names = [x.name for k in range(30) for x in randaugment.draw(recipe, 0, k)]
    assert any(len(set(pair)) == 1 for pair in itertools.pairwise(names))


def test_no_operations():
    assert randaugment.draw(RandAugmentRecipe(0, 9.0, 0.5), 0, 0) == []


def test_without_deviation_all_magnitudes_are_equal():
    recipe = RandAugmentRecipe(2, 6.0, 0.0)
    drawn = {x.magnitude for k in range(50) for x in randaugment.draw(recipe, 0, k)}
    assert drawn == {6.0}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("randaugment_ops", -1),
        ("randaugment_magnitude", 11.0),
        ("randaugment_magnitude", -1.0),
        ("randaugment_std", -0.5),
    ],
)
def test_senseless_values_are_named(classification_config, key, value):
    classification_config[key] = value
    with pytest.raises(ValueError, match=rf"config\.data\.{key} = {value}; legal"):
        RandAugmentRecipe.from_config(classification_config)
