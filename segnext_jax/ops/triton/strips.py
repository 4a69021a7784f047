"""The strips of MSCAN's attention on GPUs, without their intermediates in memory.

x + Σ V(H(x)) over pairs of a 1×k convolution H and a k×1 convolution V. Three
pairs one by one move twelve arrays like x, and their sum five; the kernel moves two.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.triton.tiles import Tile, Tiling, choose_tiling, run_tiles

_ROWS = 64  # of a part; the longest strip less one are read and computed again


class Strips(NamedTuple):
    """Kernels and biases of a pair: [k c], [c], [k c], [c]; k odd."""

    across: jax.Array
    across_bias: jax.Array
    down: jax.Array
    down_bias: jax.Array

    @property
    def radius(self) -> int:
        return self.across.shape[0] // 2


def add_strips(
    x: jax.Array, pairs: Sequence[Strips], *, is_transposed: bool = False
) -> jax.Array:
    """x + Σ V(H(x)), [b h w c] → the same, SAME padding.

    `is_transposed`: the transpose of that, without biases. Strips across commute with
    strips down, zeros around the image included, so it is the same sum of turned ones.
    Computed in float32, in the dtype of `x`.
    """
    tiling = choose_tiling(x.shape[1:], rows=_ROWS)
    out = jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    program = partial(_add_strips, tiling, is_transposed)
    [y] = run_tiles(program, tiling, (x, list(pairs)), [out])
    return y


def _add_strips(
    tiling: Tiling, is_transposed: bool, x_ref: Any, pairs: list[Strips], out_ref: Any
) -> None:
    tile = Tile(tiling)
    reach = max(pair.radius for pair in pairs)
    sign = -1 if is_transposed else 1
    biases = [tile.load_vector(pair.down_bias) for pair in pairs]

    def add_row(i, totals):
        row = tile.first_row - reach + i
        x = _around(lambda j: tile.load(x_ref, row, j), reach)
        totals = list(totals)  # totals[m] is for row - reach + m
        for pair in pairs:
            pixels = _middle(x, pair)[::sign]
            across = _weighted_sum(tile, pixels, pair.across)
            if not is_transposed:
                across += tile.load_vector(pair.across_bias)
                across = jnp.where(tile.is_row(row), across, 0)
            for k in range(-pair.radius, pair.radius + 1):
                tap = tile.load_vector(pair.down, pair.radius - sign * k)
                totals[reach + k] = tile.multiply_add(across, tap, totals[reach + k])
        out_row = row - reach
        out = totals[0] + tile.load(x_ref, out_row)
        tile.store(out_ref, out_row, out if is_transposed else out + sum(biases))
        return (*totals[1:], tile.zeros)

    start = (tile.zeros,) * (2 * reach + 1)
    lax.fori_loop(0, tiling.rows + 2 * reach, add_row, start)


def add_strips_gradients(
    x: jax.Array, pairs: Sequence[Strips], grad: jax.Array
) -> tuple[jax.Array, list[Strips]]:
    """The backward of `add_strips`: gradients of x and, in float32, of the pairs."""
    tiling = choose_tiling(x.shape[1:], rows=_ROWS)
    count = sum(len(pair.across) for pair in pairs)

    def sums(add, num_biases):
        [parts] = run_tiles(
            partial(_sum_gradients, tiling, add),
            tiling,
            (x, list(pairs), grad),
            [tiling.sums(count + num_biases)],
        )
        return parts.sum(axis=(0, 1))

    # Two kernels: the sums of both are more than a thread has registers.
    down, across = sums(_add_down, 1), sums(_add_across, len(pairs))
    gradients, start = [], 0
    for i, pair in enumerate(pairs):
        taps = slice(start, start + len(pair.across))
        gradients.append(
            Strips(across[taps], across[count + i], down[taps], down[count])
        )
        start = taps.stop
    return add_strips(grad, pairs, is_transposed=True), gradients


def _sum_gradients(
    tiling: Tiling,
    add: Callable[..., list[jax.Array]],
    x_ref: Any,
    pairs: list[Strips],
    grad_ref: Any,
    sums_ref: Any,
) -> None:
    """Sums up over all rows what `add` adds for the pixels around one of them."""
    tile = Tile(tiling)
    reach = max(pair.radius for pair in pairs)

    def add_row(i, sums):
        row = tile.first_row + i
        x = _around(lambda j: tile.load(x_ref, row, j), reach)
        grad = _around(lambda j: tile.load(grad_ref, row + j), reach)
        return add(tile, row, x, grad, pairs, iter(sums))

    start = [tile.zeros] * sums_ref.shape[2]
    tile.store_sums(sums_ref, lax.fori_loop(0, tiling.rows, add_row, start))


def _add_down(tile, row, x, grad, pairs, sums):
    """Of every tap of V: the sum of grad·H(x); and the sum of grad."""
    updated = []
    for pair in pairs:
        across = _weighted_sum(tile, _middle(x, pair), pair.across)
        across += tile.load_vector(pair.across_bias)
        across = jnp.where(tile.is_own(row), across, 0)
        for pixels in reversed(_middle(grad, pair)):
            updated.append(tile.multiply_add(across, pixels, next(sums)))
    here = grad[len(grad) // 2]
    return [*updated, next(sums) + jnp.where(tile.is_own(row), here, 0)]


def _add_across(tile, row, x, grad, pairs, sums):
    """Of every tap of H: the sum of x times what V's transpose makes of grad."""
    updated, biases = [], []
    for pair in pairs:
        up = _weighted_sum(tile, _middle(grad, pair)[::-1], pair.down)
        up = jnp.where(tile.is_own(row), up, 0)
        for pixels in _middle(x, pair):
            updated.append(tile.multiply_add(up, pixels, next(sums)))
        biases.append(up)
    return updated + [total + up for total, up in zip(sums, biases, strict=True)]


def _around(load: Callable[[int], jax.Array], reach: int) -> list[jax.Array]:
    return [load(j) for j in range(-reach, reach + 1)]


def _middle(pixels: list[jax.Array], pair: Strips) -> list[jax.Array]:
    """Those that the strips of a pair reach."""
    extra = len(pixels) // 2 - pair.radius
    return pixels[extra : len(pixels) - extra]


def _weighted_sum(tile: Tile, pixels: list[jax.Array], taps: Any) -> jax.Array:
    total = tile.zeros
    for i, x in enumerate(pixels):
        total = tile.multiply_add(x, tile.load_vector(taps, i), total)
    return total
