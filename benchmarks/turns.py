"""Times rivals in turns, among them PyTorch in an environment of its own."""

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

# Runs once and returns seconds.
Timer = Callable[[], float]
# "cpu" is the sum over threads: fair where other programs take cores away, which stalls
# some more than others, but blind to cores left idle.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def timed(run: Callable[[], object], clock: str = "wall") -> Timer:
    """Times a function that waits for its own result, by one of `CLOCKS`."""

    def timer() -> float:
        start = CLOCKS[clock]()
        run()
        return CLOCKS[clock]() - start

    return timer


def take_turns(
    timers: Mapping[str, Timer], *, warmup: int, rounds: int
) -> dict[str, Any]:
    """Seconds of every rival, run by run: what slows one down slows all.

    Returns "median_s" and "all_s" by name, and "speed", how many times as fast as each
    of the others the first one is.
    """
    for timer in timers.values():
        for _ in range(warmup):
            timer()
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            seconds[name].append(timer())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    first, *others = medians
    speeds = {f"against {other}": medians[other] / medians[first] for other in others}
    return {"median_s": medians, "speed": speeds, "all_s": seconds}


def add_peer_flags(parser: argparse.ArgumentParser) -> None:
    """Those that `torch_peers` reads."""
    parser.add_argument("--against", metavar="PYTHON", help="of the PyTorch peer")
    parser.add_argument(
        "--modes",
        nargs="+",
        default=["eager"],
        choices=["eager", "compile"],
        help="of PyTorch, each a rival",
    )


@contextlib.contextmanager
def torch_peers(
    args: argparse.Namespace, run: str, **options: Any
) -> Iterator[dict[str, "TorchPeer"]]:
    """The rivals that `add_peer_flags` asks for, by name, on the kind of device of JAX.

    To be called before JAX starts its devices: on a GPU it would take most of the
    memory for itself.
    """
    if args.against:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    peers = {}
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    try:
        for mode in args.modes if args.against else ():
            flags = ["--compile"] if mode == "compile" else []
            name = "torch" if mode == "eager" else "torch.compile"
            peers[name] = TorchPeer(args.against, run, *flags, device=device, **options)
        yield peers
    finally:
        for peer in peers.values():
            peer.close()


def peak_bytes() -> int:
    """The most that arrays took on a GPU until now; on a CPU, the whole process."""
    stats = jax.devices()[0].memory_stats()
    if stats is not None:
        return stats["peak_bytes_in_use"]
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class TorchPeer:
    """benchmarks/torch_peer.py in its own environment.

    `flags` and `options` are its; what is timed is `run`, "step" or "forward".
    """

    def __init__(self, python: str, run: str, *flags: str, **options: Any):
        command = [python, "-m", "benchmarks.torch_peer", "--serve", f"--run={run}"]
        command += flags
        for name, value in options.items():
            values = value if isinstance(value, list | tuple) else [value]
            command += [f"--{name}", *map(str, values)]
        self._run = run
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()  # its configuration, once warm

    def __call__(self) -> float:
        """Runs once; seconds."""
        return float(self._ask(self._run))

    def peak_bytes(self) -> int:
        """As `peak_bytes`, of its process."""
        return int(self._ask("peak"))

    def close(self) -> None:
        self._process.communicate("quit\n")

    def _ask(self, command: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the PyTorch peer stopped with code {self._process.wait()}"
            )
        return line
