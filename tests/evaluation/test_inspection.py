"""What is kept of images while they are evaluated."""

import jax
import numpy as np
import pytest

from segnext_jax.evaluation.boundary import count_boundaries
from segnext_jax.evaluation.inspection import Inspection
from segnext_jax.evaluation.metrics import Confusion, count_pixels


def image(seed, size=(30, 40)):
    """(image, label, pred) with void, of 4 classes; the more right, the larger seed."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 5, size).astype(np.uint8)
    label[label == 4] = 255
    is_right = rng.random(size) < seed / 20
    pred = np.where(is_right & (label < 4), label, rng.integers(0, 4, size))
    return np.full((*size, 3), seed, np.uint8), label, pred.astype(np.uint8)


@pytest.fixture
def inspect():
    def run(order, num_worst=3):
        inspection = Inspection(4, num_worst)
        for seed in order:
            inspection(seed, *image(seed))
        return inspection

    return run


def test_boundaries_are_summed(inspect):
    expected = sum(count_boundaries(*image(seed)[1:], 4) for seed in range(20))
    np.testing.assert_array_equal(inspect(range(20)).boundary(), expected)


def test_worst_images_come_first_in_any_order(inspect):
    order = np.random.default_rng(0).permutation(20).tolist()
    worst = inspect(order).worst()
    scores = []
    for seed in range(20):
        _, label, pred = (x[None] for x in image(seed))
        counts = count_pixels(label, jax.numpy.asarray(pred), np.array([True]), 4)
        scores.append(Confusion.of(counts).compute()["miou"])
    expected = np.argsort(scores, kind="stable")[:3]
    assert [each.index for each in worst] == expected.tolist()
    np.testing.assert_allclose([each.miou for each in worst], np.sort(scores)[:3])
    for each in worst:
        for kept, given in zip(
            (each.image, each.label, each.pred), image(each.index), strict=True
        ):
            np.testing.assert_array_equal(kept, given)
            assert kept.base is None  # a view would keep its whole batch


def test_equal_images_are_told_by_their_index():
    inspection = Inspection(4, 2)
    for index in (5, 3, 4):
        inspection(index, *image(7))
    assert [each.index for each in inspection.worst()] == [3, 4]


def test_images_without_labels_are_not_the_worst():
    inspection = Inspection(4, 2)
    picture, label, pred = image(7)
    inspection(0, picture, np.full_like(label, 255), pred)
    assert inspection.worst() == []
    assert inspection.boundary().sum() == 0


def test_an_error_in_a_thread_is_raised():
    inspection = Inspection(4)
    picture, label, pred = image(7)
    inspection(0, picture, label, pred[1:])
    with pytest.raises((ValueError, IndexError)):
        inspection.boundary()
