"""Cross-entropy of logits that are enlarged to their labels, without enlarging them.

Every pixel of the logits becomes factor × factor pixels. Those at the same place within
theirs, a phase, are as many as there are logits, blended by the same weights of their
neighbours. One phase after the other, nothing at the size of the labels but the labels
is in memory: for SegNeXt-T and 2 × 512² a CPU takes 26 ms instead of 54.
"""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.mosaic import cross_entropy as mosaic
from segnext_jax.ops.outlined import outlined
from segnext_jax.ops.resize import blend_weights
from segnext_jax.ops.triton import cross_entropy as triton

Implementation = Literal["auto", "phases", "aligned", "triton", "mosaic"]


def is_whole_factor(shape: tuple[int, ...], label_shape: tuple[int, ...]) -> bool:
    """Whether logits [b h w c] need only whole factors to be as large as [b H W]."""
    sides = zip(shape[1:3], label_shape[1:], strict=True)
    return all(new % old == 0 for old, new in sides)


def enlarged_cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    class_weights: jax.Array,
    ignore_label: int,
    *,
    implementation: Implementation = "auto",
) -> tuple[jax.Array, jax.Array]:
    """Sums over the pixels of each example; differentiable in the logits.

    Args:
      logits: [b h w c], float32; enlarged as by ops/resize.py, by whole factors.
      label: [b H W] int32.
      class_weights: [c] float32, of the pixels of each class.
      ignore_label: of pixels that do not count.
      implementation: "phases" is as above, "aligned" the same for TPUs, "triton" a
        kernel for GPUs, "mosaic" one for TPUs, "auto" that of the platform; a kernel
        where it supports the shapes.

    Returns:
      Weighted cross-entropy and weights, float32 [b].
    """
    if implementation == "auto":
        platform = jax.default_backend()
        implementation = "aligned" if platform == "tpu" else "phases"
        if platform == "gpu" and triton.supported(logits.shape, label.shape):
            implementation = "triton"
        if platform == "tpu" and mosaic.is_supported(logits.shape, label.shape):
            implementation = "mosaic"
    return _enlarged(logits, label, class_weights, ignore_label, implementation)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _enlarged(logits, label, class_weights, ignore_label, implementation):
    arrays = logits, label, class_weights
    return _enlarged_fwd(*arrays, ignore_label, implementation)[0]


def _enlarged_fwd(logits, label, class_weights, ignore_label, implementation):
    computations: dict[Implementation, Callable[..., Any]] = {
        "phases": partial(_by_phases, add_columns=_add_columns),
        "aligned": partial(_by_phases, add_columns=_add_aligned_columns),
        "triton": triton.enlarged_cross_entropy,
        "mosaic": mosaic.enlarged_cross_entropy,
    }
    # The gradient is the sum's but for a factor: one pass makes both.
    arrays = logits, label, class_weights
    total, weight, grad = computations[implementation](*arrays, ignore_label)
    return (total, weight), grad


def _enlarged_bwd(ignore_label, implementation, grad, cotangents):
    return cotangents[0][:, None, None, None] * grad, None, None


_enlarged.defvjp(_enlarged_fwd, _enlarged_bwd)


