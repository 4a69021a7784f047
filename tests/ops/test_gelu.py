"""GELU and its gradient against x·Φ(x) in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.stats import norm

from segnext_jax.ops.gelu import gelu, gelu_gradient

PLATFORMS = ["cpu", "gpu", "tpu"]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_of_float32(monkeypatch, platform):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    x = np.linspace(-12, 12, 24001, dtype=np.float32)
    np.testing.assert_allclose(gelu(x), x * norm.cdf(x), atol=1e-6)
    slope = norm.cdf(x) + x * norm.pdf(x)
    np.testing.assert_allclose(gelu_gradient(x, np.ones_like(x)), slope, atol=3e-7)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_of_every_bfloat16(monkeypatch, platform):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    x = lax.bitcast_convert_type(jnp.arange(2**16, dtype=jnp.uint16), jnp.bfloat16)
    x = x[jnp.isfinite(x)]
    y = np.float64(x)
    with np.errstate(over="ignore"):  # of squares
        slope = norm.cdf(y) + y * norm.pdf(y)
    rounding = 2**-8  # of 8 bits
    # Of the tanh of TPUs, x·Φ(x) errs by up to 7e-6 at -4, where it is -1e-4.
    np.testing.assert_allclose(gelu(x), y * norm.cdf(y), rtol=rounding, atol=7e-6)
    gradient = gelu_gradient(x, jnp.ones_like(x))
    np.testing.assert_allclose(gradient, slope, rtol=rounding, atol=2e-6)


def test_autodiff_takes_the_gradient():
    x = jnp.linspace(-4, 4, 101)
    y, pullback = jax.vjp(gelu, x)
    np.testing.assert_array_equal(*pullback(y), gelu_gradient(x, y))
