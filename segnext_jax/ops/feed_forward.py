"""MSCAN's feed-forward network, a few rows of the image at a time."""

from functools import partial

import jax
import jax.numpy as jnp

from segnext_jax.ops.depthwise import Layer
from segnext_jax.ops.gelu import gelu, gelu_gradient
from segnext_jax.ops.kernel_gradient import (
    columns_of_runs,
    fill_last_run,
    sum_products,
)
from segnext_jax.ops.matmul import product, sum_outer_products
from segnext_jax.ops.outlined import outlined
from segnext_jax.ops.pad import pad
from segnext_jax.ops.shift import sum_taps
from segnext_jax.ops.strips import in_strips
from segnext_jax.ops.valid import Size

_STRIP_BYTES = 2 * 2**20
# Fewer, and the rows next to a strip, computed twice, cost more than the cache gives.
_LEAST_ROWS = 8
_LEAST_PIXELS = 2048  # of fewer, products of matrices take up to a tenth longer


def strip_height(x: jax.Array, hidden: int, *, train: bool = False) -> int | None:
    """Rows of `x` [b h w c] whose `hidden` features stay in a CPU's cache.

    None if `x` has no more of them, on other platforms, and if its size is not known.
    To `train`, all rows are a strip, too: the backward computes its features again.
    """
    b, h, w, _ = x.shape
    if jax.default_backend() != "cpu" or not all(isinstance(n, int) for n in (b, h, w)):
        return None
    row_bytes = b * w * hidden * x.dtype.itemsize
    rows = max(_STRIP_BYTES // row_bytes, _LEAST_ROWS, _LEAST_PIXELS // (b * w))
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
    project = Layer(project.kernel.T, project.bias)  # as `_narrow` takes it
    return in_strips(_strip, x, (expand, conv, project), limit, rows, 1)


def _strip(x, first_row, layers, limit):
    expand, conv, project_transposed = layers
    row = first_row + jnp.arange(x.shape[1])
    inside = ((row >= 0) & (row < limit[:, 0, None]))[:, :, None]
    inside &= (jnp.arange(x.shape[2]) < limit[:, 1, None])[:, None]
    inside = inside[..., None].astype(x.dtype)
    y = _hidden(product(x, expand.kernel), inside, expand.bias, conv)
    return _narrow(y, project_transposed.kernel) + project_transposed.bias


@jax.custom_vjp
def _hidden(y: jax.Array, inside: jax.Array, bias: jax.Array, conv: Layer) -> jax.Array:
    """GELU of a 3×3 convolution of (y + bias)·inside, whose factors are 0 and 1.

    The rows that need none but those of `y`: [b h+2 w d] → [b h w d].
    """
    return gelu(_convolve(_pad(y, inside, bias), conv, width=y.shape[2]))


def _hidden_fwd(y, inside, bias, conv):
    padded = _pad(y, inside, bias)
    y = _convolve(padded, conv, width=y.shape[2])
    return gelu(y), (padded, y, inside, conv.kernel)


def _hidden_bwd(residuals, grad):
    padded, y, inside, kernel = residuals
    pixels = (0, 1, 2)
    grad = _before_gelu(y, grad)
    of_bias = jnp.sum(grad, pixels)
    of_kernel = sum_products(padded, fill_last_run(grad, 3), size=(3, 3))
    of_conv = Layer(of_kernel.astype(kernel.dtype), of_bias)
    grad = pad(grad, rows=(2, 2), columns=(1, 1))
    grad = _convolve_back(grad, kernel[::-1, ::-1], inside)
    return grad, jnp.zeros_like(inside), jnp.sum(grad, pixels), of_conv


_hidden.defvjp(_hidden_fwd, _hidden_bwd)


@outlined
def _pad(y: jax.Array, inside: jax.Array, bias: jax.Array) -> jax.Array:
    y = (y + bias) * inside
    right = columns_of_runs(y.shape[2], 3) - y.shape[2] - 1
    return jnp.pad(y, ((0, 0), (0, 0), (1, right), (0, 0)))


@partial(outlined, static_argnames=("width",))
def _convolve(padded: jax.Array, conv: Layer, *, width: int) -> jax.Array:
    return sum_taps(padded, conv.kernel, width=width) + conv.bias


@outlined
def _convolve_back(padded: jax.Array, kernel: jax.Array, inside: jax.Array):
    return sum_taps(padded, kernel, width=inside.shape[2]) * inside


_before_gelu = outlined(gelu_gradient)


@jax.custom_vjp
def _narrow(y: jax.Array, kernel: jax.Array) -> jax.Array:
    """y @ kernel.T, [b h w d] and [c d] → [b h w c].

    Transposed, as its gradient is: that of a [d c] would be a sum of outer products of
    the wide features and the narrow ones, which takes twice as long.
    """
    return y @ kernel.T


def _narrow_fwd(y, kernel):
    return y @ kernel.T, (y, kernel)


def _narrow_bwd(residuals, grad):
    y, kernel = residuals
    return grad @ kernel, sum_outer_products(grad, y)


_narrow.defvjp(_narrow_fwd, _narrow_bwd)
