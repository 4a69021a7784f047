"""Cross-entropy of logits that are enlarged to their labels, as one kernel for GPUs.

XLA holds the enlarged logits in memory, and their gradient: 638 MB each for 8 images of
1024² with 19 classes, which it writes and reads several times. Here pixels are
interpolated when they are needed, and each passes its gradient on at once.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from segnext_jax.ops.partition import split_examples

_CELLS = 8  # side by side in a program


def supported(shape: tuple[int, ...], label_shape: tuple[int, ...]) -> bool:
    """Whether there is a kernel for logits [b h w c] and labels of these shapes."""
    factors = {new // old for new, old in zip(label_shape[1:], shape[1:3], strict=True)}
    (factor, *others) = factors
    exact = tuple(factor * side for side in shape[1:3]) == tuple(label_shape[1:])
    return exact and not others and factor in (2, 4, 8, 16)


def enlarged_cross_entropy(
    logits: jax.Array, label: jax.Array, class_weights: jax.Array, ignore_label: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums over the pixels of each example, and the gradient of the first.

    Args:
      logits: [b h w c], float32; enlarged as by ops/resize.py.
      label: [b H W] int32, H and W the same power of two times h and w.
      class_weights: [c] float32, of the pixels of each class.
      ignore_label: of pixels that do not count.

    Returns:
      Weighted cross-entropy [b], weights [b], and the gradient of the first to the
      logits, [b h w c]; all float32.
    """
    interpret = jax.default_backend() == "cpu"  # that of the trace, not the partitioner
    call = partial(_call, ignore_label=ignore_label, interpret=interpret)
    return split_examples(call, shared=[2])(logits, label, class_weights)


def _call(logits, label, class_weights, *, ignore_label, interpret):
    b, h, w, c = logits.shape
    # A cell lies between the centres of four pixels; those at the edge are cut.
    grid = (b, h + 1, pl.cdiv(w + 1, _CELLS))
    parts_shape = (b, h + 1, w + 1, 2, 2, c)

    def cross_entropy(*refs):
        _kernel(*refs, ignore_label=ignore_label)

    sums, parts = pl.pallas_call(
        cross_entropy,
        grid=grid,
        in_specs=[
            pl.BlockSpec((None, h, w, c), lambda i, j, k: (i, 0, 0, 0)),
            pl.BlockSpec((None, *label.shape[1:]), lambda i, j, k: (i, 0, 0)),
            pl.BlockSpec((c,), lambda i, j, k: (0,)),
        ],
        out_specs=[
            pl.BlockSpec((None, None, None, 2), lambda i, j, k: (i, j, k, 0)),
            pl.BlockSpec(
                (None, None, *parts_shape[2:]), lambda i, j, k: (i, j, 0, 0, 0, 0)
            ),
        ],
        out_shape=[
            jax.ShapeDtypeStruct((*grid, 2), jnp.float32),
            jax.ShapeDtypeStruct(parts_shape, jnp.float32),
        ],
        compiler_params=triton.CompilerParams(num_warps=4),
        interpret=interpret,
    )(logits, label, class_weights)
    # To a pixel add up the cells around it.
    grad = sum(
        parts[:, 1 - y : h + 1 - y, 1 - x : w + 1 - x, y, x]
        for y in range(2)
        for x in range(2)
    )
    total, weight = jnp.moveaxis(sums.sum(axis=(1, 2)), -1, 0)
    return total, weight, grad


def _kernel(logits_ref, label_ref, weights_ref, sums_ref, parts_ref, *, ignore_label):
    """Some cells of a row. Values of pixels are [factor, cells, factor]."""
    h, w, num_classes = logits_ref.shape
    factor = label_ref.shape[0] // h
    cell_y = pl.program_id(1)
    cell_x = pl.program_id(2) * _CELLS + jnp.arange(_CELLS)
    above, below = jnp.maximum(cell_y - 1, 0), jnp.minimum(cell_y, h - 1)
    before, after = jnp.maximum(cell_x - 1, 0), jnp.minimum(cell_x, w - 1)
    weight_y = _weight_of_later(cell_y, h, factor)[:, None]
    weight_x = _weight_of_later(cell_x[:, None], w, factor)[None]

    offset = jnp.arange(factor) - factor // 2
    rows = (cell_y * factor + offset)[:, None, None]
    columns = (cell_x[:, None] * factor + offset)[None]
    inside = (rows >= 0) & (rows < h * factor)
    inside = inside & (columns >= 0) & (columns < w * factor)
    label = triton.load(label_ref.at[rows, columns], mask=inside, other=ignore_label)

    def logit(c):
        """That of all pixels for a class; cheaper to compute than to keep."""
        corners = [
            [logits_ref[y, x, c] for x in (before, after)] for y in (above, below)
        ]
        left, right = (
            top[None] * (1 - weight_y) + bottom[None] * weight_y
            for top, bottom in zip(*corners, strict=True)
        )
        return left[:, :, None] * (1 - weight_x) + right[:, :, None] * weight_x

    def over_classes(body, *start):
        return lax.fori_loop(0, num_classes, lambda c, sums: body(c, *sums), start)

    zero = jnp.zeros(label.shape, jnp.float32)
    (largest,) = over_classes(
        lambda c, largest: (jnp.maximum(largest, logit(c)),), zero - jnp.inf
    )

    def add(c, exponentials, picked, weight):
        value, is_class = logit(c), label == c
        return (
            exponentials + jnp.exp(value - largest),
            picked + jnp.where(is_class, value, 0),
            weight + jnp.where(is_class, weights_ref[c], 0),
        )

    exponentials, picked, weight = over_classes(add, zero, zero, zero)
    losses = jnp.where(weight > 0, largest + jnp.log(exponentials) - picked, 0)
    sums_ref[0], sums_ref[1] = _sum(losses * weight), _sum(weight)
    scale = weight / exponentials

    def store(c):
        grad = jnp.exp(logit(c) - largest) * scale - jnp.where(label == c, weight, 0)
        for x, side in enumerate((1 - weight_x, weight_x)):
            column = jnp.sum(grad * side, axis=2)
            for y, end in enumerate((1 - weight_y, weight_y)):
                triton.store(
                    parts_ref.at[cell_x, y, x, c],
                    jnp.sum(column * end, axis=0),
                    mask=cell_x <= w,
                )

    lax.fori_loop(0, num_classes, lambda c, _: store(c), None)


def _weight_of_later(cell, length, factor):
    """Of the second pixel that a cell lies between, for its `factor` phases."""
    weight = (jnp.arange(factor) + 0.5) / factor
    # At the edges there is but one.
    return jnp.where(cell == 0, 1, jnp.where(cell == length, 0, weight))


def _sum(x):
    while x.ndim:
        x = jnp.sum(x, axis=0)
    return x
