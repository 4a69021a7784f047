"""Processes that end together: when one fails or dies, the others say so and stop.

JAX alone notices a death late, says it in a stack trace of C++, and at exit waits for
the dead.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import jax
from jax._src import distributed  # no public name tells what all processes may read

_POLL_S = 1.0
# Less than half of HEARTBEAT_TIMEOUT_S: from then on JAX may abort the process.
_SILENCE_S = 24.0
_LINGER_S = 3.0  # of process 0, through which the others read why it ends
_FAILURE, _BEATS, _LEFT = "segnext/failure", "segnext/beats", "left"

_ADVICE = (
    "Start all processes again with the same command: training resumes from its last "
    "checkpoint."
)
# Waits for the end of the process that writes to it, and prints the last line of that.
_EPITAPH = """
trap "" INT TERM
while read -r line; do last=$line; done
[ -z "$last" ] || printf "\\n%s\\n" "$last" >&2
"""


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Ends this process if another fails, and the others if an exception leaves this.

    They exit with 1, and the cause as their last message, without waiting for anything.
    A process that is alone does nothing here.
    """
    if jax.process_count() == 1:
        yield
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # JAX has taken it and does nothing
    watch = _Watch()
    watch.start()
    try:
        yield
    except SystemExit:
        raise
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, jax.errors.JaxRuntimeError):
            # Most likely another died: then the watch ends this process, too.
            watch.join(_SILENCE_S + 3 * _POLL_S)
        watch.fail(f"failed with {type(error).__name__}: {_first_line(error)}")
    finally:
        watch.leave()


class _Watch(threading.Thread):
    """Listens for a failure; process 0 also notices who falls silent."""

    def __init__(self) -> None:
        super().__init__(name="liveness", daemon=True)
        assert distributed.global_state.client
        self._client = distributed.global_state.client
        self._is_over = threading.Event()
        self._count = 0
        # Of every process: its last beat, and when it was new.
        self._heard = [("", time.monotonic())] * jax.process_count()
        # JAX aborts in a thread of C++, after which nothing of Python runs.
        self._epitaph = subprocess.Popen(
            ["sh", "-c", _EPITAPH], stdin=subprocess.PIPE, text=True, bufsize=1
        )
        self._leave_word(
            f"{_name()} was killed or aborted. If the error above is one of the "
            "coordination service, then because process 0 died or cannot be reached. "
            f"{_ADVICE}"
        )

    def run(self) -> None:
        while not self._is_over.is_set():
            try:
                failure = self._wait_for_failure() or self._beat()
            except jax.errors.JaxRuntimeError as error:
                failure = f"process 0 died or cannot be reached ({_first_line(error)})"
            if failure and not self._is_over.is_set():
                self._end(failure)

    def fail(self, how: str) -> None:
        """Ends this process, and the others; of several failures the first counts."""
        self._is_over.set()
        failure = f"process {jax.process_index()} {how}"
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(_FAILURE, failure)
        self._end("of the error above")

    def leave(self) -> None:
        """From now on silence is no death."""
        self._is_over.set()
        self.join()
        self._say(_LEFT)
        self._leave_word("")

    def _wait_for_failure(self) -> str | None:
        try:
            return self._client.blocking_key_value_get(_FAILURE, int(_POLL_S * 1000))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
            return None

    def _beat(self) -> str | None:
        self._count += 1
        self._say(str(self._count))
        if jax.process_index() > 0:
            return None
        now = time.monotonic()
        beats = dict(self._client.key_value_dir_get(_BEATS))
        for process, (last, since) in enumerate(self._heard):
            beat = beats.get(f"{_BEATS}/{process}", "")
            if beat != last:
                self._heard[process] = beat, now
            elif beat != _LEFT and now - since > _SILENCE_S:
                failure = (
                    f"process {process} died or does not answer: nothing was heard of "
                    f"it for {now - since:.0f} s"
                )
                self._client.key_value_set(_FAILURE, failure, allow_overwrite=True)
                return failure
        return None

    def _say(self, beat: str) -> None:
        key = f"{_BEATS}/{jax.process_index()}"
        self._client.key_value_set(key, beat, allow_overwrite=True)

    def _leave_word(self, line: str) -> None:
        assert self._epitaph.stdin
        self._epitaph.stdin.write(line + "\n")

    def _end(self, cause: str) -> None:
        self._leave_word("")
        message = f"\n{_name()} ends because {cause.rstrip('.')}. {_ADVICE}"
        print(message, file=sys.stderr, flush=True)
        if jax.process_index() == 0:
            time.sleep(_LINGER_S)
        os._exit(1)  # an orderly exit would wait for the others


def _name() -> str:
    return f"Process {jax.process_index()} of {jax.process_count()}"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
