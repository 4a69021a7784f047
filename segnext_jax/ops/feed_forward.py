"""MSCAN's feed-forward network, a few rows of the image at a time."""

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.depthwise import Layer, conv_of_rows
from segnext_jax.ops.gelu import gelu
from segnext_jax.ops.strips import in_strips
from segnext_jax.ops.valid import Size

_STRIP_BYTES = 4 * 2**20


def strip_height(x: jax.Array, hidden: int, *, train: bool = False) -> int | None:
    """Rows of `x` [b h w c] whose `hidden` features stay in a CPU's cache.

    None if `x` has no more of them, on other platforms, and if its size is not known.
    To `train`, all rows are a strip, too: the backward computes its features again.
    """
    b, h, w, _ = x.shape
    if jax.default_backend() != "cpu" or not all(isinstance(n, int) for n in (b, h, w)):
        return None
    rows = max(_STRIP_BYTES // (b * w * hidden * x.dtype.itemsize), 1)
    if rows >= h:
        return h if train else None
    return rows


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

    For a CPU: the hidden features, eight times as large as `x`, never leave its cache,
    neither to infer nor to train. The same function of `x` as layer by layer.

    Args:
      x: [b h w c], floating point.
      expand: kernel [c d], bias [d], in the dtype of `x`, as the others.
      conv: kernel [3 3 d], bias [d].
      project: kernel [d c], bias [c].
      rows: height of a strip at most, up to h; strips are as high as each other.
      size: int32 [b 2], of images smaller than their arrays.

    Returns:
      [b h w c] in the dtype of `x`.
    """
    h, w = x.shape[1:3]
    limit = jnp.array([[h, w]]) if size is None else size
    strips = -(-h // rows)
    rows = -(-h // strips)
    return in_strips(_strip, x, (expand, conv, project), limit, rows, 1)


def _strip(x, first_row, layers, limit):
    expand, conv, project = layers
    row = first_row + jnp.arange(x.shape[1])
    inside = ((row >= 0) & (row < limit[:, 0, None]))[:, :, None]
    inside &= (jnp.arange(x.shape[2]) < limit[:, 1, None])[:, None]
    y = jnp.where(inside[..., None], _widen(x, expand.kernel) + expand.bias, 0)
    y = gelu(conv_of_rows(y, conv.kernel) + conv.bias)
    return y @ project.kernel + project.bias


@jax.custom_vjp
def _widen(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x @ kernel, whose backward transposes `x` instead of its wide gradient."""
    return x @ kernel


def _widen_fwd(x, kernel):
    return x @ kernel, (x, kernel)


def _widen_bwd(residuals, grad):
    x, kernel = residuals
    pixels = (0, 1, 2)
    return grad @ kernel.T, lax.dot_general(x, grad, ((pixels, pixels), ((), ())))


_widen.defvjp(_widen_fwd, _widen_bwd)
