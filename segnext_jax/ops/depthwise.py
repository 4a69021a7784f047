"""Depthwise convolution, the operator that bounds SegNeXt's speed.

XLA's grouped convolution is slow on every platform measured (jax issues 13800 and
23713), so the operator has several implementations of one definition.
"""

from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.halo import AxisName, pad_rows
from segnext_jax.ops.outlined import outlined
from segnext_jax.ops.triton import depthwise as triton_depthwise

_SHORTEST_RUN = 8  # of pixels summed up at once for the gradient of a kernel

Implementation = Literal["auto", "xla", "shift", "triton", "portable"]


class Layer(NamedTuple):
    """Parameters of an affine layer."""

    kernel: jax.Array
    bias: jax.Array


def depthwise_conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    implementation: Implementation = "auto",
    axis_name: AxisName = None,
) -> jax.Array:
    """Convolves every channel with its own kernel: stride 1, SAME zero padding.

    Args:
      x: [b h w c], float32 or bfloat16.
      kernel: [kh kw c], kh and kw odd, same dtype as `x`.
      implementation: "xla" is the grouped convolution, "shift" the sum of shifted
        copies with a hand-written backward, "triton" kernels for GPUs, "auto" the best
        of them on the default platform: docs/performance.md has the measurements.
        "portable" is for programs exported to several platforms.
      axis_name: of the devices that share the rows of `x` (ops/halo.py).

    Returns:
      [b h w c] in the dtype of `x`.

    Raises:
      ValueError: if the kernel is even, or does not fit `x`.
    """
    if kernel.ndim != 3:
        raise ValueError(f"kernel must be [kh kw c], got {kernel.shape}")
    kh, kw, channels = kernel.shape
    if kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"kernel size must be odd, got ({kh}, {kw})")
    if x.ndim != 4 or x.shape[-1] != channels:
        raise ValueError(
            f"x must be [b h w {channels}] for a kernel of {channels} channels, "
            f"got {x.shape}"
        )
    if x.dtype != kernel.dtype:
        raise ValueError(f"x is {x.dtype} but the kernel is {kernel.dtype}")
    implementation = choose(implementation)
    if implementation == "triton":
        return _triton_conv(x, kernel, axis_name)
    if implementation == "xla":
        return _grouped_conv(x, kernel, axis_name)
    if implementation == "shift":
        return _shift_conv(x, kernel, axis_name)
    if implementation == "portable":
        grouped = partial(_grouped_conv, axis_name=axis_name)
        return lax.platform_dependent(
            x,
            kernel,
            cuda=grouped,
            rocm=grouped,
            cpu=lambda x, kernel: _shift_conv(x, kernel, axis_name),
            default=lambda x, kernel: _plain_shift_conv(x, kernel, axis_name),
        )
    raise ValueError(
        f"unknown implementation {implementation!r}: use one of "
        f"{', '.join(get_args(Implementation))}"
    )


def choose(implementation: Implementation) -> Implementation:
    """What "auto" is on the default platform; anything else is itself."""
    if implementation != "auto":
        return implementation
    # docs/performance.md: on Hopper a step moves 82.6 GB with these Triton kernels and
    # 98.1 with cuDNN's grouped convolution; shift-and-add wins on CPU (1.4 against
    # 8.3 s a step) and on TPU v5e (43 against 73 GB).
    return "triton" if jax.default_backend() == "gpu" else "shift"


