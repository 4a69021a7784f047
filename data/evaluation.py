"""Batches to evaluate and to predict: which images share a program, and their views.

A view is an image at the size at which the network sees it. Programs are compiled for
the shapes of a bucket: images of like sizes are padded to one shape, and the network
masks what is not image. Without TensorFlow, which only sources need.
"""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from data.buckets import group_sizes
from data.classes import IGNORE_LABEL
from data.headers import image_size
from data.parallel import ordered_map
from data.views import Size, check_views, make_views, view_dtype, view_sizes

Batch = dict[str, Any]

_MAX_BUCKETS = 8  # a program is compiled for each


class Bucket(NamedTuple):
    """Shapes of the arrays that hold its images."""

    shape: Size  # of label and prediction
    view_shapes: tuple[Size, ...]
    is_padded: bool  # False: all images have exactly these sizes


class PlannedBatch(NamedTuple):
    bucket: Bucket
    indices: tuple[int, ...]  # of images


def plan_batches(
    sizes: np.ndarray, eval_config: Any, batch_size: int
) -> list[PlannedBatch]:
    """Plans which images are read together, and in which of at most 8 buckets.

    A pure function of its arguments: hosts that know all sizes agree without talking.

    Args:
      sizes: int [n 2], (height, width) of all images.
      eval_config: config.eval.
      batch_size: images of a batch; the last one of a bucket may have fewer.

    Returns:
      Batches that hold every image once: buckets by size, inside by index.
    """
    unique, group, counts = np.unique(
        np.asarray(sizes).reshape(-1, 2),
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    group = group.reshape(-1)
    extents = np.array(
        [[size, *view_sizes(size, eval_config)] for size in map(_to_size, unique)]
    ).reshape(len(unique), -1, 2)
    planned = []
    for members in group_sizes(extents, counts, _MAX_BUCKETS):
        shape, *view_shapes = map(_to_size, extents[members].max(axis=0))
        bucket = Bucket(shape, tuple(view_shapes), is_padded=len(members) > 1)
        indices = np.flatnonzero(np.isin(group, members)).tolist()
        planned += [
            PlannedBatch(bucket, tuple(indices[i : i + batch_size]))
            for i in range(0, len(indices), batch_size)
        ]
    return planned


def stack_batch(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray] | None,
    indices: Sequence[int],
    bucket: Bucket,
    eval_config: Any,
    rows: int,
) -> Batch:
    """Makes the views of some images of a bucket, and stacks them.

    Args:
      images: uint8 [h w 3] RGB each, at most `rows`.
      labels: uint8 [h w] train ids each; None to predict only.
      indices: of the images.
      bucket: what `plan_batches` gave them.
      eval_config: config.eval.
      rows: b.

    Returns:
      views       [b h w 3] RGB 0…255 each: uint8, or float32 if scaled in float32
      label       uint8 [b h w] train ids, 255 in padding; absent without `labels`
      mask        bool [b], False for rows that only fill the batch
      index       int32 [b], 0 in rows that fill
      size        int32 [b 2], true (height, width); } absent if the bucket is
      view_sizes  int32 [b s 2], those of the views  } not padded
    """
    no_labels: list[None] = [None] * len(images)
    examples = (
        _Example(index, make_views(image, eval_config), image.shape[:2], label)
        for index, image, label in zip(
            indices, images, no_labels if labels is None else labels, strict=True
        )
    )
    return _stack(examples, bucket, eval_config, rows, has_label=labels is not None)


