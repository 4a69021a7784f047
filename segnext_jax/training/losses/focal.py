"""The focal loss: a yes or no for each class, in which easy answers hardly count."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from segnext_jax.training.losses.labels import (
    IGNORE_LABEL,
    Normalizer,
    divisor,
    is_class,
)


def focal(
    logits: jax.Array,
    label: jax.Array,
    *,
    normalizer: Normalizer,
    class_weights: Sequence[float] = (),
    gamma: float,
    alpha: float,
) -> tuple[jax.Array, jax.Array]:
    """Sigmoid focal loss, the mean over pixels and classes; Lin et al. 2017, eq. 5.

    As the FocalLoss of mmsegmentation, which has `class_weights` and divides by all
    pixels, and that of PaddleSeg, which has two classes and divides by the valid ones.
    PaddleSeg's MultiClassFocalLoss is another, on the softmax.

    Args:
      logits: [b h w c], float.
      label: [b h w] train ids, 255 = ignored.
      normalizer: the mean is over the "valid" labelled or "all" pixels.
      class_weights: [c] factors of the answers for each class; () = 1. Unlike the
        cross-entropy's they are no weights of pixels, so no mean divides by them.
      gamma: ≥ 0, how fast the weight of a right answer falls.
      alpha: 0…1, weight of the answers "yes"; those of "no" have 1 - alpha.

    Returns:
      (total, weight) as `cross_entropy`.
    """
    logits = logits.astype(jnp.float32)
    valid = label != IGNORE_LABEL
    is_label = is_class(label, logits.shape[-1])
    wrong = jnp.where(is_label, -logits, logits)  # logit of the wrong answer
    # The power of its probability; as a logarithm it has a gradient at 0 for any gamma.
    modulation = jnp.exp(gamma * jax.nn.log_sigmoid(wrong))
    losses = jnp.where(is_label, alpha, 1 - alpha) * modulation * jax.nn.softplus(wrong)
    if class_weights:
        losses = losses * jnp.asarray(class_weights, jnp.float32)
    total = jnp.mean(jnp.where(valid[..., None], losses, 0))
    return total, divisor(valid, normalizer)
