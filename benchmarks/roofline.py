"""What each stage must move and compute: python -m benchmarks.roofline [--measure]

Counted in the traced forward and backward: every convolution and product of matrices
reads its operands and writes its result once; what is elementwise rides along with
them. `--measure` also times the stages on this device, and prints how much of its
bandwidth they would use if they moved no more than that.

Needs jax, flax, optax, einops and ml_collections; `--plot` also matplotlib.
"""

import argparse
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn
from ml_collections import ConfigDict

from benchmarks.turns import timed
from configs import common
from segnext_jax.models.mscan import MSCAN
from segnext_jax.models.segnext import make_backbone
from segnext_jax.parallel.mesh import compiler_options, make_mesh
from segnext_jax.training.objective import SegmentationObjective

NUM_CLASSES = 19
# GB/s of memory and TFLOP/s of bfloat16 products without sparsity, by the data sheets.
CHIPS = {"H200": (4800, 989), "TPU v6e": (1638, 918), "TPU v5e": (819, 197)}
PARTS = ("stage 1", "stage 2", "stage 3", "stage 4", "decoder")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=["T", "S", "B", "L"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=1024, help="side of the image")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--measure", action="store_true", help="time the stages, too")
    parser.add_argument(
        "--bandwidth", type=float, help="of the memory, GB/s; measured if not given"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--plot", metavar="FILE", help="draw the parts under the roofs")
    args = parser.parse_args()
    bandwidth = args.bandwidth
    if args.measure and bandwidth is None:
        bandwidth = measure_bandwidth(args.rounds)
        print(f"{bandwidth:.0f} GB/s on {jax.devices()[0]}\n")
    head = ["variant", "part", "GB", "GFLOP", "FLOP / byte"]
    head += ["ms", "of the bandwidth"] * args.measure
    print(f"| {' | '.join(head)} |\n|---|---|{'--:|' * (len(head) - 2)}")
    intensity: dict[str, list[float]] = {}
    for variant in args.variants:
        config = make_config(variant, args.size, args.dtype)
        sizes, flops = count(config, args.batch)
        seconds = measure(config, args.batch, args.rounds) if args.measure else {}
        intensity[variant] = [flops[part] / sizes[part] for part in PARTS]
        for part in [*PARTS, "all"]:
            row = [variant, part, f"{sizes[part] / 1e9:.2f}"]
            row += [f"{flops[part] / 1e9:.1f}", f"{flops[part] / sizes[part]:.0f}"]
            if args.measure:
                share = sizes[part] / 1e9 / seconds[part] / bandwidth
                row += [f"{1e3 * seconds[part]:.1f}", f"{share:.0%}"]
            print(f"| {' | '.join(row)} |", flush=True)
    if args.plot:
        plot(args.plot, intensity)


def make_config(variant: str, size: int, dtype: str) -> ConfigDict:
    config = common.base()
    config.model.variant = variant
    config.model.dtype = dtype
    config.data.crop_size = (size, size)
    return config


def count(config: ConfigDict, batch: int) -> tuple[Counter[str], Counter[str]]:
    """(bytes, FLOPs) by part, and of all of them; the stem is part of stage 1."""
    config = config.copy_and_resolve_references()
    config.model.depthwise = "xla"  # one operation each, where they are counted
    loss, arguments = whole(config, batch)
    traced = jax.make_jaxpr(jax.value_and_grad(loss))(*arguments)
    sizes: Counter[str] = Counter()
    flops: Counter[str] = Counter()
    for part, equation, times in products(traced.jaxpr):
        arrays = avals((*equation.invars, *equation.outvars))
        moved = sum(x.size * x.dtype.itemsize for x in arrays)
        for name in (part, "all"):
            sizes[name] += times * moved
            flops[name] += times * product_flops(equation)
    return sizes, flops


def products(
    jaxpr: Any, where: str = "", times: int = 1
) -> Iterator[tuple[str, JaxprEqn, int]]:
    """All convolutions and products of matrices: (part, equation, times it runs)."""
    for equation in jaxpr.eqns:
        name = f"{where}/{equation.source_info.name_stack}"
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            found = re.search(r"stage(\d)", name)
            stage = "stage 1" if "stem" in name else "decoder"
            yield f"stage {found[1]}" if found else stage, equation, times
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            if hasattr(inner, "eqns"):
                length = equation.params.get("length", 1)  # of a scan
                yield from products(
                    getattr(inner, "jaxpr", inner), name, times * length
                )


def product_flops(equation: JaxprEqn) -> int:
    """Two for every product that is summed."""
    lhs, rhs, out = avals((*equation.invars, *equation.outvars))
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2 * out.size * int(np.prod([lhs.shape[i] for i in contracted]))
    features = rhs.shape[equation.params["dimension_numbers"].rhs_spec[0]]
    # Zeros between the elements, in the gradient of a stride, are not multiplied.
    dilation = int(np.prod(equation.params["lhs_dilation"]))
    return 2 * out.size * (rhs.size // features) // dilation


def avals(variables: Sequence[Any]) -> list[Any]:
    """Their shapes and dtypes."""
    return [variable.aval for variable in variables]


def whole(config: ConfigDict, batch: int) -> tuple[Callable[..., Any], Any]:
    """The loss as a function of the parameters, and its arguments without values."""
    objective = SegmentationObjective(config, NUM_CLASSES)
    example = objective.example

    def loss(params, batch_stats, image, label):
        keys = jax.random.split(jax.random.key(0), 3)
        rngs = dict(zip(("drop_path", "dropout", "nmf"), keys, strict=True))
        variables = {"params": params, "batch_stats": batch_stats}
        logits, _ = objective.forward(variables, image, rngs)
        total, weight = objective.loss(logits, label)
        return total / weight

    image = jax.ShapeDtypeStruct((batch, *example["image"].shape), jnp.float32)
    label = jax.ShapeDtypeStruct((batch, *example["label"].shape), jnp.int32)
    init = partial(objective.model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), image)
    return loss, (variables["params"], variables["batch_stats"], image, label)


def up_to(config: ConfigDict, batch: int, stages: int) -> tuple[Callable, Any]:
    """The same of the sum of the features after some stages."""
    full = make_backbone(config.model)
    backbone = MSCAN(
        full.embed_dims[:stages],
        full.depths[:stages],
        full.drop_path_rate,
        full.dtype,
        full.depthwise,
    )

    def total(params, batch_stats, image):
        features, _ = backbone.apply(
            {"params": params, "batch_stats": batch_stats},
            image,
            train=True,
            rngs={"drop_path": jax.random.key(0)},
            mutable=["batch_stats"],
        )
        return jnp.sum(features[-1], dtype=jnp.float32)

    image = jax.ShapeDtypeStruct((batch, *config.data.crop_size, 3), jnp.float32)
    init = partial(backbone.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), image)
    return total, (variables["params"], variables["batch_stats"], image)


