"""How programs of a Triton kernel share images: what its kernels have in common.

A program has a tile, some columns of some channels, and walks down the rows of its
part of one image. Float32 in registers, whatever the arrays are.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from segnext_jax.ops.partition import split_examples

_NUM_WARPS = 4


class Tiling(NamedTuple):
    """Of images [h w c]: rows of a part; columns and channels are powers of two."""

    shape: tuple[int, int, int]
    rows: int
    columns: int
    channels: int
    is_interpreted: bool  # on a CPU, for tests

    @property
    def num_tiles(self) -> int:
        """Of the same channels."""
        h, w, _ = self.shape
        return pl.cdiv(h, self.rows) * pl.cdiv(w, self.columns)

    def sums(self, count: int) -> jax.ShapeDtypeStruct:
        """What `Tile.store_sums` stores of an image."""
        return jax.ShapeDtypeStruct((self.num_tiles, count, self.shape[2]), jnp.float32)


def choose_tiling(shape: tuple[int, ...], *, rows: int) -> Tiling:
    """Tiles of up to 8 columns × 32 channels, two values for each thread.

    A thread loads 4 bytes of bfloat16, and a warp two times 64 in a row.
    """
    h, w, c = shape
    return Tiling(
        (h, w, c),
        min(rows, h),
        min(8, pl.next_power_of_2(w)),
        min(32, pl.next_power_of_2(c)),
        jax.default_backend() == "cpu",
    )


class Tile:
    """That of the running program: what it loads and stores."""

    def __init__(self, tiling: Tiling):
        self._h, self._w, c = tiling.shape
        block, self._index, self._image = (pl.program_id(axis) for axis in range(3))
        across = pl.cdiv(self._w, tiling.columns)
        self._rows = tiling.rows
        self._is_interpreted = tiling.is_interpreted
        self.first_row = self._index // across * tiling.rows
        self._columns = self._index % across * tiling.columns + jnp.arange(
            tiling.columns
        )
        self._channels = block * tiling.channels + jnp.arange(tiling.channels)
        self._is_channel = self._channels < c
        self.zeros = jnp.zeros((tiling.columns, tiling.channels), jnp.float32)

    def is_row(self, row: jax.Array) -> jax.Array:
        """Whether the image has this row."""
        return (row >= 0) & (row < self._h)

    def is_own(self, row: jax.Array) -> jax.Array:
        """Where this part of the image has pixels in a row: bool [columns 1]."""
        is_own = (row >= self.first_row) & (row < self.first_row + self._rows)
        return (is_own & self.is_row(row) & (self._columns < self._w))[:, None]

    def load(
        self, ref: Any, row: jax.Array, shift: int = 0, bias: jax.Array | None = None
    ) -> jax.Array:
        """Pixels (row, column + shift) of `ref` [b h' w c], 0 where it has none.

        An array of more rows than the images has equally many above and below them.
        `bias` [channels] is added to pixels that there are.
        """
        row += (ref.shape[1] - self._h) // 2
        columns = self._columns + shift
        is_row = (row >= 0) & (row < ref.shape[1])
        is_pixel = (is_row & (columns >= 0) & (columns < self._w))[:, None]
        pixels = triton.load(
            ref.at[self._image, row, columns[:, None], self._channels[None]],
            mask=is_pixel & self._is_channel,
            other=0,
        ).astype(jnp.float32)
        return pixels if bias is None else jnp.where(is_pixel, pixels + bias, 0)

    def load_vector(self, ref: Any, *index: int) -> jax.Array:
        """Of a parameter [… c], the same for all columns: [channels]."""
        return triton.load(
            ref.at[(*index, self._channels)], mask=self._is_channel, other=0
        ).astype(jnp.float32)

    def load_taps(self, ref: Any) -> list[list[jax.Array]]:
        """A kernel [kh kw c] → of each tap [channels]."""
        kh, kw, _ = ref.shape
        return [[self.load_vector(ref, i, j) for j in range(kw)] for i in range(kh)]

    def multiply_add(self, x: jax.Array, y: jax.Array, total: jax.Array) -> jax.Array:
        """x·y + total, in one instruction: of x * y + total Triton makes two."""
        if self._is_interpreted:
            return x * y + total
        x, y = (jnp.broadcast_to(factor, total.shape) for factor in (x, y))
        [result] = triton.elementwise_inline_asm(
            "fma.rn.f32 $0, $1, $2, $3;",
            args=[x, y, total],
            constraints="=f,f,f,f",
            pack=1,
            result_shape_dtypes=[jax.ShapeDtypeStruct(total.shape, total.dtype)],
        )
        return result

    def store(self, ref: Any, row: jax.Array, value: jax.Array) -> None:
        """Stores a row of this part of the image, and no other row."""
        triton.store(
            ref.at[self._image, row, self._columns[:, None], self._channels[None]],
            value.astype(ref.dtype),
            mask=self.is_own(row) & self._is_channel,
        )

    def store_sums(self, ref: Any, values: Sequence[jax.Array]) -> None:
        """Adds up the columns of each; to `ref` [b tiles n c], to be summed outside.

        Not by atomic additions: their order, and so the result, would change.
        """
        for i, value in enumerate(values):
            triton.store(
                ref.at[self._image, self._index, i, self._channels],
                jnp.sum(value, axis=0),
                mask=self._is_channel,
            )


def run_tiles(
    kernel: Callable[..., None],
    tiling: Tiling,
    inputs: Any,
    outputs: Sequence[jax.ShapeDtypeStruct],
) -> list[jax.Array]:
    """Runs `kernel(*input_refs, *output_refs)` for every tile of every image.

    Devices that share a batch run it on their own images.

    Args:
      kernel: of refs, in the structure of `inputs`, and of `outputs`.
      tiling: of the images.
      inputs: arrays of images [b h w c], the first among them, and of parameters.
      outputs: what is made of one image; the results have an axis b in front.
    """
    flat, structure = jax.tree.flatten(inputs)

    def run(*flat: jax.Array) -> list[jax.Array]:
        b = flat[0].shape[0]
        return pl.pallas_call(
            kernel,
            grid=(pl.cdiv(tiling.shape[2], tiling.channels), tiling.num_tiles, b),
            out_shape=[
                jax.ShapeDtypeStruct((b, *out.shape), out.dtype) for out in outputs
            ],
            interpret=tiling.is_interpreted,
            compiler_params=triton.CompilerParams(num_warps=_NUM_WARPS, num_stages=1),
        )(*jax.tree.unflatten(structure, flat))

    parameters = [i for i, x in enumerate(flat) if x.ndim < 4]
    return split_examples(run, shared=parameters)(*flat)
