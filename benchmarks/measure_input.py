"""How input_pipeline.py measures a loader, its own and the peers' alike."""

import argparse
import itertools
import time
from collections.abc import Iterator
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", required=True, help="data in Cityscapes's layout")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=4, help="batches untimed")
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--geometry", action="store_true", help="scale and crop alone")


def images_per_second(
    loader: Iterator[Any], batch: int, warmup: int, batches: int
) -> float:
    """The rate at which an endless loader yields, once its queues are full."""
    for _ in itertools.islice(loader, warmup):
        pass
    start = time.perf_counter()
    for _ in itertools.islice(loader, batches):
        pass
    return batches * batch / (time.perf_counter() - start)
