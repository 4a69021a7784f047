"""The backward of a product with a small matrix on GPUs, in one pass over the rows.

cuBLAS computes the gradients of rows and of weights one after the other, and reads the
gradient of the product for each.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from segnext_jax.ops.partition import split_examples

_ROWS = 32  # of a product of matrices
_PARTS = 32  # of the rows of an example: each has a sum of its own for the weights
# Numbers of a weight's gradient that the registers of eight warps can sum up.
_MAX_WEIGHTS = 32768


def is_supported(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether `matmul_gradients` can be called for x [b … k] and a kernel [k m]."""
    k, m = kernel.shape
    are_tiles = all(side >= 16 and side & (side - 1) == 0 for side in (k, m))
    fits = are_tiles and k * m <= _MAX_WEIGHTS
    return fits and x.dtype == jnp.bfloat16 and math.prod(x.shape[1:-1]) % _ROWS == 0


def matmul_gradients(
    x: jax.Array, kernel: jax.Array, grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The gradients of x and of the kernel, of x @ kernel.

    Args:
      x: [b n k], bfloat16.
      kernel: [k m], bfloat16.
      grad: [b n m], bfloat16.

    Returns:
      [b n k] bfloat16 and [k m] float32; summed in float32.
    """
    _, n, k = x.shape
    _, m = kernel.shape
    parts = math.gcd(n // _ROWS, _PARTS)
    is_interpreted = jax.default_backend() == "cpu"

    def rows(size: int) -> pl.BlockSpec:
        return pl.BlockSpec((None, n // parts, size), lambda i, j: (i, j, 0))

    def run(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> list[jax.Array]:
        b = x.shape[0]
        return pl.pallas_call(
            _matmul_gradients,
            grid=(b, parts),
            in_specs=[rows(k), pl.BlockSpec((k, m), lambda i, j: (0, 0)), rows(m)],
            out_specs=[
                rows(k),
                pl.BlockSpec((None, None, k, m), lambda i, j: (i, j, 0, 0)),
            ],
            out_shape=[
                jax.ShapeDtypeStruct((b, n, k), x.dtype),
                jax.ShapeDtypeStruct((b, parts, k, m), jnp.float32),
            ],
            interpret=is_interpreted,
            compiler_params=triton.CompilerParams(
                num_warps=8 if k * m > 4096 else 4, num_stages=2
            ),
        )(x, kernel, grad)

    dx, sums = split_examples(run, shared=[1])(x, kernel, grad)
    return dx, sums.sum(axis=(0, 1))


def _matmul_gradients(x_ref, kernel_ref, grad_ref, dx_ref, sums_ref):
    kernel = kernel_ref[...]

    def add_rows(i, total):
        at = pl.ds(i * _ROWS, _ROWS)
        x, grad = x_ref[at, :], grad_ref[at, :]
        dx = _dot(grad, kernel, (1, 1))
        dx_ref[at, :] = dx.astype(dx_ref.dtype)
        return total + _dot(x, grad, (0, 0))

    zeros = jnp.zeros(sums_ref.shape, jnp.float32)
    sums_ref[...] = lax.fori_loop(0, x_ref.shape[0] // _ROWS, add_rows, zeros)


def _dot(x, y, contracted):
    dimensions = (((contracted[0],), (contracted[1],)), ((), ()))
    return lax.dot_general(x, y, dimensions, preferred_element_type=jnp.float32)
