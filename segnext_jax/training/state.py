"""Everything that a run is: what a checkpoint holds and a step maps to the next."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from segnext_jax.models.segnext import Variables


class TrainState(struct.PyTreeNode):
    """Completed steps, weights, statistics and optimizer; all scalars are int32."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: Variables | None  # averaged params and batch_stats
    skipped: jax.Array  # updates left out because they were not finite
    skipped_in_a_row: jax.Array

    @property
    def eval_variables(self) -> Variables:
        """What is evaluated and shipped: the average where there is one."""
        if self.ema is not None:
            return self.ema
        return {"params": self.params, "batch_stats": self.batch_stats}


def init_state(
    model: nn.Module, tx: optax.GradientTransformation, key: jax.Array, *, ema: bool
) -> TrainState:
    """A run at step 0. Pure, so that it can be traced for shapes or born sharded."""
    # Sizes of the image do not show in the parameters; 64² is the least with 32 | size
    # whose stage 4 has more than one pixel.
    variables = model.init({"params": key}, jnp.zeros((1, 64, 64, 3)), train=False)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        step=zero,
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=tx.init(variables["params"]),
        ema=jax.tree.map(jnp.copy, dict(variables)) if ema else None,
        skipped=zero,
        skipped_in_a_row=zero,
    )
