"""The loss that a config names: one term, or a weighted sum of several."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from segnext_jax.training.losses.cross_entropy import (
    cross_entropy,
    enlarged_cross_entropy,
)
from segnext_jax.training.losses.dice import dice
from segnext_jax.training.losses.focal import focal
from segnext_jax.training.losses.labels import (
    IGNORE_LABEL,
    check_normalizer,
    divisor,
)
from segnext_jax.training.losses.lovasz import lovasz
from segnext_jax.training.losses.ohem import Ohem

Loss = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def make_loss(config: ConfigDict, num_classes: int) -> Loss:
    """(logits [b h w c], label [b h w]) → (total, weight), as `config.loss` says.

    The loss is Σ total / Σ weight over the parts of a batch. One term alone adds up as
    its own docstring says. Of several, each is a mean over its part, and the parts are
    averaged by their labelled pixels, or equally if `normalizer` is "all".

    Args:
      config: the section `loss` of a segmentation config; see docs/losses.md.
      num_classes: without the ignored label.

    Raises:
      ValueError: for a value that the key cannot have, or that does nothing because
        the terms it is for have weight 0.
    """
    check_normalizer(config.normalizer)
    by_pixel = dict(
        normalizer=config.normalizer, class_weights=_class_weights(config, num_classes)
    )
    gamma, alpha = config.focal_gamma, config.focal_alpha
    _check_range("focal_gamma", gamma)
    _check_range("focal_alpha", alpha, 1)
    terms: list[tuple[str, float, Loss]] = [
        (
            "cross_entropy",
            config.cross_entropy,
            partial(cross_entropy, ohem=_ohem(config), **by_pixel),
        ),
        ("focal", config.focal, partial(focal, gamma=gamma, alpha=alpha, **by_pixel)),
        ("dice", config.dice, dice),
        ("lovasz", config.lovasz, lovasz),
    ]
    for name, factor, _ in terms:
        _check_range(name, factor)
    active = [(factor, term) for _, factor, term in terms if factor > 0]
    if not active:
        raise ValueError(
            f"config.loss.{', '.join(name for name, _, _ in terms)} are all 0: "
            f"give one a weight, e.g. config.loss.cross_entropy = 1.0"
        )

    def loss(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        sums = []
        for factor, term in active:
            total, weight = term(logits, label)
            sums.append((factor * total, weight))
        if len(sums) == 1:
            return sums[0]
        shared = divisor(label != IGNORE_LABEL, config.normalizer)
        tiny = jnp.finfo(jnp.float32).tiny  # nothing counted: 0 / 0 = 0
        means = [total / jnp.maximum(weight, tiny) for total, weight in sums]
        return shared * jnp.sum(jnp.stack(means)), shared

    return loss


def make_enlarged_loss(config: ConfigDict, num_classes: int) -> Loss | None:
    """`make_loss` of logits enlarged to their labels, if one operator can do both."""
    others = config.focal, config.dice, config.lovasz
    if any(others) or config.ohem != "none":
        return None
    term = partial(
        enlarged_cross_entropy,
        normalizer=config.normalizer,
        class_weights=_class_weights(config, num_classes),
    )

    def loss(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        total, weight = term(logits, label)
        return config.cross_entropy * total, weight

    return loss


def _class_weights(config: ConfigDict, num_classes: int) -> tuple[float, ...]:
    weights = tuple(config.class_weights)
    if not weights:
        return ()
    if len(weights) != num_classes:
        raise ValueError(
            f"config.loss.class_weights has {len(weights)} weights, but there are "
            f"{num_classes} classes: give one for each, or () for none"
        )
    for weight in weights:
        _check_range("class_weights", weight)
    if not any(weights):
        raise ValueError("config.loss.class_weights are all 0: nothing would be learnt")
    if not (config.cross_entropy or config.focal):
        raise ValueError(
            "config.loss.class_weights are for the terms cross_entropy and focal, "
            "whose weights are 0: give one a weight, or set class_weights to ()"
        )
    return weights


def _ohem(config: ConfigDict) -> Ohem | None:
    rule = config.ohem
    if rule not in ("none", "mmseg", "paddle"):
        raise ValueError(
            f'config.loss.ohem is {rule!r}: use "none", "mmseg" or "paddle"'
        )
    _check_range("ohem_threshold", config.ohem_threshold, 1)
    _check_range("ohem_min_kept", config.ohem_min_kept)
    if rule == "none":
        return None
    if not config.cross_entropy:
        raise ValueError(
            f"config.loss.ohem is {rule!r}, but chooses pixels for the term "
            f'cross_entropy, whose weight is 0: give it one, or set ohem to "none"'
        )
    return Ohem(rule, config.ohem_threshold, config.ohem_min_kept)


def _check_range(name: str, value: float, high: float = float("inf")) -> None:
    # Not `value < 0 or …`, which NaN would pass.
    if not (0 <= value <= high and value < float("inf")):
        expected = "0 or more" if high == float("inf") else f"in 0…{high}"
        raise ValueError(f"config.loss.{name} is {value}: it must be {expected}")
