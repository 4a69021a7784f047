"""The kernel gradients of a depthwise convolution, each way, against the sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.ops.kernel_gradient import kernel_gradient


def plain(x, grad, size):
    """In float64, tap by tap."""
    kh, kw = size
    _, h, w, _ = grad.shape
    x, grad = (np.asarray(array, np.float64) for array in (x, grad))
    x = np.pad(x, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
    taps = [
        [np.sum(x[:, i : i + h, j : j + w] * grad, (0, 1, 2)) for j in range(kw)]
        for i in range(kh)
    ]
    return np.array(taps)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", [(3, 3), (5, 5), (1, 7), (21, 1)])
# Of whole runs of columns, not of them, and smaller than the kernel.
@pytest.mark.parametrize(("height", "width"), [(64, 32), (35, 70), (2, 3)])
def test_equals_plain_sums(monkeypatch, platform, dtype, size, height, width):
    rng = np.random.default_rng(0)
    x, grad = (
        jnp.asarray(rng.standard_normal((2, height, width, 4)), dtype) for _ in range(2)
    )
    kernel = jnp.zeros((*size, 4))
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    actual = jax.jit(lambda *arrays: kernel_gradient(*arrays, axis_name=None))(
        x, grad, kernel
    )
    expected = plain(x, grad, size)
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=2e-6 * abs(expected).max()
    )


def test_many_rows_are_summed_in_parts(monkeypatch):
    """A small kernel of a TPU, whose arrays do not fit its fast memory as a whole."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    x = jnp.ones((1, 96, 256, 256))
    kernel = jnp.zeros((3, 3, 256))
    jaxpr = jax.make_jaxpr(lambda x: kernel_gradient(x, x, kernel, None))(x)
    assert "length=3\n" in str(jaxpr)
