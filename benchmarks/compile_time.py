"""Times the start of a run: python -m benchmarks.compile_time

For each variant, in processes of their own: what it takes to trace and to compile the
initialisation and the train step, and the same again with what the first kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax

from benchmarks.train_step import add_step_flags, make_step

PARTS = ("trace init", "compile init", "trace step", "compile step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=["T", "L"])
    add_step_flags(parser)
    parser.add_argument("--only", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        [variant] = args.variants
        print(json.dumps(time_start(variant, args.batch, args.size, args.dtype)))
        return
    print("variant  cache  " + "  ".join(PARTS))
    for variant in args.variants:
        with tempfile.TemporaryDirectory() as cache:
            for state in ("empty", "kept"):
                seconds = in_a_process(cache, variant, args)
                columns = (f"{seconds[x]:{len(x)}.1f}" for x in PARTS)
                print(f"{variant:7}  {state:5}  {'  '.join(columns)}", flush=True)


def time_start(variant: str, batch: int, size: int, dtype: str) -> dict[str, float]:
    """Seconds by part."""
    program = make_step(variant, batch, size, dtype)
    step_arguments = program.abstract_state, program.abstract_batch
    seconds = {}
    for name, function, arguments in (
        ("init", program.init, (jax.random.key(0),)),
        ("step", program.train_step, step_arguments),
    ):
        start = time.perf_counter()
        lowered = function.lower(*arguments)
        traced = time.perf_counter()
        lowered.compile()
        seconds[f"trace {name}"] = traced - start
        seconds[f"compile {name}"] = time.perf_counter() - traced
    return seconds


def in_a_process(cache: str, variant: str, args: argparse.Namespace) -> dict[str, Any]:
    options = {name: str(vars(args)[name]) for name in ("batch", "size", "dtype")}
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "benchmarks.compile_time", "--only"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
    result = subprocess.run(
        [*command, "--variants", variant, *flags],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(result.stdout)


if __name__ == "__main__":
    main()
