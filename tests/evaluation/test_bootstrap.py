"""Intervals of the mIoU: what they cover, and where there is no spread."""

import numpy as np
import pytest

from segnext_jax.evaluation.bootstrap import miou_interval


def images(num_images, seed):
    """Counts of images of 3 classes; which half of the pixels is right differs."""
    rng = np.random.default_rng(seed)
    labelled = rng.integers(1, 100, (num_images, 3))
    intersection = rng.binomial(labelled, rng.uniform(0.2, 0.8, (num_images, 1)))
    predicted = intersection + rng.integers(0, 40, (num_images, 3))
    return intersection, labelled, predicted


def miou(intersection, labelled, predicted):
    i, a, b = (x.sum(axis=0) for x in (intersection, labelled, predicted))
    return np.mean(i / (a + b - i))


def test_interval_is_of_the_score():
    counts = images(60, 0)
    low, high = miou_interval(*counts)
    assert low < miou(*counts) < high
    assert 0.02 < high - low < 0.15
    assert miou_interval(*counts) == (low, high)  # the seed is fixed
    assert miou_interval(*counts, seed=1) != (low, high)
    narrow = miou_interval(*counts, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_interval_covers_what_a_large_set_scores():
    """95 % intervals of 200 sets of 50 images: right about 190 times."""
    truth = miou(*images(200_000, 0))
    hits = 0
    for seed in range(1, 201):
        low, high = miou_interval(*images(50, seed), num_draws=200)
        hits += low <= truth <= high
    assert 180 <= hits <= 198


def test_draws_equal_a_loop_over_images():
    counts = images(5, 3)
    rng = np.random.default_rng(7)
    scores = []
    for times in rng.multinomial(5, np.full(5, 0.2), size=50):
        drawn = np.repeat(np.arange(5), times)
        scores.append(miou(*(x[drawn] for x in counts)))
    expected = np.percentile(scores, [2.5, 97.5])
    actual = miou_interval(*counts, num_draws=50, seed=7)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("num_images", [1, 40])
def test_equal_images_have_no_spread(num_images):
    counts = [np.repeat(x, num_images, axis=0) for x in images(1, 0)]
    low, high = miou_interval(*counts)
    assert low == high == pytest.approx(miou(*counts))


def test_a_class_may_be_missing_in_a_draw():
    """It is then left out, or counts zero."""
    intersection = np.array([[4, 0], [4, 2]])
    labelled, predicted = np.array([[8, 0], [8, 2]]), intersection
    assert miou_interval(intersection, labelled, predicted) == (0.5, 0.75)
    zero = miou_interval(intersection, labelled, predicted, absent="zero")
    assert zero == (0.25, 0.75)


def test_nothing_to_score_gives_nan():
    assert np.isnan(miou_interval(*np.zeros((3, 0, 2), int))).all()
    assert np.isnan(miou_interval(*np.zeros((3, 4, 2), int))).all()
