"""Bilinear resizing with half-pixel centres."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segnext_jax.ops.halo import AxisName, repeat_edges
from segnext_jax.ops.precision import exact
from segnext_jax.ops.valid import Size


def resize_bilinear(
    x: jax.Array, size: tuple[int, ...], axis_name: AxisName = None
) -> jax.Array:
    """Resizes as PyTorch's `F.interpolate(mode="bilinear", align_corners=False)`.

    Without antialiasing: meant for enlarging.

    Args:
      x: [b h w c], floating point.
      size: (height, width) of the result.
      axis_name: of the devices that share the rows of `x`, as those of the result
        (ops/halo.py); they can only be enlarged by a whole factor.

    Returns:
      [b height width c] in the dtype of `x`; interpolated in float32, but that on a TPU
      bfloat16 is rounded after its rows, and again after its columns.
    """
    if not all(isinstance(side, int) for side in (*x.shape[1:3], *size)):
        # Sides that are known when an exported program is called.
        old, new = (jnp.array([s], jnp.int32) for s in (x.shape[1:3], size))
        return resize_valid(x, old, new, size)
    # Interleaving phases is dear on a TPU: the compiler for v5e expects 89 instead of
    # 93 million cycles of a train step of SegNeXt-T (docs/performance.md).
    by_matrices = jax.default_backend() == "tpu"
    dtype = x.dtype if by_matrices else jnp.float32
    y = x.astype(dtype)
    for axis, length, shared_by in zip((1, 2), size, (axis_name, None), strict=True):
        factor, rest = divmod(length, y.shape[axis])
        if rest or (by_matrices and shared_by is None and factor > 1):
            assert shared_by is None, "rows on several devices need a whole factor"
            y = _interpolate(y, axis, length)
        else:
            y = _enlarge(y, axis, factor, shared_by)
        y = y.astype(dtype)
    return y.astype(x.dtype)


def resize_valid(
    x: jax.Array,
    size: Size,
    new_size: Size,
    shape: tuple[int, ...],
    axis_name: AxisName = None,
) -> jax.Array:
    """`resize_bilinear` of images that may be smaller than their arrays.

    Args:
      x: [b h w c], floating point; images at the top left.
      size: int32 [b 2], (height, width) of each image; None: `x` is full.
      new_size: those of the images in the result, below 2^15; None as `size` is.
      shape: (height, width) of the result; what is outside the images repeats an edge.
      axis_name: as `resize_bilinear`; only of full arrays.

    Returns:
      [b height width c] in the dtype of `x`; interpolated in float32.
    """
    if size is None or new_size is None:
        return resize_bilinear(x, shape, axis_name)
    assert axis_name is None, "images in larger arrays are whole"
    y = x.astype(jnp.float32)
    for axis, length in zip((1, 2), shape, strict=True):
        lower, upper, fraction = _sample(
            size[:, axis - 1], new_size[:, axis - 1], length
        )
        along = [1, 1, 1, 1]
        along[0], along[axis] = fraction.shape
        fraction = fraction.reshape(along)
        below, above = (
            jnp.take_along_axis(y, index.reshape(along), axis=axis)
            for index in (lower, upper)
        )
        y = below * (1 - fraction) + above * fraction
    return y.astype(x.dtype)


def _sample(size: jax.Array, new_size: jax.Array, length: int):
    """Neighbours that output pixels blend, and the weight of the upper: [b length]."""
    size, new_size = size[:, None], new_size[:, None]
    # Position (p + 0.5)·size / new_size - 0.5 as a fraction of whole numbers: float32
    # would lose a part of the weight where positions are large.
    numerator = (2 * jnp.arange(length) + 1) * size - new_size
    numerator = jnp.clip(numerator, 0, 2 * new_size * (size - 1))
    lower, rest = jnp.divmod(numerator, 2 * new_size)
    upper = jnp.minimum(lower + 1, size - 1)
    return lower, upper, rest / (2 * new_size)


def _enlarge(
    x: jax.Array, axis: int, factor: int, axis_name: AxisName = None
) -> jax.Array:
    """Whole factors: output `factor·i + phase` blends pixel i with one neighbour.

    No product with a dense matrix and, backward, no scatter.
    """
    if factor == 1:
        return x
    return _blend(_neighbours(x, axis, axis_name), axis, factor)


def enlarge_padded(x: jax.Array, axis: int, factor: int) -> jax.Array:
    """Enlarges an axis by a whole factor, between a neighbour on each side of it.

    Of length 1+n+1 → n·factor, in float32; at an edge the neighbour is the edge again.
    """
    length = x.shape[axis] - 2
    neighbours = [lax.slice_in_dim(x, k, k + length, axis=axis) for k in range(3)]
    return _blend(neighbours, axis, factor)


def _blend(neighbours: Sequence[jax.Array], axis: int, factor: int) -> jax.Array:
    """Pixels before, here and after → all phases of the pixels here."""
    shape = [1] * (neighbours[0].ndim + 1)
    shape[axis + 1] = factor
    before, here, after = (
        jnp.expand_dims(neighbour, axis + 1) * weight.reshape(shape)
        for neighbour, weight in zip(neighbours, blend_weights(factor), strict=True)
    )
    out_shape = list(neighbours[0].shape)
    out_shape[axis] *= factor
    return (before + here + after).reshape(out_shape)


def blend_weights(factor: int) -> np.ndarray:
    """[3 factor] float32: of the pixel before, here and after, for every phase."""
    offset = (np.arange(factor, dtype=np.float32) + 0.5) / factor - 0.5
    return np.stack([np.maximum(-offset, 0), 1 - abs(offset), np.maximum(offset, 0)])


def _neighbours(x: jax.Array, axis: int, axis_name: AxisName):
    length = x.shape[axis]
    if axis_name is not None:
        rows = repeat_edges(x, axis_name)
        return rows[:, :length], x, rows[:, 2:]
    first = lax.slice_in_dim(x, 0, 1, axis=axis)
    last = lax.slice_in_dim(x, length - 1, length, axis=axis)
    before = jnp.concatenate(
        [first, lax.slice_in_dim(x, 0, length - 1, axis=axis)], axis
    )
    after = jnp.concatenate([lax.slice_in_dim(x, 1, length, axis=axis), last], axis)
    return before, x, after


def interpolation_matrix(size: int, length: int) -> np.ndarray:
    """[length size] float32: every output pixel as a blend of the input's."""
    position = (np.arange(length) + 0.5) * (size / length) - 0.5
    position = np.clip(position, 0, size - 1)
    lower = np.minimum(position.astype(int), max(size - 2, 0))
    upper = np.minimum(lower + 1, size - 1)
    fraction = (position - lower).astype(np.float32)
    matrix = np.zeros((length, size), np.float32)
    rows = np.arange(length)
    np.add.at(matrix, (rows, lower), 1 - fraction)
    np.add.at(matrix, (rows, upper), fraction)
    return matrix


def _interpolate(x: jax.Array, axis: int, length: int) -> jax.Array:
    """Any factor: a product with the interpolation matrix, in float32."""
    matrix = interpolation_matrix(x.shape[axis], length)
    if (matrix != matrix.astype(x.dtype)).any():
        x = x.astype(jnp.float32)
    y = jnp.tensordot(
        x,
        matrix.astype(x.dtype),
        ((axis,), (1,)),
        precision=exact(x),
        preferred_element_type=jnp.float32,
    )
    return jnp.moveaxis(y, -1, axis)
