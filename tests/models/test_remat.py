"""What is computed again for the backward has the same values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.models.mscan import MSCAN


@pytest.fixture(scope="module")
def run():
    """remat → the function of the parameters to differentiate, and those."""
    image = jax.random.normal(jax.random.key(0), (2, 64, 32, 3))

    def make(remat):
        model = MSCAN((8, 8, 16, 16), (2, 1, 1, 1), depthwise="xla", remat=remat)
        variables = model.init(jax.random.key(1), image[:, :32], train=False)

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
    """(loss, statistics), gradients where nothing is computed again."""
    loss, params = run("none")
    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


@pytest.mark.parametrize(("remat", "parts"), [("block", 5), ("stage", 4)])
def test_remat_changes_no_value(run, kept, remat, parts):
    loss, params = run(remat)
    step = jax.value_and_grad(loss, has_aux=True)
    jaxpr = jax.make_jaxpr(step)(params)
    assert sum(eqn.primitive.name == "remat2" for eqn in jaxpr.eqns) == parts
    actual = jax.jit(step)(params)
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(kept[1]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * largest),
        actual,
        kept,
    )
