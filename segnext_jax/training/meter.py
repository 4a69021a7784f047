"""Training metrics between two logs, as CLU collects them."""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import jax
from clu import metrics

# What is logged of the metrics that a step returns.
TrainMetrics = metrics.Collection.create(
    loss=metrics.Average.from_output("loss"),
    grad_norm=metrics.Average.from_output("grad_norm"),
    lr=metrics.LastValue.from_output("learning_rate"),
    skipped=metrics.LastValue.from_output("skipped"),
    unreadable=metrics.Average.from_output("unreadable"),
)


class Meter:
    """Collects steps without waiting for them, the time they take, and that between."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._accumulate = jax.jit(_accumulate)
        self._is_first = True
        self._metrics: metrics.Collection | None = None
        self._steps, self._since = 0, time.monotonic()
        self._watcher = ThreadPoolExecutor(1, "step watcher")
        self._finished: Future[float] | None = None  # when the newest step did
        self._gaps: list[tuple[Future[float], float]] = []  # finished, next dispatched

    def add(self, outputs: dict[str, jax.Array]) -> None:
        """Adds the metrics of a step that was just dispatched and may be running."""
        now = time.monotonic()
        if self._finished is not None:
            self._gaps.append((self._finished, now))
        self._finished = self._watcher.submit(_finish_time, outputs["loss"])
        self._metrics = self._accumulate(self._metrics, outputs)
        self._steps += 1
        if self._is_first:  # not measured: nothing is warm
            jax.block_until_ready(outputs)
            self._is_first = False
            self._steps, self._since = 0, time.monotonic()

    def read(self) -> dict[str, float]:
        """Means since the last reading, and rates. Waits for the steps.

        `device_waited` is the share of the time, 0…1, in which the device had finished
        a step and was not given the next: mostly for want of input.
        """
        assert self._metrics is not None, "no step since the last reading"
        scalars = {name: float(x) for name, x in self._metrics.compute().items()}
        if self._steps:
            seconds = time.monotonic() - self._since
            gaps = [max(0.0, next_ - done.result()) for done, next_ in self._gaps]
            scalars["images_per_second"] = self._steps * self._batch_size / seconds
            scalars["device_waited"] = sum(gaps) / seconds
        self._metrics, self._steps, self._since = None, 0, time.monotonic()
        self._gaps.clear()
        return scalars

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is not training time."""
        start = time.monotonic()
        yield
        self._since += time.monotonic() - start
        self._finished = None


def _finish_time(output: jax.Array) -> float:
    jax.block_until_ready(output)
    return time.monotonic()


def _accumulate(collected, outputs):
    update = TrainMetrics.single_from_model_output(**outputs)
    return update if collected is None else collected.merge(update)
