"""Every variant's train step against PyTorch's: python -m benchmarks.compare

Each program alone on the device, in a process of its own, at the largest of `--batches`
that fits it: this project, and with `--against` mmsegmentation's model in PyTorch,
eager and compiled. Prints a table: images a second, the most memory, and how many times
the speed and which part of the memory of PyTorch this project has. On a CPU the memory
is of the whole process, with what compiling took.

    python -m benchmarks.compare --against PYTHON --dtype bfloat16 --size 1024

Needs jax, flax, optax, einops and ml_collections.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

TOO_LARGE = ("RESOURCE_EXHAUSTED", "OutOfMemoryError", "out of memory")


class Result(NamedTuple):
    """Of the largest batch that fits."""

    batch: int
    seconds: float  # median of a step
    peak_bytes: int

    @property
    def images_a_second(self) -> float:
        return self.batch / self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=["T", "S", "B", "L"])
    parser.add_argument("--batches", nargs="+", type=int, default=[16, 8])
    parser.add_argument("--size", type=int, default=1024, help="side of the crop")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--against", metavar="PYTHON", help="of the PyTorch peer")
    args = parser.parse_args()
    options = ["--size", str(args.size), "--dtype", args.dtype]
    options += ["--steps", str(args.steps), "--warmup", "3"]

    platform, device = describe_device()
    print(f"Train steps of {args.size}² in {args.dtype} on {device}\n")
    print("| variant | program | batch | images/s | speed | peak GiB | memory |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for variant in args.variants:
        ours = None
        for name, command in programs(args.against, platform):
            found = largest([*command, "--variant", variant, *options], args.batches)
            ours = ours if name != "this project" else found
            print(f"| {variant} | {name} | {row(found, ours)} |", flush=True)


def describe_device() -> tuple[str, str]:
    """(platform, device) of JAX, which here would keep a GPU's memory."""
    show = "import jax; print(jax.default_backend(), jax.devices()[0].device_kind)"
    command = [sys.executable, "-c", show]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    platform, device = printed.stdout.strip().split(" ", 1)
    return platform, device


def programs(peer: str | None, platform: str) -> Iterator[tuple[str, list[str]]]:
    """(name, command without what is to be measured)."""
    yield "this project", [sys.executable, "-m", "benchmarks.train_step"]
    if peer:
        device = "cuda" if platform == "gpu" else "cpu"
        torch = [peer, "-m", "benchmarks.torch_peer", "--device", device]
        yield "PyTorch", torch
        yield "torch.compile", [*torch, "--compile"]


def largest(command: list[str], batches: list[int]) -> Result | None:
    """The first of the batches that fits."""
    for batch in sorted(batches, reverse=True):
        done = subprocess.run(
            [*command, "--batch", str(batch)], capture_output=True, text=True
        )
        if done.returncode == 0:
            return parse(batch, json.loads(done.stdout))
        if not any(sign in done.stderr for sign in TOO_LARGE):
            raise RuntimeError(f"{' '.join(done.args)} failed:\n{done.stderr}")
    return None


def parse(batch: int, printed: dict[str, Any]) -> Result:
    """train_step.py prints its figures by rival, torch_peer.py its own alone."""
    seconds, peak = printed["median_s"], printed["peak_bytes"]
    if isinstance(seconds, dict):
        seconds, peak = seconds["jax"], peak["jax"]
    return Result(batch, seconds, peak)


def row(found: Result | None, ours: Result | None) -> str:
    if found is None:
        return "does not fit | | | |"
    columns = [f"{found.batch}", f"{found.images_a_second:.2f}"]
    columns += [f"{found.peak_bytes / 2**30:.2f}"]
    speed = memory = ""
    if ours is not None and found is not ours:
        speed = f"{ours.images_a_second / found.images_a_second:.2f} ×"
        memory = f"{ours.peak_bytes / found.peak_bytes:.2f} ×"
    return " | ".join([*columns[:2], speed, columns[2], memory])


if __name__ == "__main__":
    main()
