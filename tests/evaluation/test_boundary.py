"""Boundary IoU against its definition, pixel by pixel."""

import numpy as np
import pytest

from segnext_jax.evaluation.boundary import boundary, boundary_width, count_boundaries
from segnext_jax.evaluation.metrics import divide

VOID = 255


def boundary_in_a_loop(ids, width):
    h, w = ids.shape
    result = np.zeros((h, w), bool)
    for y, x in np.ndindex(h, w):
        rows, columns = (slice(i - width, i + width + 1) for i in (y, x))
        is_inside = (
            min(y, x) >= width and y + width < h and x + width < w
        )  # no pixel of the square is outside
        result[y, x] = not is_inside or (ids[rows, columns] != ids[y, x]).any()
    return result


def count_by_class(label, pred, num_classes):
    """Class by class, by masks, as the paper writes it."""
    width = boundary_width(label.shape)
    label, pred = (np.where(label == VOID, VOID, ids) for ids in (label, pred))
    truth, guess = (boundary_in_a_loop(ids, width) for ids in (label, pred))
    rows = []
    for c in range(num_classes):
        g, p = truth & (label == c), guess & (pred == c)
        rows.append([(g & p).sum(), (g | p).sum()])
    return np.array(rows).T


@pytest.fixture
def pair():
    """Blocks of 4 classes and void, and a prediction that is off here and there."""
    rng = np.random.default_rng(0)
    label = np.kron(rng.integers(0, 5, (4, 9)), np.ones((12, 11), int))
    label[label == 4] = VOID
    pred = np.roll(np.where(label == VOID, 1, label), 2, axis=1)
    pred[20:30, 30:50] = 3
    return label.astype(np.uint8), pred.astype(np.uint8)


@pytest.mark.parametrize("width", [1, 3])
def test_region_is_where_a_square_holds_another_id(pair, width):
    expected = boundary_in_a_loop(pair[0], width)
    assert 0.1 < expected.mean() < 0.9
    np.testing.assert_array_equal(boundary(pair[0], width), expected)


def test_counts_equal_masks_of_every_class(pair):
    counts = count_boundaries(*pair, num_classes=4)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, count_by_class(*pair, 4))
    assert (counts[0] > 0).all() and (counts[0] < counts[1]).all()


def test_a_perfect_prediction_has_one_whatever_it_says_of_void(pair):
    label, _ = pair
    noise = np.random.default_rng(1).integers(0, 4, label.shape)
    pred = np.where(label == VOID, noise, label).astype(np.uint8)
    intersection, union = count_boundaries(label, pred, 4)
    np.testing.assert_array_equal(intersection, union)
    assert (union > 0).all()


def test_a_shifted_contour_costs_more_than_of_the_iou():
    """What the score is for: a large object whose outline is off by some pixels."""
    label, pred = np.zeros((2, 200, 200), np.uint8)
    label[40:160, 40:160] = pred[40:160, 44:164] = 1
    iou = (label & pred).sum() / (label | pred).sum()
    intersection, union = count_boundaries(label, pred, 2)
    assert iou > 0.93
    assert divide(intersection, union)[1] < 0.7


def test_width_follows_the_diagonal():
    assert boundary_width((1024, 2048)) == 46  # 0.02 · 2289.7 = 45.8
    assert boundary_width((10, 10)) == 1


def test_an_image_narrower_than_the_boundary_is_all_boundary():
    ids = np.zeros((3, 400), np.uint8)
    assert boundary_width(ids.shape) == 8
    assert count_boundaries(ids, ids, 1).tolist() == [[1200], [1200]]


def test_an_absent_class_counts_nothing():
    ids = np.zeros((20, 20), np.uint8)
    assert count_boundaries(ids, ids, 3)[:, 1:].sum() == 0
