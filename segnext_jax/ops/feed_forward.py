"""MSCAN's feed-forward network, by parts that stay in a CPU's cache."""

from functools import partial
from typing import NamedTuple

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

# At once, so many pixels and hidden features: 4 MB in float32.
_PIXELS = 4096
_FEATURES = 256
# Fewer, and the rows next to a strip, computed twice, cost more than the cache gives.
_LEAST_ROWS = 8
# Of so few pixels, all features at once: the output is added up in as many passes as
# there are parts.
_FEW_PIXELS = 2048


class Tile(NamedTuple):
    """What is computed at once: rows of all images, one of `parts` of the features."""

    rows: int
    parts: int


def choose_tile(x: jax.Array, hidden: int, *, train: bool = False) -> Tile | None:
    """A tile of `x` [b h w c] whose `hidden` features stay in a CPU's cache.

    None if `x` has no more rows, on other platforms, and if its size is not known. To
    `train`, all rows are a tile, too: the backward computes its features again.
    """
    b, h, w, _ = x.shape
    if jax.default_backend() != "cpu" or not all(isinstance(n, int) for n in (b, h, w)):
        return None
    rows = max(_PIXELS // (b * w), _LEAST_ROWS)
    if rows >= h and not train:
        return None
    rows = min(rows, h)
    most = 1 if b * rows * w <= _FEW_PIXELS else max(hidden // _FEATURES, 1)
    return Tile(rows, next(n for n in range(most, 0, -1) if hidden % n == 0))


def feed_forward_by_tiles(
    x: jax.Array,
    expand: Layer,
    conv: Layer,
    project: Layer,
    *,
    tile: Tile,
    size: Size = None,
) -> jax.Array:
    """Expand, 3×3 depthwise, exact GELU, project, all of a tile before the next.

    For a CPU: the hidden features, eight times as large as `x`, never leave its cache,
    neither to infer nor to train. The same function of `x` as layer by layer.

    Args:
      x: [b h w c], floating point.
      expand: kernel [c d], bias [d], in the dtype of `x`, as the others.
      conv: kernel [3 3 d], bias [d].
      project: kernel [d c], bias [c].
      tile: up to h rows at most; strips are as high as each other.
      size: int32 [b 2], of images smaller than their arrays.

    Returns:
      [b h w c] in the dtype of `x`.
    """
    h, w = x.shape[1:3]
    limit = jnp.array([[h, w]]) if size is None else size
    strips = -(-h // tile.rows)
    rows = -(-h // strips)
    # The projecting kernel transposed, as `_narrow` takes it.
    layers = expand, conv, project.kernel.T
    parts = jax.tree.map(partial(_split_features, parts=tile.parts), layers)
    return in_strips(_strip, x, parts, limit, rows, 1) + project.bias


def _split_features(x: jax.Array, parts: int) -> jax.Array:
    """[… d] → [parts … d/parts]."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], parts, -1), -2, 0)


def _strip(x, first_row, layers, limit):
    expand, conv, project_kernel = layers
    row = first_row + jnp.arange(x.shape[1])
    inside = ((row >= 0) & (row < limit[:, 0, None]))[:, :, None]
    inside &= (jnp.arange(x.shape[2]) < limit[:, 1, None])[:, None]
    inside = inside[..., None].astype(x.dtype)
    y = _hidden(product(x, expand.kernel), inside, expand.bias, conv)
    return _narrow(y, project_kernel)


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
