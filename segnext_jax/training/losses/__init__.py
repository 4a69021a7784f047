"""Losses as sums, so that shards and micro-batches add up exactly."""

from segnext_jax.training.losses.cross_entropy import (
    cross_entropy,
    enlarged_cross_entropy,
    soft_cross_entropy,
)
from segnext_jax.training.losses.dice import dice
from segnext_jax.training.losses.focal import focal
from segnext_jax.training.losses.labels import IGNORE_LABEL
from segnext_jax.training.losses.lovasz import lovasz
from segnext_jax.training.losses.mixture import make_enlarged_loss, make_loss
from segnext_jax.training.losses.ohem import Ohem

__all__ = [
    "IGNORE_LABEL",
    "Ohem",
    "cross_entropy",
    "dice",
    "enlarged_cross_entropy",
    "focal",
    "lovasz",
    "make_enlarged_loss",
    "make_loss",
    "soft_cross_entropy",
]
