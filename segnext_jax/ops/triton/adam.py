"""The same as ops/adam.py in a few kernels for GPUs.

XLA makes a kernel or two for each array: of the 2,324 kernels of a train step of
SegNeXt-T, compiled for an H200, 600 were these, whose start takes longer than their
work.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from segnext_jax.ops.adam import Leaf, Scalars, new_moments, new_param

_BLOCK = 1024  # elements of a program
# Arrays of a kernel: more take longer to compile than they save.
_UPDATED_TOGETHER = 24
_SQUARED_TOGETHER = 64


def adamw(
    leaves: Sequence[Leaf], scalars: Scalars, *, b1: float, b2: float, eps: float
) -> list[tuple[jax.Array, ...]]:
    """New (param, mu, nu) of each leaf, as optax's `adamw`."""
    shared = jnp.stack([jnp.asarray(scalar, jnp.float32) for scalar in scalars])
    update = partial(_update_leaf, b1=b1, b2=b2, eps=eps)
    results: list[tuple[jax.Array, ...]] = []
    for group in _groups(leaves, _UPDATED_TOGETHER):
        results += _update_group(update, group, shared)
    return results


def _update_group(update, leaves, shared):
    def body(index, _, at, inside, ins, outs):
        *refs, shared_ref = ins
        param, grad, mu, nu = (
            triton.load(ref.at[at], mask=inside, other=0)
            for ref in refs[4 * index : 4 * index + 4]
        )
        leaf = leaves[index]._replace(param=param, grad=grad, mu=mu, nu=nu)
        scalars = Scalars(*(shared_ref[i] for i in range(len(Scalars._fields))))
        new = update(leaf, scalars)
        # What is not written stays: results lie where the operands are.
        changed = inside & (scalars.finite > 0)
        for ref, value in zip(outs[3 * index : 3 * index + 3], new, strict=True):
            triton.store(ref.at[at], value, mask=changed)

    arrays = [x.ravel() for leaf in leaves for x in leaf[:4]]
    changing = [i for i in range(len(arrays)) if i % 4 != 1]  # all but the gradients
    flat = _for_blocks(
        body,
        [leaf.param.size for leaf in leaves],
        [*arrays, shared],
        [jax.ShapeDtypeStruct(arrays[i].shape, jnp.float32) for i in changing],
        {i: k for k, i in enumerate(changing)},
    )
    return [
        tuple(x.reshape(leaf.param.shape) for x in flat[3 * i : 3 * i + 3])
        for i, leaf in enumerate(leaves)
    ]


def _update_leaf(leaf, scalars, *, b1, b2, eps):
    mu, nu = new_moments(leaf, scalars, b1=b1, b2=b2)
    return new_param(leaf, mu, nu, scalars, eps=eps), mu, nu


def norm(arrays: Sequence[jax.Array], scale: jax.Array) -> jax.Array:
    """Of all elements of all arrays·scale together, float32."""

    def body(index, i, at, inside, ins, outs):
        x = triton.load(ins[index].at[at], mask=inside, other=0)
        outs[0][i] = jnp.sum(x * x)

    sums: list[jax.Array] = []
    for group in _groups(arrays, _SQUARED_TOGETHER):
        sizes = [x.size for x in group]
        count = sum(pl.cdiv(size, _BLOCK) for size in sizes)
        flat = [x.ravel() for x in group]
        result = jax.ShapeDtypeStruct((count,), jnp.float32)
        sums += _for_blocks(body, sizes, flat, [result], {})
    return scale * jnp.sqrt(jnp.sum(jnp.concatenate(sums)))


def _groups(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _for_blocks(
    body: Callable[..., None],
    sizes: Sequence[int],
    operands: Sequence[jax.Array],
    results: Sequence[jax.ShapeDtypeStruct],
    aliases: dict[int, int],
) -> Sequence[jax.Array]:
    """One kernel that calls body(index, i, at, inside, ins, outs) for all blocks.

    Block i has the places `at`, as far as they are `inside`, of the flat array `index`,
    which has one of the `sizes`.
    """

    def kernel(*refs: Any) -> None:
        ins, outs = refs[: len(operands)], refs[len(operands) :]
        program, start = pl.program_id(0), 0
        for index, size in enumerate(sizes):
            stop = start + pl.cdiv(size, _BLOCK)

            def block(index: int = index, size: int = size, start: int = start) -> None:
                at = (program - start) * _BLOCK + jnp.arange(_BLOCK)
                body(index, program, at, at < size, ins, outs)

            pl.when((program >= start) & (program < stop))(block)
            start = stop

    def whole(x: Any) -> pl.BlockSpec:
        return pl.BlockSpec(x.shape, lambda i: (0,))

    call = partial(
        pl.pallas_call,
        kernel,
        grid=(sum(pl.cdiv(size, _BLOCK) for size in sizes),),
        in_specs=[whole(x) for x in operands],
        out_specs=[whole(x) for x in results],
        out_shape=results,
        input_output_aliases=aliases,
        compiler_params=triton.CompilerParams(num_warps=4),
    )
    # By what it is lowered for, not traced for: elsewhere it is interpreted.
    return lax.platform_dependent(
        *operands, cuda=call(), rocm=call(), default=call(interpret=True)
    )
