"""Blocks that are computed again for the backward, or in loops: the same values."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.models import stack
from segnext_jax.models.mscan import MSCAN


@pytest.fixture(scope="module")
def run():
    """remat → the function of the parameters to differentiate, and those."""
    image = jax.random.normal(jax.random.key(0), (2, 64, 32, 3))

    def make(remat):
        model = MSCAN(
            (8, 8, 16, 16),
            (3, 1, 1, 1),
            drop_path_rate=0.5,
            depthwise="xla",
            remat=remat,
        )
        init = jax.jit(partial(model.init, train=False))
        variables = init(jax.random.key(1), image[:, :32])

        def loss(params):
            features, updated = model.apply(
                {**variables, "params": params},
                image,
                train=True,
                rngs={"drop_path": jax.random.key(2)},
                mutable=["batch_stats"],
            )
            total = sum(jnp.sum(jnp.sin(x)) for x in features)
            return total, updated["batch_stats"]

        return loss, variables["params"]

    return make


@pytest.fixture(scope="module")
def kept(run):
    """(loss, statistics), gradients without loops, where nothing is computed again."""
    loss, params = run("none")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack, "_are_scanned", lambda train: False)
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


@pytest.mark.parametrize("remat", ["none", "block", "stage"])
def test_loops_change_no_value(run, kept, remat, monkeypatch):
    monkeypatch.setattr(stack, "_are_scanned", lambda train: True)
    loss, params = run(remat)
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    assert step.lower(params).as_text().count("stablehlo.while") > 0
    assert_same(step(params), kept)


def test_loops_keep_what_is_dear_to_compute(run, monkeypatch):
    """Of each block of stage 1: what enters it, four products and two convolutions."""
    monkeypatch.setattr(stack, "_are_scanned", lambda train: True)
    loss, params = run("none")
    _, vjp = jax.vjp(lambda params: loss(params)[0], params)
    shapes = [x.shape for x in jax.tree.leaves(vjp)]
    assert shapes.count((3, 2, 16, 8, 8)) == 7


@pytest.mark.parametrize("remat", ["block", "stage"])
def test_remat_changes_no_value(run, kept, remat, monkeypatch):
    monkeypatch.setattr(stack, "_are_scanned", lambda train: False)
    loss, params = run(remat)
    step = jax.value_and_grad(loss, has_aux=True)
    assert "remat" in str(jax.make_jaxpr(step)(params))
    assert_same(jax.jit(step)(params), kept)


def assert_same(actual, kept):
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(kept[1]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * largest),
        actual,
        kept,
    )
