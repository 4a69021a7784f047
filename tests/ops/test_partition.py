"""Kernels on a batch that lies on several devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segnext_jax.ops.partition import split_examples


@pytest.fixture(scope="module")
def mesh():
    return Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("data", "spatial"))


def scale(x, weight, offset):
    """[b h w c] · [c] + [b], and what each example sums up to: a Pallas kernel."""
    b, *image = x.shape

    def kernel(x_ref, weight_ref, offset_ref, result_ref, total_ref):
        result = x_ref[...] * weight_ref[...] + offset_ref[...]
        result_ref[...] = result
        total_ref[...] = jnp.sum(result, keepdims=True)[0, 0]

    example = pl.BlockSpec((None, *image), lambda i: (i, 0, 0, 0))
    scalar = pl.BlockSpec((1,), lambda i: (i,))
    return pl.pallas_call(
        kernel,
        grid=(b,),
        in_specs=[example, pl.BlockSpec(weight.shape, lambda i: (0,)), scalar],
        out_specs=[example, scalar],
        out_shape=[
            jax.ShapeDtypeStruct(x.shape, x.dtype),
            jax.ShapeDtypeStruct((b,), x.dtype),
        ],
        interpret=True,
    )(x, weight, offset)


SPLIT = partial(split_examples, scale, shared=[1])


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    shapes = (8, 6, 4, 3), (3,), (8,)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def assert_equal(results, arrays):
    x, weight, offset = arrays
    expected = x * weight + offset[:, None, None, None]
    np.testing.assert_allclose(results[0], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(results[1], expected.sum((1, 2, 3)), atol=1e-4)


def collectives(function, *arrays):
    text = jax.jit(function).lower(*arrays).compile().as_text()
    return {kind for kind in ("gather", "reduce", "permute") if f"all-{kind}(" in text}


@pytest.mark.parametrize("offsets", [P("data"), P()])
def test_each_device_calls_it_on_its_own_examples(mesh, arrays, offsets):
    """Whatever else is whole on all of them."""
    shardings = [NamedSharding(mesh, spec) for spec in (P("data"), P(), offsets)]
    placed = jax.device_put(arrays, shardings)
    results = jax.jit(SPLIT())(*placed)
    assert_equal(results, arrays)
    assert all(result.sharding.spec[0] == "data" for result in results)
    assert not collectives(SPLIT(), *placed)
    assert collectives(scale, *placed), "nothing is gathered without it either"


def test_rows_that_are_split_are_gathered(mesh, arrays):
    sharding = NamedSharding(mesh, P("data", "spatial"))
    placed = [jax.device_put(arrays[0], sharding), *arrays[1:]]
    assert_equal(jax.jit(SPLIT())(*placed), arrays)


@pytest.mark.parametrize("shape", [(4, 2), (1, 2)])
def test_where_the_rows_are_split_by_hand(shape, arrays):
    """Inside of `parallel.mesh.split_rows`, which leaves the examples to jit."""
    devices = np.array(jax.devices()[: shape[0] * shape[1]])
    mesh = Mesh(devices.reshape(shape), ("data", "spatial"))
    rows = P(None, "spatial")

    def by_rows(x, weight, offset):
        result, total = SPLIT()(x, weight, offset)
        return result, jax.lax.psum(total, "spatial")

    function = jax.shard_map(
        by_rows,
        mesh=mesh,
        in_specs=(rows, P(), P()),
        out_specs=(rows, P()),
        axis_names={"spatial"},
        check_vma=False,
    )
    sharding = NamedSharding(mesh, P("data", "spatial"))
    placed = [jax.device_put(arrays[0], sharding), *arrays[1:]]
    assert_equal(jax.jit(function)(*placed), arrays)
    assert collectives(function, *placed) == {"reduce"}


def test_on_one_device(arrays):
    assert_equal(SPLIT()(*arrays), arrays)
    assert_equal(jax.jit(SPLIT())(*arrays), arrays)
