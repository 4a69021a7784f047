"""A function strip by strip is that of whole images, and so are its gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.ops.strips import in_strips

HEIGHT = 7


def draw(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def blur(x, first_row, params, constants):
    """Of rows 0 outside the image: each plus the next but one, both ways."""
    row = first_row + jnp.arange(x.shape[1])
    y = jnp.tanh(x * params["scale"] + params["offset"])
    y = jnp.where(((row >= 0) & (row < HEIGHT))[:, None, None], y, 0)
    y = y * (constants > 0)
    return y[:, 4:] + 2 * y[:, 2:-2] + 3 * y[:, :-4]


def whole(x, params, constants):
    padded = jnp.pad(x, ((0, 0), (2, 2), (0, 0), (0, 0)))
    parts = jax.vmap(blur, (None, None, 0, None))(padded, -2, params, constants)
    return parts.sum(0)


# Of two parts.
PARAMS = {"scale": draw(2, 3, seed=1), "offset": draw(2, 3, seed=2)}
CONSTANTS = jnp.array([1, 0, 2])


# 3 leaves a last strip that ends below the image.
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_values_and_gradients_are_those_of_whole_images(rows):
    x, cotangent = draw(2, HEIGHT, 4, 3), draw(2, HEIGHT, 4, 3, seed=3)

    @partial(jax.jit, static_argnums=0)
    def run(function, x, params):
        y, vjp = jax.vjp(lambda x, params: function(x, params, CONSTANTS), x, params)
        return y, *vjp(cotangent)

    def strips(x, params, constants):
        return in_strips(blur, x, params, constants, rows, 2)

    actual, expected = run(strips, x, PARAMS), run(whole, x, PARAMS)
    compare = partial(np.testing.assert_allclose, rtol=2e-6, atol=1e-6)
    jax.tree.map(compare, actual, expected)
    assert all(float(jnp.abs(g).max()) > 0.1 for g in jax.tree.leaves(expected))


def test_parameters_in_bfloat16_are_summed_in_float32():
    """A sum of ones in bfloat16 stops at 256, where 256 + 1 rounds to 256."""
    x = jnp.ones((1, 300, 1, 1), jnp.bfloat16)

    def total(offset):
        y = in_strips(lambda x, row, offset, _: x + offset, x, offset, None, 1, 0)
        return jnp.sum(y.astype(jnp.float32))

    assert jax.grad(total)(jnp.zeros(1, jnp.bfloat16)) == 300
