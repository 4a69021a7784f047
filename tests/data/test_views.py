"""Sizes and pixels of the views; tests/evaluation/test_parity.py has the peers' own."""

import cv2
import numpy as np
import pytest

from configs import common
from data.views import make_views, view_sizes


@pytest.fixture
def config():
    return common.base().eval.unlock()


@pytest.mark.parametrize(
    ("options", "size", "expected"),
    [
        ({}, (375, 500), [(375, 500)]),
        # mmcv: a box of whole pixels, into which the image is fitted.
        (dict(scales=(0.75,)), (482, 483), [(361, 362)]),
        (dict(scales=(0.5, 1.25)), (1024, 2048), [(512, 1024), (1280, 2560)]),
        (dict(resize_to=(512, 2048)), (375, 500), [(512, 683)]),
        (dict(resize_to=(512, 2048)), (500, 375), [(683, 512)]),
        (dict(resize_to=(512, 2048), scales=(1.75,)), (375, 500), [(896, 1195)]),
        (dict(resize_to=(512, 2048), size_divisor=32), (375, 500), [(512, 704)]),
        # PaddleSeg: each side by itself.
        (dict(rescale="float32", scales=(0.75,)), (482, 483), [(362, 362)]),
        (dict(rescale="float32", scales=(0.75, 1.0)), (2, 2), [(2, 2), (2, 2)]),
        (dict(scales=(0.01,)), (10, 10), [(1, 1)]),
    ],
)
def test_sizes_of_views(config, options, size, expected):
    config.update(options)
    assert list(view_sizes(size, config)) == expected


def test_uint8_views_are_resized_in_the_steps_of_the_peer(config):
    """Fitted into the box, rounded, then stretched to multiples, rounded again."""
    config.update(dict(resize_to=(40, 90), size_divisor=32, scales=(1.0, 0.5)))
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    full, half = make_views(image, config)
    np.testing.assert_array_equal(
        full, cv2.resize(cv2.resize(image, (67, 40)), (96, 64))
    )
    np.testing.assert_array_equal(
        half, cv2.resize(cv2.resize(image, (33, 20)), (64, 32))
    )


def test_float32_views_are_not_rounded(config):
    config.update(dict(rescale="float32", scales=(1.0, 0.5)))
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    full, half = make_views(image, config)
    assert (full.dtype, half.dtype) == (np.uint8, np.float32)
    np.testing.assert_array_equal(full, image)
    mean = image.reshape(15, 2, 25, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(half, mean, rtol=1e-5)


def test_stretched_float32_views_are_resized_once(config):
    config.update(dict(rescale="float32", scales=(0.5,), size_divisor=16))
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    (view,) = make_views(image, config)
    np.testing.assert_array_equal(view, cv2.resize(image.astype(np.float32), (32, 16)))
