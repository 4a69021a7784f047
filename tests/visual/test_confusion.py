"""The picture of the confusion matrix, by its pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from segnext_jax.visual.confusion import draw_confusion

NAMES = ("road", "car", "sky")


def read(file):
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(int)


def cells(counts, names=NAMES):
    """Pixels of the cells, [c][c] of [h w 3]."""
    picture = read(draw_confusion(np.array(counts), names))
    is_frame = (np.abs(picture - 0xBB) < 12).all(axis=-1)
    (top, *_, bottom), (left, *_, right) = (
        np.flatnonzero(is_frame.sum(axis=axis) > 100) for axis in (1, 0)
    )
    inside = picture[top + 4 : bottom - 3, left + 4 : right - 3]
    rows = np.array_split(inside, len(names))
    return [np.array_split(row, len(names), axis=1) for row in rows]


def colors(counts):
    """Of the cells, [c c 3]."""
    return np.array([[np.median(x, axis=(0, 1)) for x in row] for row in cells(counts)])


def test_cells_are_shares_of_their_row():
    color = colors([[90, 10, 0], [1, 1, 0], [0, 0, 7000]])
    blueness = 255 - color[..., 0]
    assert blueness[2, 2] == blueness.max()
    assert blueness[0, 0] > blueness[1, 0] > blueness[0, 1] > blueness[0, 2]
    np.testing.assert_array_equal(color[1, 0], color[1, 1])
    np.testing.assert_array_equal(color[0, 2], color[2, 0])


def test_a_row_without_pixels_is_grey():
    color = colors([[5, 0, 0], [0, 0, 0], [1, 0, 1]])
    assert (color[1] == 0xE4).all()
    assert not (color[[0, 2]] == 0xE4).all(axis=-1).any()


@pytest.mark.parametrize("num_classes", [1, 11, 19, 150])
def test_it_grows_with_the_classes_and_stays_a_picture(num_classes):
    names = [f"class number {i}" for i in range(num_classes)]
    height, width, _ = read(draw_confusion(np.eye(num_classes), names)).shape
    assert 0.85 < width / height < 1.2
    pixels = 20 if num_classes > 40 else 50  # of a cell: letters of it are legible
    assert pixels * num_classes < width < 4000


@pytest.mark.parametrize(("num_classes", "is_written"), [(3, True), (50, False)])
def test_values_are_written_where_they_fit(num_classes, is_written):
    """White on the dark cells of the diagonal."""
    names = [str(i) for i in range(num_classes)]
    cell = cells(np.eye(num_classes, dtype=int), names)[1][1]
    middle = cell[3:-3, 3:-3]
    assert (middle.min(axis=-1) > 240).any() == is_written
    assert np.median(middle[..., 0]) < 30


def test_names_must_be_of_the_classes():
    with pytest.raises(ValueError, match=r"3 class names but a confusion matrix \[2, "):
        draw_confusion(np.eye(2), NAMES)
