"""The exact GELU inside of Triton kernels, which have no error function."""

import math

import jax
import jax.numpy as jnp

# erfc(x) = polynomial of 1 / (1 + _P·x) without constant term, times exp(-x²), for
# x ≥ 0: Abramowitz and Stegun 1964, 7.1.26, whose error is at most 1.5e-7. Exp also
# serves the density.
_P = 0.3275911
_COEFFICIENTS = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def gelu(x: jax.Array) -> jax.Array:
    """x·Φ(x), float32."""
    cdf, _ = _normal(x)
    return x * cdf


def gelu_slope(x: jax.Array) -> jax.Array:
    """Φ(x) + x·φ(x), the derivative of `gelu`, float32."""
    cdf, density = _normal(x)
    return cdf + x * density


def _normal(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Φ and φ of the standard normal distribution."""
    exp = jnp.exp(-0.5 * x * x)
    t = 1 / (1 + _P * math.sqrt(0.5) * jnp.abs(x))
    polynomial = jnp.zeros_like(t)
    for coefficient in reversed(_COEFFICIENTS):
        polynomial = t * (polynomial + coefficient)
    tail = 0.5 * polynomial * exp
    return jnp.where(x < 0, tail, 1 - tail), exp / math.sqrt(2 * math.pi)
