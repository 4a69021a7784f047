"""The streams that feed training and evaluation of segmentation."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from data import stream, transforms
from data.classes import IGNORE_LABEL
from data.decode import (
    decode_image,
    decode_record,
    decode_train_ids,
    require_same_size,
)
from data.sources import Record, Source
from data.stream import Batch

_PLACEHOLDER = (np.zeros((1, 1, 3), np.uint8), np.full((1, 1), IGNORE_LABEL, np.uint8))


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
    recipe = transforms.CropRecipe.from_config(data_config, source.classes.names)

    def make(record: Record, k: int) -> tuple[np.ndarray, ...]:
        label = decode_train_ids(record, source.classes)
        crop = transforms.draw_crop(label, recipe, seed, k)
        window = transforms.source_window(crop, label.shape, recipe)
        image = decode_image(record.image, record.name, window)
        require_same_size(image, label, record)
        return (
            transforms.crop_image(image, crop, recipe),
            transforms.crop_label(label, crop, recipe),
            transforms.valid_size(crop, recipe),
        )

    read = stream.TrainReader(source, make, data_config, seed)

    def load(k: int) -> tuple:
        example, passed_over = read(k)
        return *example, np.int32(passed_over)

    def make_example(k: tf.Tensor) -> dict[str, tf.Tensor]:
        placeholder = (
            np.zeros((*recipe.crop_size, 3), np.uint8),
            np.zeros(recipe.crop_size, np.uint8),
            np.zeros(2, np.int32),
            np.int32(0),
        )
        image, label, size, unreadable, error = stream.load(load, placeholder, k)
        return {
            "image": tf.ensure_shape(image, placeholder[0].shape),
            "label": tf.ensure_shape(label, recipe.crop_size),
            "size": tf.ensure_shape(size, [2]),
            "unreadable": unreadable,
            "error": error,
        }

    return stream.batches(
        make_example,
        batch_size=batch_size,
        start_step=start_step,
        shard_index=shard_index,
        shard_count=shard_count,
    )


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
    local_size = stream.local_batch_size(batch_size, shard_index, shard_count)
    indices = np.arange(len(source))
    indices = indices[indices % batch_size // local_size == shard_index]

    def load(index: int) -> tuple:
        return decode_record(source[index], source.classes)

    def read(index: tf.Tensor) -> dict[str, tf.Tensor]:
        image, label, error = stream.load(load, _PLACEHOLDER, index)
        return {"index": index, "image": image, "label": label, "error": error}

    dataset = tf.data.Dataset.from_tensor_slices(indices)
    dataset = dataset.map(read, tf.data.AUTOTUNE, deterministic=True)
    examples = stream.Checked(dataset.prefetch(2 * local_size))
    if shard_count == 1:
        return _batch_by_size(examples, local_size)
    return _batch_one_size(source, examples, local_size, -(-len(source) // batch_size))


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
