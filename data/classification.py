"""The streams that feed training and evaluation of classification."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from data import randaugment, resized_crop, stream
from data.decode import decode_image
from data.sources import ClassificationSource, LabelledImage
from data.stream import Batch


def train_stream(
    source: ClassificationSource,
    data_config: Any,
    *,
    seed: int,
    batch_size: int,
    start_step: int = 0,
    shard_index: int = 0,
    shard_count: int = 1,
) -> Iterator[Batch]:
    """Yields this shard's rows of the global batches of steps start_step, +1, ...

    With b = batch_size // shard_count and crop_size from `data_config`:
      image       uint8 [b h w 3] RGB, a random resized crop after RandAugment
      label       int32 [b] class
      unreadable  int32 [b] records passed over because they could not be decoded

    Raises ValueError: at once for illegal arguments and config values; while iterating
    for an image that cannot be decoded (unless config.data.on_unreadable is "skip"),
    and for labels outside the classes.
    """
    recipe = resized_crop.ResizedCropRecipe.from_config(data_config)
    augmentation = randaugment.RandAugmentRecipe.from_config(data_config)
    num_classes = len(source.classes)

    def make(record: LabelledImage, k: int) -> tuple[np.ndarray, np.int32]:
        image, label = _decode(record, num_classes)
        window = resized_crop.draw_window(image.shape[:2], recipe, seed, k)
        crop = resized_crop.crop_window(image, window, recipe)
        crop = randaugment.apply(crop, randaugment.draw(augmentation, seed, k))
        return np.asarray(crop), label

    read = stream.TrainReader(source, make, data_config, seed)

    def load(k: int) -> tuple:
        example, passed_over = read(k)
        return *example, np.int32(passed_over)

    def make_example(k: tf.Tensor) -> dict[str, tf.Tensor]:
        placeholder = (_black(recipe), np.int32(0), np.int32(0))
        image, label, unreadable, error = stream.load(load, placeholder, k)
        return {
            "image": tf.ensure_shape(image, [*recipe.crop_size, 3]),
            "label": label,
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
    source: ClassificationSource,
    data_config: Any,
    *,
    batch_size: int,
    shard_index: int = 0,
    shard_count: int = 1,
) -> Iterator[Batch]:
    """Yields the centre of every image once, in the order of the source.

    With b = batch_size // shard_count and crop_size from `data_config`:
      image  uint8 [b h w 3] RGB
      label  int32 [b] class
      mask   bool [b], False for examples that only fill a batch (black, label 0)

    All shards yield equally many batches.

    Raises ValueError: at once for illegal arguments and config values; while iterating
    for an image that cannot be decoded, and for labels outside the classes.
    """
    recipe = resized_crop.ResizedCropRecipe.from_config(data_config)
    num_classes, num_images = len(source.classes), len(source)
    padding = (_black(recipe), np.int32(0), np.bool_(False))

    def load(k: int) -> tuple:
        if k >= num_images:
            return padding
        image, label = _decode(source[k], num_classes)
        crop = resized_crop.crop_centre(image, recipe)
        return np.asarray(crop), label, np.bool_(True)

    def make_example(k: tf.Tensor) -> dict[str, tf.Tensor]:
        image, label, mask, error = stream.load(load, padding, k)
        image = tf.ensure_shape(image, [*recipe.crop_size, 3])
        return {"image": image, "label": label, "mask": mask, "error": error}

    return stream.batches(
        make_example,
        batch_size=batch_size,
        num_examples=num_images,
        shard_index=shard_index,
        shard_count=shard_count,
    )


def _decode(record: LabelledImage, num_classes: int) -> tuple[np.ndarray, np.int32]:
    image = decode_image(record.image, record.name)
    if not 0 <= record.label < num_classes:
        raise ValueError(
            f"{record.name}: label {record.label} is outside the {num_classes} classes;"
            f" legal are 0..{num_classes - 1}. Choose a split that has labels (the test"
            " split has none), or prepare the data again"
        )
    return image, np.int32(record.label)


def _black(recipe: resized_crop.ResizedCropRecipe) -> np.ndarray:
    return np.zeros((*recipe.crop_size, 3), np.uint8)
