"""What a train step takes of the memory: python -m benchmarks.memory

For each variant and `config.remat`: what the compiler lays out for the state, the batch
and everything between, and, on a GPU, the peak while a step runs. Each in a process of
its own.

Needs jax, flax, optax, einops and ml_collections.
"""

import argparse
import json
import subprocess
import sys

import jax

from benchmarks.train_step import add_step_flags, compile_step, make_step
from benchmarks.turns import peak_bytes

REMATS = ("none", "block", "stage")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=["T"])
    parser.add_argument("--remats", nargs="+", default=REMATS, choices=REMATS)
    add_step_flags(parser)
    parser.add_argument("--only", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        [variant], [remat] = args.variants, args.remats
        step = (variant, args.batch, args.size, args.dtype, remat)
        print(json.dumps(measure(*step)))
        return
    print("| variant | remat | state and batch | temporaries | peak |")
    print("|---|---|--:|--:|--:|")
    command = [sys.executable, "-m", "benchmarks.memory", "--only"]
    for name in ("batch", "size", "dtype"):
        command += [f"--{name}", str(vars(args)[name])]
    for variant in args.variants:
        for remat in args.remats:
            one = [*command, "--variants", variant, "--remats", remat]
            done = subprocess.run(one, stdout=subprocess.PIPE, check=True)
            columns = [gib(size) for size in json.loads(done.stdout)]
            print(f"| {variant} | {remat} | {' | '.join(columns)} |", flush=True)


def measure(
    variant: str, batch: int, size: int, dtype: str, remat: str
) -> tuple[int, int, int | None]:
    """Bytes of (arguments, temporaries, the peak of a step; None on a CPU)."""
    program = make_step(variant, batch, size, dtype, remat)
    lowered = program.train_step.lower(program.abstract_state, program.abstract_batch)
    memory = lowered.compile().memory_analysis()
    peak = None
    if jax.default_backend() != "cpu":
        compile_step(variant, batch, size, dtype, remat)()
        peak = peak_bytes()
    return memory.argument_size_in_bytes, memory.temp_size_in_bytes, peak


def gib(size: int | None) -> str:
    return "" if size is None else f"{size / 2**30:.2f} GiB"


if __name__ == "__main__":
    main()
