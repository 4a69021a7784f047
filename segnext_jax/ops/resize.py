"""Bilinear resizing with half-pixel centres."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def resize_bilinear(x: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Resizes as PyTorch's `F.interpolate(mode="bilinear", align_corners=False)`.

    Without antialiasing: meant for enlarging.

    Args:
      x: [b h w c], floating point.
      size: (height, width) of the result.

    Returns:
      [b height width c] in the dtype of `x`; interpolated in float32.
    """
    y = x.astype(jnp.float32)
    for axis, length in zip((1, 2), size, strict=True):
        if length % y.shape[axis] == 0:
            y = _enlarge(y, axis, length // y.shape[axis])
        else:
            y = _interpolate(y, axis, length)
    return y.astype(x.dtype)


def _enlarge(x: jax.Array, axis: int, factor: int) -> jax.Array:
    """Whole factors: output `factor·i + phase` blends pixel i with one neighbour.

    No product with a dense matrix and, backward, no scatter.
    """
    if factor == 1:
        return x
    length = x.shape[axis]
    offset = (np.arange(factor, dtype=np.float32) + 0.5) / factor - 0.5
    weights = np.stack([np.maximum(-offset, 0), 1 - abs(offset), np.maximum(offset, 0)])
    shape = [1] * (x.ndim + 1)
    shape[axis + 1] = factor
    before, here, after = (
        jnp.expand_dims(neighbour, axis + 1) * weight.reshape(shape)
        for neighbour, weight in zip(_neighbours(x, axis), weights, strict=True)
    )
    out_shape = list(x.shape)
    out_shape[axis] = length * factor
    return (before + here + after).reshape(out_shape)


def _neighbours(x: jax.Array, axis: int):
    length = x.shape[axis]
    first = lax.slice_in_dim(x, 0, 1, axis=axis)
    last = lax.slice_in_dim(x, length - 1, length, axis=axis)
    before = jnp.concatenate(
        [first, lax.slice_in_dim(x, 0, length - 1, axis=axis)], axis
    )
    after = jnp.concatenate([lax.slice_in_dim(x, 1, length, axis=axis), last], axis)
    return before, x, after


def _interpolate(x: jax.Array, axis: int, length: int) -> jax.Array:
    """Any other factor: a product with the [length, in] interpolation matrix."""
    size = x.shape[axis]
    position = (np.arange(length) + 0.5) * (size / length) - 0.5
    position = np.clip(position, 0, size - 1)
    lower = np.minimum(position.astype(int), max(size - 2, 0))
    upper = np.minimum(lower + 1, size - 1)
    fraction = (position - lower).astype(np.float32)
    matrix = np.zeros((length, size), np.float32)
    rows = np.arange(length)
    np.add.at(matrix, (rows, lower), 1 - fraction)
    np.add.at(matrix, (rows, upper), fraction)
    y = jnp.tensordot(x, matrix, ((axis,), (1,)), precision=lax.Precision.HIGHEST)
    return jnp.moveaxis(y, -1, axis)