class EvalReader:
    """Reads batches of a source, again at every call; sizes are read at the first.

    Raises ValueError at once for illegal arguments and config values.
    """

    def __init__(
        self,
        source: Any,
        eval_config: Any,
        *,
        batch_size: int,
        shard_index: int = 0,
        shard_count: int = 1,
    ) -> None:
        check_views(eval_config)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: read one image or more")
        if not 0 <= shard_index < shard_count:
            raise ValueError(f"shard_index {shard_index} is not in [0, {shard_count})")
        self._source = source
        self._config = eval_config
        self._batch_size = batch_size
        self._shard = shard_index, shard_count

    def __call__(self) -> Iterator[Batch]:
        """Yields this shard's rows of all batches: every image once, with its label.

        What `stack_batch` returns, in the order of `plan_batches`. All shards yield
        equally many batches of equally many rows.

        Raises ValueError while iterating: for a file that cannot be decoded, whatever
        config.data.on_unreadable says, for image and label of different sizes, and for
        label ids outside the classes.
        """
        shard_index, shard_count = self._shard
        rows = [-(-len(batch.indices) // shard_count) for batch in self.plan]
        own = [
            batch.indices[shard_index * n : (shard_index + 1) * n]
            for batch, n in zip(self.plan, rows, strict=True)
        ]
        # What waits to be stacked counts, too, in memory.
        ahead = max(2, os.cpu_count() or 1)
        examples = ordered_map(self._load, itertools.chain(*own), ahead=ahead)
        for batch, indices, n in zip(self.plan, own, rows, strict=True):
            group = itertools.islice(examples, len(indices))
            yield _stack(group, batch.bucket, self._config, n, has_label=True)

    @cached_property
    def plan(self) -> list[PlannedBatch]:
        """The batches of all shards."""
        return plan_batches(self.sizes, self._config, self._batch_size)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Of all images, int [n 2]."""
        return image_sizes(self._source)

    def _load(self, index: int) -> "_Example":
        # Not above: predict.py does without TensorFlow.
        from data.decode import decode_record

        record = self._source[index]
        image, label = decode_record(record, self._source.classes)
        size = _to_size(self.sizes[index])
        if label.shape != size:
            raise ValueError(
                f"{record.name} is {label.shape} (height, width), but its header said"
                f" {size}: it has changed, or is damaged"
            )
        return _Example(index, make_views(image, self._config), label.shape, label)


def image_sizes(source: Any) -> np.ndarray:
    """(height, width) of all images of a source, int [n 2], from their headers.

    Raises ValueError that names an image which has none.
    """

    def size(index: int) -> Size:
        record = source[index]
        return image_size(record.image, record.name)

    return np.array(list(ordered_map(size, range(len(source)))), int).reshape(-1, 2)


@dataclasses.dataclass(frozen=True)
class _Example:
    index: int
    views: tuple[np.ndarray, ...]
    size: Size
    label: np.ndarray | None


def _stack(
    examples: Iterable[_Example],
    bucket: Bucket,
    eval_config: Any,
    rows: int,
    *,
    has_label: bool,
) -> Batch:
    views: tuple[np.ndarray, ...] = tuple(
        np.zeros((rows, *shape, 3), view_dtype(scale, eval_config))
        for shape, scale in zip(bucket.view_shapes, eval_config.scales, strict=True)
    )
    batch: Batch = {
        "views": views,
        "mask": np.zeros(rows, bool),
        "index": np.zeros(rows, np.int32),
    }
    if has_label:
        batch["label"] = np.full((rows, *bucket.shape), IGNORE_LABEL, np.uint8)
    if bucket.is_padded:
        # Rows that fill are whole images: no moment is that of nothing.
        batch["size"] = np.tile(np.array(bucket.shape, np.int32), (rows, 1))
        batch["view_sizes"] = np.tile(
            np.array(bucket.view_shapes, np.int32), (rows, 1, 1)
        )
    for row, example in enumerate(examples):
        batch["mask"][row], batch["index"][row] = True, example.index
        for stacked, view in zip(views, example.views, strict=True):
            _fill(stacked[row], view)
        if example.label is not None:
            _fill(batch["label"][row], example.label)
        if bucket.is_padded:
            batch["size"][row] = example.size
            batch["view_sizes"][row] = [view.shape[:2] for view in example.views]
    return batch


def _fill(target: np.ndarray, array: np.ndarray) -> None:
    target[: array.shape[0], : array.shape[1]] = array


def _to_size(values: np.ndarray) -> Size:
    return int(values[0]), int(values[1])
