"""tools/browse_augmentations.py draws what a step of training sees, to the pixel."""

from functools import partial
from itertools import islice

import jax
import numpy as np
import pytest
from PIL import Image

from configs import quickstart
from data import pipeline
from data.sources import make_source, street_scenes
from segnext_jax.training.augment import augment
from segnext_jax.visual.examples import draw_label
from tools.browse_augmentations import augmented_examples, browse

MEAN, STDDEV = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "scenes"
    street_scenes.generate(str(root), num_train=5, num_val=1, size=(48, 64), seed=0)
    return root


@pytest.fixture
def config(root):
    """Everything random is on, and some crops have padding."""
    config = quickstart.get_config()
    config.seed = 3
    config.data.root = str(root)
    config.data.source = "cityscapes"
    config.data.crop_size = (40, 56)
    config.data.scale_range = (0.5, 1.5)
    config.augment.distortion = "photometric"
    config.train.batch_size = 3
    return config


@pytest.fixture
def source(config):
    return make_source(config.data, "train")


def take(config, source, step, count):
    return list(islice(augmented_examples(config, source, step), count))


def test_examples_are_what_the_step_trains_on(config, source):
    """The stream and the keys of train.py, written out."""
    examples = take(config, source, 4, 6)
    for number in (4, 5):
        (batch,) = islice(
            pipeline.train_stream(
                source, config.data, seed=3, batch_size=3, start_step=number
            ),
            1,
        )
        key = jax.random.fold_in(jax.random.key(3), number)
        key, _ = jax.random.split(key)
        images, labels = jax.jit(partial(augment, config=config.augment))(batch, key)
        images = np.rint(np.asarray(images) * STDDEV + MEAN)
        for row in range(3):
            example = examples[3 * (number - 4) + row]
            assert example.image.dtype == np.uint8
            np.testing.assert_array_equal(example.image, images[row])
            np.testing.assert_array_equal(example.label, labels[row])
            assert example.size == tuple(batch["size"][row])
            assert example.caption == f"step {number}, example {row}"
    assert any(example.size != (40, 56) for example in examples)


def test_a_step_is_the_same_twice_and_no_other(config, source):
    first, again, other = (take(config, source, step, 3) for step in (7, 7, 8))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.label, b.label)
        assert (a.image != c.image).mean() > 0.5


def test_page_shows_the_examples(config, source, tmp_path):
    path = tmp_path / "page.png"
    browse(config, str(path), num_images=4, step=2, max_side=0)
    with Image.open(path) as file:
        page = np.asarray(file)
    for example in take(config, source, 2, 4):
        for block in (example.image, draw_label(example, source.classes.palette)):
            assert is_in(page, block)
    assert not is_in(page, take(config, source, 2, 5)[4].image)


def is_in(page, block):
    h, w, _ = block.shape
    windows = np.lib.stride_tricks.sliding_window_view(page, (h, w, 3))[:, :, 0]
    corners = np.argwhere((page[: 1 - h, : 1 - w] == block[0, 0]).all(axis=-1))
    return any((windows[y, x] == block).all() for y, x in corners)


def test_classification_is_refused(config, tmp_path):
    config.unlock()
    config.task = "classification"
    with pytest.raises(ValueError, match="segmentation alone"):
        browse(config, str(tmp_path / "x.png"), num_images=1, step=0, max_side=0)


def test_missing_data_and_folder_are_named(config, tmp_path):
    with pytest.raises(OSError, match=r"nowhere/x\.png"):
        browse(
            config,
            str(tmp_path / "nowhere/x.png"),
            num_images=1,
            step=0,
            max_side=0,
        )
    config.data.root = str(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="nothing"):
        browse(config, str(tmp_path / "x.png"), num_images=1, step=0, max_side=0)
