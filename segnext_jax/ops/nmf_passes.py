"""What ops/nmf.py does in one pass over all positions, and the gradients of it.

x [b n d] in its own dtype; bases [b d r] and coef [b n r], float32. Before the first
update coef is None: it starts as a softmax.
"""

import jax
import jax.numpy as jnp
from jax import lax

EPSILON = 1e-6


def update(x, bases, coef):
    """One pass over the positions: new coef, and the sums that new bases need of it."""
    coef = _next_coef(_dot("bnd,bdr->bnr", x, bases), gram(bases), coef)
    return coef, (_dot("bnd,bnr->bdr", x, coef), gram(coef))


def update_bwd(x, bases, coef, grad_coef, grad_moments):
    """Gradients of coef before, numerator and bases, from those of what it returned."""
    numerator = _dot("bnd,bdr->bnr", x, bases)
    new_coef, vjp = jax.vjp(_next_coef, numerator, gram(bases), coef)
    grad_coef += _dot("bnd,bdr->bnr", x, grad_moments[0])
    grad_coef += gram_bwd(new_coef, grad_moments[1])
    grad_numerator, grad_gram, grad_coef = vjp(grad_coef)
    grad_bases = _dot("bnd,bnr->bdr", x, grad_numerator) + gram_bwd(bases, grad_gram)
    return grad_coef, grad_numerator, grad_bases


def reconstruct(x, bases, coef):
    coef = _next_coef(_dot("bnd,bdr->bnr", x, bases), gram(bases), coef)
    return _dot("bnr,bdr->bnd", coef, bases).astype(x.dtype)


def reconstruct_bwd(x, bases, coef, grad):
    numerator = _dot("bnd,bdr->bnr", x, bases)
    new_coef, vjp = jax.vjp(_next_coef, numerator, gram(bases), coef)
    grad_numerator, grad_gram, grad_coef = vjp(_dot("bnd,bdr->bnr", grad, bases))
    grad_bases = _dot("bnd,bnr->bdr", grad, new_coef) + gram_bwd(bases, grad_gram)
    grad_bases += _dot("bnd,bnr->bdr", x, grad_numerator)
    return grad_coef, grad_numerator, grad_bases


def sum_of_products(factors, dtype):
    if jax.default_backend() == "tpu":
        # Else each factor has a kernel of its own to compile, which knows its columns.
        factors = lax.optimization_barrier(factors)
    left, right = (jnp.concatenate(side, -1) for side in zip(*factors, strict=True))
    return _dot("bnr,bdr->bnd", left, right).astype(dtype)


def rescale(factor, numerator, gram):
    """The multiplicative update, the same for both factors."""
    return factor * numerator / (_dot("bir,brs->bis", factor, gram) + EPSILON)


def gram(factor):
    return _dot("bir,bis->brs", factor, factor)


def gram_bwd(factor, grad):
    return _dot("bir,brs->bis", factor, grad + jnp.swapaxes(grad, 1, 2))


def _next_coef(numerator, gram, coef):
    if coef is None:
        coef = jax.nn.softmax(numerator, axis=-1)
    return rescale(coef, numerator, gram)


def _dot(equation, *operands):
    # Multiplicative updates amplify rounding: TPU's default bfloat16 passes and
    # Hopper's TF32 are not enough.
    factors = [operand.astype(jnp.float32) for operand in operands]
    return jnp.einsum(equation, *factors, precision=lax.Precision.HIGHEST)
