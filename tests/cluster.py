"""Processes on this machine that run one program together, as hosts of a pod would."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Finished(NamedTuple):
    returncode: int  # negative: the signal that ended it
    stdout: str
    stderr: str


class Process:
    """One of them, which may be running."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], outputs: Path
    ) -> None:
        # Files, since a pipe that nobody reads would stop the process when it is full.
        self._stdout = outputs.with_suffix(".stdout")
        self._stderr = outputs.with_suffix(".stderr")
        with self._stdout.open("w") as stdout, self._stderr.open("w") as stderr:
            self._popen = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=stdout, stderr=stderr
            )

    def is_running(self) -> bool:
        return self._popen.poll() is None

    def send_signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def stdout(self) -> str:
        """What there is of it until now."""
        return self._stdout.read_text(errors="replace")

    def stderr(self) -> str:
        """What there is of it until now."""
        return self._stderr.read_text(errors="replace")

    def wait_for_text(self, text: str, *, seconds: float = 300) -> None:
        """Returns once `text` is on its stdout or stderr."""
        deadline = time.monotonic() + seconds
        while True:
            is_running = (
                self.is_running()
            )  # before the output is read for the last time
            if text in self.stdout() or text in self.stderr():
                return
            assert is_running, f"ended without {text!r}:\n{self.stderr()}"
            late = f"no {text!r} in {seconds:.0f} s:\n{self.stderr()}"
            assert time.monotonic() < deadline, late
            time.sleep(0.05)

    def wait(self, *, seconds: float = 300) -> Finished:
        """Returns once it has ended."""
        try:
            returncode = self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            message = f"still running after {seconds:.0f} s:\n{self.stderr()}"
            raise AssertionError(message) from None
        return Finished(returncode, self.stdout(), self.stderr())

    def end(self) -> None:
        """Kills it if it is running."""
        self._popen.kill()
        self._popen.wait()


class Cluster:
    """N processes of M fake CPU devices each, with gloo between them on loopback.

    They get --coordinator_address, --num_processes and --process_id; one alone gets
    none of them. `cache` is a folder for what is compiled, which one run after another
    shares.
    """

    def __init__(
        self,
        num_processes: int,
        devices_each: int,
        *,
        cache: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.num_processes = num_processes
        self._environment = {
            **os.environ,
            # Of two flags of one name the last counts.
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")
            + f" --xla_force_host_platform_device_count={devices_each}",
            "JAX_PLATFORMS": "cpu",
            "PJRT_NPROC": "64",  # as in conftest.py
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            # Process 0 compiles for all, if their keys agree (tiny_run.py).
            "JAX_SHARE_BINARY_BETWEEN_HOSTS": "1",
            **({"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {}),
            **(environment or {}),
        }

    def run(self, argv: Sequence[str], *, seconds: float = 300) -> list[Finished]:
        """`python *argv` in all processes, to their end."""
        deadline = time.monotonic() + seconds
        with self.start(argv) as processes:
            return [p.wait(seconds=deadline - time.monotonic()) for p in processes]

    @contextlib.contextmanager
    def start(self, argv: Sequence[str]) -> Iterator[list[Process]]:
        """The running processes, by process id; ends those that are left."""
        processes: list[Process] = []
        with tempfile.TemporaryDirectory() as outputs:
            try:
                for process_id, flags in enumerate(self._flags()):
                    command = [sys.executable, *argv, *flags]
                    path = Path(outputs) / f"process{process_id}"
                    processes.append(Process(command, self._environment, path))
                yield processes
            finally:
                for process in processes:
                    process.end()

    def _flags(self) -> list[list[str]]:
        """Those that tell every process of the others."""
        if self.num_processes == 1:
            return [[]]
        together = [
            f"--coordinator_address=127.0.0.1:{_free_port()}",
            f"--num_processes={self.num_processes}",
        ]
        return [[*together, f"--process_id={i}"] for i in range(self.num_processes)]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