def _grouped_conv(x: jax.Array, kernel: jax.Array, axis_name: AxisName) -> jax.Array:
    kh, kw, _ = kernel.shape
    rows = (kh // 2, kh // 2)
    if axis_name is not None:
        x, rows = pad_rows(x, *rows, axis_name), (0, 0)
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        window_strides=(1, 1),
        padding=(rows, (kw // 2, kw // 2)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _triton_conv(x: jax.Array, kernel: jax.Array, axis_name: AxisName) -> jax.Array:
    rows = _neighbouring_rows(x, kernel, axis_name)
    return triton_depthwise.conv(rows, kernel, num_rows=x.shape[1])


def _triton_conv_fwd(x, kernel, axis_name):
    return _triton_conv(x, kernel, axis_name), (x, kernel)


def _triton_conv_bwd(axis_name, residuals, grad):
    x, kernel = residuals
    rows = _neighbouring_rows(grad, kernel, axis_name)
    gradients = triton_depthwise.conv_gradients(x, kernel, rows)
    return gradients.x, gradients.kernel.astype(kernel.dtype)


_triton_conv.defvjp(_triton_conv_fwd, _triton_conv_bwd)


def _neighbouring_rows(x: jax.Array, kernel: jax.Array, axis_name: AxisName):
    """With those of other devices that the kernel reads, if there are any."""
    reach = kernel.shape[0] // 2
    return x if axis_name is None else pad_rows(x, reach, reach, axis_name)


def _plain_shift_conv(x: jax.Array, kernel: jax.Array, axis_name: AxisName):
    x = _neighbouring_rows(x, kernel, axis_name)
    kh, kw, _ = kernel.shape
    rows = kh // 2 if axis_name is None else 0
    padded = jnp.pad(x, ((0, 0), (rows, rows), (kw // 2, kw // 2), (0, 0)))
    return sum_taps(padded, kernel, width=x.shape[2])


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shift_conv(x: jax.Array, kernel: jax.Array, axis_name: AxisName) -> jax.Array:
    kh, kw, _ = kernel.shape
    rows = (kh // 2, kh // 2)
    if axis_name is not None:
        x, rows = pad_rows(x, *rows, axis_name), (0, 0)
    # A column more than needed: rows of a multiple of 4 kB lie in the same few sets of
    # a CPU's cache and drive each other out; tall kernels take up to twice as long.
    padded = pad(x, rows=rows, columns=(kw // 2, kw // 2 + 1))
    return _sum_taps(padded, kernel, width=x.shape[2])


def pad(
    x: jax.Array,
    *,
    rows: tuple[int, int],
    columns: tuple[int, int],
    is_transposed: bool = False,
) -> jax.Array:
    """Zeros around images [b h w c], which may be transposed before, in one pass."""
    if not (is_transposed or any(rows + columns)):
        return x
    return _pad(x, rows=rows, columns=columns, is_transposed=is_transposed)


@partial(outlined, static_argnames=("rows", "columns", "is_transposed"))
def _pad(x, *, rows, columns, is_transposed) -> jax.Array:
    x = x.swapaxes(1, 2) if is_transposed else x
    return jnp.pad(x, ((0, 0), rows, columns, (0, 0)))


def sum_taps(padded: jax.Array, kernel: jax.Array, *, width: int) -> jax.Array:
    """Convolves every channel by shift-and-add, all rows that are, and `width` columns.

    Sums in float32: [b h+kh-1 w+kw-1… c] → [b h width c] in the dtype of `padded`.
    """
    kh, kw, _ = kernel.shape
    b, h, _, c = padded.shape
    h += 1 - kh
    total = jnp.zeros((b, h, width, c), jnp.float32)
    for i in range(kh):
        for j in range(kw):
            shifted = padded[:, i : i + h, j : j + width].astype(jnp.float32)
            total += shifted * kernel[i, j].astype(jnp.float32)
    return total.astype(padded.dtype)


_sum_taps = outlined(sum_taps, static_argnames=("width",))


def _shift_conv_fwd(x, kernel, axis_name):
    return _shift_conv(x, kernel, axis_name), (x, kernel)


def _shift_conv_bwd(axis_name, residuals, grad):
    x, kernel = residuals
    # The transpose of a SAME convolution with an odd kernel is the SAME convolution
    # with the kernel turned by 180 degrees: rows are exchanged as in the forward.
    return (
        _shift_conv(grad, kernel[::-1, ::-1], axis_name),
        _kernel_gradient(x, grad, kernel, axis_name),
    )


_shift_conv.defvjp(_shift_conv_fwd, _shift_conv_bwd)


def _kernel_gradient(
    x: jax.Array, grad: jax.Array, kernel: jax.Array, axis_name: AxisName
) -> jax.Array:
    """Sums x·grad for every tap over the rows that are here."""
    kh, kw, _ = kernel.shape
    rows, columns = (kh // 2, kh // 2), (kw // 2, kw // 2)
    if axis_name is not None:
        x, rows = pad_rows(x, *rows, axis_name), (0, 0)

    if jax.default_backend() == "cpu":
        gradient = _sum_products_by_runs(x, grad, (kh, kw), rows, columns)
    else:
        padded = pad(x, rows=rows, columns=columns)
        gradient = _sum_products_by_rows(padded, grad, size=(kh, kw))
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
    rows = 2 if h % 2 == 0 else 1

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
