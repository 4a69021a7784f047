"""From images to class maps."""

from typing import Any

import jax
import jax.numpy as jnp

from segnext_jax.models.segnext import SegNeXt, Variables
from segnext_jax.ops.normalize import normalize
from segnext_jax.ops.resize import resize_bilinear


def predict_whole(model: SegNeXt, variables: Variables, image: jax.Array) -> jax.Array:
    """Classes of whole images: [b h w 3] RGB in 0…255 → [b h w] int32."""
    logits: Any = model.apply(variables, normalize(image), train=False)
    return jnp.argmax(resize_bilinear(logits, image.shape[1:3]), axis=-1)
