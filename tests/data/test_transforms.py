import cv2
import numpy as np
import pytest
import tensorflow as tf

from data import transforms
from data.transforms import Crop, CropRecipe

RNG = np.random.default_rng(0)


def make_recipe(**changes):
    fields = {
        "crop_size": (24, 32),
        "resize_to": (),
        "scale_range": (0.5, 2.0),
        "scale_step": 0.0,
        "max_class_ratio": 1.0,
        "rare_classes": (),
        "rare_class_probability": 0.0,
        "pad": "after_distortion",
    }
    return CropRecipe(**(fields | changes))


def make_crop(scaled_size, offset):
    return Crop(np.array(scaled_size, np.int32), np.array(offset, np.int32))


def draw_many(recipe, shape=(40, 48), count=400):
    label = np.zeros(shape, np.uint8)
    return [transforms.draw_crop(label, recipe, 0, k) for k in range(count)]


CROPS = [
    make_crop((61, 83), (20, 30)),  # enlarged, from the middle
    make_crop((80, 96), (56, 64)),  # to the far corner
    make_crop((80, 96), (0, 0)),
    make_crop((40, 48), (3, 5)),  # scale 1
    make_crop((31, 37), (7, 0)),  # shrunk
    make_crop((20, 24), (0, 0)),  # smaller than the crop: padded
    make_crop((20, 60), (0, 28)),  # padded below only
    make_crop((1, 1), (0, 0)),
]


def scale_and_cut(x, crop, interpolation):
    """What the peers do: the whole image is scaled, then cropped."""
    h, w = crop.scaled_size.tolist()
    scaled = cv2.resize(x, (w, h), interpolation=interpolation)
    top, left = crop.offset
    return scaled[top : top + 24, left : left + 32]


@pytest.mark.parametrize("crop", CROPS)
def test_image_crop_equals_scaling_everything_first(crop):
    image = RNG.integers(0, 256, (40, 48, 3)).astype(np.uint8)
    expected = scale_and_cut(image, crop, cv2.INTER_LINEAR)
    actual = transforms.crop_image(image, crop, make_recipe())
    assert actual.shape == (24, 32, 3) and actual.dtype == np.uint8
    valid = actual[: expected.shape[0], : expected.shape[1]]
    np.testing.assert_array_equal(valid, expected)
    assert actual.sum() == valid.sum()  # padded with 0


@pytest.mark.parametrize("crop", CROPS)
def test_label_crop_is_nearest_neighbour(crop):
    recipe = make_recipe()
    label = RNG.integers(0, 19, (40, 48)).astype(np.uint8)
    expected = np.full((24, 32), 255)
    for i in range(24):
        for j in range(32):
            y, x = i + crop.offset[0], j + crop.offset[1]
            if y < crop.scaled_size[0] and x < crop.scaled_size[1]:
                h, w = crop.scaled_size
                expected[i, j] = label[int(y * 40 / h), int(x * 48 / w)]
    actual = transforms.crop_label(label, crop, recipe)
    assert actual.shape == (24, 32) and actual.dtype == np.uint8
    np.testing.assert_array_equal(actual, expected)


def random_crops(count):
    """Sizes from 1 pixel on, scales of 0.3-3 and the round ones, with their crops."""
    rng = np.random.default_rng(1)
    for i in range(count):
        size = rng.integers(1, 90, 2)
        scale = rng.uniform(0.3, 3) if i % 2 else rng.choice([0.25, 0.5, 1, 1.5, 2])
        scaled_size = np.maximum((size * scale + 0.5).astype(int), 1)
        margin = np.maximum(scaled_size - (24, 32), 0)
        yield size, make_crop(scaled_size, rng.random(2) * (margin + 1))


def test_any_crop_is_scaled_from_its_window_alone():
    recipe = make_recipe()
    for size, crop in random_crops(1500):
        image = RNG.integers(0, 256, (*size, 3)).astype(np.uint8)
        label = RNG.integers(0, 256, size).astype(np.uint8)
        window = transforms.source_window(crop, size, recipe)
        blanked = np.zeros_like(image)
        blanked[window] = image[window]
        for actual, x, interpolation in [
            (transforms.crop_image(blanked, crop, recipe), image, cv2.INTER_LINEAR),
            (transforms.crop_label(label, crop, recipe), label, cv2.INTER_NEAREST),
        ]:
            expected = scale_and_cut(x, crop, interpolation)
            valid = actual[: expected.shape[0], : expected.shape[1]]
            np.testing.assert_array_equal(valid, expected, f"{size} {crop}")


def test_window_has_no_pixel_too_many():
    window = transforms.source_window(
        make_crop((2048, 4096), (512, 1024)), (1024, 2048), make_recipe()
    )
    # Output row 512 lies at 255.75, so between the rows 255 and 256, and so on.
    assert window == (slice(255, 269), slice(511, 529))


