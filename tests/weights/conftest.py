from pathlib import Path

import golden_fill
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.models.hamburger import LightHam
from segnext_jax.models.layers import fan_out_normal
from segnext_jax.models.mscan import MSCAN
from segnext_jax.models.segnext import SegNeXt
from segnext_jax.ops import nmf
from segnext_jax.weights import convert

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden_folder():
    return GOLDEN


@pytest.fixture(scope="session")
def tiny():
    """The small model of tools/golden, without dropout."""
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


@pytest.fixture(scope="session")
def tiny_shapes(tiny):
    return convert.shapes(tiny)


@pytest.fixture
def same_bases(monkeypatch):
    def draw_bases(key, d, rank):
        bases = golden_fill.fill(golden_fill.BASES, (d, rank))
        return jnp.asarray(bases / np.linalg.norm(bases, axis=0))

    monkeypatch.setattr(nmf, "draw_bases", draw_bases)
