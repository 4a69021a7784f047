"""Random scale and crop of an image with its label.

Everything random is drawn first (`draw_crop`); then image and label are cut by two
deterministic functions. Scaling is OpenCV's, to the bit what the peers compute: they
scale the whole image and then cut, here nothing beyond the end of the crop is scaled.
Sizes and offsets are (height, width).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from data import stateless
from data.classes import IGNORE_LABEL

_RETRIES = 10
_NUM_DRAWS = 1 + 2 * (1 + _RETRIES)  # scale, offsets
_NUM_RARE_DRAWS = 3  # whether, which class, which of its pixels
# PaddleSeg pads with 127.5, which its next step truncates to uint8.
_BEFORE_CROP_FILL = 127


@dataclasses.dataclass(frozen=True)
class CropRecipe:
    """How training crops are made; the fields are those of config.data.

    `rare_classes` are train ids here, names in the config.
    """

    crop_size: tuple[int, int]
    resize_to: tuple[int, int] | tuple[()]
    scale_range: tuple[float, float]
    scale_step: float
    max_class_ratio: float
    rare_classes: tuple[int, ...]
    rare_class_probability: float
    pad: str

    @classmethod
    def from_config(cls, data_config: Any, classes: Sequence[str]) -> "CropRecipe":
        """Reads config.data. Raises ValueError for values that make no sense."""
        for name in data_config.rare_classes:
            if name not in classes:
                raise ValueError(
                    f"config.data.rare_classes: there is no class {name!r}; the classes"
                    f" are {', '.join(classes)}"
                )
        recipe = cls(
            crop_size=tuple(data_config.crop_size),
            resize_to=tuple(data_config.resize_to),
            scale_range=tuple(data_config.scale_range),
            scale_step=data_config.scale_step,
            max_class_ratio=data_config.max_class_ratio,
            rare_classes=tuple(map(list(classes).index, data_config.rare_classes)),
            rare_class_probability=data_config.rare_class_probability,
            pad=data_config.pad,
        )
        low, high = recipe.scale_range
        rules = {
            "crop_size": len(recipe.crop_size) == 2 and min(recipe.crop_size) > 0,
            "resize_to": not recipe.resize_to
            or (len(recipe.resize_to) == 2 and min(recipe.resize_to) > 0),
            "scale_range": 0 < low <= high,
            "scale_step": recipe.scale_step >= 0,
            "max_class_ratio": 0 < recipe.max_class_ratio <= 1,
            "rare_class_probability": 0 <= recipe.rare_class_probability <= 1,
            "pad": recipe.pad in ("after_distortion", "before_crop"),
        }
        for key, is_legal in rules.items():
            if not is_legal:
                raise ValueError(
                    f"config.data.{key} = {getattr(recipe, key)!r}; legal are crop_size"
                    " (h, w) > 0, resize_to () or (h, w) > 0, scale_range (low, high)"
                    " with 0 < low <= high, scale_step >= 0, max_class_ratio in (0, 1],"
                    " rare_class_probability in [0, 1], pad 'after_distortion' or"
                    " 'before_crop'"
                )
        return recipe


class Crop(NamedTuple):
    """Where a crop lies in the scaled image; int32 [2] each."""

    scaled_size: np.ndarray
    offset: np.ndarray


def draw_crop(label: np.ndarray, recipe: CropRecipe, seed: int, k: int) -> Crop:
    """Draws scale and position for example k, a pure function of its arguments."""
    count = _NUM_DRAWS + _NUM_RARE_DRAWS
    draws = stateless.uniform(seed, stateless.AUGMENTATION, k, count)
    return place_crop(draws, label, recipe)


def place_crop(draws: np.ndarray, label: np.ndarray, recipe: CropRecipe) -> Crop:
    """Turns numbers in [0, 1), float64 [26], into scale and position of a crop.

    The position is drawn again, up to 10 times, while one class (void aside) fills
    `max_class_ratio` of the crop or is alone in it; the last draw is kept untested
    (mmsegmentation RandomCrop, PaddleSeg RandomPaddingCrop). With probability
    `rare_class_probability` the crop must contain a random pixel of one of the
    `rare_classes` that the label has; classes, then pixels, are equally likely.
    """
    scaled_size = _scaled_size(label.shape, draws[0], recipe)
    first, last = _offset_range(draws[_NUM_DRAWS:], label, scaled_size, recipe)
    offsets = draws[1:_NUM_DRAWS].reshape(-1, 2) * (last - first + 1)
    offsets = (first + np.floor(offsets)).astype(np.int32)
    if recipe.max_class_ratio < 1:
        for offset in offsets[:-1]:
            crop = Crop(scaled_size, offset)
            if _is_varied(_cut(label, crop, recipe), recipe.max_class_ratio):
                return crop
        return Crop(scaled_size, offsets[-1])
    return Crop(scaled_size, offsets[0])


def source_window(
    crop: Crop, source_size: tuple[int, ...], recipe: CropRecipe
) -> tuple[slice, slice]:
    """Returns the rows and columns of the source image that the crop is made of."""
    scale = source_size / crop.scaled_size
    # The pixels between which the first and the last pixel of the crop lie.
    first = np.floor((crop.offset + 0.5) * scale - 0.5)
    last = np.floor((crop.offset + _extent(crop, recipe) - 0.5) * scale - 0.5) + 1
    first = np.maximum(first, 0).astype(int)
    last = np.minimum(last, np.subtract(source_size, 1)).astype(int)
    return slice(first[0], last[0] + 1), slice(first[1], last[1] + 1)


def crop_image(image: np.ndarray, crop: Crop, recipe: CropRecipe) -> np.ndarray:
    """Returns the crop of the scaled image, uint8 [h w 3] -> [*crop_size 3].

    Equals cv2.resize (INTER_LINEAR) of the whole image, then cropping, then padding at
    the bottom and right. Of `image` only the `source_window` must be filled.
    """
    if recipe.pad == "before_crop":
        # PaddleSeg scales in float32; its next step truncates that to uint8.
        cut = _cut(image.astype(np.float32), crop, recipe).astype(np.uint8)
        return _pad(cut, recipe.crop_size, _BEFORE_CROP_FILL)
    return _pad(_cut(image, crop, recipe), recipe.crop_size, 0)


def crop_label(label: np.ndarray, crop: Crop, recipe: CropRecipe) -> np.ndarray:
    """Returns the crop of the label scaled by nearest neighbour, uint8 [*crop_size].

    As `crop_image`, with cv2.INTER_NEAREST; padding is 255.
    """
    return _pad(_cut(label, crop, recipe), recipe.crop_size, IGNORE_LABEL)


def valid_size(crop: Crop, recipe: CropRecipe) -> np.ndarray:
    """Returns the size, int32 [2], of the part that later steps treat as image.

    PaddleSeg pads before it crops, so there the padding counts as image.
    """
    if recipe.pad == "before_crop":
        return np.array(recipe.crop_size, np.int32)
    return _extent(crop, recipe)


def _scaled_size(shape: tuple[int, ...], draw: float, recipe: CropRecipe) -> np.ndarray:
    low, high = recipe.scale_range
    scale = low + draw * (high - low)
    if recipe.scale_step > 0:
        # PaddleSeg ResizeStepScaling: one of low, low + step, ..., high.
        steps = np.linspace(low, high, int((high - low) / recipe.scale_step + 1))
        scale = steps[int(draw * len(steps))]
    if recipe.resize_to:
        # mmcv RandomResize with keep_ratio: the box to fit into has whole sides.
        box = [int(length * scale) for length in recipe.resize_to]
        scale = min(max(box) / max(shape), min(box) / min(shape))
    scaled = np.array(shape) * scale
    # PaddleSeg rounds half to even, mmcv's rescale_size up.
    scaled = np.rint(scaled) if recipe.scale_step > 0 else np.floor(scaled + 0.5)
    return np.maximum(scaled, 1).astype(np.int32)


def _offset_range(
    draws: np.ndarray, label: np.ndarray, scaled_size: np.ndarray, recipe: CropRecipe
) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last offset that a crop may have, [2] each."""
    first, last = np.zeros(2), np.maximum(scaled_size - recipe.crop_size, 0)
    if draws[0] >= recipe.rare_class_probability:
        return first, last
    present = [c for c in recipe.rare_classes if (label == c).any()]
    if not present:
        return first, last
    pixels = np.flatnonzero(label == present[int(draws[1] * len(present))])
    pixel = np.unravel_index(pixels[int(draws[2] * len(pixels))], label.shape)
    # Where its centre comes to lie.
    pixel = ((np.array(pixel) + 0.5) * scaled_size / label.shape).astype(int)
    first = np.clip(pixel - recipe.crop_size + 1, 0, last)
    return first, np.minimum(pixel, last)


