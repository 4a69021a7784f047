"""The end of the published augmentations, on the device: flip, distort, normalise."""

from functools import partial

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from segnext_jax.ops.normalize import normalize
from segnext_jax.training.distortion import DISTORTIONS
from segnext_jax.training.losses import IGNORE_LABEL


def augment(
    batch: dict[str, jax.Array], key: jax.Array, config: ConfigDict
) -> tuple[jax.Array, jax.Array]:
    """uint8 crops → what the network trains on.

    Args:
      batch: `image` [b h w 3] uint8 RGB, `label` [b h w] uint8 train ids, `size`
        [b 2] (height, width) of the part that is not padding, at the top left.
      key: PRNG key of this step; example i uses `fold_in(key, i)`.
      config: `flip_probability` and `distortion`: "none", "photometric"
        (mmsegmentation) or "paddle".

    Returns:
      image [b h w 3] float32, normalised, 0 in the padding; label [b h w] int32.
    """
    if config.distortion not in DISTORTIONS:
        raise ValueError(
            f"config.augment.distortion is {config.distortion!r}: "
            f"use one of {', '.join(DISTORTIONS)}"
        )
    distort = DISTORTIONS[config.distortion]
    image, label, size = batch["image"], batch["label"], batch["size"]
    b, h, w, _ = image.shape
    keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i)))(
        jnp.arange(b)
    )
    flip = jax.vmap(partial(jax.random.bernoulli, p=config.flip_probability))(
        keys[:, 0]
    )
    image, label = jax.vmap(_flip)(image, label, size[:, 1], flip)
    image = distort(image, keys[:, 1])
    inside = (jnp.arange(h)[:, None] < size[:, 0, None, None]) & (
        jnp.arange(w) < size[:, 1, None, None]
    )
    image = jnp.where(inside[..., None], normalize(image), 0)
    return image, jnp.where(inside, label.astype(jnp.int32), IGNORE_LABEL)


def _flip(image, label, width, flip):
    """Mirrors the first `width` columns: padding stays on the right, as published."""
    columns = jnp.arange(image.shape[1])
    source = jnp.where(flip & (columns < width), width - 1 - columns, columns)
    return image[:, source], label[:, source]
