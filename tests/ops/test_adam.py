"""AdamW of many arrays, and its kernels for GPUs, interpreted, against optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segnext_jax.ops import adam
from segnext_jax.ops.adam import Leaf, Scalars
from segnext_jax.ops.triton import adam as triton_adam

every_implementation = pytest.mark.parametrize("implementation", [adam, triton_adam])
SHAPES = [(3,), (), (1024,), (25, 41), (2, 3, 4, 5), (1,)] + [(2,)] * 14


def draw(seed):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in SHAPES]


@every_implementation
@pytest.mark.parametrize("finite", [True, False])
def test_equals_optax(implementation, finite):
    """More arrays than a kernel takes, some larger than a block."""
    params, grads = draw(0), draw(1)
    decays = [0.1 * (i % 2) for i in range(len(params))]
    multipliers = [1.0 + i % 3 for i in range(len(params))]
    tx = optax.scale_by_adam(0.9, 0.99, 1e-6)
    _, state = tx.update(draw(2), tx.init(params))
    updates, expected = tx.update([0.5 * g for g in grads], state)
    expected_params = [
        p - 0.01 * m * (u + d * p)
        for p, u, d, m in zip(params, updates, decays, multipliers, strict=True)
    ]
    scalars = Scalars(finite, 0.5, 0.01, 1 / (1 - 0.9**2), 1 / (1 - 0.99**2))
    arrays = zip(params, grads, state.mu, state.nu, decays, multipliers, strict=True)
    leaves = [Leaf(*leaf) for leaf in arrays]
    new = jax.jit(
        lambda arrays: implementation.adamw(
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


@every_implementation
def test_norm(implementation):
    arrays = [*draw(0), jnp.linspace(-1, 1, 2**16 + 1)]
    squares = [np.sum(np.square(x, dtype=np.float64)) for x in arrays]
    actual = jax.jit(implementation.norm)(arrays, 0.1)
    np.testing.assert_allclose(actual, 0.1 * np.sqrt(sum(squares)), rtol=1e-6)
