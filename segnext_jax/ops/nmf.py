"""Non-negative matrix factorisation, the global context of the Hamburger decoder.

Geng et al., "Is Attention Better Than Matrix Decomposition?" (ICLR 2021), algorithm 2;
update order, softmax start and epsilon follow the NMF2D of SegNeXt's authors.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.halo import AxisName, sum_over

Gradient = Literal["unrolled", "one_step"]

_EPSILON = 1e-6


def nmf(
    features: jax.Array,
    key: jax.Array,
    rank: int,
    *,
    steps: int,
    gradient: Gradient = "unrolled",
    axis_name: AxisName = None,
) -> jax.Array:
    """Replaces features by their non-negative low-rank approximation.

    Args:
      features: [b n d], non-negative, float32 or bfloat16; computed in float32.
      key: a PRNG key whose draw of bases all examples share, or one key per example
        ([b] keys).
      rank: number of bases r.
      steps: multiplicative updates of both factors.
      gradient: "unrolled" differentiates every update (what the authors train with),
        "one_step" only the last update of the coefficients (section 3.3 of the paper).
      axis_name: of the devices that share the n positions (ops/halo.py).

    Returns:
      [b n d] in the dtype of `features`.
    """
    b, _, d = features.shape
    if key.ndim:
        bases = jax.vmap(lambda k: draw_bases(k, d, rank))(key)
    else:
        bases = jnp.broadcast_to(draw_bases(key, d, rank), (b, d, rank))
    return factorize(
        features, bases, steps=steps, gradient=gradient, axis_name=axis_name
    )


def draw_bases(key: jax.Array, d: int, rank: int) -> jax.Array:
    """Uniform random bases of unit length: [d r], float32."""
    bases = jax.random.uniform(key, (d, rank))
    return bases / jnp.linalg.norm(bases, axis=0, keepdims=True)


def factorize(
    features: jax.Array,
    bases: jax.Array,
    *,
    steps: int,
    gradient: Gradient = "unrolled",
    axis_name: AxisName = None,
) -> jax.Array:
    """`nmf` from given bases [b d r] instead of drawn ones."""
    if gradient not in ("unrolled", "one_step"):
        raise ValueError(f'unknown gradient {gradient!r}: use "unrolled" or "one_step"')
    x = features.astype(jnp.float32)
    coef = jax.nn.softmax(_dot("bnd,bdr->bnr", x, bases), axis=-1)
    for _ in range(steps):
        coef = _update_coef(x, bases, coef)
        bases = _update_bases(x, bases, coef, axis_name)
    if gradient == "one_step":
        bases, coef = lax.stop_gradient((bases, coef))
    coef = _update_coef(x, bases, coef)
    return _dot("bnr,bdr->bnd", coef, bases).astype(features.dtype)


def _update_coef(x, bases, coef):
    gram = _dot("bdr,bds->brs", bases, bases)
    numerator = _dot("bnd,bdr->bnr", x, bases)
    return coef * numerator / (_dot("bnr,brs->bns", coef, gram) + _EPSILON)


def _update_bases(x, bases, coef, axis_name):
    # All that the positions have to tell each other: two small matrices.
    gram = sum_over(_dot("bnr,bns->brs", coef, coef), axis_name)
    numerator = sum_over(_dot("bnd,bnr->bdr", x, coef), axis_name)
    return bases * numerator / (_dot("bdr,brs->bds", bases, gram) + _EPSILON)


def _dot(equation, *operands):
    # Multiplicative updates amplify rounding: TPU's default bfloat16 passes and
    # Hopper's TF32 are not enough.
    return jnp.einsum(equation, *operands, precision=lax.Precision.HIGHEST)
