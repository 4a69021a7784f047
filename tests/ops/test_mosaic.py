"""The 3×3 depthwise convolution of TPUs, interpreted, against the plain formulation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from plain_convolution import conv as plain_conv
from plain_convolution import draw, draw_layer, with_gradients

from segnext_jax.ops.conv_gelu import conv_gelu
from segnext_jax.ops.gelu import gelu
from segnext_jax.ops.mosaic import depthwise
from segnext_jax.ops.mosaic.depthwise import conv

BF16_ROUNDING = 2.0**-8


def draw_arguments(shape, dtype=jnp.float32):
    """x, input_bias and layer."""
    c = shape[-1]
    bias = draw(c, seed=2, dtype=dtype)
    return draw(*shape, dtype=dtype), bias, draw_layer(3, 3, c, dtype)


def plain(x, input_bias, layer):
    return plain_conv(x + input_bias, layer)


def assert_close(actual, expected):
    """Within rounding of the largest value of each array."""
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(
            a, e, rtol=0, atol=2e-6 * float(np.abs(e).max())
        ),
        actual,
        expected,
    )


def uses_kernel(function, *arguments):
    return "pallas_call" in str(jax.make_jaxpr(function)(*arguments))


@pytest.fixture
def on_tpu(monkeypatch):
    """What is chosen by the default platform is what suits a TPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((2, 6, 16, 128), 6),
        ((1, 12, 16, 256), 4),  # strips with neighbours above, below and on both sides
        ((1, 7, 48, 128), 1),  # no number of rows divides 7; parts of 16 columns
        ((1, 2, 256, 128), 2),  # two parts of 128 columns
    ],
)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_values_and_gradients(monkeypatch, shape, rows, wrap):
    monkeypatch.setattr(depthwise, "_fit", lambda x, n: n <= rows)
    arguments = draw_arguments(shape)
    run = wrap(partial(with_gradients, partial(conv, axis_name=None)))
    assert_close(run(arguments), with_gradients(plain, arguments))


def test_bfloat16_is_rounded_at_the_ends_only():
    """What is convolved, and results; no sum of products."""
    arguments = draw_arguments((2, 8, 32, 128), jnp.bfloat16)
    actual = with_gradients(partial(conv, axis_name=None), arguments)
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), arguments)
    expected = with_gradients(plain, exact)

    def compare(a, e):
        assert a.dtype == jnp.bfloat16
        error = np.linalg.norm((a.astype(jnp.float32) - e).ravel())
        assert error < BF16_ROUNDING * np.linalg.norm(e.ravel())

    jax.tree.map(compare, actual, expected)


@pytest.mark.parametrize(
    ("shape", "kernel", "is_supported"),
    [
        ((1, 256, 256, 256), (3, 3), True),  # SegNeXt-T at 1024², stage 1
        ((1, 32, 32, 1280), (3, 3), True),
        ((1, 256, 2048, 256), (3, 3), True),
        ((1, 256, 4096, 256), (3, 3), False),  # not a row fits into VMEM
        ((1, 32, 32, 64), (3, 3), False),
        ((1, 32, 24, 128), (3, 3), False),
        ((1, 32, 32, 128), (5, 5), False),
    ],
)
def test_which_shapes_it_takes(shape, kernel, is_supported):
    x = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    taps = jax.ShapeDtypeStruct((*kernel, shape[-1]), jnp.bfloat16)
    assert depthwise.is_supported(x, taps) is is_supported


def test_mosaic_takes_both_kernels():
    """As far as the compiler of a TPU is not needed."""
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
        draw_arguments((1, 64, 64, 128), jnp.bfloat16),
    )
    run = jax.jit(partial(with_gradients, partial(conv, axis_name=None)))
    text = run.trace(arguments).lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("@tpu_custom_call") == 2


@pytest.mark.usefixtures("on_tpu")
def test_each_device_convolves_its_own_images():
    arguments = draw_arguments((8, 4, 16, 128))
    expected = with_gradients(lambda *each: gelu(plain(*each)), arguments)
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("a", "b"))
    x, *parameters = arguments
    batch, whole = (NamedSharding(mesh, spec) for spec in (P(("a", "b")), P()))
    placed = jax.device_put(x, batch), *jax.device_put(parameters, whole)

    def run(arguments):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return with_gradients(conv_gelu, arguments)

    assert uses_kernel(run, placed)
    assert "all-gather(" not in jax.jit(run).lower(placed).compile().as_text()
    assert_close(jax.jit(run)(placed), expected)


@pytest.mark.usefixtures("on_tpu")
@pytest.mark.parametrize("num_devices", [1, 8])
def test_not_of_a_batch_that_may_lie_anywhere(monkeypatch, num_devices):
    """XLA refuses to split a kernel of Mosaic."""
    monkeypatch.setattr(jax, "device_count", lambda: num_devices)
    arguments = draw_arguments((1, 4, 16, 128))
    assert uses_kernel(partial(conv_gelu), *arguments) is (num_devices == 1)


@pytest.mark.usefixtures("on_tpu")
def test_images_smaller_than_their_arrays(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    x, *parameters = draw_arguments((2, 8, 16, 128))
    size = jnp.array([[8, 16], [5, 4]])
    run = partial(conv_gelu, size=size)
    assert uses_kernel(run, x, *parameters)
    alone = gelu(plain(x[1:, :5, :4], *parameters))
    np.testing.assert_allclose(run(x, *parameters)[1:, :5, :4], alone, atol=1e-5)