def measure(config: ConfigDict, batch: int, rounds: int) -> dict[str, float]:
    """Seconds of forward and backward by part: of each more stage, what it adds."""
    programs = [up_to(config, batch, stages) for stages in range(1, 5)]
    totals = [
        seconds(*program, rounds) for program in [*programs, whole(config, batch)]
    ]
    own = np.diff([0.0, *totals])
    return {**dict(zip(PARTS, own, strict=True)), "all": totals[-1]}


def seconds(function: Callable[..., Any], arguments: Any, rounds: int) -> float:
    """Median of a forward and backward."""
    rng = np.random.default_rng(0)

    def values(x):
        if jnp.issubdtype(x.dtype, jnp.integer):
            return rng.integers(0, NUM_CLASSES, x.shape, x.dtype)
        return rng.normal(0, 0.02, x.shape).astype(x.dtype)

    arguments = jax.device_put(jax.tree.map(values, arguments))
    options = compiler_options(make_mesh())
    step = jax.jit(jax.value_and_grad(function), compiler_options=options)
    run = step.lower(*arguments).compile()
    timer = timed(lambda: jax.block_until_ready(run(*arguments)))
    return statistics.median([timer() for _ in range(rounds + 1)][1:])


def measure_bandwidth(rounds: int) -> float:
    """GB/s of reading an array and writing another."""
    x = jnp.zeros(2**28, jnp.float32)
    add = jax.jit(lambda x: x + 1)
    timer = timed(lambda: jax.block_until_ready(add(x)))
    median = statistics.median([timer() for _ in range(rounds + 1)][1:])
    return 2 * x.nbytes / 1e9 / median


def plot(path: str, intensity: dict[str, list[float]]) -> None:
    """Draws the roofs of `CHIPS` and, on the first, the parts of each variant."""
    from matplotlib.figure import Figure  # only here: see the top

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    x = np.geomspace(8, 1000)
    for (name, (bandwidth, peak)), style in zip(
        CHIPS.items(), ("-", "--", ":"), strict=True
    ):
        roof = np.minimum(bandwidth * x / 1e3, peak)
        axes.plot(x, roof, style, color="#666666", linewidth=1, label=name)
    bandwidth, peak = next(iter(CHIPS.values()))
    for (variant, values), marker in zip(intensity.items(), "osD^", strict=False):
        roof = np.minimum(bandwidth * np.array(values) / 1e3, peak)
        axes.plot(values, roof, marker, alpha=0.8, label=f"SegNeXt-{variant}")
    axes.set(xscale="log", yscale="log", xlabel="FLOP per byte of memory traffic")
    axes.set(ylabel="TFLOP/s at most", title="Forward and backward, by stage")
    axes.grid(which="both", alpha=0.2)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.endswith("svg") else None)


if __name__ == "__main__":
    main()