def _cut(pixels: np.ndarray, crop: Crop, recipe: CropRecipe) -> np.ndarray:
    """The crop of the scaled image [h w 3] or label [h w], without padding.

    Rows and columns after the crop are left out, those before it are not: a cut in
    front of it would move the grid of pixels, by a fraction that OpenCV cannot be told.
    """
    size = np.array(pixels.shape[:2])
    scale = crop.scaled_size / size
    rows, columns = source_window(crop, pixels.shape[:2], recipe)
    end = np.array([rows.stop, columns.stop])
    if (np.rint(end * scale) == end).all():
        end = size  # else OpenCV, which takes sizes before scales, would only copy
    scaled = cv2.resize(
        pixels[: end[0], : end[1]],
        None,
        fx=scale[1],
        fy=scale[0],
        interpolation=cv2.INTER_NEAREST if pixels.ndim == 2 else cv2.INTER_LINEAR,
    )
    y, x = crop.offset
    h, w = _extent(crop, recipe)
    return scaled[y : y + h, x : x + w]


def _extent(crop: Crop, recipe: CropRecipe) -> np.ndarray:
    extent = np.minimum(crop.scaled_size - crop.offset, recipe.crop_size)
    return extent.astype(np.int32)


def _pad(x: np.ndarray, size: tuple[int, int], fill: int) -> np.ndarray:
    h, w = x.shape[:2]
    if (h, w) == size:
        return x
    padded = np.full((*size, *x.shape[2:]), fill, np.uint8)
    padded[:h, :w] = x
    return padded


def _is_varied(label: np.ndarray, max_class_ratio: float) -> bool:
    # np.bincount would take 4 times as long, and hold Python's lock.
    counts = cv2.calcHist([label], [0], None, [IGNORE_LABEL], [0, IGNORE_LABEL])
    counts = counts.astype(int)  # of float32
    return (counts > 0).sum() > 1 and counts.max() / counts.sum() < max_class_ratio
