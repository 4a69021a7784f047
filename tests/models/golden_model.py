"""The JAX side of tools/golden: its small model, and the bases of `golden_fill`."""

import golden_fill
import jax
import jax.numpy as jnp
import numpy as np

from segnext_jax.models.hamburger import LightHam
from segnext_jax.models.layers import fan_out_normal
from segnext_jax.models.mscan import MSCAN
from segnext_jax.models.segnext import SegNeXt


def tiny_model() -> SegNeXt:
    """The small model of tools/golden/files.py, without dropout."""
    return SegNeXt(
        MSCAN((8, 8, 16, 16), (1, 2, 1, 1), drop_path_rate=0.0, depthwise="xla"),
        LightHam(
            num_classes=golden_fill.NUM_CLASSES,
            channels=64,
            rank=8,
            kernel_init=fan_out_normal,
            classifier_init=fan_out_normal,
            dropout_rate=0.0,
        ),
    )


def draw_bases(key: jax.Array, d: int, rank: int) -> jax.Array:
    """In place of `nmf.draw_bases`: those that the peers are given, [d r]."""
    bases = golden_fill.fill(golden_fill.BASES, (d, rank))
    return jnp.asarray(bases / np.linalg.norm(bases, axis=0))
