"""AdamW with the published parameter groups and learning-rate schedules."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

# Rule → whether a parameter of a group, and of so many dimensions, is decayed.
_DECAYED: dict[str, Callable[[int, str], bool]] = {
    "all": lambda ndim, group: True,
    "no_norm": lambda ndim, group: group != "norm",
    "matrices": lambda ndim, group: ndim > 1,
}


def make_schedule(config: ConfigDict, num_train_steps: int) -> optax.Schedule:
    """Linear warm-up and decay, in the three published forms.

    "official" multiplies a warm-up from the ratio `warmup_start` to 1 onto a polynomial
    decay, which runs from step 0 (mmsegmentation 0.x). "paddle" climbs from the rate
    `warmup_start` to the peak, and only then starts the polynomial decay over the
    remaining steps. "cosine" climbs like "paddle", and then joins a cosine that has run
    from step 0 (timm's CosineLRScheduler, which counts epochs instead of steps).

    Args:
      config: `form`, `peak`, `end`, `warmup_steps`, `warmup_start`, and `power` of the
        polynomial.
      num_train_steps: the learning rate is `end` after these.

    Returns:
      step (completed updates, from 0) → learning rate of the next update.

    Raises:
      ValueError: if the form is unknown or the warm-up is not shorter than the run.
    """
    warmup = config.warmup_steps
    if not 0 <= warmup < num_train_steps:
        raise ValueError(
            f"config.schedule.warmup_steps is {warmup}: it must be less than the "
            f"{num_train_steps} steps of config.train.num_train_steps"
        )
    if config.form == "official":
        decay = optax.polynomial_schedule(
            config.peak, config.end, config.power, num_train_steps
        )
        start = config.warmup_start

        def ratio(step):
            # optax.linear_schedule would lose 1 % of a start of 1e-6 to rounding.
            return start + (1 - start) * jnp.minimum(step / max(warmup, 1), 1)

        return lambda step: decay(step) * (ratio(step) if warmup else 1)
    ramp = optax.linear_schedule(config.warmup_start, config.peak, max(warmup, 1))
    if config.form == "paddle":
        decay = optax.polynomial_schedule(
            config.peak, config.end, config.power, num_train_steps - warmup
        )
        return optax.join_schedules([ramp, decay], [warmup])
    if config.form == "cosine":
        decay = optax.cosine_decay_schedule(
            config.peak, num_train_steps, alpha=config.end / config.peak
        )
        return lambda step: jnp.where(step < warmup, ramp(step), decay(step))
    raise ValueError(
        f'config.schedule.form is {config.form!r}: use "official", "paddle" or "cosine"'
    )


def make_optimizer(
    config: ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """AdamW in PyTorch's formulation, where the decay is scaled by the learning rate.

    The definition; a train step does the same for all arrays together (update.py).

    Args:
      config: `b1`, `b2`, `eps`, `weight_decay`, `decay` (what is decayed: "all",
        "no_norm" = all but the group "norm", "matrices" = timm's rule, no scale or
        bias), `head_multiplier` (of the learning rate of the decoder) and `clip_norm`
        (global gradient norm; 0 = no clipping).
      schedule: step → learning rate.

    Raises:
      ValueError: if the rule of decay is unknown.
    """
    if config.decay not in _DECAYED:
        raise ValueError(
            f"config.optimizer.decay is {config.decay!r}: use one of "
            f"{', '.join(_DECAYED)}"
        )

    def multiplied(updates, params):
        return jax.tree.map(lambda u, m: u * m, updates, multipliers(params, config))

    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    return optax.chain(
        *clip,
        optax.scale_by_adam(config.b1, config.b2, config.eps),
        optax.add_decayed_weights(
            config.weight_decay, mask=partial(decayed, rule=config.decay)
        ),
        optax.stateless(multiplied),
        optax.scale_by_learning_rate(schedule),
    )


def decayed(params: optax.Params, rule: str) -> optax.Params:
    """Whether each parameter is, by a rule that `make_optimizer` knows."""
    return jax.tree.map(_DECAYED[rule], _ndims(params), groups(params))


def multipliers(params: optax.Params, config: ConfigDict) -> optax.Params:
    """Of the learning rate, one float for each parameter."""
    factors = {"head": config.head_multiplier, "norm": 1.0, "other": 1.0}
    return jax.tree.map(lambda group: factors[group], groups(params))


def groups(params: optax.Params) -> optax.Params:
    """The group of every parameter, as the peers' name matching has it.

    "head" is the whole decoder, its GroupNorms included; "norm" the backbone's
    normalisations, except those of the stem (published as `patch_embed1.proj.1` and
    `.4`, they match nothing); "other" the rest.
    """

    def group(path, _):
        names = [entry.key for entry in path]
        if names[0] == "decoder":
            return "head"
        if "norm" in names[-2] and "stem" not in names:
            return "norm"
        return "other"

    return jax.tree_util.tree_map_with_path(group, params)


def _ndims(params: optax.Params) -> optax.Params:
    """How many dimensions each parameter has, without that of the blocks of a stage."""

    def ndim(path, param):
        return param.ndim - any(entry.key.endswith("_blocks") for entry in path)

    return jax.tree_util.tree_map_with_path(ndim, params)


def all_finite(tree) -> jax.Array:
    """Whether every number in the tree is finite: bool scalar."""
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))
