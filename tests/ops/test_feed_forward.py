"""The feed-forward network by rows is the one layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.ops import feed_forward
from segnext_jax.ops.depthwise import depthwise_conv
from segnext_jax.ops.feed_forward import Layer, feed_forward_by_rows, strip_height
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


# 3 leaves a last strip that overlaps the one before it.
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_equals_layer_by_layer(rows):
    x = draw(SHAPE, 0)
    actual = jax.jit(lambda x: feed_forward_by_rows(x, *LAYERS, rows=rows))(x)
    assert_close(actual, layer_by_layer(x))


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_gradients_are_those_of_layer_by_layer(rows):
    x, cotangent = draw(SHAPE, 0), draw(SHAPE, 7)

    def by_rows(x, layers):
        return feed_forward_by_rows(x, *layers, rows=rows)

    def gradients(function):
        _, vjp = jax.vjp(function, x, LAYERS)
        return vjp(cotangent)

    jax.tree.map(assert_close, gradients(by_rows), gradients(layer_by_layer_of))


def test_images_smaller_than_their_arrays():
    x, size = draw(SHAPE, 0), jnp.array([[7, 3], [4, 5]])
    actual = feed_forward_by_rows(x, *LAYERS, rows=2, size=size)
    for image, expected, (h, w) in zip(
        actual, layer_by_layer(x, size), size, strict=True
    ):
        assert_close(image[:h, :w], expected[:h, :w])
    alone = feed_forward_by_rows(x[1:, :4], *LAYERS, rows=2)
    assert_close(actual[1:, :4], alone)
    assert (
        np.abs(feed_forward_by_rows(x, *LAYERS, rows=2)[1, 3] - alone[0, 3]).max() > 1
    )


def test_strips_have_so_many_bytes(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(feed_forward, "_STRIP_BYTES", 3 * 2 * 5 * HIDDEN * 4)
    monkeypatch.setattr(feed_forward, "_LEAST_ROWS", 2)
    monkeypatch.setattr(feed_forward, "_LEAST_PIXELS", 2 * 5)
    x = jnp.zeros(SHAPE)
    assert strip_height(x, HIDDEN) == 3
    assert strip_height(x.astype(jnp.bfloat16), HIDDEN) == 6
    assert strip_height(x, 100 * HIDDEN) == 2
    assert strip_height(x[:, :3], HIDDEN) is None  # all of it
    assert strip_height(x[:, :3], HIDDEN, train=True) == 3
    assert strip_height(x[:1], 100 * HIDDEN) == 2
    assert strip_height(x[:1, :, :2], 100 * HIDDEN) == 5  # as many pixels
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert strip_height(x, HIDDEN) is None
