"""Encoded image and label files -> arrays, with errors that name the file."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from data import tiles
from data.classes import ClassTable
from data.headers import UnreadableError, is_jpeg, orientation, unreadable_image
from data.sources.base import Record

Window = tuple[slice, slice]  # rows and columns

_GREY_PNG = (b"\x89PNG\r\n\x1a\n", b"\x08\x00")  # how it starts, its bytes 24 and 25
# Pillow spreads the levels of grey PNGs over the range of a byte: steps by bits.
_GREY_STEP = {1: 1, 2: 85, 4: 17, 8: 1}

# How pictures are put upright, by EXIF's number for how the camera was held.
_UPRIGHT = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x[::-1].swapaxes(0, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x[:, ::-1].swapaxes(0, 1),
}
# Chroma is interpolated across the blocks of a JPEG, and not beyond what is decoded.
_JPEG_BLOCK = 16


def decode_record(record: Record, classes: ClassTable) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image, uint8 [h w 3] RGB, and its train ids, uint8 [h w].

    Raises UnreadableError for a file that cannot be decoded; ValueError if image and
    label differ in size, or if the label holds ids outside the classes.
    """
    image = decode_image(record.image, record.name)
    label = decode_train_ids(record, classes)
    require_same_size(image, label, record)
    return image, label


def decode_train_ids(record: Record, classes: ClassTable) -> np.ndarray:
    """Returns the label of a record as train ids, uint8 [h w]; raises as the record."""
    raw_label = decode_label(record.label, record.label_name)
    return classes.to_train_ids(raw_label, record.label_name)


def require_same_size(image: np.ndarray, label: np.ndarray, record: Record) -> None:
    """Raises ValueError that names both files."""
    if image.shape[:2] != label.shape:
        turned = orientation(record.image) in _UPRIGHT
        raise ValueError(
            f"image and label differ in size (height, width): {record.name} is"
            f" {image.shape[:2]}{' (turned by its EXIF tag)' * turned},"
            f" {record.label_name} is {label.shape}"
        )


def decode_image(data: bytes, name: str, window: Window | None = None) -> np.ndarray:
    """Returns uint8 [h w 3] RGB of a JPEG, PNG, BMP or `tiles`.

    With a window, pixels outside it may be left undecoded, with any values. JPEGs are
    turned as their EXIF orientation says, PNGs of 16 bits keep the upper 8.

    Raises UnreadableError.
    """
    # TensorFlow reads a PNG twice as fast as Pillow, and leaves Python's lock free.
    try:
        if is_jpeg(data):
            return _decode_jpeg(data, window)
        if data.startswith(tiles.MAGIC):
            return tiles.decode(data, window)
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        return image.numpy()
    except (tf.errors.OpError, ValueError):
        raise unreadable_image(data, name) from None


def decode_label(data: bytes, name: str) -> np.ndarray:
    """Returns the raw label of a PNG.

    uint8 [h w] for grey and palette files of 1 to 8 bits, uint16 [h w] for 16 bits,
    uint8 [h w 3] for RGB.

    Raises UnreadableError, or ValueError for other kinds of files.
    """
    try:
        if (data[:8], data[24:26]) == _GREY_PNG:
            return tf.io.decode_png(data, 1).numpy()[..., 0]
        with Image.open(io.BytesIO(data)) as image:
            raw_label = np.asarray(image)
    except Exception as error:  # Pillow raises half a dozen types for broken files
        raise UnreadableError(f"{name}: not a readable label ({error})") from None
    if image.format != "PNG":
        raise ValueError(f"{name}: a label must be a PNG, not a {image.format}")
    if image.mode in ("1", "L"):
        return raw_label.astype(np.uint8) // _GREY_STEP[data[24]]
    if image.mode not in ("P", "RGB", "I;16"):
        raise ValueError(
            f"{name}: a label must have one id a pixel, grey or with a palette, or RGB"
            f" colours; this one is {image.mode!r}"
        )
    return raw_label


def _decode_jpeg(data: bytes, window: Window | None) -> np.ndarray:
    # The accurate transform is what Pillow and OpenCV, so the peers, use.
    accurate = dict(channels=3, dct_method="INTEGER_ACCURATE")
    upright = _UPRIGHT.get(orientation(data))
    if window is None or upright:
        image = tf.io.decode_jpeg(data, **accurate).numpy()
        return np.ascontiguousarray(upright(image)) if upright else image
    h, w, _ = tf.io.extract_jpeg_shape(data).numpy()
    top, left = (max(axis.start - _JPEG_BLOCK, 0) for axis in window)
    bottom = min(window[0].stop + _JPEG_BLOCK, h)
    right = min(window[1].stop + _JPEG_BLOCK, w)
    image = np.zeros((h, w, 3), np.uint8)
    if top < bottom and left < right:
        box = [top, left, bottom - top, right - left]
        crop = tf.io.decode_and_crop_jpeg(data, box, **accurate)
        image[top:bottom, left:right] = crop
    return image
