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
from segnext_jax.ops.triton import depthwise as triton_depthwise

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
            default=lambda x, kernel: _shift_conv(x, kernel, axis_name),
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


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shift_conv(x: jax.Array, kernel: jax.Array, axis_name: AxisName) -> jax.Array:
    _, h, w, _ = x.shape
    # A column more than needed: rows of a multiple of 4 kB lie in the same few sets of
    # a CPU's cache and drive each other out; tall kernels take up to twice as long.
    padded = materialize(_pad(x, kernel, axis_name, extra_columns=1))
    total = sum_taps(padded, kernel, (h, w)).astype(x.dtype)
    # XLA puts such a sum into everything that uses it, to be computed there once more;
    # padding it does not.
    total = materialize(jnp.pad(total, ((0, 0), (0, 0), (0, 1), (0, 0))))
    return total[:, :, :w]


@jax.custom_vjp
def conv_of_rows(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The rows of a depthwise convolution that need none but those of `x`.

    [b h w c] → [b h+1-kh w c], in columns padded as `depthwise_conv` does.
    """
    kh, kw, _ = kernel.shape
    h, w = x.shape[1] + 1 - kh, x.shape[2]
    padded = materialize(_pad_columns(x, kw))
    return sum_taps(padded, kernel, (h, w)).astype(x.dtype)


def _conv_of_rows_fwd(x, kernel):
    return conv_of_rows(x, kernel), (x, kernel)


def _conv_of_rows_bwd(residuals, grad):
    x, kernel = residuals
    kh, kw, _ = kernel.shape
    _, h, w, _ = x.shape
    padded = jnp.pad(grad, ((0, 0), (kh - 1, kh - 1), (0, 0), (0, 0)))
    padded = materialize(_pad_columns(padded, kw))
    total = sum_taps(padded, kernel[::-1, ::-1], (h, w)).astype(x.dtype)
    total = materialize(jnp.pad(total, _right(1)))[:, :, :w]
    kernel_grad = sum_products(_pad_columns(x, kw), grad, size=(kh, kw))
    return total, kernel_grad.astype(kernel.dtype)


conv_of_rows.defvjp(_conv_of_rows_fwd, _conv_of_rows_bwd)


def _pad_columns(x: jax.Array, kw: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (0, 0), (kw // 2, kw // 2), (0, 0)))


@partial(jax.jit, static_argnums=2)  # traced once for equal blocks, and both ways
def sum_taps(padded: jax.Array, kernel: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Convolves every channel by shift-and-add, without padding: `shape` in float32."""
    kh, kw, _ = kernel.shape
    h, w = shape
    total = jnp.zeros((padded.shape[0], h, w, padded.shape[-1]), jnp.float32)
    for i in range(kh):
        for j in range(kw):
            shifted = padded[:, i : i + h, j : j + w].astype(jnp.float32)
            total += shifted * kernel[i, j].astype(jnp.float32)
    return total


def materialize(x: jax.Array) -> jax.Array:
    """On a CPU keeps XLA from moving what follows into what `x` comes from."""
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda x: x)


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
    gradient = lax.platform_dependent(
        _pad(x, kernel, axis_name),
        grad,
        cpu=partial(sum_products, size=(kh, kw)),
        default=partial(_sum_products_by_rows, size=(kh, kw)),
    )
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


@partial(jax.jit, static_argnames="size")
def sum_products(
    padded: jax.Array, grad: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """The same on a CPU: [kh kw c] in float32, in a quarter of the time.

    XLA reduces tap by tap, whose operands it writes and reads each time. Here the taps
    of [b h runs tap c] are one array, every number of which is a sum over a run of
    pixels, just as a convolution's output is one over taps.
    """
    kh, kw = size
    if kw < kh:
        # With its taps next to each other in memory: twice as fast, transposed first.
        padded, grad = padded.swapaxes(1, 2), grad.swapaxes(1, 2)
        return sum_products(padded, grad, size=(kw, kh)).swapaxes(0, 1)
    h, w = grad.shape[1:3]
    # As long as the kernel: then the taps of a run do not reach those of the next.
    run = 2 ** (kw - 1).bit_length()
    runs = -(-w // run)
    columns = (runs + 1) * run
    padded = jnp.pad(padded, _right(columns - padded.shape[2]))
    padded = materialize(padded.astype(jnp.float32))
    grad = materialize(jnp.pad(grad, _right(runs * run - w)).astype(jnp.float32))
    grad = _split_columns(grad, run)
    rows = []
    for i in range(kh):
        total = jnp.zeros((), jnp.float32)
        for j in range(min(run, w)):
            shifted = padded[:, i : i + h, j : j + runs * run]
            shifted = _split_columns(shifted, run)[:, :, :, :kw]
            total += shifted * grad[:, :, :, j, None]
        total = materialize(jnp.pad(total, (*[(0, 0)] * 3, (0, 1), (0, 0))))
        # By example: devices that share the batch sum up once, at the end.
        rows.append(jnp.sum(total[:, :, :, :kw], axis=(1, 2)))
    return jnp.stack(rows, axis=1).sum(axis=0)


def _split_columns(x: jax.Array, run: int) -> jax.Array:
    b, h, w, c = x.shape
    return x.reshape(b, h, w // run, run, c)


def _right(columns: int) -> tuple[tuple[int, int], ...]:
    return ((0, 0), (0, 0), (0, columns), (0, 0))


def _pad(
    x: jax.Array, kernel: jax.Array, axis_name: AxisName, *, extra_columns: int = 0
) -> jax.Array:
    kh, kw, _ = kernel.shape
    rows = (kh // 2, kh // 2)
    if axis_name is not None:
        x, rows = pad_rows(x, *rows, axis_name), (0, 0)
    columns = (kw // 2, kw // 2 + extra_columns)
    return jnp.pad(x, ((0, 0), rows, columns, (0, 0)))
