"""Depthwise convolutions with large kernels on a TPU's matrix units.

Of one channel, a row of the image times a banded matrix of the kernel's taps is a row
of the result. Most of the matrix is 0, but the units have that for free, where
shift-and-add loads, widens and multiplies the image for every tap. A number that is not
finite spoils all of its row.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.halo import AxisName, neighbouring_rows
from segnext_jax.ops.precision import exact, precision_beneath

_LONGEST = 256  # of a run of pixels that are multiplied as a whole

Axis = Literal[1, 2]  # that a kernel [k c] lies along: of columns or of rows [b h w c]


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
    if kw == 1:
        return _sum_convolutions(x[None], kernel.swapaxes(0, 1), 1, axis_name)
    return _sum_convolutions(_shift_rows(x, kh, axis_name), kernel, 2, axis_name)


def banded_kernel_gradient(
    x: jax.Array, grad: jax.Array, kernel: jax.Array, axis_name: AxisName
) -> jax.Array:
    """That of `banded_conv`, over the rows of `x` that are here: as `kernel`."""
    kh, kw, _ = kernel.shape
    if kw == 1:
        kernels = kernel.swapaxes(0, 1)
        gradient = _kernel_gradients(x, grad[None], kernels, 1, axis_name)
        return gradient.swapaxes(0, 1)
    # The input's gradient reads the same rows.
    grads = _shift_rows(grad, kh, axis_name)
    return _kernel_gradients(x, grads, kernel, 2, axis_name)[::-1]


def _shift_rows(x: jax.Array, kh: int, axis_name: AxisName) -> jax.Array:
    """[b h w c] → [kh b h w c], what the rows of a kernel read."""
    h = x.shape[1]
    x, rows = neighbouring_rows(x, kh, axis_name)
    x = jnp.pad(x, ((0, 0), rows, (0, 0), (0, 0)))
    return jnp.stack([x[:, i : i + h] for i in range(kh)])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_with_each(
    x: jax.Array, kernels: jax.Array, axis: Axis, axis_name: AxisName
) -> jax.Array:
    """[b h w c] along an axis with each of the kernels [n k c]: [n b h w c]."""
    rows = _with_neighbours(x, kernels, axis, axis_name)
    return _multiply("", "n", rows, kernels, axis, length=x.shape[axis])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def sum_convolutions(
    x: jax.Array, kernels: jax.Array, axis: Axis, axis_name: AxisName
) -> jax.Array:
    """The sum of images [n b h w c], each with its own of [n k c]: [b h w c].

    The transpose of `convolve_with_each`, but for the order of the taps.
    """
    return _sum_convolutions(x, kernels, axis, axis_name)


def _sum_convolutions(x, kernels, axis, axis_name):
    rows = jax.vmap(lambda x: _with_neighbours(x, kernels, axis, axis_name))(x)
    return _multiply("n", "", rows, kernels, axis, length=x.shape[1 + axis])


def _convolve_fwd(x, kernels, axis, axis_name):
    return convolve_with_each(x, kernels, axis, axis_name), (x, kernels)


def _convolve_bwd(axis, axis_name, residuals, grad):
    x, kernels = residuals
    of_x = sum_convolutions(grad, kernels[:, ::-1], axis, axis_name)
    of_kernels = _kernel_gradients(x, grad, kernels, axis, axis_name)
    return of_x, of_kernels


convolve_with_each.defvjp(_convolve_fwd, _convolve_bwd)


def _sum_fwd(x, kernels, axis, axis_name):
    return sum_convolutions(x, kernels, axis, axis_name), (x, kernels)


def _sum_bwd(axis, axis_name, residuals, grad):
    x, kernels = residuals
    of_x = convolve_with_each(grad, kernels[:, ::-1], axis, axis_name)
    of_kernels = _kernel_gradients(grad, x, kernels, axis, axis_name)[:, ::-1]
    return of_x, of_kernels


sum_convolutions.defvjp(_sum_fwd, _sum_bwd)


def _with_neighbours(
    x: jax.Array, kernels: jax.Array, axis: Axis, axis_name: AxisName
) -> jax.Array:
    """Adds the rows of other devices that kernels along the rows' axis read."""
    return neighbouring_rows(x, kernels.shape[1], axis_name)[0] if axis == 1 else x


