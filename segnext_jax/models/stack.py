"""Equal blocks, one after the other, whose variables are stacked."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.ops.valid import Size

# What the backward computes again instead of keeping it: next to nothing, one block or
# the whole stack at a time.
Remat = Literal["none", "block", "stage"]


class Stack(nn.Module):
    """`depth` modules like `block`, each with its own variables: [b h w c] → the same.

    A variable of all blocks is one array [depth …]: fewer arrays to initialise, update,
    save and send than one for each. `scales` [depth 2 b] are those of `drop_path`.
    """

    block: nn.Module
    depth: int
    remat: Remat

    @nn.compact
    def __call__(
        self, x: jax.Array, scales: jax.Array | None, *, train: bool, size: Size
    ) -> jax.Array:
        block = self.block.clone(parent=None)

        def init_block(key):
            return block.init({"params": key}, x, None, train=False, size=size)

        def run_block(x, each):
            variables, scales = each
            return block.apply(
                variables,
                x,
                scales,
                train=train,
                size=size,
                mutable=["batch_stats"] if train else [],
            )

        def run_stack(x, variables):
            step = jax.checkpoint(run_block) if self.remat == "block" else run_block
            if _are_scanned(train):
                if self.remat == "none":
                    step = jax.checkpoint(run_block, policy=_is_kept, prevent_cse=False)
                return lax.scan(step, x, (variables, scales))
            step = jax.jit(step)  # traced for one block, not for each
            updates = []
            for i, own in enumerate(_unstack(variables, self.depth)):
                x, update = step(x, (own, None if scales is None else scales[i]))
                updates.append(update)
            return x, jax.tree.map(lambda *each: jnp.stack(each), *updates)

        if self.is_initializing():
            keys = jax.random.split(self.make_rng("params"), self.depth)
            self._put(jax.vmap(init_block)(keys))
        run = jax.checkpoint(run_stack) if self.remat == "stage" else run_stack
        x, updated = run(x, self.variables)
        self._put(updated)
        return x

    def _put(self, variables: Any) -> None:
        for collection, values in variables.items():
            for name, value in values.items():
                self.put_variable(collection, name, value)


def _unstack(tree: Any, length: int) -> list[Any]:
    """[length …] → as many trees of […]. Its gradient is a concatenation."""
    parts = jax.tree.map(
        lambda x: [jnp.squeeze(part, 0) for part in lax.split(x, (1,) * length)], tree
    )
    each = jax.tree.structure([0] * length)
    return jax.tree.transpose(jax.tree.structure(tree), each, parts)


def _are_scanned(train: bool) -> bool:
    """Whether a stack is a loop that is compiled once, or its blocks one by one.

    On TPU v5e loops take less memory, traffic and time to compile (docs/scaling.md), on
    a CPU less memory and time to compile (docs/performance.md). There inference takes
    1.27 times as long in loops, a train step no longer than without.
    """
    platform = jax.default_backend()
    return platform == "tpu" or (platform == "cpu" and train)


def _is_kept(primitive, *_, **__) -> bool:
    """For the backward of a loop: what `keep` names, and sums, are not computed again.

    Everything else is cheap to compute, and would be copied to a stack and from it.
    """
    return primitive.name in ("name", "reduce_sum")
