"""1×1 convolutions as products of matrices: 1.15 times a train step's speed on CPU."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.depthwise import Implementation, choose
from segnext_jax.ops.triton import matmul as triton_matmul


def matmul(
    x: jax.Array, kernel: jax.Array, *, implementation: Implementation = "auto"
) -> jax.Array:
    """x @ kernel, [b h w k] and [k m] → [b h w m], all of one dtype.

    With the `implementation` "triton" (as of `depthwise_conv`) the backward of small
    bfloat16 matrices reads the gradient, most of the traffic, once instead of twice.
    """
    if choose(implementation) == "triton":
        return _triton_matmul(x, kernel)
    return product(x, kernel)


def product(
    x: jax.Array, kernel: jax.Array, dtype: jnp.dtype | type | None = None
) -> jax.Array:
    """x @ kernel, [… k] and [k m] → [… m], in `dtype` if it is not that of `x`.

    On a CPU with a backward of its own: autodiff asks for the kernel's gradient as the
    transpose of gradᵀ·x, and all of the backward takes up to twice as long as with
    xᵀ·grad (32768 pixels, 64 channels).
    """
    if jax.default_backend() == "cpu":
        return _cpu_product(x, kernel, dtype)
    return jnp.matmul(x, kernel, preferred_element_type=dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _cpu_product(x, kernel, dtype):
    return jnp.matmul(x, kernel, preferred_element_type=dtype)


def _cpu_product_fwd(x, kernel, dtype):
    return _cpu_product(x, kernel, dtype), (x, kernel)


def _cpu_product_bwd(dtype, residuals, grad):
    x, kernel = residuals
    of_kernel = sum_outer_products(x.astype(grad.dtype), grad)
    return (grad @ kernel.T).astype(x.dtype), of_kernel.astype(kernel.dtype)


_cpu_product.defvjp(_cpu_product_fwd, _cpu_product_bwd)


def sum_outer_products(x: jax.Array, y: jax.Array) -> jax.Array:
    """Over all but the last axis: [… k] and [… m] → [k m], best with k below m.

    Of matrices: with more axes XLA for CPUs writes `x` transposed, number by number.
    """
    return x.reshape(-1, x.shape[-1]).T @ y.reshape(-1, y.shape[-1])


@jax.custom_vjp
def _triton_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    # XLA would have cuBLAS add a residual to the product in place, of a copy.
    return lax.optimization_barrier(x @ kernel)


def _triton_matmul_fwd(x, kernel):
    return _triton_matmul(x, kernel), (x, kernel)


def _triton_matmul_bwd(residuals, grad):
    x, kernel = residuals
    if not triton_matmul.is_supported(x, kernel):
        _, vjp = jax.vjp(lambda x, kernel: x @ kernel, x, kernel)
        return vjp(grad)
    x_rows, grad_rows = (y.reshape(len(y), -1, y.shape[-1]) for y in (x, grad))
    dx, d_kernel = triton_matmul.matmul_gradients(x_rows, kernel, grad_rows)
    return dx.reshape(x.shape), d_kernel.astype(kernel.dtype)


_triton_matmul.defvjp(_triton_matmul_fwd, _triton_matmul_bwd)
