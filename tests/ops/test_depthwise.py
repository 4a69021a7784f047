"""Depthwise convolution: every implementation is the same function."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from segnext_jax.ops import banded
from segnext_jax.ops.depthwise import depthwise_conv

KERNELS = [(1, 1), (3, 3), (5, 5), (1, 7), (7, 1), (1, 21), (21, 1), (3, 5)]
# Odd and even heights (their kernel gradients go one or two rows at a time); all are
# smaller than the longest strip, the last one than a 5×5.
SIZES = [(7, 6), (8, 5), (1, 3)]
BF16_ROUNDING = 2.0**-8  # half a unit in the last of 8 significant bits


def grouped_conv(x, kernel):
    """JAX's own depthwise convolution: x [b h w c], kernel [kh kw c]."""
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
        precision=lax.Precision.HIGHEST,
    )


def draw(size, kernel_size, dtype=jnp.float32, batch=2, channels=3):
    """(x, kernel, cotangent)."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (batch, *size, channels))
    kernel = rng.uniform(-1, 1, (*kernel_size, channels))
    cotangent = rng.uniform(-1, 1, x.shape)
    return tuple(jnp.asarray(a, dtype) for a in (x, kernel, cotangent))


@pytest.mark.parametrize("implementation", ["shift", "triton"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel_size", KERNELS)
def test_own_convolutions_equal_the_grouped_one_and_its_gradients(
    kernel_size, size, implementation
):
    assert_equals_the_grouped_convolution(kernel_size, size, implementation)


@pytest.mark.parametrize(
    ("kernel_size", "size"), [((1, 7), (2, 17)), ((21, 1), (67, 1)), ((3, 3), (3, 13))]
)
def test_gradient_of_images_longer_than_the_kernel(kernel_size, size):
    """Its products are summed by runs of pixels, of which the last one is cut off."""
    assert_equals_the_grouped_convolution(kernel_size, size, "shift")


@pytest.mark.parametrize("longest", [8, 256])
@pytest.mark.parametrize("size", [*SIZES, (20, 17)])
@pytest.mark.parametrize("kernel_size", [(5, 5), (1, 7), (7, 1), (1, 21), (21, 1)])
def test_banded_matrices_of_a_tpu(monkeypatch, kernel_size, size, longest):
    """Of whole sides, and of parts of sides that are longer than `longest`."""
    assert banded.is_worth_its_matrices((2, *size, 3), kernel_size)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    monkeypatch.setattr(banded, "_LONGEST", longest)
    assert_equals_the_grouped_convolution(kernel_size, size, "auto")


def test_few_rows_are_not_worth_a_matrix():
    """Those of SegNeXt-T's first stage where 32 devices share a 1024² image."""
    assert not banded.is_worth_its_matrices((8, 8, 256, 32), (1, 21))
    assert banded.is_worth_its_matrices((8, 8, 256, 32), (21, 1))


def assert_equals_the_grouped_convolution(kernel_size, size, implementation):
    x, kernel, cotangent = draw(size, kernel_size)

    def conv(x, kernel):
        return depthwise_conv(x, kernel, implementation=implementation)

    actual, actual_vjp = jax.vjp(conv, x, kernel)
    expected, expected_vjp = jax.vjp(grouped_conv, x, kernel)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    for a, e in zip(actual_vjp(cotangent), expected_vjp(cotangent), strict=True):
        assert a.shape == e.shape
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-5)


def test_definition_written_as_loops():
    x, kernel, _ = draw((4, 3), (3, 5), batch=1, channels=2)
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (2, 2), (0, 0)))
    expected = np.zeros_like(x)
    for row, column, i, j in np.ndindex(4, 3, 3, 5):
        expected[0, row, column] += padded[0, row + i, column + j] * kernel[i, j]
    for implementation in ("shift", "xla", "triton", "auto", "portable"):
        actual = depthwise_conv(x, kernel, implementation=implementation)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("implementation", ["shift", "xla"])
