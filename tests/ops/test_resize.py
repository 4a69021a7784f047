"""Bilinear resizing against PyTorch's numbers and as a linear map."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from segnext_jax.ops import resize
from segnext_jax.ops.resize import resize_bilinear

with np.load(Path(__file__).parent / "golden" / "resize_bilinear.npz") as file:
    GOLDEN = dict(file)
CASES = sorted({name.split("/")[0] for name in GOLDEN})


def uniform(shape, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("case", CASES)
def test_equals_pytorch(monkeypatch, platform, case):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    expected = GOLDEN[f"{case}/output"]
    actual = resize_bilinear(jnp.asarray(GOLDEN[f"{case}/input"]), expected.shape[1:3])
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_both_paths_agree_on_whole_factors(length, factor):
    x = uniform((2, length, 3, 2))
    enlarged = resize._enlarge(x, 1, factor)
    interpolated = resize._interpolate(x, 1, factor * length)
    np.testing.assert_allclose(enlarged, interpolated, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 6), (5, 7), (8, 7), (2, 2)])
def test_gradient_is_the_transpose(size):
    """⟨A x, y⟩ = ⟨x, Aᵀ y⟩, and the map is linear."""
    x, other, y = (
        uniform((1, 4, 3, 2)),
        uniform((1, 4, 3, 2), 1),
        uniform((1, *size, 2)),
    )
    output, vjp = jax.vjp(lambda x: resize_bilinear(x, size), x)
    (transposed,) = vjp(y)
    np.testing.assert_allclose(jnp.sum(output * y), jnp.sum(x * transposed), rtol=1e-5)
    np.testing.assert_allclose(
        resize_bilinear(2 * x - other, size),
        2 * output - resize_bilinear(other, size),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("size", [(6, 4), (5, 3)])
def test_gradient_equals_finite_differences(size):
    x = uniform((1, 3, 2, 2))
    check_grads(lambda x: resize_bilinear(x, size), (x,), order=1, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("size", [(3, 5), (6, 10), (7, 11), (24, 6)])
def test_constants_stay(size):
    x = jnp.full((1, 3, 5, 2), 0.7)
    np.testing.assert_allclose(resize_bilinear(x, size), 0.7, rtol=1e-6)


def test_same_size_is_the_identity():
    x = uniform((2, 3, 5, 2))
    np.testing.assert_array_equal(resize_bilinear(x, (3, 5)), x)


@pytest.mark.parametrize("size", [(6, 10), (7, 12)])
def test_bfloat16_is_interpolated_in_float32(size):
    x = uniform((2, 3, 5, 2)).astype(jnp.bfloat16)
    output = resize_bilinear(x, size)
    assert output.dtype == jnp.bfloat16
    expected = resize_bilinear(x.astype(jnp.float32), size).astype(jnp.bfloat16)
    np.testing.assert_array_equal(
        output.astype(jnp.float32), expected.astype(jnp.float32)
    )


@pytest.mark.parametrize("size", [(6, 10), (12, 40), (7, 12)])
def test_bfloat16_is_rounded_after_either_axis_on_a_tpu(monkeypatch, size):
    x = uniform((2, 3, 5, 2)).astype(jnp.bfloat16)
    y = uniform((2, *size, 2), 1).astype(jnp.bfloat16)

    def run(x, y):
        output, vjp = jax.vjp(lambda x: resize_bilinear(x, size), x)
        return output, *vjp(y)

    x32, y32 = x.astype(jnp.float32), y.astype(jnp.float32)
    exact, largest = run(x32, y32), run(abs(x32), abs(y32))
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    for actual, expected, bound in zip(run(x, y), exact, largest, strict=True):
        assert actual.dtype == jnp.bfloat16
        error = abs(actual.astype(jnp.float32) - expected).max()
        assert 0 < error < 2 * 2**-9 * bound.max()
    # Weights that bfloat16 does not have are not rounded: they sum up to 1.
    ones = resize_bilinear(jnp.ones_like(x), size)
    np.testing.assert_array_equal(ones.astype(jnp.float32), 1)


def test_jit_changes_nothing():
    x = uniform((1, 3, 5, 2))
    np.testing.assert_allclose(
        jax.jit(resize_bilinear, static_argnums=1)(x, (6, 7)),
        resize_bilinear(x, (6, 7)),
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("size", "new_size"),
    [
        ((4, 3), (8, 6)),
        ((5, 7), (12, 9)),
        ((1, 2), (6, 5)),
        ((5, 7), (5, 7)),
        ((5, 7), (3, 4)),
    ],
)
def test_images_in_larger_arrays_are_resized_alone(size, new_size):
    """By the edges of the image, whatever is around it."""
    x = uniform((2, 6, 8, 2))
    other = (6, 8), (7, 8)
    output = resize.resize_valid(
        x, jnp.array([size, other[0]]), jnp.array([new_size, other[1]]), (13, 11)
    )
    h, w = size
    for row, image, (height, width) in (
        (0, x[:1, :h, :w], new_size),
        (1, x[1:], other[1]),
    ):
        expected = resize_bilinear(image, (height, width))
        actual = output[row : row + 1, :height, :width]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
    assert np.isfinite(output).all()


def test_positions_in_long_images_are_exact():
    """Floating point would be off by 1e-3 of a pixel here, and so of the ramp."""
    length, factor = 4000, 8
    ramp = jnp.arange(length, dtype=jnp.float32)[None, None, :, None]
    output = resize.resize_valid(
        ramp,
        jnp.array([[1, length]]),
        jnp.array([[1, length * factor]]),
        (1, length * factor),
    )
    position = (np.arange(length * factor) + 0.5) / factor - 0.5
    expected = np.clip(position, 0, length - 1)
    np.testing.assert_allclose(output[0, 0, :, 0], expected, rtol=1e-7)


def test_full_arrays_are_resized_as_always():
    x = uniform((1, 3, 5, 2))
    output = resize.resize_valid(x, None, None, (6, 7))
    np.testing.assert_array_equal(output, resize_bilinear(x, (6, 7)))
