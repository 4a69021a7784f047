import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from data import tiles
from data.decode import UnreadableError, decode_image, decode_label, decode_record
from data.sources import Record
from data.sources.camvid import CAMVID

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


def test_colour_label_keeps_its_colours():
    colours = RNG.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    np.testing.assert_array_equal(decode_label(encode(colours), "name"), colours)


def test_16_bit_label_keeps_its_ids():
    raw = np.array([[0, 7, 255, 300, 65535]], np.uint16)
    label = decode_label(encode(raw), "name")
    assert label.dtype == np.uint16
    np.testing.assert_array_equal(label, raw)


def grey_png(ids, bits):
    """A grey PNG of 1, 2 or 4 bits a pixel, which Pillow does not write."""
    rows = [
        np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel())
        for row in ids
    ]
    scanlines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(scanlines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_small_grey_labels_are_not_spread_over_a_byte(bits):
    ids = RNG.integers(0, 2**bits, (5, 9)).astype(np.uint8)
    label = decode_label(grey_png(ids, bits), "name")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, ids)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_small_palette_labels_give_indices(bits):
    ids = RNG.integers(0, 2**bits, (5, 9)).astype(np.uint8)
    image = Image.fromarray(ids)
    image.putpalette([x for i in range(2**bits) for x in (255 - i, i, 7)])
    file = io.BytesIO()
    image.save(file, "png", bits=bits)
    np.testing.assert_array_equal(decode_label(file.getvalue(), "name"), ids)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode(np.zeros((4, 4), np.uint8), "jpeg"), "must be a PNG, not a JPEG"),
        (encode(np.zeros((4, 4), np.uint8), mode="LA"), "this one is 'LA'"),
        (encode(np.zeros((4, 4, 4), np.uint8)), "this one is 'RGBA'"),
    ],
)
def test_other_labels_are_refused_for_good(data, message):
    with pytest.raises(ValueError, match=f"some/file: .*{message}") as error:
        decode_label(data, "some/file")
    assert not isinstance(error.value, UnreadableError)


def test_16_bit_image_keeps_its_upper_bits():
    image = RNG.integers(0, 2**16, (5, 6)).astype(np.uint16)
    expected = np.stack([image >> 8] * 3, axis=-1)
    np.testing.assert_array_equal(decode_image(encode(image), "name"), expected)


def test_palette_image_becomes_rgb():
    palette = RNG.integers(0, 256, (8, 3)).astype(np.uint8)
    indices = RNG.integers(0, 8, (5, 6)).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.ravel().tolist())
    file = io.BytesIO()
    image.save(file, "png")
    np.testing.assert_array_equal(
        decode_image(file.getvalue(), "name"), palette[indices]
    )


def photo(size=(70, 90)):
    """Smooth, so that JPEG keeps it well; different in every corner."""
    y, x = np.indices(size) / np.reshape(size, (2, 1, 1))
    return (np.stack([y, x, 1 - y * x], -1) * 255).astype(np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_turned_as_its_exif_tag_says(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo(), "jpeg", quality=95, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_allclose(decode_image(data, "name"), expected, atol=1)
    window = slice(3, 20), slice(30, 55)
    np.testing.assert_allclose(
        decode_image(data, "name", window)[window], expected[window], atol=1
    )


@pytest.mark.parametrize("format", ["jpeg", "png", "bmp", "tiles"])
def test_window_equals_that_of_the_whole_image(format):
    noise = RNG.integers(0, 256, (300, 333, 3)).astype(np.uint8)
    data = tiles.encode(noise) if format == "tiles" else encode(noise, format)
    whole = decode_image(data, "name")
    for top, bottom, left, right in [
        (0, 300, 0, 333),
        (17, 18, 5, 6),
        (100, 300, 33, 201),
        (255, 258, 320, 333),
    ]:
        window = slice(top, bottom), slice(left, right)
        part = decode_image(data, "name", window)
        assert part.shape == whole.shape
        np.testing.assert_array_equal(part[window], whole[window])


def test_window_beyond_the_image_is_no_error():
    """The label, which was larger, chose it; the sizes are compared afterwards."""
    data = encode(photo(), "jpeg")
    assert decode_image(data, "name", (slice(60, 99), slice(95, 120))).shape == (
        70,
        90,
        3,
    )


def test_sizes_must_agree():
    image = encode(np.zeros((4, 6, 3), np.uint8))
    label = encode(np.zeros((6, 4), np.uint8))
    with pytest.raises(ValueError, match=r"i\.jpg is \(4, 6\), l\.png is \(6, 4\)"):
        decode_record(Record("i.jpg", image, label, "l.png"), CAMVID)


def test_turned_image_whose_label_is_not_is_named():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = encode(photo(), "jpeg", exif=exif)
    label = encode(np.zeros((70, 90), np.uint8))
    with pytest.raises(ValueError, match=r"\(90, 70\) \(turned by its EXIF tag\), l"):
        decode_record(Record("i.jpg", image, label, "l.png"), CAMVID)
