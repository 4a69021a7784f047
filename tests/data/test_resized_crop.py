import re

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from data import resized_crop
from data.resized_crop import ResizedCropRecipe, Window

RECIPE = ResizedCropRecipe((24, 32), (0.08, 1.0), (3 / 4, 4 / 3), 0.9)
SIZE = (300, 400)


@pytest.fixture(scope="module")
def windows():
    return [resized_crop.draw_window(SIZE, RECIPE, 0, k) for k in range(3000)]


def test_draw_is_a_function_of_seed_and_example(windows):
    assert resized_crop.draw_window(SIZE, RECIPE, 0, 5) == windows[5]
    assert resized_crop.draw_window(SIZE, RECIPE, 1, 5) != windows[5]
    assert len(set(windows)) == 3000


def test_draw_is_pinned():
    """It must never change: a resumed run would see other data."""
    window = resized_crop.draw_window(SIZE, RECIPE, 7, 3)
    assert window == Window((131, 82), (159, 138), Resampling.BILINEAR)


def test_windows_lie_in_the_image_and_the_ranges(windows):
    offsets, sizes = (np.array([w[i] for w in windows]) for i in (0, 1))
    assert (offsets >= 0).all() and (offsets + sizes <= SIZE).all()
    # The sides are rounded, by half a pixel of 77 (the shortest side) or more.
    area = sizes.prod(1) / np.prod(SIZE)
    aspect = sizes[:, 1] / sizes[:, 0]
    assert 0.079 < area.min() < 0.09 and 0.95 < area.max() <= 1
    assert 0.745 < aspect.min() < 0.76 and 1.3 < aspect.max() < 1.345


def test_distribution():
    """Where every window fits: uniform area, log-uniform aspect, uniform offset."""
    recipe = ResizedCropRecipe((24, 32), (0.1, 0.5), (1 / 2, 2.0), 0.9)
    windows = [
        resized_crop.draw_window((1000, 1000), recipe, 1, k) for k in range(4000)
    ]
    offsets, sizes = (np.array([w[i] for w in windows]) for i in (0, 1))
    assert sizes.max() <= 1000
    quantiles = np.linspace(0.1, 0.9, 9)
    area = np.quantile(sizes.prod(1) / 1e6, quantiles)
    np.testing.assert_allclose(area, 0.1 + 0.4 * quantiles, atol=0.012)
    log_aspect = np.quantile(np.log2(sizes[:, 1] / sizes[:, 0]), quantiles)
    np.testing.assert_allclose(log_aspect, 2 * quantiles - 1, atol=0.06)
    relative = np.quantile(offsets / (1000 - sizes), quantiles, axis=0)
    np.testing.assert_allclose(relative, np.tile(quantiles, (2, 1)).T, atol=0.03)
    bicubic = np.mean([w.resampling == Resampling.BICUBIC for w in windows])
    assert bicubic == pytest.approx(0.5, abs=0.025)


def test_window_that_is_the_whole_image_is_reached():
    recipe = ResizedCropRecipe((24, 32), (1.0, 1.0), (1.0, 1.0), 0.9)
    window = resized_crop.draw_window((50, 50), recipe, 0, 0)
    assert (window.offset, window.size) == ((0, 0), (50, 50))


@pytest.mark.parametrize(
    ("size", "window_offset", "window_size"),
    [
        ((40, 400), (0, 173), (40, 53)),  # as wide as 4/3 allows
        ((400, 40), (173, 0), (53, 40)),  # as high as 3/4 allows
        ((1, 9), (0, 4), (1, 1)),
    ],
)
def test_what_never_fits_becomes_the_centre(size, window_offset, window_size):
    recipe = ResizedCropRecipe((24, 32), (1.0, 1.0), (3 / 4, 4 / 3), 0.9)
    window = resized_crop.draw_window(size, recipe, 0, 0)
    assert window[:2] == (window_offset, window_size)


def test_crop_is_the_resized_window():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    # At its own size, a window is copied.
    window = Window((11, 17), (24, 32), Resampling.BICUBIC)
    crop = np.asarray(resized_crop.crop_window(image, window, RECIPE))
    np.testing.assert_array_equal(crop, image[11:35, 17:49])
    # At half the size, and constant inside, nothing of the outside shines in.
    image[5:53, 10:74] = 99
    for resampling in (Resampling.BILINEAR, Resampling.BICUBIC):
        window = Window((5, 10), (48, 64), resampling)
        crop = np.asarray(resized_crop.crop_window(image, window, RECIPE))
        assert crop.shape == (24, 32, 3) and (crop == 99).all()


@pytest.mark.parametrize(
    ("image_size", "crop_size", "resized", "offset"),
    [
        # Short side floor(224 / 0.9) = 248; the long side 248 * 500 / 375 = 330.67.
        ((375, 500), (224, 224), (248, 330), (12, 53)),
        ((500, 375), (224, 224), (330, 248), (53, 12)),
        ((248, 248), (224, 224), (248, 248), (12, 12)),
        # (26, 35): the width needs the larger scale; 35 * 300 / 300 high.
        ((300, 300), (24, 32), (35, 35), (6, 2)),
    ],
)
def test_centre_crop_is_that_of_torchvision(image_size, crop_size, resized, offset):
    recipe = ResizedCropRecipe(crop_size, (0.08, 1.0), (3 / 4, 4 / 3), 0.9)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*image_size, 3)).astype(np.uint8)
    crop = np.asarray(resized_crop.crop_centre(image, recipe))
    whole = Image.fromarray(image).resize(resized[::-1], Resampling.BICUBIC)
    (top, left), (height, width) = offset, crop_size
    expected = np.asarray(whole)[top : top + height, left : left + width]
    np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop_size", (0, 32)),
        ("crop_size", (1, 2, 3)),
        ("area_range", (0.0, 1.0)),
        ("area_range", (0.5, 1.1)),
        ("area_range", (0.5, 0.4)),
        ("aspect_range", (0.0, 1.0)),
        ("eval_crop_ratio", 0.0),
        ("eval_crop_ratio", 1.5),
    ],
)
def test_senseless_values_are_named(classification_config, key, value):
    classification_config[key] = value
    with pytest.raises(ValueError, match=re.escape(f"config.data.{key} = {value!r};")):
        ResizedCropRecipe.from_config(classification_config)
