"""Losses as sums, so that shards and micro-batches add up exactly."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax

IGNORE_LABEL = 255

Normalizer = Literal["valid", "all"]


def cross_entropy(
    logits: jax.Array, label: jax.Array, *, normalizer: Normalizer
) -> tuple[jax.Array, jax.Array]:
    """Softmax cross-entropy over the pixels that have a label.

    Args:
      logits: [b h w c], float.
      label: [b h w] train ids, 255 = ignored.
      normalizer: what the mean divides by: "valid" labelled pixels (PaddleSeg) or
        "all" pixels (mmsegmentation's avg_non_ignore=False).

    Returns:
      (total, weight), float32 scalars in units of one b·h·w: the loss is
      Σ total / Σ weight, over any split of the batch. `weight` is 0 for "valid"
      without a labelled pixel.
    """
    if normalizer not in ("valid", "all"):
        raise ValueError(
            f'config.loss.normalizer is {normalizer!r}: use "valid" or "all"'
        )
    logits = logits.astype(jnp.float32)
    valid = label != IGNORE_LABEL
    # A comparison with all classes instead of a gather: its transpose is no scatter.
    is_label = label[..., None] == jnp.arange(logits.shape[-1])
    picked = jnp.sum(jnp.where(is_label, logits, 0), axis=-1)
    losses = jnp.where(valid, jax.nn.logsumexp(logits, axis=-1) - picked, 0)
    weight = jnp.mean(valid, dtype=jnp.float32)
    return jnp.mean(losses), weight if normalizer == "valid" else jnp.ones(())


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
