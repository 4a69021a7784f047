"""Convolutions of stride 2, with few channels and with many."""

import jax
import numpy as np
import pytest
from jax import lax

from segnext_jax.ops.strided import strided_conv


def plain(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("size", [(8, 6), (7, 6), (8, 5), (1, 1)])
def test_values_and_gradients_are_those_of_the_plain_convolution(channels, size):
    random = np.random.default_rng(0)
    x = random.standard_normal((2, *size, channels), np.float32)
    kernel = random.standard_normal((3, 3, channels, 5), np.float32)
    expected, plain_vjp = jax.vjp(plain, x, kernel)
    actual, vjp = jax.vjp(jax.jit(strided_conv), x, kernel)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    cotangent = random.standard_normal(expected.shape, np.float32)
    for a, e in zip(vjp(cotangent), plain_vjp(cotangent), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=2e-5)
