"""Times the train step: python -m benchmarks.train_step [--against PYTHON]

Forward, loss, backward and AdamW on one batch that lies on the device. `--against`
names the Python of an environment with benchmarks/requirements-torch.txt: it runs
mmsegmentation's model on the same machine, the two taking turns step by step, and the
ratio of the medians is printed.
"""

import argparse
import json
import statistics
import subprocess
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np

from configs import common
from segnext_jax.training.optimizer import make_optimizer, make_schedule
from segnext_jax.training.segmentation import Segmentation
from segnext_jax.training.state import init_state
from segnext_jax.training.step import make_train_step

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

    step = compile_step(args.variant, args.batch, args.size, args.dtype)
    peer = args.against and TorchPeer(
        args.against, args.variant, args.batch, args.size, args.warmup
    )
    for _ in range(args.warmup):
        step()
    times: dict[str, list[float]] = {"jax": []}
    for _ in range(args.steps):
        start = time.perf_counter()
        step()
        times["jax"].append(time.perf_counter() - start)
        if peer:
            times.setdefault("torch", []).append(peer.step())
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {**vars(args), "device": str(jax.devices()[0]), "median_s": medians}
    if peer:
        peer.close()
        result["jax_to_torch"] = medians["jax"] / medians["torch"]
    del result["against"]
    print(json.dumps(result | {"all_s": times}, indent=2))


def compile_step(variant: str, batch: int, size: int, dtype: str):
    """A function without arguments that does one step and waits for it."""
    config = common.base()
    config.model.variant = variant
    config.model.dtype = dtype
    config.augment.distortion = "none"  # neither has the peer's step
    config.augment.flip_probability = 0.0
    task = Segmentation(config, [str(i) for i in range(NUM_CLASSES)], palette=())
    schedule = make_schedule(config.schedule, config.train.num_train_steps)
    tx = make_optimizer(config.optimizer, schedule)
    state = jax.jit(partial(init_state, task.model, tx, ema=False))(jax.random.key(0))
    rng = np.random.default_rng(0)
    data = {
        "image": rng.integers(0, 256, (batch, size, size, 3), np.uint8),
        "label": rng.integers(0, NUM_CLASSES, (batch, size, size)).astype(np.uint8),
        "size": np.full((batch, 2), size, np.int32),
        "unreadable": np.zeros(batch, np.int32),
    }
    data = jax.device_put(data)
    train_step = jax.jit(make_train_step(task, tx, schedule, config), donate_argnums=0)

    def step():
        nonlocal state
        state, metrics = train_step(state, data)
        jax.block_until_ready((state, metrics))

    return step


class TorchPeer:
    """benchmarks/torch_peer.py in its own environment, one step on request."""

    def __init__(self, python: str, variant: str, batch: int, size: int, warmup: int):
        script = Path(__file__).with_name("torch_peer.py")
        options = dict(variant=variant, batch=batch, size=size, warmup=warmup)
        flags = [f"--{name}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(
            [python, str(script), "--serve", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()  # its configuration, once warm

    def step(self) -> float:
        """Seconds of one step."""
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        self._process.communicate("quit\n")

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the PyTorch peer stopped with code {self._process.wait()}"
            )
        return line


if __name__ == "__main__":
    main()
