"""Times rivals in turns, among them PyTorch in an environment of its own."""

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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


class TorchPeer:
    """benchmarks/torch_peer.py in its own environment.

    `options` are its flags; what is timed is `run`, "step" or "forward".
    """

    def __init__(self, python: str, run: str, **options: Any):
        script = Path(__file__).with_name("torch_peer.py")
        flags = [f"--run={run}"]
        for name, value in options.items():
            values = value if isinstance(value, list | tuple) else [value]
            flags += [f"--{name}", *map(str, values)]
        self._run = run
        self._process = subprocess.Popen(
            [python, str(script), "--serve", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()  # its configuration, once warm

    def __call__(self) -> float:
        """Runs once; seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self._run}\n")
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
