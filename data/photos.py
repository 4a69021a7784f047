"""Image files as people have them -> arrays, without TensorFlow.

What `data.decode` can read looks the same here, to the bit.
"""

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data.headers import UnreadableError

_EXIF_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # orientations whose height and width change places
_DEEP = ("I", "F")  # pixels of 32 bits, whose range no file tells


def photo_size(path: str) -> tuple[int, int]:
    """Returns the (height, width) of `read_photo`, from the header alone.

    Raises UnreadableError.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            is_turned = _orientation(image) in _TURNED
    except Exception as error:  # Pillow raises half a dozen types for broken files
        raise _unreadable(path, error) from None
    return (width, height) if is_turned else (height, width)


def read_photo(path: str) -> np.ndarray:
    """Returns uint8 [h w 3] RGB of any file that Pillow knows.

    Grey and palettes become RGB, alpha is dropped, 16 bits keep the upper 8; photos are
    turned as their EXIF orientation says, but no PNG, as in data/decode.py.

    Raises UnreadableError.
    """
    try:
        with Image.open(path) as image:
            if image.mode in _DEEP:
                raise ValueError(f"32 bits a pixel, mode {image.mode}: save it as 8")
            orientation = _orientation(image)
            pixels = _to_rgb(image)
            if orientation != 1:
                pixels = ImageOps.exif_transpose(pixels)
            return np.asarray(pixels)
    except Exception as error:
        raise _unreadable(path, error) from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I;16"):
        # Pillow warns of palettes whose transparency RGB has no place for.
        image.info.pop("transparency", None)
        return image.convert("RGB")
    grey = (np.asarray(image) >> 8).astype(np.uint8)
    rgb = Image.fromarray(grey).convert("RGB")
    rgb.getexif().update(image.getexif())
    return rgb


def _orientation(image: Image.Image) -> int:
    """EXIF's number for how an image is to be turned; 1 for upright."""
    if image.format in ("PNG", "TIFF"):  # Pillow itself turns TIFFs
        return 1
    return image.getexif().get(_EXIF_ORIENTATION, 1)


def _unreadable(path: str, error: Exception) -> UnreadableError:
    if isinstance(error, UnidentifiedImageError):
        reason = "its content is of no image format"
    else:
        reason = getattr(error, "strerror", None) or str(error) or repr(error)
    return UnreadableError(f"{path}: not a readable image ({reason})")
