"""What a gradient changes: weights and optimizer state, or nothing if it is not finite.

The same function as the transformation of optimizer.py, but for rounding: that defines
the state and what is learned, here all arrays are updated in place and together.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from segnext_jax.ops import adam as plain_adam
from segnext_jax.ops.triton import adam as triton_adam
from segnext_jax.training.optimizer import all_finite, decayed, multipliers

_OPERATORS: dict[str, Any] = {"plain": plain_adam, "triton": triton_adam}


def update(
    grads: optax.Updates,
    scale: jax.Array,
    loss: jax.Array,
    opt_state: optax.OptState,
    params: optax.Params,
    *,
    schedule: optax.Schedule,
    config: ConfigDict,
    implementation: Literal["auto", "plain", "triton"] = "auto",
) -> tuple[optax.Params, optax.OptState, jax.Array, jax.Array]:
    """One update by AdamW, if the loss and the norm of grads·scale are finite.

    Args:
      grads: as `params`.
      scale: scalar that they are to be multiplied by.
      loss: scalar.
      opt_state: of `make_optimizer(config, schedule)`.
      params: a tree of float32 arrays.
      schedule: step → learning rate.
      config: `config.optimizer`.
      implementation: "auto" takes the kernels of ops/triton/adam.py on a GPU.

    Returns:
      (params, opt_state, norm of grads·scale, whether all is finite). If it is not,
      params and opt_state are as they were.
    """
    if implementation == "auto":
        implementation = "triton" if jax.default_backend() == "gpu" else "plain"
    operators = _OPERATORS[implementation]
    adam, by_schedule = (
        next(part for part in opt_state if isinstance(part, kind))
        for kind in (optax.ScaleByAdamState, optax.ScaleByScheduleState)
    )
    norm = operators.norm(jax.tree.leaves(grads), scale)
    finite = all_finite((loss, norm))
    if config.clip_norm:
        clipped = scale / norm * config.clip_norm
        scale = jnp.where(norm < config.clip_norm, scale, clipped)
    count = optax.safe_increment(adam.count)
    scalars = plain_adam.Scalars(
        finite=finite,
        grad_scale=scale,
        learning_rate=schedule(by_schedule.count),
        mu_scale=1 / (1 - config.b1**count),
        nu_scale=1 / (1 - config.b2**count),
    )
    decays = jax.tree.map(
        lambda is_decayed: config.weight_decay * is_decayed,
        decayed(params, config.decay),
    )
    trees = params, grads, adam.mu, adam.nu, decays, multipliers(params, config)
    leaves = map(plain_adam.Leaf, *map(jax.tree.leaves, trees))
    new = operators.adamw(
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
