"""One update as a pure function of (state, batch)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segnext_jax.parallel.mesh import split_rows
from segnext_jax.training.objective import Batch, Objective
from segnext_jax.training.state import TrainState
from segnext_jax.training.update import update

Metrics = dict[str, jax.Array]


def step_keys(seed: int, step: jax.typing.ArrayLike) -> tuple[jax.Array, jax.Array]:
    """PRNG keys of augmentation and model, for the update after `step` updates."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    augment_key, model_key = jax.random.split(key)
    return augment_key, model_key


def make_train_step(
    objective: Objective,
    schedule: optax.Schedule,
    config: ConfigDict,
    mesh: Mesh,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The function to jit: batch as the data pipeline makes it → next state, metrics.

    All randomness follows from (config.seed, state.step, example). A step whose loss or
    gradient is not finite leaves everything but the counters as it was. Metrics are
    scalars: loss, learning_rate, grad_norm, skipped, skipped_in_a_row, unreadable.
    """
    num_micro_batches = config.train.accumulate_steps
    forward = split_rows(objective.forward, mesh)

    def loss_fn(params, batch_stats, image, target, key):
        drop_path, dropout, nmf = jax.random.split(key, 3)
        rngs = {"drop_path": drop_path, "dropout": dropout, "nmf": nmf}
        variables = {"params": params, "batch_stats": batch_stats}
        logits, batch_stats = forward(variables, image, rngs)
        total, weight = objective.loss(logits, target)
        return total, (weight, batch_stats)

    def accumulate(carry, micro_batch):
        """Adds one micro-batch's gradients; BatchNorm sees one after the other."""
        params, batch_stats, sums = carry
        (total, (weight, batch_stats)), grads = jax.value_and_grad(
            loss_fn, has_aux=True
        )(params, batch_stats, *micro_batch)
        sums = jax.tree.map(jnp.add, sums, (grads, total, weight))
        return (params, batch_stats, sums), None

    def gradients(state, image, target, key):
        zeros = jax.tree.map(jnp.zeros_like, state.params)
        carry = (state.params, state.batch_stats, (zeros, jnp.zeros(()), jnp.zeros(())))
        keys = jax.random.split(key, num_micro_batches)
        if num_micro_batches == 1:
            carry, _ = accumulate(carry, (image, target, keys[0]))
        else:
            micro_batches = (*map(_split, (image, target)), keys)
            carry, _ = jax.lax.scan(accumulate, carry, micro_batches)
        _, batch_stats, (grads, total, weight) = carry
        # A batch without a single label has weight 0, and nothing to learn from.
        scale = 1 / jnp.maximum(weight, jnp.finfo(jnp.float32).tiny)
        return grads, scale, total * scale, batch_stats

    def _split(x):
        # Every num_micro_batches-th example, so that each stays on its device.
        x = x.reshape(-1, num_micro_batches, *x.shape[1:])
        return jnp.moveaxis(x, 1, 0)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        augment_key, model_key = step_keys(config.seed, state.step)
        image, target = objective.augment(batch, augment_key)
        # Names the axes that share the batch, for ops/partition.py.
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            grads, scale, loss, batch_stats = gradients(state, image, target, model_key)

        params, opt_state, grad_norm, finite = update(
            grads,
            scale,
            loss,
            state.opt_state,
            state.params,
            schedule=schedule,
            config=config.optimizer,
        )
        ema = state.ema
        if ema is not None:
            ema = optax.incremental_update(
                {"params": params, "batch_stats": batch_stats},
                ema,
                1 - config.train.ema_decay,
            )
        batch_stats, ema = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (batch_stats, ema),
            (state.batch_stats, state.ema),
        )
        new = state.replace(
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=ema,
            step=state.step + 1,
            skipped=state.skipped + ~finite,
            skipped_in_a_row=jnp.where(finite, 0, state.skipped_in_a_row + 1),
        )
        metrics = {
            "loss": loss,
            # Skipped updates do not count: the schedule goes by tx's own steps.
            "learning_rate": schedule(state.step - state.skipped),
            "grad_norm": grad_norm,
            "skipped": new.skipped,
            "skipped_in_a_row": new.skipped_in_a_row,
            "unreadable": jnp.sum(batch["unreadable"]),
        }
        return new, metrics

    return train_step
