"""Non-negative matrix factorisation, the global context of the Hamburger decoder.

Geng et al., "Is Attention Better Than Matrix Decomposition?" (ICLR 2021), algorithm 2;
update order, softmax start and epsilon follow the NMF2D of SegNeXt's authors.
"""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops import nmf_passes
from segnext_jax.ops.halo import AxisName, sum_over
from segnext_jax.ops.triton import nmf as triton_nmf

Gradient = Literal["unrolled", "one_step"]
Implementation = Literal["auto", "xla", "triton"]

_PASSES = {"xla": nmf_passes, "triton": triton_nmf}


def nmf(
    features: jax.Array,
    key: jax.Array,
    rank: int,
    *,
    steps: int,
    gradient: Gradient = "unrolled",
    implementation: Implementation = "auto",
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
      implementation: "xla"; "triton" are kernels for GPUs, of bfloat16 features in
        sizes that fit them; "auto" takes them on a GPU where they fit.
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
        features,
        bases,
        steps=steps,
        gradient=gradient,
        implementation=implementation,
        axis_name=axis_name,
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
    implementation: Implementation = "auto",
    axis_name: AxisName = None,
) -> jax.Array:
    """`nmf` from given bases [b d r] instead of drawn ones."""
    if gradient not in ("unrolled", "one_step"):
        raise ValueError(f'unknown gradient {gradient!r}: use "unrolled" or "one_step"')
    if implementation not in get_args(Implementation):
        raise ValueError(
            f"unknown implementation {implementation!r}: use one of "
            f"{', '.join(get_args(Implementation))}"
        )
    if implementation == "auto":
        on_gpu = jax.default_backend() == "gpu"
        fits = triton_nmf.supported(features, bases.shape[-1])
        implementation = "triton" if on_gpu and fits else "xla"
    return _factorize(
        features, bases, steps, gradient, _PASSES[implementation], axis_name
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _factorize(x, bases, steps, gradient, passes, axis_name):
    return _factorize_fwd(x, bases, steps, gradient, passes, axis_name)[0]


def _factorize_fwd(x, bases, steps, gradient, passes, axis_name):
    coef, history = None, []  # before the first update it is a softmax
    for _ in range(steps):
        new_coef, moments = passes.update(x, bases, coef)
        # All that the positions have to tell each other: two small matrices.
        moments = sum_over(moments, axis_name)
        history.append((bases, coef, moments))
        bases, coef = passes.rescale(bases, *moments), new_coef
    return passes.reconstruct(x, bases, coef), (x, bases, coef, history)


def _factorize_bwd(steps, gradient, passes, axis_name, residuals, grad):
    """Every update adds a product of rank r to the gradient of x.

    Their factors are collected and multiplied once. Autodiff writes a [b n d] matrix
    for each update and adds them up: 5.9 of the 98 GB that a train step of SegNeXt-T
    moved on an H200.
    """
    x, bases, coef, history = residuals
    grad_coef, grad_numerator, grad_bases = passes.reconstruct_bwd(x, bases, coef, grad)
    factors = [(grad_numerator, bases)]
    if gradient == "one_step":
        return passes.sum_of_products(factors, x.dtype), jnp.zeros_like(bases)
    size = 1 if axis_name is None else lax.axis_size(axis_name)
    for bases, before, moments in reversed(history):
        _, rescale_vjp = jax.vjp(passes.rescale, bases, *moments)
        # That of the bases is divided: what each device returns is to be summed.
        grad_bases, *grad_moments = rescale_vjp(sum_over(grad_bases, axis_name))
        factors.append((coef, grad_moments[0]))
        grad_coef, grad_numerator, grad_local = passes.update_bwd(
            x, bases, before, grad_coef, grad_moments
        )
        grad_bases = grad_bases / size + grad_local
        factors.append((grad_numerator, bases))
        coef = before
    return passes.sum_of_products(factors, x.dtype), grad_bases


_factorize.defvjp(_factorize_fwd, _factorize_bwd)
