"""Cross-entropy of logits that are enlarged to their labels, as one kernel for TPUs.

Columns are enlarged by a product with their interpolation matrix. The kernel goes down
the rows of the logits: each becomes the eight rows of a register, of which it passes
the gradient on at once. By phases (ops/cross_entropy.py) XLA takes eight times as many
cycles of a v5e (docs/performance.md), in passes over arrays of all classes.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from segnext_jax.ops.partition import can_map_examples, map_examples
from segnext_jax.ops.precision import exact
from segnext_jax.ops.resize import blend_weights, interpolation_matrix

_SUBLANES, _LANES = 8, 128  # of a register
_COLUMNS = 512  # at once, in 4 registers for each class
_VMEM = 12 * 2**20  # bytes of a kernel; the compiler allows 16 MiB


def is_supported(shape: tuple[int, ...], label_shape: tuple[int, ...]) -> bool:
    """Whether there is a kernel for logits [b h w c] and labels of these shapes."""
    b, h, w, c = shape
    height, width = label_shape[1:]
    fills_registers = height == _SUBLANES * h and width % _LANES == 0
    # Three rows and one of the gradient, twice, and three gradients in the making.
    num_bytes = 4 * c * ((2 * 4 + 3) * width + _SUBLANES * _COLUMNS)
    fits = width % w == 0 and num_bytes <= _VMEM
    return fills_registers and fits and can_map_examples(b)


def enlarged_cross_entropy(
    logits: jax.Array, label: jax.Array, class_weights: jax.Array, ignore_label: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums over the pixels of each example, and the gradient of the first.

    Args:
      logits: [b h w c], float32; enlarged as by ops/resize.py.
      label: [b H W] int32, of a shape that `is_supported`.
      class_weights: [c] float32, of the pixels of each class.
      ignore_label: of pixels that do not count.

    Returns:
      Weighted cross-entropy [b], weights [b], and the gradient of the first to the
      logits, [b h w c]; all float32.
    """
    matrix = interpolation_matrix(logits.shape[2], label.shape[2])

    def enlarge_columns(logits: jax.Array) -> jax.Array:
        """[b h w c] → [b h c W]."""
        return jnp.tensordot(logits, matrix, ((2,), (1,)), precision=exact(logits))

    rows, shrink_columns = jax.vjp(enlarge_columns, logits)
    call = partial(_call, ignore_label=ignore_label)
    sums, grad = map_examples(call, [rows, label], class_weights)
    total, weight = jnp.moveaxis(sums.sum(axis=(2, 3)), -1, 0)
    return total, weight, *shrink_columns(grad)


