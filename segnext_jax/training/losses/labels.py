"""What the losses of pixels share: which pixels count, and what a mean divides by."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

IGNORE_LABEL = 255

Normalizer = Literal["valid", "all"]


def is_class(label: jax.Array, num_classes: int) -> jax.Array:
    """[b h w] train ids → bool [b h w c]; an ignored pixel is of no class."""
    # A comparison with all classes instead of a gather: its transpose is no scatter.
    return label[..., None] == jnp.arange(num_classes)


def divisor(counted: jax.Array, normalizer: Normalizer) -> jax.Array:
    """What a mean over pixels divides by, a float32 scalar in units of one b·h·w.

    Args:
      counted: [b h w], how much each pixel counts, 0 where it is ignored.
      normalizer: "valid": the sum of `counted`, as PaddleSeg divides; "all": the number
        of pixels, as mmsegmentation does with avg_non_ignore=False.

    Raises:
      ValueError: if `normalizer` is neither.
    """
    check_normalizer(normalizer)
    if normalizer == "all":
        return jnp.ones(())
    return jnp.mean(counted, dtype=jnp.float32)


def check_normalizer(normalizer: str) -> None:
    """Raises a ValueError that names the config key."""
    if normalizer not in get_args(Normalizer):
        raise ValueError(
            f'config.loss.normalizer is {normalizer!r}: use "valid" or "all"'
        )
