"""The update of all arrays together, against optax."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from segnext_jax.training.optimizer import all_finite, make_optimizer, make_schedule
from segnext_jax.training.update import update


@pytest.fixture
def params():
    """Of every group, decayed and not."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    return {
        "backbone": {
            "stem": {"norm1": {"scale": draw(4)}, "conv1": {"kernel": draw(3, 3, 4)}},
            "stage1_blocks": {"norm1": {"scale": draw(2, 4), "bias": draw(2, 4)}},
        },
        "decoder": {"align": {"kernel": draw(40, 30)}, "norm": {"bias": draw(30)}},
    }


@pytest.mark.parametrize("implementation", ["plain", "triton"])
@pytest.mark.parametrize("clip_norm", [0.0, 0.5, 1e6])
@pytest.mark.parametrize("decay", ["all", "no_norm", "matrices"])
def test_equals_optax(params, clip_norm, decay, implementation):
    config = common.base()
    config.optimizer.update(
        clip_norm=clip_norm, decay=decay, weight_decay=0.1, head_multiplier=10.0
    )
    schedule = make_schedule(config.schedule, 10**6)
    tx = make_optimizer(config.optimizer, schedule)
    by_operators = partial(
        update,
        schedule=schedule,
        config=config.optimizer,
        implementation=implementation,
    )
    results = []
    for way in (partial(by_optax, tx=tx), by_operators):
        way = jax.jit(way)
        state, weights = tx.init(params), params
        for step in range(3):
            grads = jax.tree.map(lambda x, step=step: jnp.cos(x + step), weights)
            # The second is left out.
            loss = jnp.float32(np.nan if step == 1 else 1)
            weights, state, norm, finite = way(grads, 0.3, loss, state, weights)
            assert finite == (step != 1)
        results.append((weights, state, norm))
    expected, actual = results
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        actual,
        expected,
    )
    moved = jax.tree.map(lambda a, b: (a != b).all(), expected[0], params)
    assert all(jax.tree.leaves(moved))


def by_optax(grads, scale, loss, opt_state, params, *, tx):
    grads = jax.tree.map(lambda grad: grad * scale, grads)
    updates, new_opt_state = tx.update(grads, opt_state, params)
    new_params = optax.apply_updates(params, updates)
    norm = optax.tree.norm(grads)
    finite = all_finite((loss, norm))
    new_params, new_opt_state = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        (new_params, new_opt_state),
        (params, opt_state),
    )
    return new_params, new_opt_state, norm, finite
