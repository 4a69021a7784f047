"""Times the train step: python -m benchmarks.train_step [--against PYTHON]

Forward, loss, backward and AdamW on one batch that lies on the device. `--against`
names the Python of an environment with benchmarks/requirements-torch.txt: it runs
mmsegmentation's model on the same machine, the rivals taking turns step by step, and
the ratios of the medians are printed. Prints JSON.

Needs jax, flax, optax, einops and ml_collections.
"""

import argparse
import json

import jax
import numpy as np

from benchmarks.host_memory import keep_freed_memory
from benchmarks.turns import (
    CLOCKS,
    Timer,
    add_peer_flags,
    peak_bytes,
    take_turns,
    timed,
    torch_peers,
)
from configs import common
from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training.objective import SegmentationObjective
from segnext_jax.training.program import Program, make_program

NUM_CLASSES = 19


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="T", choices=["T", "S", "B", "L"])
    add_step_flags(parser)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS))
    add_peer_flags(parser)
    args = parser.parse_args()

    keep_freed_memory()
    names = ("variant", "batch", "size", "dtype")
    options = {name: vars(args)[name] for name in names}
    with torch_peers(args, "step", **options, clock=args.clock) as peers:
        step = compile_step(**options, clock=args.clock)
        timers: dict[str, Timer] = {"jax": step, **peers}
        times = take_turns(timers, warmup=args.warmup, rounds=args.steps)
        peaks = {"jax": peak_bytes()}
        peaks |= {name: peer.peak_bytes() for name, peer in peers.items()}
    settings = options | {"clock": args.clock, "device": str(jax.devices()[0])}
    print(json.dumps(settings | times | {"peak_bytes": peaks}, indent=2))


def add_step_flags(parser: argparse.ArgumentParser) -> None:
    """What `make_step` takes beside the variant."""
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=512, help="side of the crop")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])


def make_step(
    variant: str, batch: int, size: int, dtype: str, remat: str = "none"
) -> Program:
    """The published recipe without what the peer's step lacks: distortion and flips."""
    config = common.base()
    config.remat = remat
    config.model.variant = variant
    config.model.dtype = dtype
    config.data.crop_size = (size, size)
    config.train.batch_size = batch
    config.augment.distortion = "none"
    config.augment.flip_probability = 0.0
    objective = SegmentationObjective(config, NUM_CLASSES)
    return make_program(config, objective, make_mesh(jax.devices()[:1]))


def compile_step(
    variant: str,
    batch: int,
    size: int,
    dtype: str,
    remat: str = "none",
    clock: str = "wall",
) -> Timer:
    """Times one step."""
    program = make_step(variant, batch, size, dtype, remat)
    state = program.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    data = {
        "image": rng.integers(0, 256, (batch, size, size, 3), np.uint8),
        "label": rng.integers(0, NUM_CLASSES, (batch, size, size)).astype(np.uint8),
        "size": np.full((batch, 2), size, np.int32),
        "unreadable": np.zeros(batch, np.int32),
    }
    data = jax.device_put(data)

    def step():
        nonlocal state
        state, metrics = program.train_step(state, data)
        jax.block_until_ready((state, metrics))

    return timed(step, clock)


if __name__ == "__main__":
    main()
