"""Training metrics between two logs, as CLU collects them."""

import contextlib
import time
from collections.abc import Iterator

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
    """Collects steps without waiting for them, and the time they take."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._accumulate = jax.jit(_accumulate)
        self._is_first = True
        self._metrics: metrics.Collection | None = None
        self._steps, self._since = 0, time.monotonic()

    def add(self, outputs: dict[str, jax.Array]) -> None:
        """Adds the metrics of one step, which may still be running."""
        self._metrics = self._accumulate(self._metrics, outputs)
        self._steps += 1
        if self._is_first:  # it was compiled
            self._is_first = False
            self._steps, self._since = 0, time.monotonic()

    def read(self) -> dict[str, float]:
        """Means since the last reading, and images per second. Waits for the steps."""
        assert self._metrics is not None, "no step since the last reading"
        scalars = {name: float(x) for name, x in self._metrics.compute().items()}
        if self._steps:
            images = self._steps * self._batch_size
            scalars["images_per_second"] = images / (time.monotonic() - self._since)
        self._metrics, self._steps, self._since = None, 0, time.monotonic()
        return scalars

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is not training time."""
        start = time.monotonic()
        yield
        self._since += time.monotonic() - start


def _accumulate(collected, outputs):
    update = TrainMetrics.single_from_model_output(**outputs)
    return update if collected is None else collected.merge(update)
