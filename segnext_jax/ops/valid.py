"""Images of any size in arrays of one: what lies outside an image has no influence.

An image occupies the top left corner of its array. `size` holds the true (height,
width) of every image of a batch, int32 [b 2], or is None: then the arrays are full.
"""

import jax
import jax.numpy as jnp

Size = jax.Array | None


def inside(shape: tuple[int, ...], size: jax.Array) -> jax.Array:
    """Where an array of shape (b, h, w, …) holds an image: bool [b h w 1]."""
    rows = jnp.arange(shape[1])[:, None] < size[:, 0, None, None]
    columns = jnp.arange(shape[2]) < size[:, 1, None, None]
    return (rows & columns)[..., None]


def zero_outside(x: jax.Array, size: Size) -> jax.Array:
    """Zeroes what is outside the images, [b h w c]; so a SAME convolution pads them."""
    return x if size is None else jnp.where(inside(x.shape, size), x, 0)


def halve(size: Size) -> Size:
    """Size after a convolution of stride 2 that pads by half its kernel."""
    return None if size is None else (size + 1) // 2


def flip_horizontally(x: jax.Array, size: Size) -> jax.Array:
    """Mirrors the images in their own width, [b h w c]."""
    if size is None:
        return x[:, :, ::-1]
    width = size[:, 1, None]
    column = jnp.arange(x.shape[2])
    source = jnp.where(column < width, width - 1 - column, column)
    return jnp.take_along_axis(x, source[:, None, :, None], axis=2)
