"""The passes of ops/nmf_passes.py, each as one kernel for GPUs.

A pass reads bfloat16 features once: what they are multiplied with, before the update of
the coefficients and after it, meets them in registers. XLA reads them in float32, once
for every product. Functions take and return what those of ops/nmf.py do.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from segnext_jax.ops.nmf_passes import EPSILON
from segnext_jax.ops.partition import split_examples

_ROWS = 64  # of a product of matrices
_PARTS = 32  # of the positions of an example, each summed by one program
_MAX_BASES = 8192  # numbers whose sums fit into registers


def supported(x: jax.Array, rank: int) -> bool:
    """Whether there are kernels for features [b n d] and so many bases."""
    if x.dtype != jnp.bfloat16:
        return False
    _, n, d = x.shape
    tiles = all(size >= 16 and size & (size - 1) == 0 for size in (d, rank))
    return tiles and n % _ROWS == 0 and d * rank <= _MAX_BASES


def update(x, bases, coef):
    n, (_, d, r) = x.shape[1], bases.shape
    coef, *sums = _pass(
        _update_kernel,
        [x, *_with_coef(coef)],
        [bases, _gram(bases)],
        by_position=[(n, r)],
        sums=[(d, r), (r, r)],
    )
    return coef, tuple(sums)


def update_bwd(x, bases, coef, grad_coef, grad_moments):
    grad_numerator, grad_gram = grad_moments
    symmetric = grad_gram + jnp.swapaxes(grad_gram, 1, 2)
    return _backward(x, bases, coef, grad_coef, [grad_numerator, symmetric])


def reconstruct_bwd(x, bases, coef, grad):
    return _backward(x, bases, coef, grad, [])


def _backward(x, bases, coef, grad, grad_moments):
    n, (_, d, r) = x.shape[1], bases.shape
    *grad_coef, grad_numerator, grad_bases, grad_gram = _pass(
        partial(_backward_kernel, is_update=bool(grad_moments)),
        [x, grad, *_with_coef(coef)],
        [bases, _gram(bases), *grad_moments],
        by_position=[(n, r)] * (1 if coef is None else 2),
        sums=[(d, r), (r, r)],
    )
    grad_bases += _product(bases, grad_gram + jnp.swapaxes(grad_gram, 1, 2))
    return grad_coef[0] if grad_coef else None, grad_numerator, grad_bases


def reconstruct(x, bases, coef):
    (product,) = _pass(
        _reconstruct_kernel,
        [x, *_with_coef(coef)],
        [bases, _gram(bases)],
        by_position=[x.shape[1:]],
        dtype=x.dtype,
    )
    return product


def sum_of_products(factors, dtype):
    left, right = zip(*factors, strict=True)
    n = left[0].shape[1]
    (total,) = _pass(
        _products_kernel,
        left,
        [jnp.stack(right, axis=1)],
        by_position=[(n, right[0].shape[1])],
        dtype=dtype,
        # In a loop over rows, or on fewer threads, factors spill out of registers.
        parts=n // _ROWS,
        num_warps=8,
    )
    return total


def rescale(bases, numerator, gram):
    return bases * numerator / (_product(bases, gram) + EPSILON)


def _gram(bases):
    return _product(jnp.swapaxes(bases, 1, 2), bases)


def _product(a, b):
    """Of small matrices, in a kernel with what follows: cuBLAS would take its own."""
    return jnp.sum(a[:, :, :, None] * b[:, None], axis=2)


def _with_coef(coef):
    return [] if coef is None else [coef]


def _pass(
    kernel,
    rows,
    whole,
    *,
    by_position,
    sums=(),
    dtype=jnp.float32,
    parts=_PARTS,
    num_warps=4,
):
    """Calls a kernel for parts of the positions of each example.

    Args:
      kernel: kernel(rows, whole, by_position, sums), all lists of references; the rows
        are those of a part.
      rows: operands [b n …].
      whole: operands [b …], small.
      by_position: shapes [n …] of the results for each position.
      sums: shapes of float32 results that are summed over the positions.
      dtype: of the results for each position.
      parts: at most so many.
      num_warps: of a program.
    """
    n = rows[0].shape[1]
    parts = math.gcd(n // _ROWS, parts)
    interpret = jax.default_backend() == "cpu"  # that of the trace, not the partitioner

    def call(*operands):
        b = operands[0].shape[0]

        def part_of(shape):
            return pl.BlockSpec((None, n // parts, *shape), lambda i, j: (i, j, 0))

        def all_of(shape):
            return pl.BlockSpec((None, *shape), lambda i, j: (i, *(0 for _ in shape)))

        def body(*refs):
            groups, start = [], 0
            for group in (rows, whole, by_position, sums):
                groups.append(refs[start : start + len(group)])
                start += len(group)
            kernel(*groups)

        results = pl.pallas_call(
            body,
            grid=(b, parts),
            in_specs=[
                *(part_of(operand.shape[2:]) for operand in rows),
                *(all_of(operand.shape[1:]) for operand in whole),
            ],
            out_specs=[
                *(part_of(shape[1:]) for shape in by_position),
                *(
                    pl.BlockSpec((None, None, *shape), lambda i, j: (i, j, 0, 0))
                    for shape in sums
                ),
            ],
            out_shape=[
                *(jax.ShapeDtypeStruct((b, *shape), dtype) for shape in by_position),
                *(
                    jax.ShapeDtypeStruct((b, parts, *shape), jnp.float32)
                    for shape in sums
                ),
            ],
            compiler_params=triton.CompilerParams(num_warps=num_warps, num_stages=2),
            interpret=interpret,
        )(*operands)
        first_sum = len(by_position)
        return *results[:first_sum], *(part.sum(axis=1) for part in results[first_sum:])

    return split_examples(call)(*rows, *whole)


def _update_kernel(rows, whole, by_position, sums):
    x_ref, *coef_ref = rows
    bases, gram = (_pieces(ref[...]) for ref in whole)

    def add(at, totals):
        x = [x_ref[at, :]]
        _, _, coef = _next_coef(_dot(x, bases), gram, coef_ref, at)
        by_position[0][at, :] = coef
        coef = _pieces(coef)
        return totals[0] + _dot(x, coef, (0, 0)), totals[1] + _dot(coef, coef, (0, 0))

    _sum_rows(add, x_ref, sums)


def _reconstruct_kernel(rows, whole, by_position, sums):
    x_ref, *coef_ref = rows
    bases, gram = (_pieces(ref[...]) for ref in whole)

    def store(at, _):
        _, _, coef = _next_coef(_dot([x_ref[at, :]], bases), gram, coef_ref, at)
        product = _dot(_pieces(coef), bases, (1, 1))
        by_position[0][at, :] = product.astype(by_position[0].dtype)
        return ()

    _sum_rows(store, x_ref, sums)


def _backward_kernel(rows, whole, by_position, sums, *, is_update):
    """Of an update, whose sums have gradients, or of the reconstruction."""
    x_ref, grad_ref, *coef_ref = rows
    bases, gram, *grad_moments = (_pieces(ref[...]) for ref in whole)
    *grad_coef_ref, grad_numerator_ref = by_position

    def add(at, totals):
        x, grad = [x_ref[at, :]], grad_ref[at, :]
        numerator = _dot(x, bases)
        coef, denominator, new_coef = _next_coef(numerator, gram, coef_ref, at)
        if is_update:
            grad_new = grad + _dot(x, grad_moments[0])
            grad_new += _dot(_pieces(new_coef), grad_moments[1])
        else:
            grad_new = _dot([grad], bases)
        scaled = grad_new / denominator
        grad_denominator = _pieces(-scaled * new_coef)
        grad_numerator = scaled * coef
        grad_coef = scaled * numerator + _dot(grad_denominator, gram)
        if coef_ref:
            grad_coef_ref[0][at, :] = grad_coef
        else:  # through the softmax
            inner = jnp.sum(grad_coef * coef, axis=1, keepdims=True)
            grad_numerator += coef * (grad_coef - inner)
        grad_numerator_ref[at, :] = grad_numerator
        grad_bases = totals[0] + _dot(x, _pieces(grad_numerator), (0, 0))
        if not is_update:
            grad_bases += _dot([grad], _pieces(new_coef), (0, 0))
        return grad_bases, totals[1] + _dot(_pieces(coef), grad_denominator, (0, 0))

    _sum_rows(add, x_ref, sums)


def _products_kernel(rows, whole, by_position, sums):
    (product_ref,) = by_position
    width = min(product_ref.shape[1], 128)
    for start in range(0, product_ref.shape[1], width):
        columns = pl.ds(start, width)
        total = jnp.zeros((_ROWS, width), jnp.float32)
        for i, left in enumerate(rows):
            # To the 16 bits that a sum in bfloat16 needs.
            right = _pieces(whole[0][i, columns, :], 2)
            total += _dot(_pieces(left[...], 2), right, (1, 1))
        product_ref[:, columns] = total.astype(product_ref.dtype)


def _sum_rows(add, x_ref, sums_refs):
    """Stores what `add`, called for some rows after others, has added up."""
    zeros = tuple(jnp.zeros(ref.shape, jnp.float32) for ref in sums_refs)
    totals = lax.fori_loop(
        0,
        x_ref.shape[0] // _ROWS,
        lambda k, totals: add(pl.ds(k * _ROWS, _ROWS), totals),
        zeros,
    )
    for ref, total in zip(sums_refs, totals, strict=True):
        ref[...] = total


def _next_coef(numerator, gram, coef_ref, at):
    """Coef before, what it is divided by, and coef after the update."""
    if coef_ref:
        coef = coef_ref[0][at, :]
    else:
        exp = jnp.exp(numerator - jnp.max(numerator, axis=1, keepdims=True))
        coef = exp / jnp.sum(exp, axis=1, keepdims=True)
    denominator = _dot(_pieces(coef), gram) + EPSILON
    return coef, denominator, coef * numerator / denominator


def _pieces(x, count=3):
    """float32 as a sum of bfloat16 matrices, to 8 bits of its 24 in each."""
    pieces = []
    for _ in range(count):
        # Cut off, not rounded: XLA would take a conversion and back for nothing.
        bits = lax.bitcast_convert_type(x, jnp.int32) & jnp.int32(-(1 << 16))
        piece = lax.bitcast_convert_type(bits, jnp.float32)
        pieces.append(piece.astype(jnp.bfloat16))
        x = x - piece
    return pieces


def _dot(a, b, contract=(1, 0)):
    """Product of two lists of `_pieces`, on tensor cores, exact to float32."""
    count = max(len(a), len(b))
    pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if i + j < count]
    dimensions = (((contract[0],), (contract[1],)), ((), ()))
    products = [
        lax.dot_general(a[i], b[j], dimensions, preferred_element_type=jnp.float32)
        for i, j in sorted(pairs, key=sum, reverse=True)  # the smallest first
    ]
    return sum(products[1:], products[0])
