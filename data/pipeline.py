"""The stream that feeds training of segmentation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from data import stream, transforms
from data.decode import decode_image, decode_train_ids, require_same_size
from data.sources import Record, Source
from data.stream import Batch


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
