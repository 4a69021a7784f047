"""The streams that feed training and evaluation.

Example k of the training stream is a pure function of (seed, k): which record it is,
and how it is cut. So training resumes at any step at once, with no iterator to save,
and a global batch does not depend on how many hosts read it.
"""

import functools
import itertools
import logging
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from data import stateless, transforms
from data.classes import IGNORE_LABEL
from data.decode import UnreadableError, decode_image, decode_record
from data.sources import Source

_logger = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]

# TensorFlow would turn an exception in a loader into its own, with a graph trace. So
# loaders return these as text, next to a stand-in, and `_Checked` raises them again.
_USER_ERRORS = (ValueError, OSError)
_PLACEHOLDER = (np.zeros((1, 1, 3), np.uint8), np.full((1, 1), IGNORE_LABEL, np.uint8))
_SKIP_HINT = "Set config.data.on_unreadable = 'skip' to train without such files."


def train_stream(
    source: Source,
    data_config: Any,
    *,
    seed: int,
    batch_size: int,
    start_step: int = 0,
    shard_index: int = 0,
    shard_count: int = 1,
) -> Iterator[Batch]:
    """Yields this shard's rows of the global batches of steps start_step, +1, ...

    With b = batch_size // shard_count, and crop_size, pad from `data_config`:
      image       uint8 [b h w 3] RGB, scaled, cropped and padded, no colour changed
      label       uint8 [b h w] train ids, 255 where void or padding
      size        int32 [b 2] (height, width) of the part at the top left that is image
      unreadable  int32 [b] records passed over because they could not be decoded

    Raises ValueError: at once for illegal arguments and config values; while iterating
    for a file that cannot be decoded (unless config.data.on_unreadable is "skip"), for
    image and label of different sizes, and for label ids outside the classes.
    """
    local_size = _local_batch_size(batch_size, shard_index, shard_count)
    if start_step < 0:
        raise ValueError(f"start_step {start_step} is negative")
    recipe = transforms.CropRecipe.from_config(data_config)
    if data_config.on_unreadable not in ("stop", "skip"):
        raise ValueError(
            f"config.data.on_unreadable = {data_config.on_unreadable!r};"
            " choose 'stop' or 'skip'"
        )
    load = _TrainLoader(source, recipe, seed, data_config.on_unreadable == "skip")

    def make_example(i: tf.Tensor) -> dict[str, tf.Tensor]:
        row = shard_index * local_size + i % local_size
        k = i // local_size * batch_size + row
        outputs = [tf.uint8, tf.uint8, tf.int32, tf.int32, tf.int32, tf.string]
        image, label, *crop, unreadable, error = tf.numpy_function(load, [k], outputs)
        image.set_shape([None, None, 3])
        label.set_shape([None, None])
        crop = transforms.Crop(*(tf.ensure_shape(x, [2]) for x in crop))
        return {
            "image": transforms.crop_image(image, crop, recipe),
            "label": transforms.crop_label(label, crop, recipe),
            "size": transforms.valid_size(crop, recipe),
            "unreadable": tf.ensure_shape(unreadable, []),
            "error": tf.ensure_shape(error, []),
        }

    dataset = tf.data.Dataset.range(start_step * local_size, tf.int64.max)
    dataset = dataset.map(make_example, tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(local_size, drop_remainder=True).prefetch(2)
    return _Checked(dataset)


def eval_batches(
    source: Source, *, batch_size: int, shard_index: int = 0, shard_count: int = 1
) -> Iterator[Batch]:
    """Yields every image once, whole, in batches of images of one size.

    With b = batch_size // shard_count:
      image  uint8 [b h w 3] RGB
      label  uint8 [b h w] train ids, 255 where void
      mask   bool [b], False for examples that only fill a batch (label all 255)

    Images keep the order of the source; where sizes differ, images are collected per
    size, and incomplete batches come last. All shards yield equally many batches; with
    more than one of them all images must have one size.

    Raises ValueError: at once for illegal arguments; while iterating for everything
    that stops `train_stream`, and if sizes differ between shards.
    """
    local_size = _local_batch_size(batch_size, shard_index, shard_count)
    indices = np.arange(len(source))
    indices = indices[indices % batch_size // local_size == shard_index]
    load = functools.partial(_load_whole, source)

    def read(index: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = [tf.uint8, tf.uint8, tf.string]
        image, label, error = tf.numpy_function(load, [index], outputs)
        return {"index": index, "image": image, "label": label, "error": error}

    dataset = tf.data.Dataset.from_tensor_slices(indices)
    dataset = dataset.map(read, tf.data.AUTOTUNE, deterministic=True)
    examples = _Checked(dataset.prefetch(2 * local_size))
    if shard_count == 1:
        return _batch_by_size(examples, local_size)
    return _batch_one_size(source, examples, local_size, -(-len(source) // batch_size))


class _TrainLoader:
    """Example k of the training stream: decoded, with its crop drawn."""

    def __init__(
        self, source: Source, recipe: transforms.CropRecipe, seed: int, skip: bool
    ) -> None:
        self._source = source
        self._recipe = recipe
        self._seed = seed
        self._skip = skip
        # Parallel workers straddle two epochs at most, unless epochs are tiny.
        self._order = functools.lru_cache(maxsize=4)(
            functools.partial(stateless.permutation, seed, n=len(source))
        )

    def __call__(self, k: np.int64) -> tuple:
        try:
            image, label, passed_over = self._read(int(k))
            error = b""
        except _USER_ERRORS as exception:
            (image, label), passed_over = _PLACEHOLDER, 0
            error = str(exception).encode()
        crop = transforms.draw_crop(label, self._recipe, self._seed, int(k))
        return image, label, *crop, np.int32(passed_over), error

    def _read(self, k: int) -> tuple[np.ndarray, np.ndarray, int]:
        n = len(self._source)
        epoch, position = divmod(k, n)
        for passed_over in range(n):
            index = self._order(epoch)[(position + passed_over) % n]
            record = self._source[int(index)]
            try:
                return *decode_record(record, self._source.classes), passed_over
            except UnreadableError as error:
                if not self._skip:
                    raise ValueError(f"{error}. {_SKIP_HINT}") from None
                _logger.warning("skipped %s", error)
        raise ValueError(f"none of the {n} records can be decoded")


def _load_whole(source: Source, index: np.int64) -> tuple:
    try:
        return *decode_record(source[int(index)], source.classes), b""
    except _USER_ERRORS as exception:
        return *_PLACEHOLDER, str(exception).encode()


class _Checked:
    """The elements of a dataset; raises the first error that a loader put in one."""

    def __init__(self, dataset: tf.data.Dataset) -> None:
        self._iterator = [dataset.as_numpy_iterator()]
        # At exit too: once the interpreter shuts down no loader gets Python's lock,
        # and an iterator that is deleted after that waits for its loaders for ever.
        weakref.finalize(self, self._iterator.clear)

    def __iter__(self) -> "_Checked":
        return self

    def __next__(self) -> Batch:
        element = next(self._iterator[0])
        for error in np.ravel(element.pop("error")):
            if error:
                raise ValueError(error.decode())
        return element


def _batch_by_size(examples: Iterator[Batch], batch_size: int) -> Iterator[Batch]:
    pending: dict[tuple[int, ...], list[Batch]] = {}
    for example in examples:
        group = pending.setdefault(example["label"].shape, [])
        group.append(example)
        if len(group) == batch_size:
            yield _stack(group, example["label"].shape, batch_size)
            group.clear()
    for size, group in pending.items():
        if group:
            yield _stack(group, size, batch_size)


def _batch_one_size(
    source: Source, examples: Iterator[Batch], batch_size: int, num_batches: int
) -> Iterator[Batch]:
    # Every shard compares with the first image, so that they agree without talking,
    # and a shard that got no image at all knows what to send instead.
    first = source[0]
    size = decode_image(first.image, first.name).shape[:2]
    for _ in range(num_batches):
        group = list(itertools.islice(examples, batch_size))
        for example in group:
            if example["label"].shape != size:
                raise ValueError(
                    f"{source[int(example['index'])].name} is {example['label'].shape},"
                    f" but {first.name} is {size} (height, width): images of different"
                    " sizes can only be evaluated by one host (shard_count 1)"
                )
        yield _stack(group, size, batch_size)


def _stack(group: list[Batch], size: tuple[int, ...], batch_size: int) -> Batch:
    image = np.zeros((batch_size, *size, 3), np.uint8)
    label = np.full((batch_size, *size), IGNORE_LABEL, np.uint8)
    for row, example in enumerate(group):
        image[row], label[row] = example["image"], example["label"]
    return {"image": image, "label": label, "mask": np.arange(batch_size) < len(group)}


def _local_batch_size(batch_size: int, shard_index: int, shard_count: int) -> int:
    if not 0 <= shard_index < shard_count:
        raise ValueError(f"shard_index {shard_index} is not in [0, {shard_count})")
    if batch_size < 1 or batch_size % shard_count:
        raise ValueError(
            f"batch_size {batch_size} (global) must be a multiple of the"
            f" {shard_count} shards that read it"
        )
    return batch_size // shard_count
