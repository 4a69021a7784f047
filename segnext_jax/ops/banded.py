"""Depthwise convolutions with large kernels on a TPU's matrix units.

Of one channel, a row of the image times a banded matrix of the kernel's taps is a row
of the result. Most of the matrix is 0, but the units have that for free, where
shift-and-add loads, widens and multiplies the image for every tap. A number that is not
finite spoils all of its row.
"""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segnext_jax.ops.halo import AxisName, neighbouring_rows

_LONGEST = 256  # of a side that is multiplied as a whole
_COLUMNS = 32  # of a run whose products are summed up
_LONGEST_STRIP = 21  # of the multi-scale convolutions
_EXACT = lax.Precision.HIGHEST


def is_worth_its_matrices(shape: tuple[int, ...], kernel_size: tuple[int, int]) -> bool:
    """Whether `banded_conv` is faster than shift-and-add for images [b h w c].

    Small kernels are of too many channels. Too few rows, where many devices share them,
    are multiplied in less time than the matrix of a wide kernel is made. Not counted by
    the batch, which is that of all devices.
    """
    _, h, w, _ = shape
    kh, kw = kernel_size
    rows, side = (w, h) if kw == 1 else (h, w)
    return max(kh, kw) > 3 and 4 * rows >= min(side, _LONGEST)


def banded_conv(x: jax.Array, kernel: jax.Array, axis_name: AxisName) -> jax.Array:
    """`depthwise_conv` without a backward of its own."""
    kh, kw, _ = kernel.shape
    x, rows = neighbouring_rows(x, kh, axis_name)
    columns = (kw // 2, kw // 2)
    if kw == 1:
        y = _conv_along(1, x, kernel[:, 0], rows)
    else:
        h = x.shape[1] + sum(rows) + 1 - kh
        x = jnp.pad(x, ((0, 0), rows, (0, 0), (0, 0)))
        y = reduce(
            jnp.add,
            [_conv_along(2, x[:, i : i + h], kernel[i], columns) for i in range(kh)],
        )
    return y.astype(x.dtype)


def _conv_along(
    axis: int, x: jax.Array, taps: jax.Array, padding: tuple[int, int]
) -> jax.Array:
    """Convolves rows (axis 2) or columns (axis 1) of images with [k c]: in float32."""
    before, after = padding
    halo = len(taps) - 1
    length = x.shape[axis] + before + after - halo
    if length <= _LONGEST:
        equation = "bhvc,cvu->bhuc" if axis == 2 else "bvwc,cvu->buwc"
        return _product(equation, x, _bands(taps, x.shape[axis], length, before))
    runs = -(-length // _LONGEST)
    sides = [(0, 0)] * 4
    sides[axis] = before, after + runs * _LONGEST - length
    x = jnp.pad(x, sides)
    parts = [
        lax.slice_in_dim(x, i * _LONGEST, (i + 1) * _LONGEST + halo, axis=axis)
        for i in range(runs)
    ]
    equation = "bhnvc,cvu->bhnuc" if axis == 2 else "bnvwc,cvu->bnuwc"
    bands = _bands(taps, _LONGEST + halo, _LONGEST, 0)
    y = _product(equation, jnp.stack(parts, axis=axis), bands)
    y = y.reshape(*x.shape[:axis], runs * _LONGEST, *x.shape[axis + 1 :])
    return lax.slice_in_dim(y, 0, length, axis=axis)


def _bands(taps: jax.Array, inputs: int, outputs: int, before: int) -> jax.Array:
    """[k c] → [c inputs outputs]: input v counts for output u by tap v - u + before."""
    v, u = (lax.broadcasted_iota(jnp.int32, (inputs, outputs), i) for i in (0, 1))
    tap = jnp.arange(len(taps))[:, None, None]
    is_tap = (v - u + before == tap).astype(taps.dtype)
    return _product("jc,jvu->cvu", taps, is_tap).astype(taps.dtype)


@partial(jax.jit, static_argnames="size")
def sum_products_by_matrices(
    padded: jax.Array, grad: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """The gradient of a depthwise convolution in its kernel of `size`, in float32.

    Of every channel, runs of columns of `grad` are multiplied with all columns that
    their taps read: of the matrix [run+kw-1 run], summed over rows and runs, every
    diagonal is a tap.
    """
    kh, kw = size
    if kw < kh:
        turned = padded.swapaxes(1, 2), grad.swapaxes(1, 2)
        return sum_products_by_matrices(*turned, size=(kw, kh)).swapaxes(0, 1)
    b, h, w, channels = grad.shape
    run = min(_COLUMNS, w)
    # Strips of all lengths are the same kernels to compile.
    added = max(_LONGEST_STRIP - kw, 0) // 2 if kh == 1 else 0
    taps = kw + 2 * added
    rest = -w % run  # to whole runs
    padded = jnp.pad(padded, ((0, 0), (0, 0), (added, added + rest), (0, 0)))
    grad = jnp.pad(grad, ((0, 0), (0, 0), (0, rest), (0, 0)))
    starts = range(0, grad.shape[2], run)
    grad_runs = grad.reshape(b, h, len(starts), run, channels)
    diagonals = np.stack([np.eye(run + taps - 1, run, -j) for j in range(taps)])

    def row(i: jax.Array | int) -> jax.Array:
        rows = lax.dynamic_slice_in_dim(padded, i, h, axis=1)
        x_runs = jnp.stack([rows[:, :, k : k + run + taps - 1] for k in starts], axis=2)
        # By example: devices that share the batch sum up once, at the end.
        products = _product("bhnvc,bhnuc->bcvu", x_runs, grad_runs)
        return _product("bcvu,jvu->bjc", products, jnp.float32(diagonals))

    # A loop: static rows would be a kernel each, to compile, too.
    products = lax.map(row, jnp.arange(kh)) if kh > 1 else row(0)[None]
    return products.sum(axis=1)[:, added : added + kw]


def _product(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.einsum(
        equation,
        x,
        y,
        precision=_EXACT if x.dtype == jnp.float32 else None,
        preferred_element_type=jnp.float32,
    )
