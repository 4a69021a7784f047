"""The class of every pixel, from logits at a lower resolution."""

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.resize import enlarge_padded, resize_bilinear

_ROWS = 4  # of logits, a strip


def argmax_enlarged(logits: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The argmax over channels of `resize_bilinear(logits, size)`.

    On a CPU a strip of rows at a time, so that logits at full size, 19 floats a pixel
    and more, never leave its cache.

    Args:
      logits: [b h w c] float32, c up to 256.
      size: (height, width) of the result.

    Returns:
      [b height width] uint8.
    """
    h, w = logits.shape[1:3]
    if jax.default_backend() == "cpu" and size[0] % h == 0 and size[1] % w == 0:
        return _argmax_by_rows(logits, size[0] // h, size[1] // w)
    return jnp.argmax(resize_bilinear(logits, size), axis=-1).astype(jnp.uint8)


def _argmax_by_rows(logits: jax.Array, factor_h: int, factor_w: int) -> jax.Array:
    b, h, w, num_classes = logits.shape
    rows = min(_ROWS, h)
    # Channels first: pixels lie side by side and are many, classes an odd number.
    planes = jnp.moveaxis(logits, -1, 1)
    planes = jnp.pad(planes, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")

    def add_strip(i: jax.Array, out: jax.Array) -> jax.Array:
        start = jnp.minimum(i * rows, h - rows)  # the last strip ends with the image
        strip = lax.dynamic_slice_in_dim(planes, start, rows + 2, axis=2)
        strip = enlarge_padded(strip, 2, factor_h)
        strip = lax.optimization_barrier(strip)
        best = enlarge_padded(strip[:, 0], 2, factor_w)
        pred = jnp.zeros(best.shape, jnp.uint8)
        for k in range(1, num_classes):
            scores = enlarge_padded(strip[:, k], 2, factor_w)
            is_better = scores > best
            best = jnp.where(is_better, scores, best)
            pred = jnp.where(is_better, jnp.uint8(k), pred)
        return lax.dynamic_update_slice_in_dim(out, pred, start * factor_h, axis=1)

    out = jnp.zeros((b, h * factor_h, w * factor_w), jnp.uint8)
    return lax.fori_loop(0, -(-h // rows), add_strip, out)
