"""How exactly float32 is multiplied, by platform and by what it ends in."""

import jax
import jax.numpy as jnp
import pytest
from jax.lax import Precision

from segnext_jax.ops.precision import exact, precision_beneath


def test_only_float32_has_factors_to_round():
    assert exact(jnp.zeros(1, jnp.float32)) is Precision.HIGHEST
    assert exact(jnp.zeros(1, jnp.bfloat16)) is None


@pytest.mark.parametrize(
    ("platform", "dtype", "expected"),
    [
        ("tpu", jnp.bfloat16, Precision.HIGH),
        ("tpu", jnp.float32, Precision.HIGHEST),
        ("gpu", jnp.bfloat16, Precision.HIGHEST),
        ("cpu", jnp.bfloat16, Precision.HIGHEST),
    ],
)
def test_only_a_tpu_takes_fewer_passes_beneath_bfloat16(
    monkeypatch, platform, dtype, expected
):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert precision_beneath(dtype) is expected
    assert precision_beneath(jnp.zeros(1, dtype).dtype) is expected
