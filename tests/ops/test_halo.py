"""Rows on several devices: what they exchange, and operators that are then exact."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from segnext_jax.ops.conv_gelu import conv_gelu
from segnext_jax.ops.depthwise import Layer, depthwise_conv
from segnext_jax.ops.halo import edge_rows, pad_rows, repeat_edges, sum_over
from segnext_jax.ops.multi_scale import multi_scale_conv
from segnext_jax.ops.nmf import draw_bases, factorize
from segnext_jax.ops.resize import resize_bilinear
from segnext_jax.ops.strided import strided_conv

ROWS = P(None, "rows")


def on_devices(function, count, in_specs, out_specs=ROWS):
    """`function` where `count` devices share the rows."""
    mesh = Mesh(np.array(jax.devices()[:count]), ("rows",))
    return jax.jit(
        jax.shard_map(
            partial(function, axis_name="rows"),
            mesh=mesh,
            in_specs=in_specs,
            out_specs=out_specs,
            check_vma=False,
        )
    )


def draw(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize(("above", "below"), [(0, 0), (1, 0), (2, 3), (7, 7), (20, 20)])
def test_padded_rows_are_those_of_the_whole(devices, above, below):
    """With 3 rows a device: of one neighbour, of several, and gathered."""
    h = 3 * devices
    x = draw((2, h, 5, 3))
    padded = on_devices(
        lambda x, axis_name: pad_rows(x, above, below, axis_name), devices, ROWS
    )(x)
    whole = np.pad(x, ((0, 0), (above, below), (0, 0), (0, 0)))
    expected = [whole[:, 3 * i : 3 * i + above + 3 + below] for i in range(devices)]
    np.testing.assert_array_equal(padded, np.concatenate(expected, axis=1))


@pytest.mark.parametrize("devices", [1, 4])
def test_edges_repeat_at_the_ends_alone(devices):
    h = 2 * devices
    x = draw((1, h, 3, 2))
    padded = on_devices(repeat_edges, devices, ROWS)(x)
    whole = np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="edge")
    expected = [whole[:, 2 * i : 2 * i + 4] for i in range(devices)]
    np.testing.assert_array_equal(padded, np.concatenate(expected, axis=1))


def test_without_an_axis_everything_is_here():
    x = draw((1, 4, 3, 2))
    np.testing.assert_array_equal(
        pad_rows(x, 2, 1), np.pad(x, ((0, 0), (2, 1), (0, 0), (0, 0)))
    )
    np.testing.assert_array_equal(edge_rows(x), np.zeros((1, 2, 3, 2)))
    np.testing.assert_array_equal(
        repeat_edges(x), np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="edge")
    )
    assert sum_over(x) is x


def assert_same_with_gradients(sharded, whole, *arguments, rtol=2e-6):
    """Values and gradients, of a sum in which every output has its own weight."""
    expected, vjp = jax.vjp(whole, *arguments)
    cotangent = draw(expected.shape, seed=9)
    actual, sharded_vjp = jax.vjp(sharded, *arguments)
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(
            a, e, rtol=0, atol=rtol * np.abs(e).max()
        ),
        (actual, sharded_vjp(cotangent)),
        (expected, vjp(cotangent)),
    )


@pytest.mark.parametrize(
    ("platform", "implementation"),
    [("cpu", "shift"), ("cpu", "xla"), ("cpu", "triton"), ("tpu", "shift")],
)
@pytest.mark.parametrize("kernel_size", [(3, 3), (5, 5), (1, 7), (21, 1)])
@pytest.mark.parametrize("rows", [1, 3])
def test_depthwise_on_several_devices(
    monkeypatch, platform, implementation, kernel_size, rows
):
    """One and an odd number of rows a device, fewer than a tall kernel needs."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    x, kernel = draw((2, 8 * rows, 6, 4)), draw((*kernel_size, 4), seed=1)
    conv = partial(depthwise_conv, implementation=implementation)
    assert_same_with_gradients(on_devices(conv, 8, (ROWS, P())), conv, x, kernel)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("rows", [1, 3])
def test_conv_gelu_on_several_devices(monkeypatch, platform, rows):
    """On a TPU by a kernel, which gets the rows of neighbours apart."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    x, bias = draw((2, 8 * rows, 16, 128)), draw((128,), seed=1)
    layer = Layer(draw((3, 3, 128), seed=2), draw((128,), seed=3))
    sharded = on_devices(conv_gelu, 8, (ROWS, P(), P()))
    assert_same_with_gradients(sharded, conv_gelu, x, bias, layer)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("rows", [2, 3])
def test_multi_scale_on_several_devices(monkeypatch, platform, rows):
    """On a TPU all strips are one product, but not of 2 rows a device."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    sizes = [(5, 5), (1, 3), (3, 1), (1, 7), (7, 1)]
    base, *strips = (
        Layer(draw((*size, 4), seed=i), draw((4,), seed=10 + i))
        for i, size in enumerate(sizes)
    )
    pairs = list(zip(strips[::2], strips[1::2], strict=True))
    x = draw((2, 8 * rows, 9, 4))

    def run(x, parameters, axis_name=None):
        return multi_scale_conv(x, *parameters, axis_name=axis_name)

    sharded = on_devices(run, 8, (ROWS, P()))
    assert_same_with_gradients(sharded, run, x, (base, pairs))


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("rows", [2, 6])
def test_strided_on_several_devices(monkeypatch, platform, channels, rows):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    x, kernel = draw((2, 8 * rows, 6, channels)), draw((3, 3, channels, 5), seed=1)
    sharded = on_devices(strided_conv, 8, (ROWS, P()))
    assert_same_with_gradients(sharded, strided_conv, x, kernel)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_resize_on_several_devices(factor):
    x = draw((1, 8, 3, 2))

    def enlarge(x, axis_name=None):
        h, w = x.shape[1:3]
        return resize_bilinear(x, (h * factor, w * factor), axis_name)

    assert_same_with_gradients(on_devices(enlarge, 4, ROWS), enlarge, x)


@pytest.mark.parametrize("gradient", ["unrolled", "one_step"])
def test_nmf_on_several_devices(gradient):
    x = jnp.abs(draw((2, 32, 8)))
    bases = jnp.broadcast_to(draw_bases(jax.random.key(0), 8, 3), (2, 8, 3))
    run = partial(factorize, steps=3, gradient=gradient)
    sharded = on_devices(run, 4, (ROWS, P()))
    # Every device has bases of its own here: their gradients are not compared.
    assert_same_with_gradients(
        lambda x: sharded(x, bases), lambda x: run(x, bases), x, rtol=1e-5
    )


def test_nmf_gradient_of_bases_is_summed_over_devices():
    x, weight = jnp.abs(draw((2, 32, 8))), draw((2, 32, 8), seed=1)
    bases = jnp.broadcast_to(draw_bases(jax.random.key(0), 8, 3), (2, 8, 3))
    run = partial(factorize, steps=3)
    sharded = on_devices(run, 4, (ROWS, P()))
    grad, expected = (
        jax.grad(lambda bases, f=f: jnp.sum(f(x, bases) * weight))(bases)
        for f in (sharded, run)
    )
    np.testing.assert_allclose(grad, expected, rtol=0, atol=1e-5 * abs(expected).max())
