import numpy as np
import pytest

from data import stateless


def test_uniform_is_a_function_of_its_arguments():
    draws = stateless.uniform(1, stateless.AUGMENTATION, 2, 50)
    np.testing.assert_array_equal(
        draws, stateless.uniform(1, stateless.AUGMENTATION, 2, 50)
    )
    for other in [(2, 1, 2), (1, 0, 2), (1, 1, 3)]:
        assert not np.intersect1d(draws, stateless.uniform(*other, 50)).size


def test_uniform_is_uniform_over_indices():
    draws = np.array([stateless.uniform(0, 1, k, 2) for k in range(4000)])
    assert draws.min() >= 0 and draws.max() < 1
    np.testing.assert_allclose(draws.mean(0), 0.5, atol=0.015)
    np.testing.assert_allclose(draws.std(0), 12**-0.5, atol=0.01)
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.05


def test_values_are_pinned():
    """They must never change: a resumed run would see other data."""
    assert stateless.uniform(7, 1, 5, 2).tolist() == [
        0.4460889564336221,
        0.9078773680255806,
    ]
    assert stateless.permutation(7, 3, 8).tolist() == [6, 5, 1, 4, 0, 3, 7, 2]


@pytest.mark.parametrize("n", [1, 2, 367])
def test_permutation(n):
    orders = [stateless.permutation(0, epoch, n) for epoch in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(n))
    if n > 2:
        assert (orders[0] != orders[1]).any() and (orders[1] != orders[2]).any()