@pytest.mark.parametrize("size", [(3, 4), (4, 3)])
def test_gradient_equals_finite_differences(implementation, size):
    x, kernel, _ = draw(size, (3, 5), batch=1, channels=2)

    def conv(x, kernel):
        return depthwise_conv(x, kernel, implementation=implementation)

    check_grads(conv, (x, kernel), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_jit_and_vmap_change_nothing():
    x, kernel, cotangent = draw((6, 5), (1, 7))

    def value_and_grads(x, kernel):
        conv = jax.vjp(lambda *a: depthwise_conv(*a, implementation="shift"), x, kernel)
        return conv[0], conv[1](cotangent)

    expected = value_and_grads(x, kernel)
    batched = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), (x, kernel))
    mapped = jax.vmap(value_and_grads)(*batched)
    for actual in (
        jax.jit(value_and_grads)(x, kernel),
        jax.tree.map(lambda a: a[0], mapped),
    ):
        jax.tree.map(
            lambda a, e: np.testing.assert_allclose(a, e, rtol=0, atol=1e-5),
            actual,
            expected,
        )
    np.testing.assert_allclose(mapped[0][1], 4 * expected[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel_size", [(5, 5), (1, 21), (7, 1)])
def test_bfloat16_rounds_once(kernel_size):
    assert_rounds_once(kernel_size, "shift")


@pytest.mark.parametrize("kernel_size", [(5, 5), (1, 21), (7, 1)])
def test_banded_matrices_round_once(monkeypatch, kernel_size):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")

    def product(equation, *arrays):
        """In float32: CPUs do not multiply bfloat16 into it."""
        arrays = [array.astype(jnp.float32) for array in arrays]
        return jnp.einsum(equation, *arrays, precision=lax.Precision.HIGHEST)

    monkeypatch.setattr(banded, "_product", product)
    assert_rounds_once(kernel_size, "auto")


def assert_rounds_once(kernel_size, implementation):
    """Products, sums and the kernel's gradient accumulate in float32."""
    x, kernel, cotangent = draw((8, 9), kernel_size, jnp.bfloat16)

    def value_and_grads(*arrays):
        x, kernel, cotangent = arrays
        y, vjp = jax.vjp(
            lambda *a: depthwise_conv(*a, implementation=implementation), x, kernel
        )
        return y, *vjp(cotangent)

    actual = value_and_grads(x, kernel, cotangent)
    expected = value_and_grads(*(a.astype(jnp.float32) for a in (x, kernel, cotangent)))
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(
            a.astype(jnp.float32), e, rtol=1.01 * BF16_ROUNDING, atol=1e-6
        )


@pytest.mark.parametrize("size", [(32, 32), (31, 32)])
def test_bfloat16_kernel_gradient_does_not_stall(size):
    """A sum of ones in bfloat16 stops at 256, where 256 + 1 rounds to 256."""
    x = jnp.ones((2, *size, 1), jnp.bfloat16)
    kernel = jnp.zeros((3, 1, 1), jnp.bfloat16)

    def total(kernel):
        y = depthwise_conv(x, kernel, implementation="shift")
        return jnp.sum(y.astype(jnp.float32))

    h, w = size
    above, centre, below = jax.grad(total)(kernel).astype(jnp.float32)[:, 0, 0]
    np.testing.assert_allclose(centre, 2 * h * w, rtol=BF16_ROUNDING)
    np.testing.assert_allclose([above, below], 2 * (h - 1) * w, rtol=BF16_ROUNDING)


def test_channels_do_not_mix():
    x, kernel, _ = draw((5, 5), (3, 3))
    changed = depthwise_conv(x.at[..., 1].add(1.0), kernel, implementation="shift")
    difference = np.abs(changed - depthwise_conv(x, kernel, implementation="shift"))
    assert difference[..., [0, 2]].max() == 0
    assert difference[..., 1].min() > 0


@pytest.mark.parametrize(
    ("x", "kernel", "message"),
    [
        (np.zeros((1, 4, 4, 3)), np.zeros((2, 3, 3)), r"odd, got \(2, 3\)"),
        (np.zeros((1, 4, 4, 3)), np.zeros((3, 4, 3)), r"odd, got \(3, 4\)"),
        (np.zeros((1, 4, 4, 3)), np.zeros((3, 3, 2)), r"\[b h w 2\].*\(1, 4, 4, 3\)"),
        (np.zeros((4, 4, 3)), np.zeros((3, 3, 3)), r"\[b h w 3\].*\(4, 4, 3\)"),
    ],
)
def test_misfits_are_named(x, kernel, message):
    with pytest.raises(ValueError, match=message):
        depthwise_conv(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32))


def test_mixed_dtypes_are_named():
    x, kernel, _ = draw((4, 4), (3, 3))
    with pytest.raises(ValueError, match="x is bfloat16 but the kernel is float32"):
        depthwise_conv(x.astype(jnp.bfloat16), kernel)


def test_unknown_implementation_is_named():
    x, kernel, _ = draw((4, 4), (3, 3))
    with pytest.raises(ValueError, match="'pallas': use one of auto, xla"):
        depthwise_conv(x, kernel, implementation="pallas")


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_only_cpus_keep_xla_from_fusing(platform):
    x, kernel, _ = draw((4, 4), (3, 3))
    conv = jax.jit(partial(depthwise_conv, implementation="portable"))
    program = conv.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    assert ('inlineable = "false"' in program) == (platform == "cpu")


def test_a_loop_keeps_no_zeros_for_its_backward():
    x, kernel, _ = draw((4, 4), (3, 3))

    @partial(jax.checkpoint, prevent_cse=False)
    def step(x, kernel):
        return depthwise_conv(jnp.sin(x), kernel, implementation="shift"), None

    def run(kernels):
        y, _ = lax.scan(step, x, kernels)
        return jnp.sum(jnp.sin(y))

    gradient = jax.jit(jax.grad(run)).lower(jnp.stack([kernel, kernel]))
    assert "() -> tensor<2x4x4x3xf32>" not in gradient.as_text()
