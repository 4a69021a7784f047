"""Depthwise convolution, the operator that bounds SegNeXt's speed.

XLA's grouped convolution is slow on every platform measured (jax issues 13800 and
23713), so the operator has several implementations of one definition.
"""

from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
from jax import lax

from segnext_jax.ops.halo import AxisName, neighbouring_rows
from segnext_jax.ops.shift import plain_shift_conv, shift_conv
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
        return shift_conv(x, kernel, axis_name)
    if implementation == "portable":
        grouped = partial(_grouped_conv, axis_name=axis_name)
        return lax.platform_dependent(
            x,
            kernel,
            cuda=grouped,
            rocm=grouped,
            cpu=lambda x, kernel: shift_conv(x, kernel, axis_name),
            default=lambda x, kernel: plain_shift_conv(x, kernel, axis_name),
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
    x, rows = neighbouring_rows(x, kh, axis_name)
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
    rows, _ = neighbouring_rows(x, kernel.shape[0], axis_name)
    return triton_depthwise.conv(rows, kernel, num_rows=x.shape[1])


def _triton_conv_fwd(x, kernel, axis_name):
    return _triton_conv(x, kernel, axis_name), (x, kernel)


def _triton_conv_bwd(axis_name, residuals, grad):
    x, kernel = residuals
    rows, _ = neighbouring_rows(grad, kernel.shape[0], axis_name)
    gradients = triton_depthwise.conv_gradients(x, kernel, rows)
    return gradients.x, gradients.kernel.astype(kernel.dtype)


_triton_conv.defvjp(_triton_conv_fwd, _triton_conv_bwd)
