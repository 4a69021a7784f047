"""A function of images by strips of rows, so that all it makes stays in cache.

For CPUs: other platforms compute whole images at once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# (strip [b rows+2·halo w c], row of the image where it begins, a part of the params,
# constants) → [b rows w c].
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
      params: a tree of floating-point arrays [parts …]; differentiated, as `x` is. The
        result is the sum over the parts, each of which `function` gets by itself.
      constants: a tree of arrays; not differentiated.
      rows: height of a strip.
      halo: rows above a strip and below it that `function` needs.

    Returns:
      [b h w c] in the dtype of `x`.
    """
    padded, count = _pad(x, rows, halo)
    parts = _count_parts(params)

    def add_part(i: jax.Array, y: jax.Array) -> jax.Array:
        start, part = i // parts * rows, i % parts
        strip = _rows(padded, start, rows + 2 * halo)
        strip = function(strip, start - halo, _at(params, part), constants)
        return _put_rows(y, _rows(y, start, rows) + strip, start)

    y, _ = _pad(jnp.zeros_like(x), rows, 0)
    return lax.fori_loop(0, count * parts, add_part, y)[:, : x.shape[1]]


def _in_strips_fwd(function, x, params, constants, rows, halo):
    y = in_strips(function, x, params, constants, rows, halo)
    return y, (x, params, constants)


def _in_strips_bwd(function, rows, halo, residuals, grad):
    x, params, constants = residuals
    padded, count = _pad(x, rows, halo)
    grad, _ = _pad(grad, rows, 0)
    parts = _count_parts(params)

    def add_part(i, sums):
        start, part = i // parts * rows, i % parts
        _, vjp = jax.vjp(
            lambda x, params: function(x, start - halo, params, constants),
            _rows(padded, start, rows + 2 * halo),
            _at(params, part),
        )
        of_strip, of_params = vjp(_rows(grad, start, rows))
        x_sum, params_sum = sums
        of_strip += _rows(x_sum, start, rows + 2 * halo)
        of_params = jax.tree.map(jnp.add, _at(params_sum, part), of_params)
        params_sum = jax.tree.map(
            lambda total, new: lax.dynamic_update_index_in_dim(total, new, part, 0),
            params_sum,
            of_params,
        )
        return _put_rows(x_sum, of_strip, start), params_sum

    # Of many strips in float32, whatever the parameters are.
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
    sums = jnp.zeros_like(padded), zeros
    x_grad, params_grad = lax.fori_loop(0, count * parts, add_part, sums)
    params_grad = jax.tree.map(lambda g, p: g.astype(p.dtype), params_grad, params)
    return x_grad[:, halo : halo + x.shape[1]], params_grad, None


in_strips.defvjp(_in_strips_fwd, _in_strips_bwd)


def _pad(x: jax.Array, rows: int, halo: int) -> tuple[jax.Array, int]:
    """Adds the rows of 0 that strips need; also returns the number of strips."""
    count = -(-x.shape[1] // rows)
    below = count * rows - x.shape[1] + halo
    return jnp.pad(x, ((0, 0), (halo, below), (0, 0), (0, 0))), count


def _count_parts(params: Any) -> int:
    return len(jax.tree.leaves(params)[0])


def _at(params: Any, part: jax.Array) -> Any:
    return jax.tree.map(
        lambda p: lax.dynamic_index_in_dim(p, part, keepdims=False), params
    )


def _rows(x: jax.Array, start: jax.Array, count: int) -> jax.Array:
    return lax.dynamic_slice_in_dim(x, start, count, axis=1)


def _put_rows(x: jax.Array, rows: jax.Array, start: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice_in_dim(x, rows, start, axis=1)
