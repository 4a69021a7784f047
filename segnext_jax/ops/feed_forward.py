"""MSCAN's feed-forward network, a few rows of the image at a time."""

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.depthwise import Layer, materialize, sum_taps
from segnext_jax.ops.gelu import gelu
from segnext_jax.ops.valid import Size

_STRIP_BYTES = 4 * 2**20


def strip_height(x: jax.Array, hidden: int) -> int | None:
    """Rows of `x` [b h w c] whose `hidden` features stay in a CPU's cache.

    None if `x` has no more of them, on other platforms, and if its size is not known.
    """
    b, h, w, _ = x.shape
    if jax.default_backend() != "cpu" or not all(isinstance(n, int) for n in (b, h, w)):
        return None
    rows = max(_STRIP_BYTES // (b * w * hidden * x.dtype.itemsize), 1)
    return rows if rows < h else None


def feed_forward_by_rows(
    x: jax.Array,
    expand: Layer,
    conv: Layer,
    project: Layer,
    *,
    rows: int,
    size: Size = None,
) -> jax.Array:
    """Expand, 3×3 depthwise, exact GELU, project, all of a strip before the next.

    To infer with on a CPU: the hidden features, eight times as large as `x`, never
    leave its cache. The same function of `x` as layer by layer.

    Args:
      x: [b h w c], floating point.
      expand: kernel [c d], bias [d], in the dtype of `x`, as the others.
      conv: kernel [3 3 d], bias [d].
      project: kernel [d c], bias [c].
      rows: height of a strip, up to h.
      size: int32 [b 2], of images smaller than their arrays.

    Returns:
      [b h w c] in the dtype of `x`.
    """
    h, w = x.shape[1:3]
    limit = jnp.array([[h, w]]) if size is None else size
    columns = jnp.arange(w) < limit[:, 1, None]
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))

    def add_strip(i: jax.Array, out: jax.Array) -> jax.Array:
        start = jnp.minimum(i * rows, h - rows)  # the last strip ends with the image
        y = lax.dynamic_slice_in_dim(padded, start, rows + 2, axis=1)
        y = y @ expand.kernel + expand.bias
        row = start - 1 + jnp.arange(rows + 2)
        inside = ((row >= 0) & (row < limit[:, 0, None]))[:, :, None] & columns[:, None]
        y = jnp.where(inside[..., None], y, 0)
        y = materialize(jnp.pad(y, ((0, 0), (0, 0), (1, 1), (0, 0))))
        y = gelu(sum_taps(y, conv.kernel, (rows, w)).astype(x.dtype) + conv.bias)
        y = y @ project.kernel + project.bias
        return lax.dynamic_update_slice_in_dim(out, y, start, axis=1)

    return lax.fori_loop(0, -(-h // rows), add_strip, jnp.zeros_like(x))
