"""Depthwise convolution by shift-and-add, for CPUs and TPUs: ops/depthwise.py.

Large kernels of a TPU are in ops/banded.py.
"""

from functools import partial

import jax
import jax.numpy as jnp

from segnext_jax.ops.banded import (
    banded_conv,
    banded_kernel_gradient,
    is_worth_its_matrices,
)
from segnext_jax.ops.halo import AxisName, neighbouring_rows, pad_rows
from segnext_jax.ops.kernel_gradient import kernel_gradient
from segnext_jax.ops.outlined import outlined
from segnext_jax.ops.pad import pad


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def shift_conv(x: jax.Array, kernel: jax.Array, axis_name: AxisName) -> jax.Array:
    """`depthwise_conv` with a backward of its own."""
    if _is_banded(x, kernel):
        return banded_conv(x, kernel, axis_name)
    kh, kw, _ = kernel.shape
    x, rows = neighbouring_rows(x, kh, axis_name)
    # A column more than needed: rows of a multiple of 4 kB lie in the same few sets of
    # a CPU's cache and drive each other out; tall kernels take up to twice as long.
    padded = pad(x, rows=rows, columns=(kw // 2, kw // 2 + 1))
    return _sum_taps(padded, kernel, width=x.shape[2])


def _is_banded(x: jax.Array, kernel: jax.Array) -> bool:
    # With it, the compiler for v5e expects 77 instead of 89 million cycles of a train
    # step of SegNeXt-T (docs/performance.md).
    kh, kw, _ = kernel.shape
    return jax.default_backend() == "tpu" and is_worth_its_matrices(x.shape, (kh, kw))


def sum_taps(padded: jax.Array, kernel: jax.Array, *, width: int) -> jax.Array:
    """Convolves every channel by shift-and-add, all rows that are, and `width` columns.

    Sums in float32: [b h+kh-1 w+kw-1… c] → [b h width c] in the dtype of `padded`.
    """
    kh, kw, _ = kernel.shape
    h = padded.shape[1] + 1 - kh
    taps = [
        padded[:, i : i + h, j : j + width].astype(jnp.float32)
        * kernel[i, j].astype(jnp.float32)
        for i in range(kh)
        for j in range(kw)
    ]
    # Not from an array of zeros, which a loop's backward would keep, and read.
    total = sum(taps[1:], taps[0])
    return total.astype(padded.dtype)


_sum_taps = outlined(sum_taps, static_argnames=("width",))


def _shift_conv_fwd(x, kernel, axis_name):
    return shift_conv(x, kernel, axis_name), (x, kernel)


def _shift_conv_bwd(axis_name, residuals, grad):
    x, kernel = residuals
    # The transpose of a SAME convolution with an odd kernel is the SAME convolution
    # with the kernel turned by 180 degrees: rows are exchanged as in the forward.
    of_x = shift_conv(grad, kernel[::-1, ::-1], axis_name)
    of_kernel = banded_kernel_gradient if _is_banded(x, kernel) else kernel_gradient
    return of_x, of_kernel(x, grad, kernel, axis_name)


shift_conv.defvjp(_shift_conv_fwd, _shift_conv_bwd)


def plain_shift_conv(x: jax.Array, kernel: jax.Array, axis_name: AxisName) -> jax.Array:
    """The same without calls that only XLA for CPUs should get."""
    kh, kw, _ = kernel.shape
    padded = pad_rows(x, kh // 2, kh // 2, axis_name)
    padded = jnp.pad(padded, ((0, 0), (0, 0), (kw // 2, kw // 2), (0, 0)))
    return sum_taps(padded, kernel, width=x.shape[2])
