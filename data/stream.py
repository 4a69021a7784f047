"""What the streams of all tasks share: global batches of examples that follow from k.

Example k of a training stream is a pure function of (seed, k): which record it is,
and how it is cut. So training resumes at any step at once, with no iterator to save,
and a global batch does not depend on how many hosts read it.
"""

import functools
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import tensorflow as tf

from data import stateless
from data.decode import UnreadableError
from data.sources.base import RandomAccess

_logger = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]
_Record = TypeVar("_Record")
_Example = TypeVar("_Example")

_USER_ERRORS = (ValueError, OSError)
_SKIP_HINT = "Set config.data.on_unreadable = 'skip' to train without such files."


class TrainReader(Generic[_Record, _Example]):
    """What `make(record, k)` makes of example k and its record.

    Every epoch visits all records once, in an order drawn by seed and epoch. If
    config.data.on_unreadable is "skip", the next of the order replaces a record that
    cannot be decoded.

    Raises ValueError for another value of it than "stop" and "skip".
    """

    def __init__(
        self,
        source: RandomAccess[_Record],
        make: Callable[[_Record, int], _Example],
        data_config: Any,
        seed: int,
    ) -> None:
        if data_config.on_unreadable not in ("stop", "skip"):
            raise ValueError(
                f"config.data.on_unreadable = {data_config.on_unreadable!r};"
                " choose 'stop' or 'skip'"
            )
        self._source = source
        self._make = make
        self._skip = data_config.on_unreadable == "skip"
        # Parallel workers straddle two epochs at most, unless epochs are tiny.
        self._order = functools.lru_cache(maxsize=4)(
            functools.partial(stateless.permutation, seed, n=len(source))
        )

    def __call__(self, k: int) -> tuple[_Example, int]:
        """Returns the example, and how many records were passed over."""
        n = len(self._source)
        epoch, position = divmod(k, n)
        for passed_over in range(n):
            index = self._order(epoch)[(position + passed_over) % n]
            record = self._source[int(index)]
            try:
                return self._make(record, k), passed_over
            except UnreadableError as error:
                if not self._skip:
                    raise ValueError(f"{error}. {_SKIP_HINT}") from None
                _logger.warning("skipped %s", error)
        raise ValueError(f"none of the {n} records can be decoded")


def batches(
    make_example: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    *,
    batch_size: int,
    shard_index: int,
    shard_count: int,
    start_step: int = 0,
    num_examples: int | None = None,
) -> Iterator[Batch]:
    """Yields this shard's rows of the global batches of steps start_step, +1, ...

    Row r of step s is example k = s * batch_size + r. `make_example` maps k, int64 [],
    to tensors inside tf.data, with the error text of `load` under "error". The batches
    never end, or stop with the one that holds example `num_examples` - 1: then it must
    also make the examples that fill this one.

    Raises ValueError: at once for illegal arguments; while iterating for error texts.
    """
    local_size = local_batch_size(batch_size, shard_index, shard_count)
    if start_step < 0:
        raise ValueError(f"start_step {start_step} is negative")
    if num_examples is None:
        stop = tf.int64.max
    else:
        stop = -(-num_examples // batch_size) * local_size

    def make_row(i: tf.Tensor) -> dict[str, tf.Tensor]:
        row = shard_index * local_size + i % local_size
        return make_example(i // local_size * batch_size + row)

    dataset = tf.data.Dataset.range(start_step * local_size, stop)
    dataset = dataset.map(make_row, tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(local_size, drop_remainder=True).prefetch(2)
    return Checked(dataset)


def load(
    function: Callable[..., tuple], placeholder: tuple, index: tf.Tensor
) -> list[tf.Tensor]:
    """Calls a NumPy function inside tf.data; returns its tensors and an error text.

    TensorFlow would turn an exception into its own, with a graph trace. So what a user
    can cause is returned as text, next to `placeholder`, which has the dtypes and ranks
    of the tensors; `Checked` raises it again.
    """

    def call(index: np.int64) -> tuple:
        try:
            return *function(int(index)), b""
        except _USER_ERRORS as exception:
            return *placeholder, str(exception).encode()

    dtypes = [value.dtype for value in placeholder]
    *tensors, error = tf.numpy_function(call, [index], [*dtypes, tf.string])
    for tensor, value in zip(tensors, placeholder, strict=True):
        tensor.set_shape([None] * value.ndim)
    return [*tensors, tf.ensure_shape(error, [])]


class Checked:
    """The elements of a dataset; raises the first error that `load` put in one."""

    def __init__(self, dataset: tf.data.Dataset) -> None:
        self._iterator = [dataset.as_numpy_iterator()]
        # At exit too: once the interpreter shuts down no loader gets Python's lock,
        # and an iterator that is deleted after that waits for its loaders for ever.
        weakref.finalize(self, self._iterator.clear)

    def __iter__(self) -> "Checked":
        return self

    def __next__(self) -> Batch:
        element = next(self._iterator[0])
        for error in np.ravel(element.pop("error")):
            if error:
                raise ValueError(error.decode())
        return element


def local_batch_size(batch_size: int, shard_index: int, shard_count: int) -> int:
    """Returns the rows of a global batch that one shard reads.

    Raises ValueError for a shard that does not exist, or an uneven split.
    """
    if not 0 <= shard_index < shard_count:
        raise ValueError(f"shard_index {shard_index} is not in [0, {shard_count})")
    if batch_size < 1 or batch_size % shard_count:
        raise ValueError(
            f"batch_size {batch_size} (global) must be a multiple of the"
            f" {shard_count} shards that read it"
        )
    return batch_size // shard_count
