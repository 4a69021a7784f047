"""Random scale and crop of an image with its label.

Everything random is drawn first (`draw_crop`); then image and label are cut by two
deterministic functions, eagerly or inside tf.data, that compute no pixel outside the
crop. Sizes and offsets are (height, width).
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from data import stateless
from data.classes import IGNORE_LABEL

_RETRIES = 10
# PaddleSeg pads with 127.5, which its next step truncates to uint8.
_BEFORE_CROP_FILL = 127


@dataclasses.dataclass(frozen=True)
class CropRecipe:
    """How training crops are made; the fields are those of config.data."""

    crop_size: tuple[int, int]
    scale_range: tuple[float, float]
    scale_step: float
    max_class_ratio: float
    pad: str

    @classmethod
    def from_config(cls, data_config: Any) -> "CropRecipe":
        """Reads config.data. Raises ValueError for values that make no sense."""
        recipe = cls(
            crop_size=tuple(data_config.crop_size),
            scale_range=tuple(data_config.scale_range),
            scale_step=data_config.scale_step,
            max_class_ratio=data_config.max_class_ratio,
            pad=data_config.pad,
        )
        low, high = recipe.scale_range
        rules = {
            "crop_size": len(recipe.crop_size) == 2 and min(recipe.crop_size) > 0,
            "scale_range": 0 < low <= high,
            "scale_step": recipe.scale_step >= 0,
            "max_class_ratio": 0 < recipe.max_class_ratio <= 1,
            "pad": recipe.pad in ("after_distortion", "before_crop"),
        }
        for key, is_legal in rules.items():
            if not is_legal:
                raise ValueError(
                    f"config.data.{key} = {getattr(recipe, key)!r}; legal are crop_size"
                    " (h, w) > 0, scale_range (low, high) with 0 < low <= high,"
                    " scale_step >= 0, max_class_ratio in (0, 1], pad"
                    " 'after_distortion' or 'before_crop'"
                )
        return recipe


class Crop(NamedTuple):
    """Where a crop lies in the scaled image; int32 [2] each."""

    scaled_size: np.ndarray
    offset: np.ndarray


def draw_crop(label: np.ndarray, recipe: CropRecipe, seed: int, k: int) -> Crop:
    """Draws scale and position for example k, a pure function of its arguments.

    The position is drawn again, up to 10 times, while one class (void aside) fills
    `max_class_ratio` of the crop or is alone in it; the last draw is kept untested
    (mmsegmentation RandomCrop, PaddleSeg RandomPaddingCrop).
    """
    draws = stateless.uniform(seed, stateless.AUGMENTATION, k, 1 + 2 * (1 + _RETRIES))
    scale = _scale(draws[0], recipe)
    # int(x + 0.5): the rounding of mmcv's rescale_size.
    scaled_size = np.maximum((np.array(label.shape) * scale + 0.5).astype(np.int32), 1)
    margin = np.maximum(scaled_size - recipe.crop_size, 0)
    offsets = (draws[1:].reshape(-1, 2) * (margin + 1)).astype(np.int32)
    if recipe.max_class_ratio < 1:
        for offset in offsets[:-1]:
            crop = Crop(scaled_size, offset)
            if _is_varied(_nearest(label, crop, recipe), recipe.max_class_ratio):
                return crop
        return Crop(scaled_size, offsets[-1])
    return Crop(scaled_size, offsets[0])


def crop_image(image: tf.Tensor, crop: Crop, recipe: CropRecipe) -> tf.Tensor:
    """Returns the crop of the bilinearly scaled image, uint8 [h w 3] -> [*crop_size 3].

    Equals scaling the whole image (half-pixel centres, no antialiasing, the rule of
    cv2.INTER_LINEAR), rounding, cropping and padding at the bottom and right.
    """
    source_size = tf.shape(image)[:2]
    scale = tf.cast(crop.scaled_size, tf.float64) / tf.cast(source_size, tf.float64)
    extent = _extent(crop, recipe)
    # The source pixels between which the first and the last pixel of the crop lie.
    # Cutting them out first also keeps the float32 coordinates below small, so exact.
    start = tf.cast(crop.offset, tf.float64)
    stop = start + tf.cast(extent, tf.float64)
    first = tf.cast(tf.floor((start + 0.5) / scale - 0.5), tf.int32)
    first = tf.maximum(first, 0)
    last = tf.cast(tf.floor((stop - 0.5) / scale - 0.5), tf.int32) + 1
    last = tf.minimum(last, source_size - 1)
    window = image[first[0] : last[0] + 1, first[1] : last[1] + 1]
    translation = scale * tf.cast(first, tf.float64) - start
    scaled = tf.raw_ops.ScaleAndTranslate(
        images=window[tf.newaxis],
        size=extent,
        scale=tf.cast(scale, tf.float32),
        translation=tf.cast(translation, tf.float32),
        kernel_type="triangle",
        antialias=False,
    )[0]
    fill = _BEFORE_CROP_FILL if recipe.pad == "before_crop" else 0
    return _pad(tf.cast(scaled + 0.5, tf.uint8), recipe.crop_size, fill)


def crop_label(label: tf.Tensor, crop: Crop, recipe: CropRecipe) -> tf.Tensor:
    """Returns the crop of the label scaled by nearest neighbour, uint8 [*crop_size].

    Pixel i of n comes from floor(i * source / n) (cv2.INTER_NEAREST); padding is 255.
    """
    extent = _extent(crop, recipe)
    for axis in (0, 1):
        index = crop.offset[axis] + tf.range(extent[axis])
        index = index * tf.shape(label)[axis] // crop.scaled_size[axis]
        label = tf.gather(label, index, axis=axis)
    return _pad(label, recipe.crop_size, IGNORE_LABEL)


def valid_size(crop: Crop, recipe: CropRecipe) -> tf.Tensor:
    """Returns the size, int32 [2], of the part that later steps treat as image.

    PaddleSeg pads before it crops, so there the padding counts as image.
    """
    if recipe.pad == "before_crop":
        return tf.constant(recipe.crop_size, tf.int32)
    return _extent(crop, recipe)


def _extent(crop: Crop, recipe: CropRecipe) -> tf.Tensor:
    return tf.minimum(crop.scaled_size - crop.offset, recipe.crop_size)


def _pad(x: tf.Tensor, size: tuple[int, int], fill: int) -> tf.Tensor:
    channels = x.shape[2:]
    after = [size[0] - tf.shape(x)[0], size[1] - tf.shape(x)[1]] + [0] * len(channels)
    x = tf.pad(x, [[0, n] for n in after], constant_values=fill)
    return tf.ensure_shape(x, [*size, *channels])


def _scale(draw: float, recipe: CropRecipe) -> float:
    low, high = recipe.scale_range
    if recipe.scale_step == 0:
        return low + draw * (high - low)
    # PaddleSeg ResizeStepScaling: one of low, low + step, ..., high.
    steps = np.linspace(low, high, int((high - low) / recipe.scale_step + 1))
    return steps[int(draw * len(steps))]


def _nearest(label: np.ndarray, crop: Crop, recipe: CropRecipe) -> np.ndarray:
    # As crop_label, in NumPy: the draw is made before TensorFlow sees the label.
    for axis in (0, 1):
        stop = min(crop.offset[axis] + recipe.crop_size[axis], crop.scaled_size[axis])
        index = np.arange(crop.offset[axis], stop) * label.shape[axis]
        label = label.take(index // crop.scaled_size[axis], axis)
    return label


def _is_varied(label: np.ndarray, max_class_ratio: float) -> bool:
    counts = np.bincount(label.ravel(), minlength=IGNORE_LABEL + 1)[:IGNORE_LABEL]
    return (counts > 0).sum() > 1 and counts.max() / counts.sum() < max_class_ratio
