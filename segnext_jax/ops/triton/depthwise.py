"""Depthwise convolution on GPUs: Triton kernels that read and write every array once.

A program walks down the rows: of each row it reads kw shifted copies, and adds what
they give to the kh rows of the result that are in the making, in registers.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.triton.gelu import gelu, gelu_slope
from segnext_jax.ops.triton.tiles import Tile, Tiling, choose_tiling, run_tiles

# Of a part: kh - 1 rows more are read, of which the cache has most.
_ROWS = 64


class Gradients(NamedTuple):
    """Of `conv`; those of parameters are float32."""

    x: jax.Array
    kernel: jax.Array
    bias: jax.Array
    input_bias: jax.Array


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    input_bias: jax.Array | None = None,
    bias: jax.Array | None = None,
    is_activated: bool = False,
    grad: jax.Array | None = None,
    num_rows: int | None = None,
) -> jax.Array:
    """Convolves every channel with its own kernel: stride 1, SAME zero padding.

    Args:
      x: [b h w c]; or [b h' w c] for `num_rows` = h rows of the result, of whose
        neighbours it holds equally many above and below.
      kernel: [kh kw c], odd.
      input_bias: [c], added to x, but not to its padding.
      bias: [c], added to the result.
      is_activated: applies the exact GELU then.
      grad: [b h w c]; returns its product with the slope of the GELU instead.
      num_rows: h, where `x` has more.

    Returns:
      [b h w c] in the dtype of `x`; computed in float32.
    """
    shape = (num_rows or x.shape[1], *x.shape[2:])
    tiling = choose_tiling(shape, rows=_ROWS)
    out = jax.ShapeDtypeStruct(shape, x.dtype)
    program = partial(_conv, tiling, is_activated)
    [y] = run_tiles(program, tiling, (x, kernel, input_bias, bias, grad), [out])
    return y


def _conv(
    tiling: Tiling,
    is_activated: bool,
    x_ref: Any,
    kernel_ref: Any,
    input_bias_ref: Any,
    bias_ref: Any,
    grad_ref: Any,
    out_ref: Any,
) -> None:
    tile = Tile(tiling)
    kh, kw, _ = kernel_ref.shape
    taps = tile.load_taps(kernel_ref)
    input_bias = None if input_bias_ref is None else tile.load_vector(input_bias_ref)
    bias = None if bias_ref is None else tile.load_vector(bias_ref)

    def add_row(i, totals):
        row = tile.first_row - kh // 2 + i
        x = [tile.load(x_ref, row, j - kw // 2, input_bias) for j in range(kw)]
        # totals[m] is for row - kh // 2 + m.
        totals = [_add(tile, totals[m], x, taps[kh - 1 - m]) for m in range(kh)]
        out, out_row = totals[0], row - kh // 2
        if bias is not None:
            out += bias
        if grad_ref is not None:
            out = tile.load(grad_ref, out_row) * gelu_slope(out)
        elif is_activated:
            out = gelu(out)
        tile.store(out_ref, out_row, out)
        return (*totals[1:], tile.zeros)

    lax.fori_loop(0, tiling.rows + kh - 1, add_row, (tile.zeros,) * kh)


def conv_gradients(
    x: jax.Array,
    kernel: jax.Array,
    grad: jax.Array,
    *,
    input_bias: jax.Array | None = None,
) -> Gradients:
    """The backward of `conv` without GELU.

    Args:
      x: [b h w c].
      kernel: [kh kw c].
      grad: [b h w c]; or with kh - 1 rows more, those of its neighbours.
      input_bias: [c] or None.
    """
    kh, kw, _ = kernel.shape
    tiling = choose_tiling(x.shape[1:], rows=_ROWS)
    outputs = [
        jax.ShapeDtypeStruct(x.shape[1:], x.dtype),
        tiling.sums(kh * kw + 2),
    ]
    program = partial(_conv_gradients, tiling)
    dx, sums = run_tiles(program, tiling, (x, kernel, input_bias, grad), outputs)
    sums = sums.sum(axis=(0, 1))
    return Gradients(dx, sums[:-2].reshape(kernel.shape), sums[-2], sums[-1])


def _conv_gradients(
    tiling: Tiling,
    x_ref: Any,
    kernel_ref: Any,
    input_bias_ref: Any,
    grad_ref: Any,
    dx_ref: Any,
    sums_ref: Any,
) -> None:
    tile = Tile(tiling)
    kh, kw, _ = kernel_ref.shape
    taps = tile.load_taps(kernel_ref)
    input_bias = None if input_bias_ref is None else tile.load_vector(input_bias_ref)

    def add_row(i, carry):
        dx, d_taps, d_bias, d_input_bias = carry
        d_taps = list(d_taps)
        row = tile.first_row - kh // 2 + i
        # grad[j] met x, shifted by as much the other way, at tap j.
        grad = [tile.load(grad_ref, row, kw // 2 - j) for j in range(kw)]
        is_own = tile.is_own(row)
        d_bias += jnp.where(is_own, grad[kw // 2], 0)
        # dx[m] is for row - kh // 2 + m, which the result's `row` read at tap m.
        dx = [_add(tile, dx[m], grad, taps[m]) for m in range(kh)]
        for m in range(kh):
            x_row = row - kh // 2 + m
            x = tile.load(x_ref, x_row, 0, input_bias)
            x = jnp.where(tile.is_own(x_row), x, 0)
            for j in range(kw):
                d_taps[m * kw + j] = tile.multiply_add(x, grad[j], d_taps[m * kw + j])
        out_row = row - kh // 2
        tile.store(dx_ref, out_row, dx[0])
        d_input_bias += jnp.where(tile.is_own(out_row), dx[0], 0)
        return [*dx[1:], tile.zeros], d_taps, d_bias, d_input_bias

    zeros = [tile.zeros]
    start = zeros * kh, zeros * (kh * kw), tile.zeros, tile.zeros
    _, d_taps, *d_biases = lax.fori_loop(0, tiling.rows + kh - 1, add_row, start)
    tile.store_sums(sums_ref, [*d_taps, *d_biases])


def _add(tile, total, pixels, taps):
    for x, tap in zip(pixels, taps, strict=True):
        total = tile.multiply_add(x, tap, total)
    return total
