"""AdamW of many arrays at once; on GPUs ops/triton/adam.py does the same."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# Arrays of up to so many numbers become one on a CPU before their squares are summed
# up: every sum would be a kernel or two to compile.
_SMALL = 2**16


class Leaf(NamedTuple):
    """A parameter; the four arrays are float32 and of one shape."""

    param: jax.Array
    grad: jax.Array
    mu: jax.Array
    nu: jax.Array
    weight_decay: float
    multiplier: float  # of the learning rate


class Scalars(NamedTuple):
    """What holds for all parameters; float32, but for `finite`."""

    finite: jax.Array  # bool: whether anything changes
    grad_scale: jax.Array
    learning_rate: jax.Array
    mu_correction: jax.Array
    nu_correction: jax.Array


def adamw(
    leaves: Sequence[Leaf], scalars: Scalars, *, b1: float, b2: float, eps: float
) -> list[tuple[jax.Array, ...]]:
    """New (param, mu, nu) of each leaf, as optax's `adamw`."""

    def if_finite(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(scalars.finite, new, old)

    moments = []
    for leaf in leaves:
        mu, nu = new_moments(leaf, scalars, b1=b1, b2=b2)
        moments.append((if_finite(mu, leaf.mu), if_finite(nu, leaf.nu)))
    if jax.default_backend() == "cpu":
        # Else XLA computes them again for the parameters, from copies of the old ones.
        moments = lax.optimization_barrier(moments)
    return [
        (if_finite(new_param(leaf, mu, nu, scalars, eps=eps), leaf.param), mu, nu)
        for leaf, (mu, nu) in zip(leaves, moments, strict=True)
    ]


def new_moments(
    leaf: Leaf, scalars: Scalars, *, b1: float, b2: float
) -> tuple[jax.Array, jax.Array]:
    grad = leaf.grad * scalars.grad_scale
    mu = (1 - b1) * grad + b1 * leaf.mu
    nu = (1 - b2) * (grad * grad) + b2 * leaf.nu
    return mu, nu


def new_param(
    leaf: Leaf, mu: jax.Array, nu: jax.Array, scalars: Scalars, *, eps: float
) -> jax.Array:
    change = jnp.sqrt(nu / scalars.nu_correction) + eps
    change = mu / scalars.mu_correction / change + leaf.weight_decay * leaf.param
    return leaf.param - scalars.learning_rate * leaf.multiplier * change


def norm(arrays: Sequence[jax.Array], scale: jax.Array) -> jax.Array:
    """Of all elements of all arrays·scale together, float32."""
    if jax.default_backend() == "cpu":
        small = [x.ravel() for x in arrays if x.size <= _SMALL]
        large = [x for x in arrays if x.size > _SMALL]
        arrays = [*large, jnp.concatenate(small)] if small else large
    squares = [jnp.sum(jnp.square(x * scale)) for x in arrays]
    return jnp.sqrt(sum(squares, jnp.float32(0)))
