"""Times the train step: python -m benchmarks.train_step [--against PYTHON]

Forward, loss, backward and AdamW on one batch that lies on the device. `--against`
names the Python of an environment with benchmarks/requirements-torch.txt: it runs
mmsegmentation's model on the same machine, the two taking turns step by step, and the
ratio of the medians is printed.
"""

import argparse
import json

import jax
import numpy as np

from benchmarks.turns import Timer, TorchPeer, take_turns, timed
from configs import common
from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training.program import Program, make_program
from segnext_jax.training.segmentation import Segmentation

NUM_CLASSES = 19


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="T", choices=["T", "S", "B", "L"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=512, help="side of the crop")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--against", metavar="PYTHON", help="of the PyTorch peer")
    args = parser.parse_args()

    timers = {"jax": compile_step(args.variant, args.batch, args.size, args.dtype)}
    if args.against:
        options = {name: vars(args)[name] for name in ("variant", "batch", "size")}
        timers["torch"] = peer = TorchPeer(args.against, "step", **options)
    times = take_turns(timers, warmup=args.warmup, rounds=args.steps)
    if args.against:
        peer.close()
    settings = {name: value for name, value in vars(args).items() if name != "against"}
    settings["device"] = str(jax.devices()[0])
    print(json.dumps(settings | times, indent=2))


def make_step(variant: str, batch: int, size: int, dtype: str) -> Program:
    """The published recipe without what the peer's step lacks: distortion and flips."""
    config = common.base()
    config.model.variant = variant
    config.model.dtype = dtype
    config.data.crop_size = (size, size)
    config.train.batch_size = batch
    config.augment.distortion = "none"
    config.augment.flip_probability = 0.0
    task = Segmentation(config, [str(i) for i in range(NUM_CLASSES)], palette=())
    return make_program(config, task, make_mesh(jax.devices()[:1]))


def compile_step(variant: str, batch: int, size: int, dtype: str) -> Timer:
    """Times one step."""
    program = make_step(variant, batch, size, dtype)
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

    return timed(step)


if __name__ == "__main__":
    main()
