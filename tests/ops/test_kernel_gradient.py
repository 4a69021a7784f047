"""The kernel gradients of a depthwise convolution, each way, against the sums."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.ops.banded import banded_kernel_gradient
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


@pytest.mark.parametrize(
    ("gradient", "platform"),
    [
        (kernel_gradient, "cpu"),
        (kernel_gradient, "tpu"),
        (banded_kernel_gradient, "tpu"),
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", [(3, 3), (5, 5), (1, 7), (21, 1)])
# Of whole runs of columns, not of them, and smaller than the kernel.
@pytest.mark.parametrize(("height", "width"), [(64, 32), (35, 70), (2, 3)])
def test_equals_plain_sums(monkeypatch, gradient, platform, dtype, size, height, width):
    rng = np.random.default_rng(0)
    x, grad = (
        jnp.asarray(rng.standard_normal((2, height, width, 4)), dtype) for _ in range(2)
    )
    kernel = jnp.zeros((*size, 4))
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    actual = jax.jit(lambda *arrays: gradient(*arrays, axis_name=None))(x, grad, kernel)
    expected = plain(x, grad, size)
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=2e-6 * abs(expected).max()
    )


def test_each_device_of_a_tpu_sums_up_its_own_examples(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    rng = np.random.default_rng(0)
    x, grad = (rng.standard_normal((16, 9, 8, 256)).astype(np.float32) for _ in "ab")
    devices = jax.sharding.Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("a", "b"))
    batch = jax.sharding.NamedSharding(devices, jax.sharding.PartitionSpec(("a", "b")))

    @partial(jax.jit, in_shardings=batch)
    def gradient(x, grad):
        with jax.sharding.use_abstract_mesh(devices.abstract_mesh):
            return kernel_gradient(x, grad, jnp.zeros((3, 3, 256)), axis_name=None)

    text = gradient.lower(x, grad).compile().as_text()
    assert "all-gather" not in text
    assert re.search(r"f32\[3,3,256]\S* all-reduce\(", text)
    expected = plain(x, grad, (3, 3))
    np.testing.assert_allclose(
        gradient(x, grad), expected, rtol=0, atol=2e-6 * abs(expected).max()
    )
