import io

import numpy as np
import pytest
from PIL import Image

from data.classes import CAMVID
from data.decode import UnreadableError, decode_image, decode_label, decode_record
from data.sources import Record

RNG = np.random.default_rng(0)


def encode(array, format="png", mode=None, **options):
    file = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, format, **options)
    return file.getvalue()


def test_png_image_is_exact():
    image = RNG.integers(0, 256, (7, 9, 3)).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(encode(image), "name"), image)


def test_jpeg_equals_pillow():
    smooth = np.indices((24, 40)).sum(0)[..., np.newaxis] * (1, 2, 3) % 256
    data = encode(smooth.astype(np.uint8), "jpeg", quality=90)
    np.testing.assert_allclose(
        decode_image(data, "name"), np.asarray(Image.open(io.BytesIO(data))), atol=1
    )


def test_grey_image_becomes_rgb():
    grey = RNG.integers(0, 256, (5, 6)).astype(np.uint8)
    expected = np.stack([grey] * 3, axis=-1)
    np.testing.assert_array_equal(decode_image(encode(grey), "name"), expected)


def test_palette_label_gives_indices_not_colours():
    label = RNG.integers(0, 11, (5, 6)).astype(np.uint8)
    image = Image.fromarray(label)
    image.putpalette([x for colour in CAMVID.palette for x in colour])
    assert image.mode == "P"
    file = io.BytesIO()
    image.save(file, "png")
    np.testing.assert_array_equal(decode_label(file.getvalue(), "name"), label)


@pytest.mark.parametrize("format", ["png", "jpeg"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5])
def test_truncated_image_is_unreadable(format, keep):
    data = encode(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8), format)
    with pytest.raises(UnreadableError, match="some/file: not a readable image"):
        decode_image(data[: int(keep * len(data))], "some/file")


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5])
def test_truncated_label_is_unreadable(keep):
    data = encode(RNG.integers(0, 11, (64, 64)).astype(np.uint8))
    with pytest.raises(UnreadableError, match="some/file: not a readable label"):
        decode_label(data[: int(keep * len(data))], "some/file")


def test_colour_label_is_refused_for_good():
    colours = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="a label must be an 8-bit PNG") as error:
        decode_label(encode(colours), "name")
    assert not isinstance(error.value, UnreadableError)


def test_sizes_must_agree():
    image = encode(np.zeros((4, 6, 3), np.uint8))
    label = encode(np.zeros((6, 4), np.uint8))
    with pytest.raises(ValueError, match=r"i\.jpg is \(4, 6\), l\.png is \(6, 4\)"):
        decode_record(Record("i.jpg", image, label, "l.png"), CAMVID)
