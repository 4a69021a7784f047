"""Trains on several meshes of eight fake CPU devices: python -m benchmarks.meshes

Prints how far the first step (loss, gradients, BatchNorm statistics) and the losses of
all steps are from those of one device, in float32, with drop path, dropout and colour
distortion. Batches are coloured blocks with noise, their class by colour.

Of the decoder's 8 million ReLUs a step (8 × 256²) roundings push a few past their kink,
which alone moves gradients by some 1e-4: --smooth has a softplus in their place.
"""

import argparse
import os
import re
from collections.abc import Iterator

import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from configs import common
from segnext_jax.parallel.mesh import make_mesh, to_global
from segnext_jax.training.objective import SegmentationObjective
from segnext_jax.training.program import make_program
from segnext_jax.training.state import TrainState

NUM_CLASSES = 19
MESHES = "8x1,4x2,2x4,1x8"
Arrays = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="T", choices=["T", "S", "B", "L"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--meshes", default=MESHES, help="data x spatial")
    parser.add_argument("--seed", type=int, default=0, help="of the batches")
    parser.add_argument("--smooth", action="store_true", help="softplus for ReLU")
    args = parser.parse_args()
    if args.smooth:
        nn.relu = nn.softplus
    # Before JAX starts its devices. A collective holds its thread (tests/conftest.py).
    os.environ["PJRT_NPROC"] = "64"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)

    config = make_config(args.variant, args.batch, tuple(args.size), args.steps)
    batches = list(make_batches(config, args.seed))
    one, losses = train(config, (1, 1), batches)
    print("mesh  loss     gradients  statistics  losses of all steps")
    for data, spatial in re.findall(r"(\d+)x(\d+)", args.meshes):
        first, others = train(config, (int(data), int(spatial)), batches)
        parts = [farthest(first[name], one[name]) for name in ("mu", "batch_stats")]
        steps = np.abs(others / losses - 1)
        print(
            f"{data}×{spatial}   {steps[0]:.1e}  {parts[0][0]:.1e}    {parts[1][0]:.1e}"
            f"     {steps.max():.1e}   (gradient of {parts[0][1]})",
            flush=True,
        )


def make_config(
    variant: str, batch: int, size: tuple[int, int], steps: int
) -> ConfigDict:
    config = common.base()
    config.model.variant = variant
    config.model.dtype = "float32"
    config.data.crop_size = size
    config.train.batch_size = batch
    config.train.num_train_steps = steps
    config.schedule.warmup_steps = 0
    return config


def make_batches(config: ConfigDict, seed: int) -> Iterator[Arrays]:
    """One for each step."""
    h, w = config.data.crop_size
    for step in range(config.train.num_train_steps):
        rng = np.random.default_rng([seed, step])
        shape = (config.train.batch_size, h // 16, w // 16)
        label = rng.integers(0, NUM_CLASSES, shape, np.uint8)
        label = label.repeat(16, axis=1).repeat(16, axis=2)
        colour = np.random.default_rng(0).integers(0, 206, (NUM_CLASSES, 3), np.uint8)
        noise = rng.integers(0, 50, (*label.shape, 3), np.uint8)
        count = len(label)
        yield {
            "image": colour[label] + noise,
            "label": label,
            "size": np.full((count, 2), (h, w), np.int32),
            "unreadable": np.zeros(count, np.int32),
        }


def train(
    config: ConfigDict, shape: tuple[int, int], batches: list[Arrays]
) -> tuple[dict[str, Arrays], np.ndarray]:
    """(arrays after the first step by path, losses of all steps)."""
    data, spatial = shape
    devices = jax.devices()[: data * spatial]
    mesh = make_mesh(devices, data=data, spatial=spatial)
    objective = SegmentationObjective(config, NUM_CLASSES)
    program = make_program(config, objective, mesh)
    state = program.init(jax.random.key(0))
    losses, first = [], {}
    for step, batch in enumerate(batches):
        state, metrics = program.train_step(state, to_global(batch, mesh))
        losses.append(float(metrics["loss"]))
        if step == 0:
            first = by_path(state)
    return first, np.array(losses)


def by_path(state: TrainState) -> dict[str, Arrays]:
    """Adam's first moments, in the ratio of the gradients, and BatchNorm's."""
    trees = {
        "mu": optax.tree.get(state.opt_state, "mu"),
        "batch_stats": state.batch_stats,
    }
    return {
        name: {
            jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x)
            for path, x in jax.tree.leaves_with_path(tree)
        }
        for name, tree in trees.items()
    }


def farthest(actual: Arrays, expected: Arrays) -> tuple[float, str]:
    """The largest distance relative to an array's own norm, and its path.

    Of arrays that are 0 up to rounding, such as the gradients of biases in front of a
    BatchNorm, relative to a thousandth of the norm of all.
    """
    floor = 1e-3 * np.sqrt(sum(np.sum(np.square(x)) for x in expected.values()))
    distances = {
        path: np.linalg.norm(actual[path] - x) / max(np.linalg.norm(x), floor)
        for path, x in expected.items()
    }
    path = max(distances, key=lambda path: distances[path])
    return float(distances[path]), path


if __name__ == "__main__":
    main()
