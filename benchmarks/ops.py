"""Times each operator against its plain formulation: python -m benchmarks.ops

The operators of segnext_jax/ops/ on the shapes that they have in a network, forward and
with their backward, the two formulations taking turns. Prints JSON, and a table on
stderr.

Needs jax, flax, optax, einops and ml_collections.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.turns import take_turns, timed
from segnext_jax.models.segnext import VARIANTS
from segnext_jax.ops.argmax import argmax_enlarged
from segnext_jax.ops.conv_gelu import conv_gelu
from segnext_jax.ops.depthwise import Layer, depthwise_conv
from segnext_jax.ops.gelu import gelu
from segnext_jax.ops.matmul import matmul
from segnext_jax.ops.multi_scale import multi_scale_conv
from segnext_jax.ops.nmf import nmf
from segnext_jax.ops.resize import resize_bilinear
from segnext_jax.ops.strided import strided_conv
from segnext_jax.parallel.mesh import compiler_options, make_mesh

NUM_CLASSES = 19
KERNELS = ((5, 5), (1, 7), (7, 1), (1, 11), (11, 1), (1, 21), (21, 1))
MLP_RATIOS = (8, 8, 4, 4)


class Case(NamedTuple):
    """One operator on one shape."""

    name: str
    operator: Callable[..., jax.Array]
    plain: Callable[..., jax.Array]
    shapes: tuple[tuple[int, ...], ...]  # of the arguments, all differentiated
    is_differentiable: bool = True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", default="T", choices=list(VARIANTS))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=512, help="side of the image")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warmup", type=int, default=2)
    args = parser.parse_args()

    results = []
    print("| operator | pass | ms | plain, ms | speed |", file=sys.stderr)
    print("|---|---|--:|--:|--:|", file=sys.stderr)
    for case in cases(args.variant, args.batch, args.size):
        if args.only not in case.name:
            continue
        for name, times in measure(case, args.dtype, args.warmup, args.rounds):
            results.append({"operator": case.name, "pass": name, **times})
            own, plain = (1e3 * s for s in times["median_s"].values())
            row = f"| {case.name} | {name} | {own:.2f} | {plain:.2f} |"
            print(f"{row} {plain / own:.2f} |", file=sys.stderr, flush=True)
    settings = {"device": str(jax.devices()[0]), **vars(args)}
    print(json.dumps({**settings, "results": results}, indent=2))


def cases(variant: str, batch: int, side: int) -> Iterator[Case]:
    """Those of a train step, and the class map of inference."""
    network = VARIANTS[variant]
    operator, plain = (
        partial(depthwise_conv, implementation=name) for name in ("auto", "xla")
    )
    for i, (dim, ratio) in enumerate(zip(network.embed_dims, MLP_RATIOS, strict=True)):
        size = side // 4 // 2**i
        wide = [(kernel, dim) for kernel in KERNELS] + [((3, 3), ratio * dim)]
        for (kh, kw), channels in wide:
            yield Case(
                f"stage {i + 1}: depthwise {kh}×{kw} of {channels}",
                operator,
                plain,
                ((batch, size, size, channels), (kh, kw, channels)),
            )
        yield from fused_cases(f"stage {i + 1}", (batch, size, size), dim, ratio * dim)
        shape = (batch, size, size, ratio * dim)
        exact = partial(jax.nn.gelu, approximate=False)
        yield Case(f"stage {i + 1}: GELU", gelu, exact, (shape,))
    widths = (3, network.embed_dims[0] // 2, *network.embed_dims)
    for i, (c, d) in enumerate(pairwise(widths)):
        shape = (batch, side // 2**i, side // 2**i, c)
        name = f"stride 2: 3×3 {c}→{d}"
        yield Case(name, strided_conv, plain_strided, (shape, (3, 3, c, d)))
    factorize = partial(nmf, key=jax.random.key(0), rank=network.nmf_rank, steps=6)
    yield Case(
        "decoder: NMF against its one-step gradient",
        lambda x: factorize(jnp.abs(x)),
        lambda x: factorize(jnp.abs(x), gradient="one_step"),
        ((batch, (side // 8) ** 2, network.decoder_channels),),
    )
    logits = (batch, side // 8, side // 8, NUM_CLASSES)
    size = (side, side)
    yield Case(
        "logits ×8",
        partial(resize_bilinear, size=size),
        partial(enlarge, size=size),
        (logits,),
    )
    yield Case(
        "class map",
        partial(argmax_enlarged, size=size),
        partial(plain_class_map, size=size),
        (logits,),
        is_differentiable=False,
    )


def fused_cases(
    stage: str, image: tuple[int, ...], dim: int, hidden: int
) -> Iterator[Case]:
    """What is computed together, and products."""

    def multi_scale(x, base, *strips, implementation):
        zeros = jnp.zeros(dim, x.dtype)
        layers = [Layer(kernel, zeros) for kernel in strips]
        pairs = list(zip(layers[::2], layers[1::2], strict=True))
        base = Layer(base, zeros)
        return multi_scale_conv(x, base, pairs, implementation=implementation)

    def of_hidden(x, bias, kernel, conv_bias, *, implementation):
        conv = Layer(kernel, conv_bias)
        return conv_gelu(x, bias, conv, implementation=implementation)

    kernels = [(*kernel, dim) for kernel in KERNELS]
    bias = (hidden,)
    for name, function, shapes in (
        ("multi-scale", multi_scale, ((*image, dim), *kernels)),
        ("3×3 and GELU", of_hidden, ((*image, hidden), bias, (3, 3, hidden), bias)),
    ):
        operator, plain = (
            partial(function, implementation=which) for which in ("auto", "xla")
        )
        yield Case(f"{stage}: {name}", operator, plain, shapes)
    for c, d in ((dim, dim), (hidden, dim)):
        shapes = ((*image, c), (c, d))
        yield Case(f"{stage}: product {c}→{d}", matmul, jnp.matmul, shapes)


def plain_strided(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def enlarge(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), "bilinear")


def plain_class_map(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    return jnp.argmax(enlarge(x, size), -1).astype(jnp.uint8)


def measure(
    case: Case, dtype: str, warmup: int, rounds: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name of the pass, what `take_turns` returns)."""
    rng = np.random.default_rng(0)
    arguments = [
        jnp.asarray(rng.standard_normal(shape, np.float32), dtype)
        for shape in case.shapes
    ]
    formulations = {"operator": case.operator, "plain": case.plain}
    passes = {"forward": lambda function: function}
    if case.is_differentiable:
        passes["backward too"] = with_backward
    options = compiler_options(make_mesh())
    for name, wrap in passes.items():
        timers = {}
        for formulation, function in formulations.items():
            step = jax.jit(wrap(function), compiler_options=options)
            run = step.lower(*arguments).compile()
            timers[formulation] = timed(partial(finish, run, arguments))
        yield name, take_turns(timers, warmup=warmup, rounds=rounds)


def finish(run: Callable[..., Any], arguments: list[jax.Array]) -> None:
    jax.block_until_ready(run(*arguments))


def with_backward(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """The value and, of a gradient that is the value itself, those of the arguments."""

    def run(*arguments):
        value, vjp = jax.vjp(function, *arguments)
        return value, vjp(value)

    return run


if __name__ == "__main__":
    main()
