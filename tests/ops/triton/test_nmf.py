"""The kernels of the NMF, interpreted, against plain XLA."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segnext_jax.ops.nmf import draw_bases, factorize, nmf
from segnext_jax.ops.triton.nmf import supported


def draw(b=2, n=256, d=32, rank=16):
    """Features as after ReLU, bases, and a gradient of the result."""
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, b, n, d))
    x = np.maximum(x, 0)
    x[:, 3], x[:, :, 5] = 0, 0  # positions and channels without features
    keys = jax.random.split(jax.random.key(1), b)
    bases = jax.vmap(lambda key: draw_bases(key, d, rank))(keys)
    return x.astype(jnp.bfloat16), bases, grad.astype(jnp.bfloat16)


def value_and_gradients(function, x, bases, grad):
    value, vjp = jax.vjp(function, x, bases)
    return [np.asarray(y, np.float32) for y in (value, *vjp(grad))]


def assert_same(actual, expected):
    value, grad_x, grad_bases = expected
    # One step of bfloat16, where float32 sums differ in their order.
    np.testing.assert_allclose(actual[0], value, rtol=2**-7, atol=1e-6)
    near = 2**-8 * abs(grad_x).max()
    np.testing.assert_allclose(actual[1], grad_x, rtol=2**-7, atol=near)
    assert (actual[1] != grad_x).mean() < 0.05
    near = 1e-5 * abs(grad_bases).max()
    np.testing.assert_allclose(actual[2], grad_bases, rtol=0, atol=near)


@pytest.mark.parametrize("gradient", ["unrolled", "one_step"])
@pytest.mark.parametrize(("n", "d", "rank"), [(192, 256, 16), (64, 64, 32)])
def test_equals_xla(n, d, rank, gradient):
    arrays = draw(n=n, d=d, rank=rank)
    run = partial(factorize, steps=3, gradient=gradient)
    by_kernels = partial(run, implementation="triton")
    by_xla = partial(run, implementation="xla")
    assert_same(
        value_and_gradients(by_kernels, *arrays), value_and_gradients(by_xla, *arrays)
    )


@pytest.mark.parametrize("steps", [0, 1])
def test_few_steps(steps):
    arrays = draw()
    by_kernels, by_xla = (
        partial(factorize, steps=steps, implementation=implementation)
        for implementation in ("triton", "xla")
    )
    assert_same(
        value_and_gradients(by_kernels, *arrays), value_and_gradients(by_xla, *arrays)
    )


def test_examples_and_positions_on_several_devices():
    """As in a train step: examples by jit, positions by a shard_map."""
    arrays = draw(b=4, n=512)
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("data", "spatial"))
    sharding = NamedSharding(mesh, P("data", "spatial"))
    x, bases, grad = arrays
    x, grad = jax.device_put((x, grad), sharding)
    function = jax.shard_map(
        partial(factorize, steps=3, implementation="triton", axis_name="spatial"),
        mesh=mesh,
        in_specs=(P(None, "spatial"), P()),
        out_specs=P(None, "spatial"),
        axis_names={"spatial"},
        check_vma=False,
    )
    actual = jax.jit(partial(value_and_gradients_traced, function))(x, bases, grad)
    by_xla = partial(factorize, steps=3, implementation="xla")
    assert_same(
        [np.asarray(y, np.float32) for y in actual],
        value_and_gradients(by_xla, *arrays),
    )


def value_and_gradients_traced(function, x, bases, grad):
    value, vjp = jax.vjp(function, x, bases)
    return value, *vjp(grad)


def test_devices_keep_their_examples():
    """Of drawn bases, too: no device gathers those of others."""
    x, _, grad = draw(b=8)
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    x, grad = jax.device_put((x, grad), NamedSharding(mesh, P("data")))

    def run(x, grad):
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(8))
        value, vjp = jax.vjp(
            lambda x: nmf(x, keys, 16, steps=2, implementation="triton"), x
        )
        return value, *vjp(grad)

    text = jax.jit(run).lower(x, grad).compile().as_text()
    assert not [kind for kind in ("gather", "reduce") if f"all-{kind}(" in text]


def test_says_what_fits_the_kernels():
    def features(n, d, dtype=jnp.bfloat16):
        return jax.ShapeDtypeStruct((2, n, d), dtype)

    assert supported(features(16384, 256), 16)
    assert not supported(features(16384, 256, jnp.float32), 16)
    assert not supported(features(2640, 256), 16)
    assert not supported(features(16384, 192), 16)
    assert not supported(features(16384, 256), 8)
    assert not supported(features(16384, 1024), 64)


def test_unknown_implementation_is_named():
    x, bases, _ = draw()
    with pytest.raises(ValueError, match="'cuda': use one of auto, xla, triton"):
        factorize(x, bases, steps=1, implementation="cuda")
