"""Stopping when asked to: all processes at one step, with a checkpoint of it."""

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from segnext_jax.parallel import maintenance
from segnext_jax.parallel.mesh import replicated, spread

_Batch = TypeVar("_Batch")

# What schedulers send before they kill, and Ctrl-C.
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):
    """A run was asked to stop, and has: the same command resumes it."""


class Interruption:
    """A request to stop that comes to any process, and on which all agree."""

    def __init__(self, mesh: Mesh) -> None:
        self._reason: str | None = None
        self._is_alone = jax.process_count() == 1
        self._any = jax.jit(jnp.any, out_shardings=replicated(mesh))
        count = len(mesh.local_devices)
        self._flags = [spread(np.full(count, flag), mesh) for flag in (False, True)]
        self._said: jax.Array | None = None  # whether any process was asked, before

    def request(self, reason: str) -> None:
        """Asks for a stop, from any thread; the first reason counts."""
        self._reason = self._reason or reason

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, signals and notices of maintenance are requests.

        A second Ctrl-C interrupts at once. Outside of the main thread, where Python
        allows no signal handlers, signals are what they were.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            with maintenance.watching(self.request):
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    def check(self) -> None:
        """Raises Interrupted if any process was asked to stop.

        All processes call it equally often, and it raises at the same call on all of
        them: where there are several, at the next but one, so that no device waits.
        """
        if self._is_alone:
            is_agreed = self._reason is not None
        else:
            said, self._said = self._said, self._any(self._flags[bool(self._reason)])
            is_agreed = said is not None and bool(said)
        if is_agreed:
            raise Interrupted(self._reason or "another process was asked to stop")

    def checked(self, batches: Iterable[_Batch]) -> Iterator[_Batch]:
        """The batches, with a `check` before each."""
        for batch in batches:
            self.check()
            yield batch

    def _on_signal(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT and self._reason == "SIGINT":
            raise KeyboardInterrupt
        self.request(signal.Signals(number).name)