def test_large_image_loses_no_precision():
    crop = make_crop((2047, 3001), (2047 - 24, 3001 - 32))
    image = RNG.integers(0, 256, (1024, 2048, 3)).astype(np.uint8)
    scaled = tf.image.resize(image, crop.scaled_size, antialias=False).numpy()
    actual = transforms.crop_image(image, crop, make_recipe())
    # OpenCV interpolates in whole numbers, rows after columns: a grey level at most.
    np.testing.assert_allclose(actual, scaled[-24:, -32:], atol=1)


def test_pad_before_crop_is_grey_and_counts_as_image():
    recipe = make_recipe(pad="before_crop")
    crop = make_crop((20, 24), (0, 0))
    image = transforms.crop_image(np.zeros((40, 48, 3), np.uint8), crop, recipe)
    label = transforms.crop_label(np.zeros((40, 48), np.uint8), crop, recipe)
    padding = np.ones((24, 32), bool)
    padding[:20, :24] = False
    np.testing.assert_array_equal(image, np.stack([padding * 127] * 3, -1))
    np.testing.assert_array_equal(label, np.where(padding, 255, 0))
    assert transforms.valid_size(crop, recipe).tolist() == [24, 32]


def test_valid_size_after_distortion_excludes_padding():
    for scaled_size, expected in [((20, 24), [20, 24]), ((20, 60), [20, 32])]:
        size = transforms.valid_size(make_crop(scaled_size, (0, 0)), make_recipe())
        assert size.tolist() == expected and size.dtype == np.int32


def test_continuous_scales_fill_the_range():
    crops = draw_many(make_recipe(), (400, 480))
    scales = np.array([c.scaled_size / (400, 480) for c in crops])
    assert scales.min() >= 0.5 and scales.max() <= 2.0
    assert scales.min() < 0.52 and scales.max() > 1.98
    np.testing.assert_allclose(scales.mean(), 1.25, atol=0.06)
    np.testing.assert_allclose(scales[:, 0], scales[:, 1], atol=0.0025)


def test_stepped_scales_are_the_seven_of_paddleseg():
    crops = draw_many(make_recipe(scale_step=0.25), (400, 480))
    scales, counts = np.unique(
        [c.scaled_size[0] / 400 for c in crops], return_counts=True
    )
    np.testing.assert_allclose(scales, [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0])
    assert counts.min() > 30


def test_scaled_size_is_rounded_half_up():
    for shape, scale, expected in [
        ((5, 7), 0.5, [3, 4]),
        ((360, 480), 1.3, [468, 624]),
    ]:
        recipe = make_recipe(scale_range=(scale, scale))
        (crop,) = draw_many(recipe, shape, count=1)
        assert crop.scaled_size.tolist() == expected


@pytest.mark.parametrize(
    ("shape", "scale", "expected"),
    [
        # ADE20K's: fitted into 2048 x 512, so here its height of 300 becomes 512.
        ((300, 400), 1.0, [512, 683]),
        ((300, 400), 0.5, [256, 341]),
        ((400, 300), 1.0, [683, 512]),
        ((100, 2000), 1.0, [102, 2048]),  # the long side decides
        ((1024, 2048), 0.2503, [128, 256]),  # 512 * 0.2503 is cut to 128
    ],
)
def test_images_are_fitted_into_the_box_first(shape, scale, expected):
    recipe = make_recipe(resize_to=(512, 2048), scale_range=(scale, scale))
    (crop,) = draw_many(recipe, shape, count=1)
    assert crop.scaled_size.tolist() == expected


def test_offsets_reach_every_place_that_fits():
    recipe = make_recipe(crop_size=(37, 60), scale_range=(1.0, 1.0))
    offsets = np.array([c.offset for c in draw_many(recipe)])
    assert set(offsets[:, 0]) == {0, 1, 2, 3}  # 40 - 37
    assert set(offsets[:, 1]) == {0}  # 48 < 60: padded
    assert np.bincount(offsets[:, 0]).min() > 60


def test_draw_depends_on_seed_and_k_only():
    label, recipe = np.zeros((40, 48), np.uint8), make_recipe()

    def draw(seed, k):
        return np.concatenate(transforms.draw_crop(label, recipe, seed, k)).tolist()

    assert draw(3, 10**12) == draw(3, 10**12)
    assert draw(3, 1) != draw(3, 2) and draw(3, 1) != draw(4, 1)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.9])
