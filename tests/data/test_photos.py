"""Photos without TensorFlow, against `data.decode`, which training reads them with."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from data.decode import decode_image
from data.headers import UnreadableError
from data.photos import photo_size, read_photo

RNG = np.random.default_rng(0)
SIZE = (21, 34)
ORIENTATION = 0x0112


def noise(*channels, dtype=np.uint8):
    return RNG.integers(0, np.iinfo(dtype).max + 1, (*SIZE, *channels), dtype)


def encode(image, format="png", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def paletted(bits, **options):
    image = Image.fromarray(noise() >> 8 - bits)
    image.putpalette(RNG.integers(0, 256, 3 * 2**bits, np.uint8).tobytes())
    return encode(image, bits=bits, **options)


def exif(orientation):
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


FILES = {
    "rgb": encode(Image.fromarray(noise(3))),
    "rgba": encode(Image.fromarray(noise(4))),
    "grey": encode(Image.fromarray(noise())),
    "grey_alpha": encode(Image.fromarray(noise(2))),
    "black_white": encode(Image.fromarray(noise()).convert("1")),
    "palette": paletted(8),
    "palette_16": paletted(4),
    "palette_with_alpha": paletted(8, transparency=bytes(range(256))),
    "palette_with_clear_colour": paletted(4, transparency=3),
    "grey_16_bits": encode(Image.fromarray(noise(dtype=np.uint16))),
    "rgb_16_bits": cv2.imencode(".png", noise(3, dtype=np.uint16))[1].tobytes(),
    "rgba_16_bits": cv2.imencode(".png", noise(4, dtype=np.uint16))[1].tobytes(),
    "png_with_tag": encode(Image.fromarray(noise(3)), exif=exif(6)),
    "bmp": encode(Image.fromarray(noise(3)), "bmp"),
    "grey_jpeg": encode(Image.fromarray(noise()), "jpeg"),
    "progressive_jpeg": encode(Image.fromarray(noise(3)), "jpeg", progressive=True),
    "halved_chroma": encode(Image.fromarray(noise(3)), "jpeg", subsampling=2),
    "full_chroma": encode(Image.fromarray(noise(3)), "jpeg", subsampling=0),
    **{
        f"turned_{i}": encode(Image.fromarray(noise(3)), "jpeg", exif=exif(i))
        for i in range(1, 9)
    },
}


@pytest.mark.parametrize("name", FILES)
def test_photo_is_what_training_decodes(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    photo = read_photo(str(path))
    assert photo.dtype == np.uint8
    np.testing.assert_array_equal(photo, decode_image(FILES[name], name))
    assert photo_size(str(path)) == photo.shape[:2]


@pytest.mark.parametrize("format", ["webp", "tiff"])
def test_formats_that_training_does_not_read(format, tmp_path):
    path, image = tmp_path / "photo", noise(3)
    options = {"lossless": True} if format == "webp" else {}
    path.write_bytes(encode(Image.fromarray(image), format, exif=exif(8), **options))
    turned = image[:, ::-1].swapaxes(0, 1)
    np.testing.assert_array_equal(read_photo(str(path)), turned)
    assert photo_size(str(path)) == turned.shape[:2]


def test_big_endian_16_bits(tmp_path):
    path, image = tmp_path / "grey.tiff", noise(dtype=np.uint16)
    Image.frombytes("I;16B", SIZE[::-1], image.astype(">u2").tobytes()).save(path)
    expected = np.stack([image >> 8] * 3, axis=-1)
    np.testing.assert_array_equal(read_photo(str(path)), expected)


@pytest.mark.parametrize("name", ["rgb", "full_chroma"])
def test_header_of_a_cut_photo_is_readable_and_the_rest_is_not(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(FILES[name][:-100])
    assert photo_size(str(path)) == SIZE
    with pytest.raises(UnreadableError, match=rf"{path}: not a readable image \(.+\)"):
        read_photo(str(path))


@pytest.mark.parametrize("read", [photo_size, read_photo])
def test_what_is_no_photo_is_named(read, tmp_path):
    path = tmp_path / "letter.jpg"
    with pytest.raises(UnreadableError, match=rf"{path}: .*\(No such file"):
        read(str(path))
    path.write_bytes(b"Dear reader")
    with pytest.raises(UnreadableError, match=rf"{path}: .* of no image format"):
        read(str(path))
    path.write_bytes(b"")
    with pytest.raises(UnreadableError, match=str(path)):
        read(str(path))


def test_pixels_of_unknown_range_are_refused(tmp_path):
    path = tmp_path / "depth.tiff"
    Image.fromarray(np.ones(SIZE, np.float32)).save(path)
    with pytest.raises(UnreadableError, match="32 bits a pixel, mode F"):
        read_photo(str(path))
