"""The kernels of AdamW, interpreted, against optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segnext_jax.ops.triton.adam import Leaf, Scalars, adamw, sum_of_squares

SHAPES = [(3,), (), (1024,), (25, 41), (2, 3, 4, 5), (1,)] + [(2,)] * 14


def draw(seed):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in SHAPES]


@pytest.mark.parametrize("finite", [True, False])
def test_equals_optax(finite):
    """More arrays than a kernel takes, some larger than a block."""
    params, grads = draw(0), draw(1)
    decays = [0.1 * (i % 2) for i in range(len(params))]
    multipliers = [1.0 + i % 3 for i in range(len(params))]
    adam = optax.scale_by_adam(0.9, 0.99, 1e-6)
    _, state = adam.update(draw(2), adam.init(params))
    updates, expected = adam.update([0.5 * g for g in grads], state)
    expected_params = [
        p - 0.01 * m * (u + d * p)
        for p, u, d, m in zip(params, updates, decays, multipliers, strict=True)
    ]
    scalars = Scalars(finite, 0.5, 0.01, 1 - 0.9**2, 1 - 0.99**2)
    arrays = zip(params, grads, state.mu, state.nu, decays, multipliers, strict=True)
    leaves = [Leaf(*leaf) for leaf in arrays]
    new = jax.jit(
        lambda arrays: adamw(
            [Leaf(*x, *leaf[4:]) for x, leaf in zip(arrays, leaves, strict=True)],
            scalars,
            b1=0.9,
            b2=0.99,
            eps=1e-6,
        )
    )([leaf[:4] for leaf in leaves])
    if finite:
        expected = expected_params, expected.mu, expected.nu
        for actual, values in zip(zip(*new, strict=True), expected, strict=True):
            for a, b in zip(actual, values, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    else:
        unchanged = zip(params, state.mu, state.nu, strict=True)
        jax.tree.map(np.testing.assert_array_equal, new, list(unchanged))


def test_sum_of_squares():
    arrays = draw(0)
    expected = sum(float(jnp.sum(x.astype(jnp.float32) ** 2)) for x in arrays)
    np.testing.assert_allclose(jax.jit(sum_of_squares)(arrays), expected, rtol=1e-6)