def test_rare_class_is_in_the_crop_as_often_as_asked(scale):
    """Class 7 is one pixel in 8000, class 9 is absent, the rest is common."""
    label = (np.indices((80, 100)).sum(0) % 3).astype(np.uint8)
    label[71, 5] = 7
    fields = dict(scale_range=(scale, scale), max_class_ratio=0.75)
    recipe = make_recipe(**fields, rare_classes=(7, 9), rare_class_probability=0.5)
    plain = make_recipe(**fields)

    def hits(recipe):
        crops = [transforms.draw_crop(label, recipe, 0, k) for k in range(300)]
        for crop in crops:
            assert (crop.offset >= 0).all()
            assert (crop.offset <= np.maximum(crop.scaled_size - (24, 32), 0)).all()
        windows = [transforms.source_window(crop, (80, 100), recipe) for crop in crops]
        return np.mean([(label[window] == 7).any() for window in windows])

    expected = 0.5 + 0.5 * hits(plain)
    assert abs(hits(recipe) - expected) < 0.07


def test_rare_classes_that_the_label_lacks_change_nothing():
    label = np.zeros((80, 100), np.uint8)
    rare = make_recipe(rare_classes=(3,), rare_class_probability=1.0)
    for k in range(20):
        actual = transforms.draw_crop(label, rare, 0, k)
        expected = transforms.draw_crop(label, make_recipe(), 0, k)
        np.testing.assert_array_equal(actual, expected)


def test_every_pixel_of_every_rare_class_is_equally_likely():
    label = np.full((48, 64), 255, np.uint8)
    label[10, :30], label[30, 40] = 1, 2
    recipe = make_recipe(
        crop_size=(1, 1),
        scale_range=(1.0, 1.0),
        rare_classes=(1, 2),
        rare_class_probability=1.0,
    )
    offsets = [transforms.draw_crop(label, recipe, 0, k).offset for k in range(1200)]
    chosen = np.array([label[tuple(offset)] for offset in offsets])
    assert set(chosen) == {1, 2}
    np.testing.assert_allclose(np.mean(chosen == 1), 0.5, atol=0.05)
    columns = np.bincount(
        [x for (_, x), c in zip(offsets, chosen, strict=True) if c == 1]
    )
    assert len(columns) == 30 and columns.min() > 6


def test_unknown_rare_class_is_named(data_config):
    data_config.rare_classes = ("bicycle", "unicycle")
    with pytest.raises(ValueError, match="no class 'unicycle'; the classes are road"):
        CropRecipe.from_config(data_config, ("road", "bicycle"))


def test_class_ratio_rule_finds_the_mixed_corner():
    """Half of the columns is class 0; crops inside it, or with void, must be rare."""
    label = np.zeros((40, 200), np.uint8)
    label[:, 100:] = np.arange(100) % 5
    recipe = {"crop_size": (24, 32), "scale_range": (1.0, 1.0)}

    def largest_shares(max_class_ratio):
        chosen = make_recipe(**recipe, max_class_ratio=max_class_ratio)
        for crop in (transforms.draw_crop(label, chosen, 0, k) for k in range(200)):
            y, x = crop.offset
            counts = np.bincount(label[y : y + 24, x : x + 32].ravel(), minlength=2)
            yield counts.max() / counts.sum()

    unruled, ruled = list(largest_shares(1.0)), list(largest_shares(0.75))
    assert np.mean(np.array(unruled) >= 0.75) > 0.4
    assert np.mean(np.array(ruled) >= 0.75) < 0.01


def test_class_ratio_rule_ignores_void_and_needs_two_classes():
    varied = transforms._is_varied
    assert varied(np.repeat([0, 1, 255], [74, 26, 900]).astype(np.uint8), 0.75)
    assert not varied(np.repeat([0, 1, 255], [75, 25, 900]).astype(np.uint8), 0.75)
    assert not varied(np.repeat([0, 255], [50, 50]).astype(np.uint8), 0.75)
    assert not varied(np.full(100, 255, np.uint8), 0.75)


def test_hopeless_label_keeps_the_eleventh_draw():
    label = np.zeros((40, 48), np.uint8)
    ruled = transforms.draw_crop(label, make_recipe(max_class_ratio=0.75), 0, 0)
    draws = transforms.stateless.uniform(0, transforms.stateless.AUGMENTATION, 0, 23)
    margin = np.maximum(ruled.scaled_size - (24, 32), 0)
    assert ruled.offset.tolist() == np.floor(draws[21:] * (margin + 1)).tolist()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop_size", (0, 32)),
        ("crop_size", (32,)),
        ("scale_range", (2.0, 0.5)),
        ("scale_range", (0.0, 2.0)),
        ("scale_step", -0.25),
        ("max_class_ratio", 0.0),
        ("max_class_ratio", 75.0),
        ("resize_to", (512,)),
        ("rare_class_probability", 1.5),
        ("pad", "last"),
    ],
)
def test_senseless_config_values_are_named(data_config, key, value):
    data_config = data_config.copy_and_resolve_references()
    with data_config.ignore_type():
        data_config[key] = value
    with pytest.raises(ValueError, match=f"config.data.{key} = "):
        CropRecipe.from_config(data_config, ())
