"""RandAugment (Cubuk et al. 2019) as timm's "rand-m9-mstd0.5-inc1" has it.

Operations, ranges and order are those of timm/data/auto_augment.py with the increasing
set: every magnitude 0..10 changes more than a smaller one. Everything random is drawn
first (`draw`); `apply` is deterministic. It works with Pillow, as timm does, so that an
operation is the published one to the bit. timm flips before it; here the device flips
after it: the same distribution, as either sign of a direction is equally likely.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image, ImageEnhance, ImageOps
from PIL.Image import Resampling, Transform

from data import stateless

OPERATIONS = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "SolarizeAdd",
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)
MAX_MAGNITUDE = 10.0
FILL = (124, 116, 104)  # the mean colour of ImageNet, where an operation uncovers
_PROBABILITY = 0.5  # that an operation which was chosen is applied
_DRAWS = 6  # per operation


@dataclasses.dataclass(frozen=True)
class RandAugmentRecipe:
    """How much is changed; the fields are those of config.data.

    Magnitudes are normally distributed, (mean, standard deviation) as given here.
    """

    randaugment_ops: int
    randaugment_magnitude: float
    randaugment_std: float

    @classmethod
    def from_config(cls, data_config: Any) -> "RandAugmentRecipe":
        """Reads config.data. Raises ValueError for values that make no sense."""
        recipe = cls(
            randaugment_ops=data_config.randaugment_ops,
            randaugment_magnitude=data_config.randaugment_magnitude,
            randaugment_std=data_config.randaugment_std,
        )
        rules = {
            "randaugment_ops": recipe.randaugment_ops >= 0,
            "randaugment_magnitude": 0 <= recipe.randaugment_magnitude <= MAX_MAGNITUDE,
            "randaugment_std": recipe.randaugment_std >= 0,
        }
        for key, is_legal in rules.items():
            if not is_legal:
                raise ValueError(
                    f"config.data.{key} = {getattr(recipe, key)!r}; legal are"
                    " randaugment_ops >= 0 (0: none), randaugment_magnitude in"
                    f" [0, {MAX_MAGNITUDE:g}], randaugment_std >= 0"
                )
        return recipe


class Operation(NamedTuple):
    """One drawn operation; magnitude in [0, 10], sign -1 or 1 for its direction."""

    name: str
    magnitude: float
    sign: int
    resampling: Resampling


def draw(recipe: RandAugmentRecipe, seed: int, k: int) -> list[Operation]:
    """Draws the operations of example k, a pure function of its arguments.

    With replacement; each is left out with probability 0.5.
    """
    n = recipe.randaugment_ops
    draws = stateless.uniform(seed, stateless.RANDAUGMENT, k, n * _DRAWS)
    operations = []
    for choice, applied, radius, angle, sign, resampling in draws.reshape(n, _DRAWS):
        # Box and Muller 1958: a normal draw from two uniform ones.
        normal = math.sqrt(-2 * math.log(1 - radius)) * math.cos(2 * math.pi * angle)
        magnitude = recipe.randaugment_magnitude + recipe.randaugment_std * normal
        operation = Operation(
            OPERATIONS[int(choice * len(OPERATIONS))],
            min(max(magnitude, 0.0), MAX_MAGNITUDE),
            1 if sign < 0.5 else -1,
            Resampling.BILINEAR if resampling < 0.5 else Resampling.BICUBIC,
        )
        if applied < _PROBABILITY:
            operations.append(operation)
    return operations


def apply(image: Image.Image, operations: Sequence[Operation]) -> Image.Image:
    """Returns the RGB image after the operations, of the same size."""
    for operation in operations:
        image = _apply(image, operation)
    return image


def _apply(image: Image.Image, operation: Operation) -> Image.Image:
    level = operation.magnitude / MAX_MAGNITUDE
    signed = operation.sign * level
    factor = max(0.1, 1 + 0.9 * signed)  # of the enhancers; 1 changes nothing
    matrix: tuple[float, ...]
    match operation.name:
        case "AutoContrast":
            return ImageOps.autocontrast(image)
        case "Equalize":
            return ImageOps.equalize(image)
        case "Invert":
            return ImageOps.invert(image)
        case "Rotate":
            degrees = 30 * signed
            return image.rotate(degrees, operation.resampling, fillcolor=FILL)
        case "PosterizeIncreasing":
            return _posterize(image, 4 - int(4 * level))
        case "SolarizeIncreasing":
            return ImageOps.solarize(image, 256 - int(256 * level))
        case "SolarizeAdd":
            return _brighten_dark(image, int(110 * level))
        case "ColorIncreasing":
            return ImageEnhance.Color(image).enhance(factor)
        case "ContrastIncreasing":
            return ImageEnhance.Contrast(image).enhance(factor)
        case "BrightnessIncreasing":
            return ImageEnhance.Brightness(image).enhance(factor)
        case "SharpnessIncreasing":
            return ImageEnhance.Sharpness(image).enhance(factor)
        case "ShearX":
            matrix = (1, 0.3 * signed, 0, 0, 1, 0)
        case "ShearY":
            matrix = (1, 0, 0, 0.3 * signed, 1, 0)
        case "TranslateXRel":
            matrix = (1, 0, 0.45 * signed * image.width, 0, 1, 0)
        case "TranslateYRel":
            matrix = (1, 0, 0, 0, 1, 0.45 * signed * image.height)
        case name:
            raise AssertionError(name)
    # The matrix takes a pixel of the result to where it comes from.
    return image.transform(
        image.size, Transform.AFFINE, matrix, operation.resampling, fillcolor=FILL
    )


def _posterize(image: Image.Image, bits: int) -> Image.Image:
    # Not ImageOps.posterize, which refuses the 0 bits, so black, of magnitude 10.
    mask = 256 - 2 ** (8 - bits)
    return image.point([value & mask for value in range(256)] * 3)


def _brighten_dark(image: Image.Image, amount: int) -> Image.Image:
    dark = [min(255, value + amount) for value in range(128)]
    return image.point([*dark, *range(128, 256)] * 3)
