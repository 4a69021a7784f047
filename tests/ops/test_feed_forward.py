"""The feed-forward network by tiles is the one layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.ops import feed_forward
from segnext_jax.ops.depthwise import depthwise_conv
from segnext_jax.ops.feed_forward import (
    Layer,
    Tile,
    choose_tile,
    feed_forward_by_tiles,
)
from segnext_jax.ops.gelu import gelu
from segnext_jax.ops.valid import zero_outside

SHAPE, HIDDEN = (2, 7, 5, 4), 12


def draw(shape, seed):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


LAYERS = (
    Layer(draw((SHAPE[-1], HIDDEN), 1), draw((HIDDEN,), 2)),
    Layer(draw((3, 3, HIDDEN), 3), draw((HIDDEN,), 4)),
    Layer(draw((HIDDEN, SHAPE[-1]), 5), draw((SHAPE[-1],), 6)),
)


def layer_by_layer(x, size=None):
    return layer_by_layer_of(x, LAYERS, size)


def layer_by_layer_of(x, layers, size=None):
    expand, conv, project = layers
    y = zero_outside(x @ expand.kernel + expand.bias, size)
    y = gelu(depthwise_conv(y, conv.kernel, implementation="xla") + conv.bias)
    return y @ project.kernel + project.bias


def assert_close(actual, expected):
    atol = 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


# Of 3 rows a last strip ends below the image.
TILES = [Tile(1, 1), Tile(3, 1), Tile(3, 4), Tile(7, 1), Tile(7, 3)]


@pytest.mark.parametrize("tile", TILES)
def test_equals_layer_by_layer(tile):
    x = draw(SHAPE, 0)
    actual = jax.jit(lambda x: feed_forward_by_tiles(x, *LAYERS, tile=tile))(x)
    assert_close(actual, layer_by_layer(x))


@pytest.mark.parametrize("tile", TILES)
def test_gradients_are_those_of_layer_by_layer(tile):
    x, cotangent = draw(SHAPE, 0), draw(SHAPE, 7)

    def by_tiles(x, layers):
        return feed_forward_by_tiles(x, *layers, tile=tile)

    def gradients(function):
        _, vjp = jax.vjp(function, x, LAYERS)
        return vjp(cotangent)

    jax.tree.map(assert_close, gradients(by_tiles), gradients(layer_by_layer_of))


def test_images_smaller_than_their_arrays():
    x, size = draw(SHAPE, 0), jnp.array([[7, 3], [4, 5]])
    tile = Tile(2, 3)
    actual = feed_forward_by_tiles(x, *LAYERS, tile=tile, size=size)
    for image, expected, (h, w) in zip(
        actual, layer_by_layer(x, size), size, strict=True
    ):
        assert_close(image[:h, :w], expected[:h, :w])
    alone = feed_forward_by_tiles(x[1:, :4], *LAYERS, tile=tile)
    assert_close(actual[1:, :4], alone)
    full = feed_forward_by_tiles(x, *LAYERS, tile=tile)
    assert np.abs(full[1, 3] - alone[0, 3]).max() > 1


def test_tiles_have_so_many_pixels_and_features(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(feed_forward, "_PIXELS", 4 * 2 * 5)
    monkeypatch.setattr(feed_forward, "_LEAST_ROWS", 3)
    monkeypatch.setattr(feed_forward, "_FEW_PIXELS", 2 * 2 * 5)
    monkeypatch.setattr(feed_forward, "_FEATURES", 5)
    x = jnp.zeros(SHAPE)
    assert choose_tile(x, 10) == Tile(rows=4, parts=2)
    assert choose_tile(x, 16) == Tile(4, 2)  # of equal size, here 8
    assert choose_tile(x, 4) == Tile(4, 1)
    assert choose_tile(jnp.tile(x, (2, 1, 1, 1)), 10) == Tile(3, 2)
    assert choose_tile(x[:, :4], 10) is None  # all of it
    assert choose_tile(x[:, :4], 10, train=True) == Tile(4, 2)
    assert choose_tile(x[:, :2], 10, train=True) == Tile(2, 1)  # few pixels
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert choose_tile(x, 10) is None
