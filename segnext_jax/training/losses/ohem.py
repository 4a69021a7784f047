"""Online hard example mining: which pixels of a batch are hard enough to learn from."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp


class Ohem(NamedTuple):
    """A pixel is hard if its own class has a probability below `threshold`.

    If fewer than about `min_kept` pixels are, the threshold rises until they are:

      "mmseg": mmsegmentation's OHEMPixelSampler; `min_kept` is per image of the batch.
        The mean still divides by what it divides by without.
      "paddle": PaddleSeg's OhemCrossEntropyLoss; `min_kept` is of the batch, one less
        is kept, and all are if it has no more. Easy pixels count as ignored.
    """

    rule: Literal["mmseg", "paddle"]
    threshold: float
    min_kept: int


def hard_pixels(prob: jax.Array, valid: jax.Array, ohem: Ohem) -> jax.Array:
    """Which pixels are kept.

    Args:
      prob: [b h w] float32, probability 0…1 of each pixel's own class.
      valid: [b h w] bool, False where ignored.
      ohem: the rule.

    Returns:
      bool [b h w], False where ignored. Nothing is differentiated through it.
    """
    prob = jax.lax.stop_gradient(jnp.where(valid, prob, 2))  # ignored ones sort last
    num_valid = jnp.sum(valid)
    if ohem.rule == "mmseg":
        num_kept = min(ohem.min_kept * len(prob), prob.size)
        k = jnp.minimum(num_kept, num_valid - 1)
    else:
        k = jnp.asarray(min(ohem.min_kept, prob.size) - 1)
    hard = valid & (prob < jnp.maximum(kth_smallest(prob, k), ohem.threshold))
    if ohem.rule == "paddle":
        hard = jnp.where(num_valid > ohem.min_kept, hard, valid)
    return hard


def kth_smallest(x: jax.Array, k: jax.Array) -> jax.Array:
    """The value that `jnp.sort(x.ravel())[k]` has, without a sort; 0 for k < 0.

    Non-negative floats have the order of their bits. Those are found one by one, from
    the highest, by counting what is smaller: 31 passes over x for any k, in which
    devices exchange one number. A sort would gather the batch on every device.

    Args:
      x: any shape, float32 ≥ 0.
      k: int32 scalar, from 0.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)

    def try_bit(i: jax.Array, found: jax.Array) -> jax.Array:
        larger = found | jnp.left_shift(1, 30 - i)
        return jnp.where(jnp.sum(bits < larger) <= k, larger, found)

    found = jax.lax.fori_loop(0, 31, try_bit, jnp.int32(0))
    return jax.lax.bitcast_convert_type(found, jnp.float32)
