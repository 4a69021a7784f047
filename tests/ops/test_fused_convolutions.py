"""Convolutions that a GPU computes together: the same functions as one by one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from plain_convolution import conv, draw, draw_layer, with_gradients

from segnext_jax.ops import banded
from segnext_jax.ops.conv_gelu import conv_gelu
from segnext_jax.ops.gelu import gelu
from segnext_jax.ops.multi_scale import multi_scale_conv
from segnext_jax.ops.triton import gelu as triton_gelu

# Of images: smaller than the kernels; of several tiles in every direction, with odd
# rests; and parts of 32 and 64 rows with one row more.
SHAPES = [(2, 1, 3, 3), (2, 6, 9, 40), (1, 65, 8, 2)]
STRIPS = (3, 7)
BF16_ROUNDING = 2.0**-8


def plain_multi_scale(x, base, pairs):
    features = conv(x, base)
    return features + sum(conv(conv(features, a), b) for a, b in pairs)


def plain_conv_gelu(x, input_bias, layer):
    return gelu(conv(x + input_bias, layer))


def multi_scale_arguments(shape, dtype=jnp.float32):
    c = shape[-1]
    layer = partial(draw_layer, c=c, dtype=dtype)
    pairs = [(layer(1, k), layer(k, 1)) for k in STRIPS]
    return draw(*shape, dtype=dtype), layer(5, 5), pairs


def conv_gelu_arguments(shape, dtype=jnp.float32):
    c = shape[-1]
    bias = draw(c, seed=7, dtype=dtype)
    return draw(*shape, dtype=dtype), bias, draw_layer(3, 3, c, dtype)


CASES = [
    (multi_scale_conv, plain_multi_scale, multi_scale_arguments),
    (conv_gelu, plain_conv_gelu, conv_gelu_arguments),
]


def assert_close(actual, expected):
    """Within rounding of the largest value of each array."""
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(
            a, e, rtol=0, atol=3e-6 * max(float(np.abs(e).max()), 1)
        ),
        actual,
        expected,
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("implementation", ["shift", "xla", "triton"])
@pytest.mark.parametrize("case", CASES, ids=["multi_scale", "conv_gelu"])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_values_and_gradients(case, implementation, shape, wrap):
    fused, plain, draw_arguments = case
    arguments = draw_arguments(shape)
    run = partial(with_gradients, partial(fused, implementation=implementation))
    expected = with_gradients(plain, arguments)
    assert_close(wrap(run)(arguments), expected)


@pytest.mark.parametrize("case", CASES, ids=["multi_scale", "conv_gelu"])
def test_bfloat16_is_rounded_between_kernels_only(case):
    """Results, and the features between the convolutions; no sum of products."""
    fused, plain, draw_arguments = case
    arguments = draw_arguments((2, 9, 8, 4), jnp.bfloat16)
    actual = with_gradients(partial(fused, implementation="triton"), arguments)
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), arguments)
    expected = with_gradients(plain, exact)

    def compare(a, e):
        assert a.dtype == jnp.bfloat16
        error = np.linalg.norm((a.astype(jnp.float32) - e).ravel())
        assert error < 2 * BF16_ROUNDING * np.linalg.norm(e.ravel())

    jax.tree.map(compare, actual, expected)


@pytest.mark.parametrize("case", CASES, ids=["multi_scale", "conv_gelu"])
def test_images_smaller_than_their_arrays(case):
    fused, plain, draw_arguments = case
    x, *parameters = draw_arguments((2, 8, 8, 3))
    size = jnp.array([[8, 8], [5, 4]])
    run = partial(fused, implementation="triton", size=size)
    alone = plain(x[1:, :5, :4], *parameters)
    np.testing.assert_allclose(run(x, *parameters)[1:, :5, :4], alone, atol=1e-5)


@pytest.mark.parametrize("longest", [8, 256])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 20, 17, 3)])
def test_strips_at_once_on_a_tpu(monkeypatch, longest, shape):
    """By matrices of whole sides, and of parts of those longer than `longest`."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    monkeypatch.setattr(banded, "_LONGEST", longest)
    arguments = multi_scale_arguments(shape)
    expected = with_gradients(plain_multi_scale, arguments)
    assert_close(
        jax.jit(partial(with_gradients, multi_scale_conv))(arguments), expected
    )


def test_strips_at_once_of_images_smaller_than_their_arrays(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    x, *parameters = multi_scale_arguments((2, 8, 8, 3))
    size = jnp.array([[8, 8], [5, 4]])
    alone = plain_multi_scale(x[1:, :5, :4], *parameters)
    result = multi_scale_conv(x, *parameters, size=size)
    np.testing.assert_allclose(result[1:, :5, :4], alone, atol=1e-5)


def test_gelu_of_kernels():
    x = jnp.linspace(-12, 12, 24001)
    np.testing.assert_allclose(triton_gelu.gelu(x), x * norm.cdf(x), atol=6e-7)
    slope = norm.cdf(x) + x * norm.pdf(x)
    np.testing.assert_allclose(triton_gelu.gelu_slope(x), slope, atol=3e-7)


@pytest.mark.parametrize("case", CASES, ids=["multi_scale", "conv_gelu"])
def test_each_device_convolves_its_own_images(case):
    fused, plain, draw_arguments = case
    arguments = draw_arguments((8, 6, 5, 3))
    expected = with_gradients(plain, arguments)
    devices = jax.sharding.Mesh(jax.devices()[:8], "data")
    batch, whole = (
        jax.sharding.NamedSharding(devices, jax.sharding.PartitionSpec(*spec))
        for spec in (("data",), ())
    )
    x, *parameters = arguments
    placed = jax.device_put(x, batch), *jax.device_put(parameters, whole)
    run = jax.jit(partial(with_gradients, partial(fused, implementation="triton")))
    assert "all-gather(" not in run.lower(placed).compile().as_text()
    assert_close(run(placed), expected)
