"""Non-negative matrix factorisation, the global context of the Hamburger decoder.

Geng et al., "Is Attention Better Than Matrix Decomposition?" (ICLR 2021), algorithm 2;
update order, softmax start and epsilon follow the NMF2D of SegNeXt's authors.
"""

from functools import partial
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
    return _factorize(features, bases, steps, gradient, axis_name)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _factorize(x, bases, steps, gradient, axis_name):
    return _factorize_fwd(x, bases, steps, gradient, axis_name)[0]


def _factorize_fwd(x, bases, steps, gradient, axis_name):
    coef, history = None, []  # before the first update it is a softmax
    for _ in range(steps):
        new_coef, moments = _update(x, bases, coef)
        # All that the positions have to tell each other: two small matrices.
        moments = sum_over(moments, axis_name)
        history.append((bases, coef, moments))
        bases, coef = _rescale(bases, *moments), new_coef
    return _reconstruct(x, bases, coef), (x, bases, coef, history)


def _factorize_bwd(steps, gradient, axis_name, residuals, grad):
    """Every update adds a product of rank r to the gradient of x.

    Their factors are collected and multiplied once. Autodiff writes a [b n d] matrix
    for each update and adds them up: 5.9 of the 98 GB that a train step of SegNeXt-T
    moved on an H200.
    """
    x, bases, coef, history = residuals
    grad_coef, grad_numerator, grad_bases = _reconstruct_bwd(x, bases, coef, grad)
    factors = [(grad_numerator, bases)]
    if gradient == "one_step":
        return _sum_of_products(factors, x.dtype), jnp.zeros_like(bases)
    size = 1 if axis_name is None else lax.axis_size(axis_name)
    for bases, before, moments in reversed(history):
        _, rescale_vjp = jax.vjp(_rescale, bases, *moments)
        # That of the bases is divided: what each device returns is to be summed.
        grad_bases, *grad_moments = rescale_vjp(sum_over(grad_bases, axis_name))
        factors.append((coef, grad_moments[0]))
        grad_coef, grad_numerator, grad_local = _update_bwd(
            x, bases, before, grad_coef, grad_moments
        )
        grad_bases = grad_bases / size + grad_local
        factors.append((grad_numerator, bases))
        coef = before
    return _sum_of_products(factors, x.dtype), grad_bases


_factorize.defvjp(_factorize_fwd, _factorize_bwd)


def _update(x, bases, coef):
    """One pass over the positions: new coef, and the sums that new bases need of it."""
    coef = _next_coef(_dot("bnd,bdr->bnr", x, bases), _gram(bases), coef)
    return coef, (_dot("bnd,bnr->bdr", x, coef), _gram(coef))


def _update_bwd(x, bases, coef, grad_coef, grad_moments):
    """Gradients of coef before, numerator and bases, from those of what it returned."""
    numerator = _dot("bnd,bdr->bnr", x, bases)
    new_coef, vjp = jax.vjp(_next_coef, numerator, _gram(bases), coef)
    grad_coef += _dot("bnd,bdr->bnr", x, grad_moments[0])
    grad_coef += _gram_bwd(new_coef, grad_moments[1])
    grad_numerator, grad_gram, grad_coef = vjp(grad_coef)
    grad_bases = _dot("bnd,bnr->bdr", x, grad_numerator) + _gram_bwd(bases, grad_gram)
    return grad_coef, grad_numerator, grad_bases


def _reconstruct(x, bases, coef):
    coef = _next_coef(_dot("bnd,bdr->bnr", x, bases), _gram(bases), coef)
    return _dot("bnr,bdr->bnd", coef, bases).astype(x.dtype)


def _reconstruct_bwd(x, bases, coef, grad):
    numerator = _dot("bnd,bdr->bnr", x, bases)
    new_coef, vjp = jax.vjp(_next_coef, numerator, _gram(bases), coef)
    grad_numerator, grad_gram, grad_coef = vjp(_dot("bnd,bdr->bnr", grad, bases))
    grad_bases = _dot("bnd,bnr->bdr", grad, new_coef) + _gram_bwd(bases, grad_gram)
    grad_bases += _dot("bnd,bnr->bdr", x, grad_numerator)
    return grad_coef, grad_numerator, grad_bases


def _next_coef(numerator, gram, coef):
    if coef is None:
        coef = jax.nn.softmax(numerator, axis=-1)
    return _rescale(coef, numerator, gram)


def _rescale(factor, numerator, gram):
    """The multiplicative update, the same for both factors."""
    return factor * numerator / (_dot("bir,brs->bis", factor, gram) + _EPSILON)


def _gram(factor):
    return _dot("bir,bis->brs", factor, factor)


def _gram_bwd(factor, grad):
    return _dot("bir,brs->bis", factor, grad + jnp.swapaxes(grad, 1, 2))


def _sum_of_products(factors, dtype):
    left, right = (jnp.concatenate(side, -1) for side in zip(*factors, strict=True))
    return _dot("bnr,bdr->bnd", left, right).astype(dtype)


def _dot(equation, *operands):
    # Multiplicative updates amplify rounding: TPU's default bfloat16 passes and
    # Hopper's TF32 are not enough.
    factors = [operand.astype(jnp.float32) for operand in operands]
    return jnp.einsum(equation, *factors, precision=lax.Precision.HIGHEST)
