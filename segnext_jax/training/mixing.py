"""Mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019) of a batch, as in timm."""

import jax
import jax.numpy as jnp

_CUTMIX_SHARE = 0.5  # of the batches, where both are on


def mix(
    image: jax.Array,
    target: jax.Array,
    key: jax.Array,
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
) -> tuple[jax.Array, jax.Array]:
    """Mixes every example with that at its place in the reversed batch.

    One of the two and one λ ~ Beta(alpha, alpha) for the whole batch: mixup blends
    λ : 1 - λ; CutMix pastes a box of the partner whose sides are √(1 - λ) of the
    image's, clipped at the borders, and λ becomes what is left of the image.

    Args:
      image: [b h w 3] RGB in 0…255, any dtype.
      target: [b c] float32, probabilities of the classes.
      key: PRNG key of this batch.
      mixup_alpha, cutmix_alpha: 0 switches one off.

    Returns:
      image [b h w 3] float32, target [b c], of which λ is the example's own part.
    """
    # Reversed as it comes: uint8 is a quarter of what devices exchange.
    image, partner = (x.astype(jnp.float32) for x in (image, image[::-1]))
    if not (mixup_alpha or cutmix_alpha):
        return image, target
    choose_key, mixup_key, cutmix_key = jax.random.split(key, 3)
    # [h w], the own part of every pixel.
    size = image.shape[1:3]
    weights = []
    if mixup_alpha:
        ratio = jax.random.beta(mixup_key, mixup_alpha, mixup_alpha)
        weights.append(jnp.full(size, ratio))
    if cutmix_alpha:
        weights.append(_outside_box(cutmix_key, size, cutmix_alpha))
    is_cutmix = jax.random.bernoulli(choose_key, _CUTMIX_SHARE)
    weight = jnp.where(is_cutmix, weights[-1], weights[0])
    ratio = jnp.mean(weight)
    weight = weight[..., None]
    return (
        weight * image + (1 - weight) * partner,
        ratio * target + (1 - ratio) * target[::-1],
    )


def _outside_box(key, size, alpha):
    """float32 [h w]: 0 in a random box, 1 elsewhere."""
    ratio_key, *centre_keys = jax.random.split(key, 3)
    side = jnp.sqrt(1 - jax.random.beta(ratio_key, alpha, alpha))
    is_inside = []
    for length, centre_key in zip(size, centre_keys, strict=True):
        half = (length * side).astype(jnp.int32) // 2
        centre = jax.random.randint(centre_key, (), 0, length)
        position = jnp.arange(length)
        is_inside.append((position >= centre - half) & (position < centre + half))
    rows, columns = is_inside
    return jnp.where(rows[:, None] & columns, 0.0, 1.0)
