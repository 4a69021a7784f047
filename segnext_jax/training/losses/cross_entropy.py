"""Softmax cross-entropy of pixels, weighted by class or of the hard ones; of images."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from segnext_jax.ops.cross_entropy import Implementation
from segnext_jax.ops.cross_entropy import enlarged_cross_entropy as sums_of_examples
from segnext_jax.training.losses.labels import (
    IGNORE_LABEL,
    Normalizer,
    check_normalizer,
    divisor,
    is_class,
)
from segnext_jax.training.losses.ohem import Ohem, hard_pixels


def cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    *,
    normalizer: Normalizer,
    class_weights: Sequence[float] = (),
    ohem: Ohem | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Softmax cross-entropy over the pixels that have a label.

    Args:
      logits: [b h w c], float.
      label: [b h w] train ids, 255 = ignored.
      normalizer: what the mean divides by: the "valid" labelled pixels, each with the
        weight of its class (PaddleSeg's CrossEntropyLoss), or "all" pixels
        (mmsegmentation's avg_non_ignore=False, as in the authors' 0.24: 1.2.2 divides
        by the weights if there are any, and fails on ignored pixels).
      class_weights: [c] factors of the pixels of each class; () = 1.
      ohem: which pixels are hard enough to count; None = all.

    Returns:
      (total, weight), float32 scalars in units of one b·h·w: the loss is
      Σ total / Σ weight, over any split of the batch (with `ohem`, each part chooses
      its own pixels). `weight` is 0 for "valid" without a labelled pixel.
    """
    logits = logits.astype(jnp.float32)
    valid = label != IGNORE_LABEL
    is_label = is_class(label, logits.shape[-1])
    picked = jnp.sum(jnp.where(is_label, logits, 0), axis=-1)
    losses = jnp.where(valid, jax.nn.logsumexp(logits, axis=-1) - picked, 0)
    counted = valid
    if ohem is not None:
        hard = hard_pixels(jnp.exp(-losses), valid, ohem)
        losses = jnp.where(hard, losses, 0)
        # Paddle ignores the easy pixels, mmseg gives them the weight 0.
        counted = hard if ohem.rule == "paddle" else valid
    if class_weights:
        of_class = jnp.asarray(class_weights, jnp.float32)
        of_pixel = jnp.sum(jnp.where(is_label, of_class, 0), axis=-1)
        losses = losses * of_pixel
        counted = jnp.where(counted, of_pixel, 0)
    return jnp.mean(losses), divisor(counted, normalizer)


def enlarged_cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    *,
    normalizer: Normalizer,
    class_weights: Sequence[float] = (),
    implementation: Implementation = "auto",
) -> tuple[jax.Array, jax.Array]:
    """`cross_entropy` of logits enlarged to their labels, which no memory ever holds.

    Args:
      logits: [b h w c], float.
      label: [b H W] train ids, 255 = ignored; H and W whole multiples of h and w.
      normalizer: as `cross_entropy`.
      class_weights: as `cross_entropy`.
      implementation: as of ops/cross_entropy.py.

    Returns:
      (total, weight) as `cross_entropy`.
    """
    check_normalizer(normalizer)
    weights = jnp.asarray(class_weights or (1.0,) * logits.shape[-1], jnp.float32)
    total, weight = sums_of_examples(
        logits.astype(jnp.float32),
        label.astype(jnp.int32),
        weights,
        IGNORE_LABEL,
        implementation=implementation,
    )
    weight = jnp.sum(weight) / label.size if normalizer == "valid" else jnp.ones(())
    return jnp.sum(total) / label.size, weight


def soft_cross_entropy(
    logits: jax.Array, target: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Softmax cross-entropy with probabilities as targets.

    Args:
      logits: [b c], float.
      target: [b c] probabilities of the classes.

    Returns:
      (total, weight) as `cross_entropy`; `weight` is 1.
    """
    losses = optax.softmax_cross_entropy(logits.astype(jnp.float32), target)
    return jnp.mean(losses), jnp.ones(())