def _multiply(
    of_x: str, of_y: str, x: jax.Array, kernels: jax.Array, axis: Axis, *, length: int
) -> jax.Array:
    """The products with bands [n c v u], of images with or without an axis n.

    Of `length` pixels along the axis; what `x` has less than they read is 0.
    """
    halo = kernels.shape[1] - 1
    before = (length + halo - x.shape[axis - 4]) // 2
    runs = -(-length // _LONGEST)
    if runs == 1:
        run = ""
        bands = _bands(kernels, x.shape[axis - 4], length, before)
    else:
        run = "r"
        x = _pad(x, axis, before, before + runs * _LONGEST - length)
        parts = [
            lax.slice_in_dim(x, i, i + _LONGEST + halo, axis=axis - 4)
            for i in range(0, runs * _LONGEST, _LONGEST)
        ]
        x = jnp.stack(parts, axis=axis - 5)
        bands = _bands(kernels, _LONGEST + halo, _LONGEST, 0)
    image = f"b{run}vwc" if axis == 1 else f"bh{run}vc"
    result = image.replace("v", "u")
    y = _product(f"{of_x}{image},ncvu->{of_y}{result}", x, bands).astype(x.dtype)
    if runs > 1:
        y = lax.collapse(y, y.ndim + axis - 5, y.ndim + axis - 3)
        y = lax.slice_in_dim(y, 0, length, axis=axis - 4)
    return y


def _bands(kernels: jax.Array, inputs: int, outputs: int, before: int) -> jax.Array:
    """[n k c] → [n c inputs outputs], as `_is_tap`."""
    is_tap = _is_tap(kernels.shape[1], inputs, outputs, before).astype(kernels.dtype)
    return _product("nkc,kvu->ncvu", kernels, is_tap).astype(kernels.dtype)


def _kernel_gradients(x, grad, kernels, axis, axis_name):
    """Of images [b h w c] convolved with each of `kernels`."""
    length = kernels.shape[1]
    x = _with_neighbours(x, kernels, axis, axis_name)
    missing = grad.shape[axis - 4] + length - 1 - x.shape[axis]
    x = _pad(x, axis, missing // 2, missing // 2)
    return _sum_products(x, grad, axis).astype(kernels.dtype)


def _sum_products(padded: jax.Array, grads: jax.Array, axis: Axis) -> jax.Array:
    """The gradient of kernels [n k c], in float32, by those of their results.

    Of every channel, runs of columns of `grads` [n b h w c] are multiplied with all
    columns of `padded` [b h w+k-1 c] that their taps read: of the matrix [run+k-1 run],
    summed over rows and runs, every diagonal is a tap. Of axis 1, the same of rows.
    """
    if axis == 1:
        padded, grads = padded.swapaxes(1, 2), grads.swapaxes(2, 3)
    n, b, h, w, channels = grads.shape
    taps = padded.shape[2] + 1 - w
    run = min(_LONGEST, w)
    rest = -w % run  # to whole runs
    padded, grads = (_pad(y, 2, 0, rest) for y in (padded, grads))
    starts = range(0, w, run)
    x_runs = jnp.stack([padded[:, :, k : k + run + taps - 1] for k in starts], axis=2)
    grad_runs = grads.reshape(n, b, h, len(starts), run, channels)
    # By example: devices that share the batch sum up once, at the end.
    products = _product("bhrvc,nbhruc->nbcvu", x_runs, grad_runs)
    is_tap = _is_tap(taps, run + taps - 1, run).astype(jnp.float32)
    # In six passes, the compiler for v5e first tries two ways in vain for SegNeXt-T's
    # last stage: 5 of 180 s of a processor.
    return jnp.einsum(
        "nbcvu,kvu->nbkc",
        products,
        is_tap,
        precision=precision_beneath(grads.dtype),
    ).sum(axis=1)


def _is_tap(taps: int, inputs: int, outputs: int, before: int = 0) -> jax.Array:
    """[taps inputs outputs]: input v adds to output u by tap v-u+before.

    Computed: of a constant, gradients of strips take up to 1.3 times the cycles and
    three times as long to compile.
    """
    v, u = (lax.broadcasted_iota(jnp.int32, (inputs, outputs), i) for i in (0, 1))
    return v - u + before == jnp.arange(taps)[:, None, None]


def _pad(x: jax.Array, axis: Axis, before: int, after: int) -> jax.Array:
    """Zeros on both sides of an axis of [… b h w c]."""
    sides = [(0, 0)] * x.ndim
    sides[axis - 4] = before, after
    return jnp.pad(x, sides)


def _product(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.einsum(
        equation,
        x,
        y,
        precision=exact(x),
        preferred_element_type=jnp.float32,
    )
