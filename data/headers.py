"""What the first bytes of an image tell, without decoding it; without TensorFlow."""

import io
import struct

from PIL import Image

from data import tiles

_JPEG = b"\xff\xd8"
_EXIF_ORIENTATION = 0x0112  # how a camera was held
_TURNED = (5, 6, 7, 8)  # by a quarter: height and width change places


class UnreadableError(ValueError):
    """A file whose content cannot be decoded."""


def image_size(data: bytes, name: str) -> tuple[int, int]:
    """Returns (height, width) of an encoded image, upright as it will be decoded.

    Raises UnreadableError, which calls it `name`.
    """
    try:
        if data.startswith(tiles.MAGIC):
            return tiles.size(data)
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
        if is_jpeg(data) and orientation(data) in _TURNED:
            height, width = width, height
    # Pillow raises half a dozen types for broken files.
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise unreadable_image(data, name) from error
    return height, width


def orientation(data: bytes) -> int:
    """EXIF's number for how an image is turned; 1 for upright, and without a tag."""
    # Pillow takes longer to look than the search of a block that mostly holds pixels.
    if not is_jpeg(data) or b"Exif\0\0" not in data[: 1 << 16]:
        return 1
    with Image.open(io.BytesIO(data)) as image:
        return image.getexif().get(_EXIF_ORIENTATION, 1)


def is_jpeg(data: bytes) -> bool:
    return data.startswith(_JPEG)


def unreadable_image(data: bytes, name: str) -> UnreadableError:
    """The error for an image that cannot be decoded."""
    return UnreadableError(
        f"{name}: not a readable image; its {len(data)} bytes are damaged, cut off,"
        " or no JPEG, PNG or BMP"
    )
