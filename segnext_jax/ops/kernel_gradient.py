"""The gradient of a depthwise convolution in its kernel: a sum over all pixels."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.banded import sum_products_by_matrices
from segnext_jax.ops.halo import AxisName, neighbouring_rows
from segnext_jax.ops.outlined import outlined
from segnext_jax.ops.pad import pad

_SHORTEST_RUN = 8  # of pixels that are summed up at once on a CPU
_IN_FAST_MEMORY = 2**21  # numbers of an array, of each example at once


def kernel_gradient(
    x: jax.Array, grad: jax.Array, kernel: jax.Array, axis_name: AxisName
) -> jax.Array:
    """Sums x·grad for every tap over the rows that are here: as `kernel`.

    Args:
      x: [b h w c], convolved with `kernel`.
      grad: [b h w c], of the result.
      kernel: [kh kw c].
      axis_name: of the devices that share the rows (ops/halo.py).
    """
    kh, kw, _ = kernel.shape
    x, rows = neighbouring_rows(x, kh, axis_name)
    columns = (kw // 2, kw // 2)
    if jax.default_backend() == "cpu":
        gradient = _sum_products_by_runs(x, grad, (kh, kw), rows, columns)
    else:
        padded = pad(x, rows=rows, columns=columns)
        # Matrices take a third to a thirtieth of the cycles, by XLA's estimate for TPU
        # v5e, but are too large for fast memory where a small kernel has many channels.
        is_large = max(kh, kw) > 3
        method = sum_products_by_matrices if is_large else _sum_products_by_rows
        gradient = method(padded, grad, size=(kh, kw))
    return gradient.astype(kernel.dtype)


@partial(jax.jit, static_argnames="size")
def _sum_products_by_rows(
    padded: jax.Array, grad: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """The gradient of `sum_taps` in its kernel of `size`, a few rows at a time.

    The rows of one step stay in a TPU's fast memory while kh·kw products read them.
    """
    kh, kw = size
    b, h, w, channels = grad.shape
    most = max(_IN_FAST_MEMORY // (w * channels), 1)
    rows = max(n for n in range(1, h + 1) if h % n == 0 and n <= most)

    def add_rows(total, start):
        x_rows = lax.dynamic_slice_in_dim(padded, start, rows + kh - 1, axis=1)
        grad_rows = lax.dynamic_slice_in_dim(grad, start, rows, axis=1)
        x_rows, grad_rows = x_rows.astype(jnp.float32), grad_rows.astype(jnp.float32)
        taps = [
            jnp.sum(x_rows[:, i : i + rows, j : j + w] * grad_rows, axis=(1, 2))
            for i in range(kh)
            for j in range(kw)
        ]
        return total + jnp.stack(taps, axis=1), None

    # By example: devices that share the batch would otherwise sum up in every step.
    total = jnp.zeros((b, kh * kw, channels), jnp.float32)
    total, _ = lax.scan(add_rows, total, jnp.arange(0, h, rows))
    return total.sum(axis=0).reshape(kh, kw, channels)


def _sum_products_by_runs(
    x: jax.Array,
    grad: jax.Array,
    size: tuple[int, int],
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> jax.Array:
    """The same on a CPU, in a quarter of the time; `x` is yet to be padded."""
    kh, kw = size
    # A kernel's taps lie next to each other in memory: a tall one's once transposed.
    is_tall = kw < kh
    axis = 2
    if is_tall:
        kh, kw, rows, columns, axis = kw, kh, columns, rows, 1
    width = grad.shape[axis]
    left, right = columns[0], columns_of_runs(width, kw) - columns[0] - x.shape[axis]
    x = pad(x, rows=rows, columns=(left, right), is_transposed=is_tall)
    grad = fill_last_run(grad, kw, is_transposed=is_tall)
    total = sum_products(x, grad, size=(kh, kw))
    return total.swapaxes(0, 1) if is_tall else total


def sum_products(
    padded: jax.Array, grad: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """The gradient of `sum_taps` in its kernel of `size`: [kh kw c] in float32.

    XLA for CPUs reduces tap by tap, whose operands it writes and reads each time. Here
    the taps of [b h runs tap c] are one array, every number of which is a sum over a
    run of pixels, just as a convolution's output is one over taps.

    `padded` has `columns_of_runs`, and `grad` a multiple of their length.
    """
    kh, kw = size
    # By example: devices that share the batch sum up once, at the end.
    taps = [
        jnp.sum(_multiply_runs(padded, grad, row=i, taps=kw), axis=(1, 2))
        for i in range(kh)
    ]
    return jnp.stack(taps, axis=1).sum(axis=0)


def columns_of_runs(width: int, kw: int) -> int:
    """As many as `sum_products` reads of images that are padded from this width."""
    run = _run_length(kw)
    return (-(-width // run) + 1) * run


def fill_last_run(
    grad: jax.Array, kw: int, *, is_transposed: bool = False
) -> jax.Array:
    """Adds columns of 0 as `sum_products` needs them."""
    missing = -grad.shape[1 if is_transposed else 2] % _run_length(kw)
    return pad(grad, rows=(0, 0), columns=(0, missing), is_transposed=is_transposed)


def _run_length(kw: int) -> int:
    # As long as the kernel: then the taps of a run do not reach those of the next.
    return max(2 ** (kw - 1).bit_length(), _SHORTEST_RUN)


@partial(outlined, static_argnames=("row", "taps"))
def _multiply_runs(
    padded: jax.Array, grad: jax.Array, *, row: int, taps: int
) -> jax.Array:
    """The sums of every run for a row of the kernel: [b h runs taps c]."""
    b, h, w, c = grad.shape
    run = _run_length(taps)
    runs = (b, h, w // run, run, c)
    grad = grad.reshape(runs).astype(jnp.float32)
    total = jnp.zeros((), jnp.float32)
    for j in range(run):
        shifted = padded[:, row : row + h, j : j + w].reshape(runs)[:, :, :, :taps]
        total += shifted.astype(jnp.float32) * grad[:, :, :, j, None]
    return total
