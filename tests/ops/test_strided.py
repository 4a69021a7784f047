"""Convolutions of stride 2, with few channels and with many."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segnext_jax.ops.strided import strided_conv


def plain(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(
    ("platform", "implementation"), [("cpu", "auto"), ("cpu", "xla"), ("tpu", "auto")]
)
@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("size", [(8, 6), (7, 6), (8, 5), (1, 1)])
def test_values_and_gradients_are_those_of_the_plain_convolution(
    monkeypatch, platform, implementation, channels, size
):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    random = np.random.default_rng(0)
    x = random.standard_normal((2, *size, channels), np.float32)
    kernel = random.standard_normal((3, 3, channels, 5), np.float32)
    conv = jax.jit(partial(strided_conv, implementation=implementation))
    actual, vjp = jax.vjp(conv, x, kernel)
    cotangent = random.standard_normal(actual.shape, np.float32)
    with jax.enable_x64(True):
        exact = [jnp.asarray(a, jnp.float64) for a in (x, kernel, cotangent)]
        expected, plain_vjp = jax.vjp(plain, *exact[:2])
        gradients = plain_vjp(exact[2])
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    for a, e in zip(vjp(cotangent), gradients, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=2e-5)
