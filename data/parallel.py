"""Work on many records at once, with results in order and little of it in memory."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_Result = TypeVar("_Result")

_MAX_THREADS = 32  # remote files wait more than they compute


def ordered_map(
    function: Callable[[_T], _Result],
    items: Iterable[_T],
    *,
    ahead: int | None = None,
) -> Iterator[_Result]:
    """Yields function(item) for each item, in order, computed by threads.

    Decoders and encoders leave Python's lock free. Unlike Executor.map, no more is
    computed than `ahead` results before the consumer asks: two a thread if None.
    """
    num_threads = min(_MAX_THREADS, 4 * (os.cpu_count() or 1))
    ahead = 2 * num_threads if ahead is None else ahead
    remaining = iter(items)
    with ThreadPoolExecutor(num_threads) as executor:
        pending: deque[Future[_Result]] = deque(
            executor.submit(function, item)
            for item in itertools.islice(remaining, ahead)
        )
        try:
            while pending:
                yield pending.popleft().result()
                for item in itertools.islice(remaining, 1):
                    pending.append(executor.submit(function, item))
        finally:
            for future in pending:
                future.cancel()
