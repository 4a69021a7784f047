"""AdamW of many arrays at once; on GPUs ops/triton/adam.py does the same."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.outlined import outlined

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
    mu_scale: jax.Array
    nu_scale: jax.Array


def adamw(
    leaves: Sequence[Leaf], scalars: Scalars, *, b1: float, b2: float, eps: float
) -> list[tuple[jax.Array, ...]]:
    """New (param, mu, nu) of each leaf, as optax's `adamw`."""
    update = partial(_update, b1=b1, b2=b2, eps=eps)
    if jax.default_backend() != "cpu":
        return [update(leaf, scalars) for leaf in leaves]
    # As vectors all arrays of one size are the same kernels, which are compiled once.
    new = []
    for leaf in leaves:
        param, grad, mu, nu = (x.ravel() for x in leaf[:4])
        vectors = leaf._replace(param=param, grad=grad, mu=mu, nu=nu)
        new.append(tuple(x.reshape(leaf.param.shape) for x in update(vectors, scalars)))
    return new


@partial(outlined, static_argnames=("b1", "b2", "eps"))
def _update(
    leaf: Leaf, scalars: Scalars, *, b1: float, b2: float, eps: float
) -> tuple[jax.Array, ...]:
    def if_finite(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(scalars.finite, new, old)

    mu, nu = new_moments(leaf, scalars, b1=b1, b2=b2)
    mu, nu = if_finite(mu, leaf.mu), if_finite(nu, leaf.nu)
    if jax.default_backend() == "cpu":
        # Else XLA computes them again for the parameter, from copies of the old ones.
        mu, nu = lax.optimization_barrier((mu, nu))
    return if_finite(new_param(leaf, mu, nu, scalars, eps=eps), leaf.param), mu, nu


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
    change = jnp.sqrt(nu * scalars.nu_scale) + eps
    change = mu * scalars.mu_scale / change + leaf.weight_decay * leaf.param
    return leaf.param - scalars.learning_rate * leaf.multiplier * change


def norm(arrays: Sequence[jax.Array], scale: jax.Array) -> jax.Array:
    """Of all elements of all arrays·scale together, float32."""
    if jax.default_backend() == "cpu":
        small = [x.ravel() for x in arrays if x.size <= _SMALL]
        large = [x for x in arrays if x.size > _SMALL]
        arrays = [*large, jnp.concatenate(small)] if small else large
    squares = [jnp.sum(jnp.square(x * scale)) for x in arrays]
    return jnp.sqrt(sum(squares, jnp.float32(0)))
