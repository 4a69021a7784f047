"""Depthwise convolution as XLA has it, and what tests compare it by."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segnext_jax.ops.depthwise import Layer


def draw(*shape, seed=0, dtype=jnp.float32):
    values = np.random.default_rng([seed, *shape]).uniform(-1, 1, shape)
    return jnp.asarray(values, dtype)


def draw_layer(kh, kw, c, dtype=jnp.float32):
    return Layer(draw(kh, kw, c, seed=1, dtype=dtype), draw(c, seed=kh, dtype=dtype))


def conv(x, layer):
    y = lax.conv_general_dilated(
        x,
        layer.kernel[:, :, None, :],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
        precision=lax.Precision.HIGHEST,
    )
    return y + layer.bias


def with_gradients(function, arguments):
    """Values, and gradients of a sum in which every value has its own weight."""
    y, vjp = jax.vjp(function, *arguments)
    return y, vjp(draw(*y.shape, seed=9, dtype=y.dtype))
