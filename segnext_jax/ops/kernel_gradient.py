"""The gradient of a depthwise convolution in its kernel: a sum over all pixels."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.halo import AxisName, neighbouring_rows
from segnext_jax.ops.outlined import outlined
from segnext_jax.ops.pad import pad
from segnext_jax.ops.partition import sum_over_examples
from segnext_jax.ops.precision import exact

_SHORTEST_RUN = 8  # of pixels that are summed up at once on a CPU
_LANES = 128  # of a TPU's matrix units


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
        gradient = _sum_products_of_all(x, grad, rows, columns)
    return gradient.astype(kernel.dtype)


@partial(jax.jit, static_argnames=("rows", "columns"))
def _sum_products_of_all(
    x: jax.Array, grad: jax.Array, rows: tuple[int, int], columns: tuple[int, int]
) -> jax.Array:
    """The gradient of a kernel of 128 channels to 128, of which a diagonal is wanted.

    A TPU's matrix units have the rest of it for free: the compiler for v5e expects 60
    instead of 71 million cycles of a train step of SegNeXt-T (docs/performance.md).
    """
    channels = x.shape[-1]
    group = math.gcd(channels, _LANES)

    def of_examples(x: jax.Array, grad: jax.Array) -> jax.Array:
        products = lax.conv_general_dilated(
            x,
            grad,
            (1, 1),
            (rows, columns),
            dimension_numbers=("CHWN", "IHWO", "HWNC"),
            batch_group_count=channels // group,
            precision=exact(x),
            preferred_element_type=jnp.float32,
        )
        kh, kw, _, _ = products.shape
        products = products.reshape(kh, kw, group, -1, group)
        taps = jnp.sum(products * jnp.eye(group)[:, None], axis=2)
        return taps.reshape(kh, kw, channels)

    # Else XLA lets `x` be made in a layout of which it makes a copy: 54 instead of 49
    # million cycles of that step.
    return sum_over_examples(of_examples, lax.optimization_barrier(x), grad)


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
