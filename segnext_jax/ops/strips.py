"""A function of images by strips of rows, so that all it makes stays in cache.

For CPUs: other platforms compute whole images at once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# (strip [b rows+2·halo w c], row of the image where it begins, params, constants)
# → [b rows w d].
Strip = Callable[[jax.Array, jax.Array, Any, Any], jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(0, 4, 5))
def in_strips(
    function: Strip, x: jax.Array, params: Any, constants: Any, rows: int, halo: int
) -> jax.Array:
    """Joins what `function` makes of every strip of `x` and the rows next to it.

    The backward keeps nothing but the arguments and computes each strip again: features
    that are much wider than `x` take no memory, nor the time to write and read it.

    Args:
      function: of strips; outside the image their rows are 0.
      x: [b h w c], floating point.
      params: a tree of floating-point arrays; differentiated, as `x` is.
      constants: a tree of arrays; not differentiated.
      rows: height of a strip.
      halo: rows above a strip and below it that `function` needs.

    Returns:
      [b h w c] in the dtype of `x`.
    """
    padded, count = _pad(x, rows, halo)

    def put_strip(i: jax.Array, y: jax.Array) -> jax.Array:
        start = i * rows
        strip = lax.dynamic_slice_in_dim(padded, start, rows + 2 * halo, axis=1)
        strip = function(strip, start - halo, params, constants)
        return lax.dynamic_update_slice_in_dim(y, strip, start, axis=1)

    y, _ = _pad(jnp.zeros_like(x), rows, 0)
    return lax.fori_loop(0, count, put_strip, y)[:, : x.shape[1]]


def _in_strips_fwd(function, x, params, constants, rows, halo):
    y = in_strips(function, x, params, constants, rows, halo)
    return y, (x, params, constants)


def _in_strips_bwd(function, rows, halo, residuals, grad):
    x, params, constants = residuals
    padded, count = _pad(x, rows, halo)
    grad, _ = _pad(grad, rows, 0)

    def add_strip(i, sums):
        start = i * rows
        strip = lax.dynamic_slice_in_dim(padded, start, rows + 2 * halo, axis=1)
        _, vjp = jax.vjp(
            lambda x, params: function(x, start - halo, params, constants),
            strip,
            params,
        )
        of_strip, of_params = vjp(lax.dynamic_slice_in_dim(grad, start, rows, axis=1))
        x_sum, params_sum = sums
        of_strip += lax.dynamic_slice_in_dim(x_sum, start, rows + 2 * halo, axis=1)
        x_sum = lax.dynamic_update_slice_in_dim(x_sum, of_strip, start, axis=1)
        return x_sum, jax.tree.map(jnp.add, params_sum, of_params)

    # Of many strips in float32, whatever the parameters are.
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
    sums = jnp.zeros_like(padded), zeros
    x_grad, params_grad = lax.fori_loop(0, count, add_strip, sums)
    params_grad = jax.tree.map(lambda g, p: g.astype(p.dtype), params_grad, params)
    return x_grad[:, halo : halo + x.shape[1]], params_grad, None


in_strips.defvjp(_in_strips_fwd, _in_strips_bwd)


def _pad(x: jax.Array, rows: int, halo: int) -> tuple[jax.Array, int]:
    """Adds the rows of 0 that strips need; also returns the number of strips."""
    count = -(-x.shape[1] // rows)
    below = count * rows - x.shape[1] + halo
    return jnp.pad(x, ((0, 0), (halo, below), (0, 0), (0, 0))), count
