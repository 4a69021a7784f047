import numpy as np
import pytest

from data import tiles

RNG = np.random.default_rng(0)
SIZES = [(1, 1), (256, 256), (257, 512), (300, 1100)]


def random_image(size):
    return RNG.integers(0, 256, (*size, 3)).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_lossless(size):
    image = random_image(size)
    np.testing.assert_array_equal(tiles.decode(tiles.encode(image)), image)


@pytest.mark.parametrize(
    "window",
    [
        (slice(0, 1), slice(0, 1)),
        (slice(255, 257), slice(511, 513)),
        (slice(256, 300), slice(0, 1100)),
        (slice(40, 41), slice(1099, 1100)),
    ],
)
def test_window_is_exact_and_tiles_outside_it_are_not_decoded(window):
    image = 1 + random_image((300, 1100)) // 2
    part = tiles.decode(tiles.encode(image), window)
    assert part.shape == image.shape
    np.testing.assert_array_equal(part[window], image[window])
    decoded = part.any(-1)
    np.testing.assert_array_equal(part[decoded], image[decoded])
    touched = {(y // 128, x // 256) for y, x in np.argwhere(decoded)}
    rows, columns = window
    assert touched == {
        (y // 128, x // 256)
        for y in range(rows.start, rows.stop)
        for x in range(columns.start, columns.stop)
    }


@pytest.mark.parametrize("keep", [8, 20, 40, 100, -1])
def test_cut_off_data_is_refused(keep):
    data = tiles.encode(random_image((300, 1100)))
    with pytest.raises(ValueError):
        tiles.decode(data[:keep])


def test_tile_that_is_no_qoi_is_refused():
    data = bytearray(tiles.encode(random_image((40, 50))))
    start = data.index(b"qoif")
    data[start : start + 4] = b"oops"
    with pytest.raises(ValueError):
        tiles.decode(bytes(data))


def test_tile_of_another_size_is_refused():
    image = random_image((300, 1100))
    small, large = (tiles.encode(x) for x in (image[:128, :200], image[:128, :256]))
    header = len(tiles.MAGIC) + 5 * 4 + 4
    forged = large[: header - 4] + small[header - 4 :]
    with pytest.raises(ValueError, match="not"):
        tiles.decode(forged)
