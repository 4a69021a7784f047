import numpy as np
import pytest
import tensorflow as tf

from data import transforms
from data.transforms import Crop, CropRecipe

RNG = np.random.default_rng(0)


def make_recipe(**changes):
    fields = {
        "crop_size": (24, 32),
        "scale_range": (0.5, 2.0),
        "scale_step": 0.0,
        "max_class_ratio": 1.0,
        "pad": "after_distortion",
    }
    return CropRecipe(**(fields | changes))


def make_crop(scaled_size, offset):
    return Crop(np.array(scaled_size, np.int32), np.array(offset, np.int32))


def draw_many(recipe, shape=(40, 48), count=400):
    label = np.zeros(shape, np.uint8)
    return [transforms.draw_crop(label, recipe, 0, k) for k in range(count)]


def run_eagerly(function, x, crop, recipe):
    return function(tf.constant(x), crop, recipe).numpy()


def run_in_tf_data(function, x, crop, recipe):
    dataset = tf.data.Dataset.from_tensors((x, *crop))
    dataset = dataset.map(lambda x, *crop: function(x, Crop(*crop), recipe))
    return next(dataset.as_numpy_iterator())


runners = pytest.mark.parametrize("run", [run_eagerly, run_in_tf_data])

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


@runners
@pytest.mark.parametrize("crop", CROPS)
def test_image_crop_equals_scaling_everything_first(run, crop):
    recipe = make_recipe()
    image = RNG.integers(0, 256, (40, 48, 3)).astype(np.uint8)
    scaled = tf.image.resize(image, crop.scaled_size, antialias=False).numpy()
    (y, x), (h, w) = crop.offset, recipe.crop_size
    expected = scaled[y : y + h, x : x + w]
    actual = run(transforms.crop_image, image, crop, recipe)
    assert actual.shape == (24, 32, 3) and actual.dtype == np.uint8
    valid = actual[: expected.shape[0], : expected.shape[1]]
    np.testing.assert_allclose(valid, expected, atol=0.501)  # rounded to nearest
    assert actual.sum() == valid.sum()  # padded with 0


@runners
@pytest.mark.parametrize("crop", CROPS)
def test_label_crop_is_nearest_neighbour(run, crop):
    recipe = make_recipe()
    label = RNG.integers(0, 19, (40, 48)).astype(np.uint8)
    expected = np.full((24, 32), 255)
    for i in range(24):
        for j in range(32):
            y, x = i + crop.offset[0], j + crop.offset[1]
            if y < crop.scaled_size[0] and x < crop.scaled_size[1]:
                h, w = crop.scaled_size
                expected[i, j] = label[int(y * 40 / h), int(x * 48 / w)]
    actual = run(transforms.crop_label, label, crop, recipe)
    assert actual.shape == (24, 32) and actual.dtype == np.uint8
    np.testing.assert_array_equal(actual, expected)


def test_large_image_loses_no_precision():
    crop = make_crop((2047, 3001), (2047 - 24, 3001 - 32))
    image = RNG.integers(0, 256, (1024, 2048, 3)).astype(np.uint8)
    scaled = tf.image.resize(image, crop.scaled_size, antialias=False).numpy()
    actual = run_eagerly(transforms.crop_image, image, crop, make_recipe())
    np.testing.assert_allclose(actual, scaled[-24:, -32:], atol=0.51)


def test_rounding_is_to_nearest():
    image = np.array([[[100] * 3, [101] * 3]], np.uint8)  # scaled by 4: 100.125 ...
    recipe = make_recipe(crop_size=(1, 8))
    actual = run_eagerly(
        transforms.crop_image, image, make_crop((1, 8), (0, 0)), recipe
    )
    assert actual[0, :, 0].tolist() == [100, 100, 100, 100, 101, 101, 101, 101]


@runners
def test_pad_before_crop_is_grey_and_counts_as_image(run):
    recipe = make_recipe(pad="before_crop")
    crop = make_crop((20, 24), (0, 0))
    image = run(transforms.crop_image, np.zeros((40, 48, 3), np.uint8), crop, recipe)
    label = run(transforms.crop_label, np.zeros((40, 48), np.uint8), crop, recipe)
    padding = np.ones((24, 32), bool)
    padding[:20, :24] = False
    np.testing.assert_array_equal(image, np.stack([padding * 127] * 3, -1))
    np.testing.assert_array_equal(label, np.where(padding, 255, 0))
    assert transforms.valid_size(crop, recipe).numpy().tolist() == [24, 32]


def test_valid_size_after_distortion_excludes_padding():
    for scaled_size, expected in [((20, 24), [20, 24]), ((20, 60), [20, 32])]:
        crop = make_crop(scaled_size, (0, 0))
        assert transforms.valid_size(crop, make_recipe()).numpy().tolist() == expected


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
        ("pad", "last"),
    ],
)
def test_senseless_config_values_are_named(data_config, key, value):
    data_config = data_config.copy_and_resolve_references()
    with data_config.ignore_type():
        data_config[key] = value
    with pytest.raises(ValueError, match=f"config.data.{key} = "):
        CropRecipe.from_config(data_config)
