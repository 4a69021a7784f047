"""Cross-entropies against their definitions, and their sums over splits of a batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.training.losses import IGNORE_LABEL, cross_entropy, soft_cross_entropy

NORMALIZERS = ["valid", "all"]


@pytest.fixture
def batch():
    """logits [4 3 5 6], label [4 3 5] of which about a third is ignored."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 9, (4, 3, 5))
    label[label >= 6] = IGNORE_LABEL
    logits = rng.normal(size=(4, 3, 5, 6))
    return jnp.asarray(logits, jnp.float32), jnp.asarray(label, jnp.int32)


CLASS_WEIGHTS = (1, 3, 0, 2, 1, 4)


def mean_loss(logits, label, normalizer, class_weights=()):
    total, weight = cross_entropy(
        logits, label, normalizer=normalizer, class_weights=class_weights
    )
    return total / weight


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_equals_the_definition(batch, normalizer):
    logits, label = (np.asarray(a, np.float64) for a in batch)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    losses = [
        -np.log(probs[index][int(label[index])])
        for index in np.ndindex(label.shape)
        if label[index] != IGNORE_LABEL
    ]
    count = len(losses) if normalizer == "valid" else label.size
    actual = mean_loss(*batch, normalizer)
    np.testing.assert_allclose(actual, sum(losses) / count, rtol=1e-6)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_gradient_is_probability_minus_label_and_0_where_ignored(batch, normalizer):
    logits, label = batch
    grad = jax.grad(mean_loss)(logits, label, normalizer)
    valid = np.asarray(label != IGNORE_LABEL)
    count = valid.sum() if normalizer == "valid" else valid.size
    one_hot = jax.nn.one_hot(label, logits.shape[-1])
    expected = np.where(valid[..., None], jax.nn.softmax(logits) - one_hot, 0) / count
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-8)
    assert not np.asarray(grad)[~valid].any()


@pytest.mark.parametrize("class_weights", [(), CLASS_WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("splits", [2, 4])
def test_sums_over_a_split_give_the_whole(batch, normalizer, splits, class_weights):
    """Also where the parts have unequal numbers of labelled pixels."""
    logits, label = batch
    label = label.at[0].set(IGNORE_LABEL)
    loss = partial(cross_entropy, normalizer=normalizer, class_weights=class_weights)
    parts = [
        loss(*part)
        for part in zip(
            jnp.split(logits, splits), jnp.split(label, splits), strict=True
        )
    ]
    total, weight = (sum(terms) for terms in zip(*parts, strict=True))
    whole = mean_loss(logits, label, normalizer, class_weights)
    np.testing.assert_allclose(total / weight, whole, rtol=1e-6)


def test_weight_of_a_class_equals_repeating_its_pixels(batch):
    """Of 0, leaving them out."""
    logits, label = (np.asarray(a).reshape(-1, *a.shape[3:]) for a in batch)
    times = np.append(CLASS_WEIGHTS, 1)[np.minimum(label, len(CLASS_WEIGHTS))]
    repeated = (a.repeat(times, axis=0)[None, None] for a in (logits, label))
    actual = mean_loss(*batch, "valid", CLASS_WEIGHTS)
    np.testing.assert_allclose(actual, mean_loss(*repeated, "valid"), rtol=1e-6)


def test_weights_are_factors_if_the_mean_is_over_all_pixels(batch):
    once, thrice = (mean_loss(*batch, "all", (weight,) * 6) for weight in (1.0, 3.0))
    assert once == mean_loss(*batch, "all")
    np.testing.assert_allclose(thrice, 3 * once, rtol=1e-6)


@pytest.mark.parametrize(("normalizer", "weight"), [("valid", 0), ("all", 1)])
def test_batch_without_a_label(batch, normalizer, weight):
    logits, label = batch
    label = jnp.full_like(label, IGNORE_LABEL)
    value_and_grad = jax.value_and_grad(cross_entropy, has_aux=True)
    (total, actual_weight), grad = value_and_grad(logits, label, normalizer=normalizer)
    assert (total, actual_weight) == (0, weight)
    assert not np.asarray(grad).any()


def test_extreme_logits_are_finite():
    logits = jnp.array([[[[1e4, -1e4], [1e4, -1e4]]]])
    label = jnp.array([[[0, 1]]])
    loss, grad = jax.value_and_grad(mean_loss)(logits, label, "valid")
    np.testing.assert_allclose(loss, (0 + 2e4) / 2)
    np.testing.assert_allclose(grad, [[[[0, 0], [0.5, -0.5]]]], atol=1e-7)


def test_bfloat16_logits_are_reduced_in_float32(batch):
    logits, label = batch[0].astype(jnp.bfloat16), batch[1]
    actual = cross_entropy(logits, label, normalizer="valid")
    expected = cross_entropy(logits.astype(jnp.float32), label, normalizer="valid")
    assert [a.dtype for a in actual] == [jnp.float32, jnp.float32]
    np.testing.assert_array_equal(actual, expected)


def test_unknown_normalizer_is_named(batch):
    with pytest.raises(ValueError, match=r"config\.loss\.normalizer is 'mean'"):
        cross_entropy(*batch, normalizer="mean")


@pytest.fixture
def soft_batch():
    """logits [4 6] and probabilities [4 6]."""
    rng = np.random.default_rng(0)
    target = rng.dirichlet(np.ones(6), 4)
    return jnp.asarray(rng.normal(size=(4, 6)), jnp.float32), jnp.asarray(
        target, jnp.float32
    )


def test_soft_loss_equals_the_definition(soft_batch):
    logits, target = (np.asarray(a, np.float64) for a in soft_batch)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    total, weight = soft_cross_entropy(*soft_batch)
    expected = -np.mean(np.sum(target * np.log(probs), axis=-1))
    np.testing.assert_allclose(total / weight, expected, rtol=1e-6)


def test_soft_loss_of_a_certain_label_is_that_of_the_label(soft_batch):
    logits, _ = soft_batch
    label = jnp.array([0, 3, 5, 3])
    actual = soft_cross_entropy(logits, jax.nn.one_hot(label, 6))
    # As one image of four pixels.
    expected = cross_entropy(
        logits[None, :, None], label[None, :, None], normalizer="all"
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_soft_sums_over_a_split_give_the_whole(soft_batch):
    logits, target = soft_batch
    parts = [soft_cross_entropy(logits[i::2], target[i::2]) for i in range(2)]
    total, weight = (sum(terms) for terms in zip(*parts, strict=True))
    whole, _ = soft_cross_entropy(logits, target)
    np.testing.assert_allclose(total / weight, whole, rtol=1e-6)
