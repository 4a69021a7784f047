"""The crops of classification: random and resized to train, central to evaluate.

Everything random is drawn first (`draw_window`); the rest is deterministic. Resizing is
Pillow's, with antialiasing, as timm does it. Sizes and offsets are (height, width).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from data import stateless

_TRIES = 10


@dataclasses.dataclass(frozen=True)
class ResizedCropRecipe:
    """How crops are made; the fields are those of config.data.

    `area_range` is the share of the image, `aspect_range` width / height;
    `eval_crop_ratio` the share of the resized image's short side that is evaluated.
    """

    crop_size: tuple[int, int]
    area_range: tuple[float, float]
    aspect_range: tuple[float, float]
    eval_crop_ratio: float

    @classmethod
    def from_config(cls, data_config: Any) -> "ResizedCropRecipe":
        """Reads config.data. Raises ValueError for values that make no sense."""
        recipe = cls(
            crop_size=tuple(data_config.crop_size),
            area_range=tuple(data_config.area_range),
            aspect_range=tuple(data_config.aspect_range),
            eval_crop_ratio=data_config.eval_crop_ratio,
        )
        smallest, largest = recipe.area_range
        narrowest, widest = recipe.aspect_range
        rules = {
            "crop_size": len(recipe.crop_size) == 2 and min(recipe.crop_size) > 0,
            "area_range": 0 < smallest <= largest <= 1,
            "aspect_range": 0 < narrowest <= widest,
            "eval_crop_ratio": 0 < recipe.eval_crop_ratio <= 1,
        }
        for key, is_legal in rules.items():
            if not is_legal:
                raise ValueError(
                    f"config.data.{key} = {getattr(recipe, key)!r}; legal are crop_size"
                    " (h, w) > 0, area_range (low, high) with 0 < low <= high <= 1,"
                    " aspect_range (low, high) with 0 < low <= high, eval_crop_ratio"
                    " in (0, 1]"
                )
        return recipe


class Window(NamedTuple):
    """The part of an image that becomes a crop."""

    offset: tuple[int, int]
    size: tuple[int, int]
    resampling: Resampling


def draw_window(
    image_size: tuple[int, int], recipe: ResizedCropRecipe, seed: int, k: int
) -> Window:
    """Draws the window of example k, a pure function of its arguments.

    The area is uniform, the aspect ratio uniform in its logarithm; after 10 windows
    that do not fit it is the largest central one of a legal aspect ratio (torchvision
    RandomResizedCrop). Bilinear or bicubic, equally often (timm).
    """
    draws = stateless.uniform(seed, stateless.AUGMENTATION, k, 1 + 4 * _TRIES)
    resampling = Resampling.BILINEAR if draws[0] < 0.5 else Resampling.BICUBIC
    height, width = image_size
    low, high = (math.log(aspect) for aspect in recipe.aspect_range)
    smallest, largest = recipe.area_range
    for area, aspect, top, left in draws[1:].reshape(_TRIES, 4):
        area = height * width * (smallest + area * (largest - smallest))
        aspect = math.exp(low + aspect * (high - low))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            offset = int(top * (height - h + 1)), int(left * (width - w + 1))
            return Window(offset, (h, w), resampling)
    narrowest, widest = recipe.aspect_range
    h = min(height, max(round(width / narrowest), 1))
    w = min(width, max(round(height * widest), 1))
    return Window(((height - h) // 2, (width - w) // 2), (h, w), resampling)


def crop_window(
    image: np.ndarray, window: Window, recipe: ResizedCropRecipe
) -> Image.Image:
    """Returns the window of an image, uint8 [h w 3] RGB, resized to `crop_size`."""
    (top, left), (height, width) = window.offset, window.size
    # Cut out first: as in torchvision, no pixel around the window shines in.
    part = Image.fromarray(image[top : top + height, left : left + width])
    return part.resize(recipe.crop_size[::-1], window.resampling)


def crop_centre(image: np.ndarray, recipe: ResizedCropRecipe) -> Image.Image:
    """Returns the centre, of `crop_size`, of an image, uint8 [h w 3] RGB.

    The image is resized before, bicubic, so that it just covers the crop's size over
    `eval_crop_ratio`: with a square crop, its short side is floor(crop / ratio), as in
    timm.
    """
    height, width = image.shape[:2]
    h, w = (math.floor(side / recipe.eval_crop_ratio) for side in recipe.crop_size)
    # The side that needs the larger scale fits; the other is in proportion.
    if h * width < w * height:
        h = w * height // width
    else:
        w = h * width // height
    resized = Image.fromarray(image).resize((w, h), Resampling.BICUBIC)
    crop_h, crop_w = recipe.crop_size
    top, left = round((h - crop_h) / 2), round((w - crop_w) / 2)
    return resized.crop((left, top, left + crop_w, top + crop_h))
