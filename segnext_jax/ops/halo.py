"""Rows of an image that lies on several devices, and those of its neighbours.

Inside a `shard_map` with a named axis, device i of the axis holds the i-th part of the
rows of [b h w c]. `axis_name` None means that all rows are here. Parts are equal.
"""

import jax
import jax.numpy as jnp
from jax import lax

AxisName = str | None

# Beyond that many neighbours on a side, all parts are gathered.
_MAX_NEIGHBOURS = 2


def pad_rows(
    x: jax.Array, above: int, below: int, axis_name: AxisName = None
) -> jax.Array:
    """Rows of the neighbours on both sides, and 0 beyond the image.

    Args:
      x: [b h w c].
      above: rows to add on top, of as many neighbours as have them.
      below: rows to add at the bottom.
      axis_name: of the devices that share the rows.

    Returns:
      [b above+h+below w c].
    """
    if axis_name is None:
        return jnp.pad(x, ((0, 0), (above, below), (0, 0), (0, 0)))
    h = x.shape[1]
    if max(above, below) > _MAX_NEIGHBOURS * h:
        rows = lax.all_gather(x, axis_name, axis=1, tiled=True)
        rows = jnp.pad(rows, ((0, 0), (above, below), (0, 0), (0, 0)))
        start = lax.axis_index(axis_name) * h
        return lax.dynamic_slice_in_dim(rows, start, above + h + below, axis=1)
    parts = [x]
    for distance in range(1, -(-above // h) + 1):
        count = min(h, above - (distance - 1) * h)
        parts.insert(0, _receive(x[:, h - count :], distance, axis_name))
    for distance in range(1, -(-below // h) + 1):
        count = min(h, below - (distance - 1) * h)
        parts.append(_receive(x[:, :count], -distance, axis_name))
    return jnp.concatenate(parts, axis=1)


def neighbouring_rows(
    x: jax.Array, kernel_height: int, axis_name: AxisName = None
) -> tuple[jax.Array, tuple[int, int]]:
    """`x` [b h w c] with the rows of other devices that an odd kernel reads.

    Also returns the rows of 0 that it still lacks above and below, if all are here.
    """
    reach = kernel_height // 2
    if axis_name is None:
        return x, (reach, reach)
    return pad_rows(x, reach, reach, axis_name), (0, 0)


def edge_rows(x: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """The row of the neighbour above and that of the one below, or 0 where is none.

    [b h w c] → [b 2 w c].
    """
    if axis_name is None:
        return jnp.zeros_like(x, shape=(x.shape[0], 2, *x.shape[2:]))
    rows = _receive(x[:, -1:], 1, axis_name), _receive(x[:, :1], -1, axis_name)
    return jnp.concatenate(rows, axis=1)


def repeat_edges(x: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """One row of the neighbours on both sides, or the outermost row of the image again.

    [b h w c] → [b 1+h+1 w c].
    """
    if axis_name is None:
        return jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="edge")
    index, last = lax.axis_index(axis_name), lax.axis_size(axis_name) - 1
    above = jnp.where(index == 0, x[:, :1], _receive(x[:, -1:], 1, axis_name))
    below = jnp.where(index == last, x[:, -1:], _receive(x[:, :1], -1, axis_name))
    return jnp.concatenate([above, x, below], axis=1)


def sum_over(x: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """The sum of what all devices of the axis have."""
    return x if axis_name is None else lax.psum(x, axis_name)


def _receive(x: jax.Array, distance: int, axis_name: str) -> jax.Array:
    """`x` of the device that is so many parts above, or 0 where there is none."""
    size = lax.axis_size(axis_name)
    pairs = [(i, i + distance) for i in range(size) if 0 <= i + distance < size]
    return lax.ppermute(x, axis_name, pairs)
