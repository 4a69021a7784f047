"""Random erasing (Zhong et al. 2017) of normalised images, as timm's mode "pixel"."""

import math

import jax
import jax.numpy as jnp

_AREA_RANGE = (0.02, 1 / 3)  # of the image
_ASPECT_RANGE = (0.3, 1 / 0.3)  # height / width
_ATTEMPTS = 10


def erase(image: jax.Array, keys: jax.Array, probability: float) -> jax.Array:
    """Fills a rectangle of some images with N(0, 1), drawn anew for every value.

    Its area is uniform in 1/50…1/3 of the image and its aspect log-uniform in
    0.3…1/0.3, drawn up to ten times until it is smaller than the image in both
    directions; its place is uniform.

    Args:
      image: [b h w 3] float32, of zero mean and unit variance.
      keys: [b] PRNG keys.
      probability: that an image loses a rectangle, 0…1.
    """

    def erase_one(image, key):
        draw_key, rectangle_key, fill_key = jax.random.split(key, 3)
        inside = _rectangle(rectangle_key, image.shape[:2])
        inside &= jax.random.bernoulli(draw_key, probability)
        fill = jax.random.normal(fill_key, image.shape)
        return jnp.where(inside[..., None], fill, image)

    return jax.vmap(erase_one)(image, keys)


def _rectangle(key, size):
    """bool [h w], True inside; nowhere if no attempt fits."""
    h, w = size
    area_key, aspect_key, top_key, left_key = jax.random.split(key, 4)
    shape = (_ATTEMPTS,)
    low, high = _AREA_RANGE
    area = h * w * jax.random.uniform(area_key, shape, minval=low, maxval=high)
    low, high = map(math.log, _ASPECT_RANGE)
    aspect = jnp.exp(jax.random.uniform(aspect_key, shape, minval=low, maxval=high))
    heights = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    widths = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    fits = (heights < h) & (widths < w)
    first = jnp.argmax(fits)
    height = jnp.where(fits, heights, 0)[first]
    width = jnp.where(fits, widths, 0)[first]
    top = jax.random.randint(top_key, (), 0, h - height + 1)
    left = jax.random.randint(left_key, (), 0, w - width + 1)
    rows, columns = jnp.arange(h)[:, None], jnp.arange(w)
    return (
        (rows >= top)
        & (rows < top + height)
        & (columns >= left)
        & (columns < left + width)
    )
