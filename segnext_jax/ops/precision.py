"""How exactly accelerators multiply matrices of float32."""

import jax
import jax.numpy as jnp
from jax import lax


def exact(x: jax.Array) -> lax.Precision | None:
    """For products of `x` with another of its dtype, that round no factor.

    By default a TPU rounds those of float32 to bfloat16, a GPU to TF32.
    """
    return lax.Precision.HIGHEST if x.dtype == jnp.float32 else None


def precision_beneath(dtype: jnp.dtype) -> lax.Precision:
    """For products of float32 numbers whose results are rounded to `dtype` at last.

    Beneath bfloat16 a TPU takes three passes instead of six: they err by 2^-16, the
    rounding by 2^-8. On a GPU, HIGH would be TF32 with its 2^-11.
    """
    is_bfloat16 = dtype == jnp.bfloat16
    if is_bfloat16 and jax.default_backend() == "tpu":
        return lax.Precision.HIGH
    return lax.Precision.HIGHEST
