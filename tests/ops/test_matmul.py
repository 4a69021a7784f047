"""Products of matrices with a backward of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segnext_jax.ops.matmul import matmul, product
from segnext_jax.ops.triton import matmul as triton_matmul


def draw(*shape):
    values = np.random.default_rng(shape).uniform(-1, 1, shape)
    return jnp.asarray(values, jnp.bfloat16)


def with_gradients(x, kernel, grad, implementation="triton"):
    y, vjp = jax.vjp(
        lambda x, kernel: matmul(x, kernel, implementation=implementation), x, kernel
    )
    return y, *vjp(grad)


# (b, h, w, k, m): of one part and of several; with more and with fewer columns.
SHAPES = [(1, 4, 8, 16, 16), (2, 8, 12, 16, 64), (3, 16, 8, 32, 16)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_gradients_are_exact_to_their_rounding(shape, wrap):
    b, h, w, k, m = shape
    x, kernel, grad = draw(b, h, w, k), draw(k, m), draw(b, h, w, m)
    assert triton_matmul.is_supported(x, kernel)
    actual = wrap(with_gradients)(x, kernel, grad)
    x, kernel, grad = (np.asarray(a, np.float64) for a in (x, kernel, grad))
    expected = x @ kernel, grad @ kernel.T, np.einsum("bhwk,bhwm->km", x, grad)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(a, np.float64), e, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 4, 8, 16, 24), jnp.bfloat16),  # no power of two
        ((1, 3, 8, 16, 16), jnp.bfloat16),  # rows that make no whole product
        ((1, 4, 8, 256, 256), jnp.bfloat16),  # more sums than registers
        ((1, 4, 8, 16, 16), jnp.float32),
    ],
)
def test_what_fits_no_kernel_is_computed_without(shape, dtype):
    b, h, w, k, m = shape
    arrays = (draw(b, h, w, k), draw(k, m), draw(b, h, w, m))
    x, kernel, grad = (array.astype(dtype) for array in arrays)
    assert not triton_matmul.is_supported(x, kernel)
    for a, e in zip(
        with_gradients(x, kernel, grad),
        with_gradients(x, kernel, grad, "xla"),
        strict=True,
    ):
        np.testing.assert_array_equal(a, e)


def test_each_device_multiplies_its_own_examples():
    mesh = Mesh(jax.devices()[:8], "data")
    x, kernel, grad = draw(8, 4, 8, 16), draw(16, 16), draw(8, 4, 8, 16)
    batch, whole = (NamedSharding(mesh, P(*axes)) for axes in (("data",), ()))
    placed = jax.device_put((x, kernel, grad), (batch, whole, batch))
    run = jax.jit(with_gradients)
    assert "all-gather(" not in run.lower(*placed).compile().as_text()
    for a, e in zip(run(*placed), with_gradients(x, kernel, grad), strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("shape", [(7, 3, 5), (2, 4, 6, 3, 5)])
@pytest.mark.parametrize("dtype", [None, jnp.float32])
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_product_is_that_of_matrices_and_so_are_its_gradients(
    monkeypatch, platform, shape, dtype, wrap
):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    *pixels, k, m = shape
    x, kernel = draw(*pixels, k), draw(k, m)
    grad = draw(*pixels, m).astype(dtype or jnp.bfloat16)

    @wrap
    def run(x, kernel, grad):
        y, vjp = jax.vjp(lambda x, kernel: product(x, kernel, dtype), x, kernel)
        return y, *vjp(grad)

    actual = run(x, kernel, grad)
    assert [a.dtype for a in actual] == [grad.dtype, jnp.bfloat16, jnp.bfloat16]
    x, kernel, grad = (np.asarray(a, np.float64) for a in (x, kernel, grad))
    of_kernel = x.reshape(-1, k).T @ grad.reshape(-1, m)
    for a, e in zip(actual, (x @ kernel, grad @ kernel.T, of_kernel), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), e, rtol=2**-8, atol=1e-5)
