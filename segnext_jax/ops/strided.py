"""Convolution of stride 2, which begins the stages of the backbone."""

from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.depthwise import Implementation
from segnext_jax.ops.halo import AxisName, pad_rows
from segnext_jax.ops.matmul import product
from segnext_jax.ops.pad import pad

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# Up to so many channels, 2×2 pixels become one.
_FEW_CHANNELS, _FEW_CHANNELS_OF_TPU = 4, 16


def strided_conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    implementation: Implementation = "auto",
    axis_name: AxisName = None,
) -> jax.Array:
    """3×3 with stride 2, padded by 1 as in PyTorch: "SAME" would pad even sizes less.

    Args:
      x: [b h w c].
      kernel: [3 3 c d], same dtype as `x`.
      implementation: "auto" is products of matrices on a CPU, and of up to 16 channels
        on a TPU; all others are XLA's convolution, whose backward takes longer: on a
        CPU 176 ms instead of 106 for all of SegNeXt-B but the first, at 2×512².
      axis_name: of the devices that share the rows of `x` (ops/halo.py), an even number
        each.

    Returns:
      [b ⌈h/2⌉ ⌈w/2⌉ d] in the dtype of `x`.
    """
    platform = jax.default_backend() if implementation == "auto" else None
    few = _FEW_CHANNELS_OF_TPU if platform == "tpu" else _FEW_CHANNELS
    if platform != "cpu" and x.shape[-1] <= few:
        return _conv_of_blocks(x, kernel, axis_name, by_products=platform == "tpu")
    rows = (1, 1)
    if axis_name is not None:
        # Parts of an even height need no row from below.
        x, rows = pad_rows(x, 1, 0, axis_name), (0, 0)
    if platform == "cpu":
        patches = _patches(pad(x, rows=rows, columns=(1, 1)))
        return product(patches, kernel.reshape(-1, kernel.shape[-1]))
    return lax.conv_general_dilated(
        x, kernel, (2, 2), (rows, (1, 1)), dimension_numbers=_DIMENSIONS
    )


def _patches(padded: jax.Array) -> jax.Array:
    """What each output of the convolution reads: [b h w c] → [b (h-1)/2 (w-1)/2 9c]."""
    b, h, w, c = padded.shape
    h, w = (h - 1) // 2, (w - 1) // 2
    taps = []
    for i in range(3):
        row = padded[:, i : i + 2 * h - 1 : 2]
        # Two neighbours are one of twice the channels.
        taps += [
            row[:, :, : 2 * w].reshape(b, h, w, 2 * c),
            row[:, :, 2 : 2 * w + 1 : 2],
        ]
    return jnp.concatenate(taps, axis=-1)


def _conv_of_blocks(
    x: jax.Array, kernel: jax.Array, axis_name: AxisName, *, by_products: bool
) -> jax.Array:
    """The same sums over 2×2 pixels as one of four times the channels.

    An image of 3 channels fills 3 of a TPU's 128 lanes. Of products XLA fills them with
    columns: the compiler for v5e expects 94 instead of 108 million cycles of a train
    step of SegNeXt-T (docs/performance.md).
    """
    _, h, w, c = x.shape
    h, w = (h + 1) // 2, (w + 1) // 2
    x = jnp.pad(x, ((0, 0), (0, 2 * h - x.shape[1]), (0, 2 * w - x.shape[2]), (0, 0)))
    # Not by a reshape: a TPU pads its pairs of pixels to 128, 0.4 GB at 1024².
    x = jnp.concatenate([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=-1)
    # Output i reads the pixels 2i-1, 2i, 2i+1: of two blocks all but the first.
    kernel = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0)))
    kernel = kernel.reshape(2, 2, 2, 2, c, -1).swapaxes(1, 2).reshape(2, 2, 4 * c, -1)
    rows = (1, 0)
    if axis_name is not None:
        x, rows = pad_rows(x, *rows, axis_name), (0, 0)
    if not by_products:
        return lax.conv_general_dilated(
            x, kernel, (1, 1), (rows, (1, 0)), dimension_numbers=_DIMENSIONS
        )
    x = jnp.pad(x, ((0, 0), rows, (1, 0), (0, 0)))
    products = [
        jnp.matmul(
            x[:, i : i + h, j : j + w], kernel[i, j], preferred_element_type=jnp.float32
        )
        for i in (0, 1)
        for j in (0, 1)
    ]
    return reduce(jnp.add, products).astype(x.dtype)