def _call(
    images: list[jax.Array], class_weights: jax.Array, *, ignore_label: int
) -> list[jax.Array]:
    """Rows [b h c W] and labels → sums [b 2 8 128] and the gradient of the rows."""
    rows, label = images
    b, h, c, width = rows.shape
    columns = math.gcd(width, _COLUMNS)
    phases = blend_weights(_SUBLANES)[..., None] * np.ones(_LANES, np.float32)

    def row(offset: int) -> pl.BlockSpec:
        """Of each step the row that is so far from its own, or the one at the edge."""
        block = None, None, c, width
        return pl.BlockSpec(
            block, lambda n, i: (n, jnp.clip(i + offset, 0, h - 1), 0, 0)
        )

    labels = pl.BlockSpec(
        (None, _SUBLANES, width), lambda n, i: (n, jnp.minimum(i, h - 1), 0)
    )

    call = partial(
        pl.pallas_call,
        partial(_cross_entropy, ignore_label=ignore_label),
        name="cross_entropy",
        # The gradient of a row is complete a step later.
        grid=(b, h + 1),
        in_specs=[
            row(-1),
            row(0),
            row(1),
            labels,
            pl.BlockSpec(phases.shape, lambda n, i: (0, 0, 0)),
            pl.BlockSpec(memory_space=pltpu.SMEM),
        ],
        out_specs=[
            pl.BlockSpec((None, 2, _SUBLANES, _LANES), lambda n, i: (n, 0, 0, 0)),
            row(-1),
        ],
        out_shape=[
            jax.ShapeDtypeStruct((b, 2, _SUBLANES, _LANES), jnp.float32),
            jax.ShapeDtypeStruct(rows.shape, jnp.float32),
        ],
        scratch_shapes=[
            pltpu.VMEM((c, _SUBLANES, columns), jnp.float32),
            pltpu.VMEM((3, c, width), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary")
        ),
    )
    # By what it is lowered for, not traced for: elsewhere it is interpreted.
    return lax.platform_dependent(
        rows,
        rows,
        rows,
        label,
        phases,
        class_weights,
        tpu=call(),
        default=call(interpret=True),
    )


def _cross_entropy(
    above_ref: Any,
    here_ref: Any,
    below_ref: Any,
    label_ref: Any,
    phases_ref: Any,
    class_weights_ref: Any,
    sums_ref: Any,
    out_ref: Any,
    pixels_ref: Any,
    grads_ref: Any,
    *,
    ignore_label: int,
) -> None:
    """A step: one row of the logits, which is 8 of pixels.

    `pixels_ref` [c 8 columns] is for what pixels have of each class, `grads_ref`
    [3 c W] for the gradients of this row and the two next to it.
    """
    num_classes, _, columns = pixels_ref.shape
    width = here_ref.shape[1]
    step, last = pl.program_id(1), pl.num_programs(1) - 2
    above, below = jnp.maximum(step - 1, 0), jnp.minimum(step + 1, last)

    def slot(row: Any) -> Any:
        """Of its gradient."""
        return lax.rem(row, 3)

    def add(rows: Any, at: Any) -> None:
        """Some columns of the pixels between `rows`."""
        label = label_ref[:, at]
        label = jnp.where(label == ignore_label, -1, label)

        def blend(c: Any, largest: jax.Array) -> jax.Array:
            parts = [ref[pl.ds(c, 1), at] * phase for ref, _, phase in rows]
            pixels_ref[c] = logits = sum(parts[1:], parts[0])
            return jnp.maximum(largest, logits)

        lowest = jnp.full(label.shape, -jnp.inf, jnp.float32)
        largest = lax.fori_loop(0, num_classes, blend, lowest)

        def add_class(c: Any, carry: Any) -> Any:
            total, picked, weight = carry
            logits, is_class = pixels_ref[c], label == c
            pixels_ref[c] = exponential = jnp.exp(logits - largest)
            picked = jnp.where(is_class, logits, picked)
            weight = jnp.where(is_class, class_weights_ref[c], weight)
            return total + exponential, picked, weight

        zeros = (jnp.zeros(label.shape, jnp.float32),) * 3
        total, picked, weight = lax.fori_loop(0, num_classes, add_class, zeros)
        losses = (largest + jnp.log(total) - picked) * weight
        sums_ref[0] += _fold(jnp.where(weight > 0, losses, 0))
        sums_ref[1] += _fold(weight)
        scale = weight / total

        def spread(c: Any, carry: None) -> None:
            grad = pixels_ref[c] * scale - jnp.where(label == c, weight, 0)
            for _, place, phase in rows:
                part = jnp.sum(grad * phase, axis=0, keepdims=True)
                grads_ref[place, pl.ds(c, 1), at] += part

        lax.fori_loop(0, num_classes, spread, None)

    @pl.when(step == 0)
    def start() -> None:
        sums_ref[...] = jnp.zeros_like(sums_ref)
        grads_ref[...] = jnp.zeros_like(grads_ref)

    @pl.when(step <= last)
    def add_row() -> None:
        grads_ref[slot(step + 1)] = jnp.zeros((num_classes, width), jnp.float32)
        rows = [
            (ref, slot(row), jnp.concatenate([phase] * (columns // _LANES), axis=1))
            for ref, row, phase in zip(
                (above_ref, here_ref, below_ref),
                (above, step, below),
                phases_ref[...],
                strict=True,
            )
        ]
        for first in range(0, width, columns):
            add(rows, pl.ds(first, columns))

    out_ref[...] = grads_ref[slot(above)]


def _fold(x: jax.Array) -> jax.Array:
    """Adds registers up: [8 columns] → [8 128]."""
    first, *others = (x[:, i : i + _LANES] for i in range(0, x.shape[1], _LANES))
    return sum(others, first)
