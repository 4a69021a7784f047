"""Images smaller than their arrays: masks, mirror images, sizes after a stride."""

import jax.numpy as jnp
import numpy as np

from segnext_jax.ops.valid import flip_horizontally, halve, inside, zero_outside

SIZE = jnp.array([[2, 3], [4, 1]], jnp.int32)


def ones():
    return jnp.ones((2, 4, 5, 3))


def test_inside_is_the_top_left_corner():
    mask = inside((2, 4, 5, 3), SIZE)
    assert mask.shape == (2, 4, 5, 1) and mask.dtype == bool
    expected = np.zeros((2, 4, 5, 1), bool)
    expected[0, :2, :3] = expected[1, :4, :1] = True
    np.testing.assert_array_equal(mask, expected)


def test_outside_becomes_zero_even_where_it_was_not_finite():
    x = jnp.where(inside((2, 4, 5, 3), SIZE), ones(), jnp.nan)
    zeroed = zero_outside(x, SIZE)
    np.testing.assert_array_equal(zeroed[0].sum((0, 1)), [6, 6, 6])
    np.testing.assert_array_equal(zeroed[1].sum((0, 1)), [4, 4, 4])
    half = zero_outside(ones().astype(jnp.bfloat16), SIZE)
    assert half.dtype == jnp.bfloat16


def test_full_arrays_are_left_alone():
    x = ones()
    assert zero_outside(x, None) is x
    assert halve(None) is None


def test_halve_is_the_length_of_a_strided_convolution():
    for length in range(1, 20):
        outputs = len(range(0, length, 2))  # kernel 3, stride 2, padding 1
        size = jnp.array([[length, 1]], jnp.int32)
        assert halve(size).tolist() == [[outputs, 1]]


def test_images_are_mirrored_in_their_own_width():
    x = jnp.arange(40.0).reshape(2, 4, 5, 1)
    flipped = flip_horizontally(x, SIZE)
    np.testing.assert_array_equal(flipped[0, :, :3], x[0, :, 2::-1])
    np.testing.assert_array_equal(flipped[1, :, :1], x[1, :, :1])
    np.testing.assert_array_equal(flip_horizontally(x, None), x[:, :, ::-1])
    np.testing.assert_array_equal(flip_horizontally(flipped, SIZE), x)
