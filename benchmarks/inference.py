"""Times whole-image inference: python -m benchmarks.inference [--against PYTHON]

From uint8 images on the device to classes at their size, and until they are there.
`--against` names the Python of an environment with benchmarks/requirements-torch.txt:
it runs mmsegmentation's model (channels-last; logits enlarged, then argmax) on the same
machine, the rivals taking turns. Prints JSON, and a table on stderr.

Needs jax, flax, optax, einops and ml_collections.
"""

import argparse
import json
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.host_memory import keep_freed_memory
from benchmarks.turns import (
    CLOCKS,
    Timer,
    add_peer_flags,
    take_turns,
    timed,
    torch_peers,
)
from configs import common
from segnext_jax.evaluation.inference import predict_image
from segnext_jax.evaluation.protocol import Protocol
from segnext_jax.models.segnext import make_model
from segnext_jax.parallel.mesh import compiler_options, make_mesh

NUM_CLASSES = 19


def main() -> None:
    args = _parse_args()
    keep_freed_memory()
    options = {name: vars(args)[name] for name in ("variant", "batch", "size", "dtype")}
    with torch_peers(args, "forward", **options, clock=args.clock) as peers:
        run = compile_inference(**options)
        timers: dict[str, Timer] = {"jax": timed(run, args.clock), **peers}
        times = take_turns(timers, warmup=args.warmup, rounds=args.rounds)
    settings = options | {"clock": args.clock, "device": str(jax.devices()[0])}
    print(json.dumps(settings | times, indent=2))
    print("| | s | images/s |\n|---|---|---|", file=sys.stderr)
    for name, seconds in times["median_s"].items():
        print(
            f"| {name} | {seconds:.3f} | {args.batch / seconds:.2f} |", file=sys.stderr
        )
    for rival, speed in times["speed"].items():
        print(f"\n{speed:.2f} times the speed {rival}", file=sys.stderr)


def compile_inference(
    variant: str, batch: int, size: tuple[int, int], dtype: str
) -> Callable[[], object]:
    """A function that predicts one batch and waits for it."""
    config = common.base()
    config.model.variant = variant
    config.model.dtype = dtype
    model = make_model(config.model, NUM_CLASSES)
    blank = jnp.zeros((1, 64, 64, 3))
    variables = jax.jit(lambda key: model.init({"params": key}, blank, train=False))(
        jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    image = jax.device_put(rng.integers(0, 256, (batch, *size, 3), np.uint8))
    protocol = Protocol.from_config(config.eval)
    predict = jax.jit(
        lambda variables, image: predict_image(
            model, variables, [image], size, protocol
        ),
        compiler_options=compiler_options(make_mesh()),
    )
    return lambda: jax.block_until_ready(predict(variables, image))


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", default="T", choices=["T", "S", "B", "L"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--size",
        type=int,
        nargs="+",
        default=[1024, 2048],
        help="side, or height and width",
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS))
    add_peer_flags(parser)
    args = parser.parse_args()
    if len(args.size) > 2:
        parser.error(f"--size {args.size}: give one number, or height and width")
    args.size = (args.size[0], args.size[-1])
    return args


if __name__ == "__main__":
    main()
