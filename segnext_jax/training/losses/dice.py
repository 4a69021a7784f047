"""The Dice loss: the overlap of each class, however few its pixels."""

import jax
import jax.numpy as jnp

from segnext_jax.training.losses.labels import IGNORE_LABEL, is_class

_SMOOTH = 1.0  # PaddleSeg's; its further 1e-8 is nothing beside it in float32


def dice(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """1 - (2 overlap + 1) / (predicted + labelled + 1), of each class of each image.

    As PaddleSeg's DiceLoss: on the softmax, the mean over all classes, absent ones too
    (which are penalised for what is predicted of them), and over images.
    mmsegmentation's sums over all classes before it divides, so that frequent ones
    rule, and counts what is predicted for ignored pixels.

    Args:
      logits: [b h w c], float.
      label: [b h w] train ids, 255 = ignored.

    Returns:
      (total, weight), float32 scalars in units of one b; `weight` is 1. An image
      without a label adds 0.
    """
    valid = (label != IGNORE_LABEL)[..., None]
    probs = jnp.where(valid, jax.nn.softmax(logits.astype(jnp.float32)), 0)
    is_label = is_class(label, logits.shape[-1])
    overlap = jnp.sum(jnp.where(is_label, probs, 0), axis=(1, 2))
    predicted = jnp.sum(probs, axis=(1, 2))
    labelled = jnp.sum(is_label, axis=(1, 2), dtype=jnp.float32)
    losses = 1 - (2 * overlap + _SMOOTH) / (predicted + labelled + _SMOOTH)
    return jnp.mean(losses), jnp.ones(())
