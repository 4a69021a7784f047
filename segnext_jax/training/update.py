"""What a gradient changes: weights and optimizer state, or nothing if it is not finite.

Twice: by optax, and by kernels for GPUs that do the same for all arrays together.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from segnext_jax.ops.triton import adam as triton_adam
from segnext_jax.training.optimizer import all_finite, decayed, multipliers


class Update(Protocol):
    def __call__(
        self,
        grads: optax.Updates,
        scale: jax.Array,
        loss: jax.Array,
        opt_state: optax.OptState,
        params: optax.Params,
    ) -> tuple[optax.Params, optax.OptState, jax.Array, jax.Array]:
        """(params, opt_state, norm of grads·scale, whether it and the loss are finite).

        If they are not, params and opt_state are as they were.
        """


def make_update(
    tx: optax.GradientTransformation, schedule: optax.Schedule, config: ConfigDict
) -> Update:
    """The update by `tx`, which is `make_optimizer(config, schedule)`.

    On a GPU the kernels do the same, but for rounding.
    """

    def update(grads, scale, loss, opt_state, params):
        arrays = grads, scale, loss, opt_state, params
        if jax.default_backend() == "gpu":
            return by_kernels(*arrays, schedule=schedule, config=config)
        return by_optax(*arrays, tx=tx)

    return update


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


def by_kernels(grads, scale, loss, opt_state, params, *, schedule, config):
    adam, by_schedule = (
        next(part for part in opt_state if isinstance(part, kind))
        for kind in (optax.ScaleByAdamState, optax.ScaleByScheduleState)
    )
    norm = scale * jnp.sqrt(triton_adam.sum_of_squares(jax.tree.leaves(grads)))
    finite = all_finite((loss, norm))
    if config.clip_norm:
        clipped = scale / norm * config.clip_norm
        scale = jnp.where(norm < config.clip_norm, scale, clipped)
    count = optax.safe_increment(adam.count)
    scalars = triton_adam.Scalars(
        finite=finite,
        grad_scale=scale,
        learning_rate=schedule(by_schedule.count),
        mu_correction=1 - config.b1**count,
        nu_correction=1 - config.b2**count,
    )
    decays = jax.tree.map(
        lambda is_decayed: config.weight_decay * is_decayed,
        decayed(params, config.decay),
    )
    trees = params, grads, adam.mu, adam.nu, decays, multipliers(params, config)
    leaves = map(triton_adam.Leaf, *map(jax.tree.leaves, trees))
    new = triton_adam.adamw(
        list(leaves), scalars, b1=config.b1, b2=config.b2, eps=config.eps
    )
    structure = jax.tree.structure(params)
    new_params, mu, nu = (
        jax.tree.unflatten(structure, part) for part in zip(*new, strict=True)
    )
    advanced = {
        optax.ScaleByAdamState: adam._replace(
            count=jnp.where(finite, count, adam.count), mu=mu, nu=nu
        ),
        optax.ScaleByScheduleState: optax.ScaleByScheduleState(
            jnp.where(
                finite, optax.safe_increment(by_schedule.count), by_schedule.count
            )
        ),
    }
    new_opt_state = tuple(advanced.get(type(part), part) for part in opt_state)
    return new_params, new_opt_state, norm, finite