def _by_phases(
    logits: jax.Array,
    label: jax.Array,
    class_weights: jax.Array,
    ignore_label: int,
    *,
    add_columns: Callable[..., tuple[jax.Array, jax.Array]],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Both sums, and the gradient of the first to the logits, [b h w c]."""
    b, h, w, _ = logits.shape
    rows, columns = label.shape[1] // h, label.shape[2] // w
    label = jnp.where(label == ignore_label, -1, label)
    phases = label.reshape(b, h, rows, w, columns).transpose(2, 4, 0, 1, 3)
    planes = _pad(logits)
    row_weights, column_weights = (blend_weights(n).T for n in (rows, columns))

    def add_rows(carry, phase):
        grad, sums = carry
        label, weights = phase
        strip = _blend_rows(planes, weights)
        phases = label, column_weights
        strip_grad, sums = add_columns(strip, phases, sums, class_weights)
        return (grad + _spread_rows(strip_grad, weights), sums), None

    start = jnp.zeros_like(planes), jnp.zeros((2, b, h, w), jnp.float32)
    (grad, sums), _ = lax.scan(add_rows, start, (phases, row_weights))
    total, weight = sums.sum(axis=(2, 3))
    return total, weight, _unpad(grad)


def _add_columns(strip, phases, sums, class_weights) -> tuple[jax.Array, jax.Array]:
    """The gradient to a strip [b c h w+2], and sums with those of its phases."""

    def add_phase(sums, phase):
        label, weights = phase
        largest = _largest(strip, weights)
        total = _sum_exponentials(strip, weights, largest)
        losses = _weighted_losses(strip, weights, largest, total, label, class_weights)
        grad = _gradient(strip, weights, largest, total, label, losses[1])
        return sums + losses, jnp.pad(grad, ((0, 0), (0, 0), (0, 0), (2, 2)))

    sums, grads = lax.scan(add_phase, sums, phases)
    return _spread_columns(grads), sums


def _add_aligned_columns(
    strip, phases, sums, class_weights
) -> tuple[jax.Array, jax.Array]:
    """The same, shifted by a column once a strip instead of in every phase.

    Columns are lanes of a TPU: the compiler for v5e expects 57 instead of 60 million
    cycles of a train step of SegNeXt-T (docs/performance.md).
    """
    w = strip.shape[-1] - 2
    neighbours = jnp.stack([strip[..., k : k + w] for k in range(3)])
    classes = jnp.arange(strip.shape[1])[:, None, None]

    def add_phase(carry, phase):
        grads, sums = carry
        label, weights = phase
        logits = _add(neighbours[k] * weights[k] for k in range(3))
        largest = logits.max(axis=1)
        exponentials = jnp.exp(logits - largest[:, None])
        total = exponentials.sum(axis=1)
        is_class = label[:, None] == classes
        picked = jnp.sum(jnp.where(is_class, logits, 0), axis=1)
        weight = jnp.sum(jnp.where(is_class, class_weights[:, None, None], 0), axis=1)
        losses = _weigh(largest + jnp.log(total) - picked, weight)
        grad = exponentials * (weight / total)[:, None]
        grad -= jnp.where(is_class, weight[:, None], 0)
        grads += grad * weights[:, None, None, None, None]
        return (grads, sums + losses), None

    start = jnp.zeros_like(neighbours), sums
    (grads, sums), _ = lax.scan(add_phase, start, phases)
    sides = ((0, 0),) * 3
    return _add(jnp.pad(grads[k], (*sides, (k, 2 - k))) for k in range(3)), sums


def _pad(logits: jax.Array) -> jax.Array:
    """[b h w c] → [b c h+2 w+2], where the edges are there twice."""
    planes = jnp.moveaxis(logits, -1, 1)
    return jnp.pad(planes, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")


def _unpad(grad: jax.Array) -> jax.Array:
    """The transpose of `_pad`. That of XLA would send zeros between devices."""
    for axis in (2, 3):
        length = grad.shape[axis] - 2
        first, inner, last = jnp.split(grad, (1, length + 1), axis)
        index = lax.broadcasted_iota(jnp.int32, inner.shape, axis)
        grad = inner + jnp.where(index == 0, first, 0)
        grad += jnp.where(index == length - 1, last, 0)
    return jnp.moveaxis(grad, 1, -1)


@outlined
def _blend_rows(planes: jax.Array, weights: jax.Array) -> jax.Array:
    h = planes.shape[2] - 2
    return _add(planes[:, :, k : k + h] * weights[k] for k in range(3))


def _blend_columns(strip: jax.Array, weights: jax.Array) -> jax.Array:
    """[… w+2] → [… w]"""
    w = strip.shape[-1] - 2
    return _add(strip[..., k : k + w] * weights[k] for k in range(3))


def _logits_of_classes(strip: jax.Array, weights: jax.Array) -> list[jax.Array]:
    """[b c h w+2] → [b h w] of each class, whose reduction XLA for CPUs vectorises."""
    return [_blend_columns(strip[:, c], weights) for c in range(strip.shape[1])]


@outlined
def _largest(strip: jax.Array, weights: jax.Array) -> jax.Array:
    largest, *others = _logits_of_classes(strip, weights)
    for logits in others:
        largest = jnp.maximum(largest, logits)
    return largest


@outlined
def _sum_exponentials(strip, weights, largest) -> jax.Array:
    return _add(
        jnp.exp(logits - largest) for logits in _logits_of_classes(strip, weights)
    )


@outlined
def _weighted_losses(
    strip, weights, largest, exponentials, label, class_weights
) -> jax.Array:
    """[2 b h w]: cross-entropy times the weight of its class, and that weight."""
    picked = weight = jnp.zeros_like(largest)
    for c, logits in enumerate(_logits_of_classes(strip, weights)):
        picked = jnp.where(label == c, logits, picked)
        weight = jnp.where(label == c, class_weights[c], weight)
    return _weigh(largest + jnp.log(exponentials) - picked, weight)


def _weigh(losses: jax.Array, weight: jax.Array) -> jax.Array:
    return jnp.stack([jnp.where(weight > 0, losses * weight, 0), weight])


@outlined
def _gradient(strip, weights, largest, exponentials, label, weight) -> jax.Array:
    """Of the losses of a phase to its logits, [b c h w]."""
    logits = _blend_columns(strip, weights)
    largest, scale, label, weight = (
        x[:, None] for x in (largest, weight / exponentials, label, weight)
    )
    classes = jnp.arange(logits.shape[1])[:, None, None]
    probabilities = jnp.exp(logits - largest) * scale
    return probabilities - jnp.where(label == classes, weight, 0)


@outlined
def _spread_columns(grads: jax.Array) -> jax.Array:
    """Of all phases of a row, [factor b c h 2+w+2] → of the strip, [b c h w+2]."""
    width = grads.shape[-1] - 2
    return _add(
        grad[..., 2 - k : 2 - k + width] * weights[k]
        for grad, weights in zip(grads, blend_weights(len(grads)).T, strict=True)
        for k in range(3)
        if weights[k]
    )


@outlined
def _spread_rows(grad: jax.Array, weights: jax.Array) -> jax.Array:
    """Of a strip → of all planes, [b c h+2 w+2]."""
    return _add(
        jnp.pad(grad * weights[k], ((0, 0), (0, 0), (k, 2 - k), (0, 0)))
        for k in range(3)
    )


def _add(arrays: Iterable[jax.Array]) -> jax.Array:
    return reduce(jnp.add, arrays)
