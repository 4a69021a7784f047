"""Normalisation of images by the statistics of ImageNet."""

import jax
import jax.numpy as jnp

# RGB, in grey levels of 0…255.
MEAN = (123.675, 116.28, 103.53)
STDDEV = (58.395, 57.12, 57.375)


def normalize(image: jax.Array) -> jax.Array:
    """[b h w 3], RGB in 0…255, any dtype → zero mean and unit variance, float32."""
    return (image.astype(jnp.float32) - jnp.array(MEAN)) / jnp.array(STDDEV)
