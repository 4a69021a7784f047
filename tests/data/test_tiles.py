import numpy as np
import pytest
import tensorflow as tf

from data import tiles

RNG = np.random.default_rng(0)
SIZES = [(1, 1), (256, 256), (257, 512), (300, 700)]
DAMAGE = (ValueError, tf.errors.OpError)


def random_image(size, channels=3):
    return RNG.integers(0, 256, (*size, channels)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_lossless(size, channels):
    image = random_image(size, channels)
    np.testing.assert_array_equal(tiles.decode(tiles.encode(image), channels), image)


@pytest.mark.parametrize(
    "window",
    [
        (slice(0, 1), slice(0, 1)),
        (slice(255, 257), slice(511, 513)),
        (slice(256, 300), slice(0, 700)),
        (slice(40, 41), slice(699, 700)),
    ],
)
def test_window_is_exact_and_tiles_outside_it_are_not_decoded(window):
    image = 1 + random_image((300, 700)) // 2
    part = tiles.decode(tiles.encode(image), 3, window)
    assert part.shape == image.shape
    np.testing.assert_array_equal(part[window], image[window])
    decoded = part.any(-1)
    np.testing.assert_array_equal(part[decoded], image[decoded])
    touched = {(y // 256, x // 256) for y, x in np.argwhere(decoded)}
    rows, columns = window
    assert touched == {
        (y // 256, x // 256)
        for y in range(rows.start, rows.stop)
        for x in range(columns.start, columns.stop)
    }


@pytest.mark.parametrize("keep", [8, 20, 40, 100, -1])
def test_cut_off_data_is_refused(keep):
    data = tiles.encode(random_image((300, 700)))
    with pytest.raises(DAMAGE):
        tiles.decode(data[:keep], 3)


def test_damaged_tile_is_refused():
    data = bytearray(tiles.encode(random_image((300, 700))))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(DAMAGE):
        tiles.decode(bytes(data), 3)
