"""Classes of enlarged logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.ops import argmax
from segnext_jax.ops.resize import resize_bilinear


def draw(shape):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


# Strips have 4 rows: as many, fewer, and a last one that overlaps the one before.
@pytest.mark.parametrize(
    ("shape", "factors"),
    [((1, 4, 5, 3), (8, 8)), ((2, 2, 3, 5), (8, 4)), ((1, 9, 6, 40), (2, 1))],
)
def test_strips_equal_the_argmax_of_the_enlarged_logits(shape, factors):
    logits = draw(shape)
    size = (shape[1] * factors[0], shape[2] * factors[1])
    actual = jax.jit(argmax._argmax_by_rows, static_argnums=(1, 2))(logits, *factors)
    scores = np.asarray(resize_bilinear(logits, size))
    assert actual.dtype == jnp.uint8
    np.testing.assert_array_equal(actual, scores.argmax(axis=-1))
    assert len(np.unique(actual)) > 2


def test_first_class_wins_a_tie():
    pred = argmax._argmax_by_rows(jnp.ones((1, 4, 4, 7)), 8, 8)
    assert not pred.any()


def test_class_255_fits():
    logits = jnp.zeros((1, 2, 2, 256)).at[..., 255].set(1.0)
    assert (argmax.argmax_enlarged(logits, (4, 4)) == 255).all()


def test_other_factors_take_the_long_way():
    logits = draw((1, 5, 4, 6))
    actual = argmax.argmax_enlarged(logits, (13, 11))
    expected = np.asarray(resize_bilinear(logits, (13, 11))).argmax(axis=-1)
    np.testing.assert_array_equal(actual, expected)
