"""Encoded image and label files -> arrays, with errors that name the file."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from data.classes import ClassTable
from data.sources.base import Record


class UnreadableError(ValueError):
    """A file whose content cannot be decoded."""


def decode_record(record: Record, classes: ClassTable) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image, uint8 [h w 3] RGB, and its train ids, uint8 [h w].

    Raises UnreadableError for a file that cannot be decoded; ValueError if image and
    label differ in size, or if the label holds ids outside the classes.
    """
    image = decode_image(record.image, record.name)
    raw_label = decode_label(record.label, record.label_name)
    if image.shape[:2] != raw_label.shape:
        raise ValueError(
            f"image and label differ in size (height, width): {record.name} is"
            f" {image.shape[:2]}, {record.label_name} is {raw_label.shape}"
        )
    return image, classes.to_train_ids(raw_label, record.label_name)


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Returns uint8 [h w 3] RGB of a JPEG, PNG or BMP. Raises UnreadableError."""
    # TensorFlow reads a PNG twice as fast as Pillow, and leaves Python's lock free.
    try:
        if data.startswith(b"\xff\xd8"):
            # The accurate transform is what Pillow and OpenCV, so the peers, use.
            image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
        else:
            image = tf.io.decode_image(data, channels=3, expand_animations=False)
    except tf.errors.OpError:
        raise UnreadableError(
            f"{name}: not a readable image; its {len(data)} bytes are damaged, cut off,"
            " or no JPEG, PNG or BMP"
        ) from None
    return image.numpy()


def decode_label(data: bytes, name: str) -> np.ndarray:
    """Returns the raw ids, uint8 [h w], of a grey or palette PNG.

    Raises UnreadableError, or ValueError for a file that is not 8-bit single-channel.
    """
    # Pillow, because TensorFlow would turn palette indices into shades of grey.
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
            raw_label = np.asarray(image)
    except Exception as error:  # Pillow raises half a dozen types for broken files
        raise UnreadableError(f"{name}: not a readable label ({error})") from None
    if mode not in ("L", "P"):
        raise ValueError(
            f"{name}: a label must be an 8-bit PNG with one id a pixel, not {mode!r}"
        )
    return raw_label
