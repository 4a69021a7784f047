"""Focal, Dice, Lovász and hard pixels: what they are for, and what they share."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segnext_jax.training.losses import (
    IGNORE_LABEL,
    Ohem,
    cross_entropy,
    dice,
    focal,
    lovasz,
)
from segnext_jax.training.losses.lovasz import _error_weights
from segnext_jax.training.losses.ohem import hard_pixels, kth_smallest

NUM_CLASSES = 6
LOSSES = {
    "weighted": partial(
        cross_entropy, normalizer="valid", class_weights=(1, 3, 0, 2, 1, 4)
    ),
    "ohem_mmseg": partial(
        cross_entropy, normalizer="valid", ohem=Ohem("mmseg", 0.1, 5)
    ),
    "ohem_paddle": partial(
        cross_entropy, normalizer="valid", ohem=Ohem("paddle", 0.1, 20)
    ),
    "focal": partial(focal, normalizer="valid", gamma=2.0, alpha=0.25),
    "dice": dice,
    "lovasz": lovasz,
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@pytest.fixture
def batch():
    """logits [4 3 5 6], label [4 3 5], about a third ignored, without class 4."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 9, (4, 3, 5))
    label[label >= NUM_CLASSES] = IGNORE_LABEL
    label[label == 4] = 1
    logits = 2 * rng.normal(size=(4, 3, 5, NUM_CLASSES))
    return jnp.asarray(logits, jnp.float32), jnp.asarray(label, jnp.int32)


def mean(loss):
    """The loss of one batch from its sums."""

    def mean_loss(logits, label):
        total, weight = loss(logits, label)
        return total / weight

    return mean_loss


def certain(pred):
    """Logits of predictions without a doubt, in the softmax and each sigmoid."""
    return 50.0 * (2 * jax.nn.one_hot(pred, NUM_CLASSES) - 1)


@every_loss
def test_gradient_equals_finite_differences(batch, loss):
    logits, label = batch
    loss = jax.jit(mean(loss))
    grad = jax.grad(loss)(logits, label)
    other = jnp.asarray(np.random.default_rng(1).normal(size=logits.shape))
    # Partly uphill, so that the change is large beside float32's rounding.
    step = 0.02 * (grad / jnp.linalg.norm(grad) + other / jnp.linalg.norm(other))
    change = loss(logits + step, label) - loss(logits - step, label)
    np.testing.assert_allclose(change / 2, jnp.sum(grad * step), rtol=1e-3)


@every_loss
def test_ignored_pixels_do_not_matter(batch, loss):
    logits, label = batch
    ignored = (label == IGNORE_LABEL)[..., None]
    value_and_grad = jax.value_and_grad(mean(loss))
    value, grad = value_and_grad(logits, label)
    other, other_grad = value_and_grad(jnp.where(ignored, 7 - logits, logits), label)
    np.testing.assert_allclose(other, value, rtol=1e-6)
    np.testing.assert_allclose(other_grad, grad, rtol=1e-5, atol=1e-8)
    assert not np.asarray(grad)[np.asarray(ignored[..., 0])].any()


@every_loss
def test_batch_without_a_label(batch, loss):
    logits, label = batch
    label = jnp.full_like(label, IGNORE_LABEL)
    (total, weight), grad = jax.value_and_grad(loss, has_aux=True)(logits, label)
    assert total == 0 and weight in (0, 1)
    assert not np.asarray(grad).any()


@every_loss
def test_extreme_logits_are_finite(batch, loss):
    logits, label = batch
    value, grad = jax.value_and_grad(mean(loss))(1e4 * logits, label)
    assert np.isfinite(value) and np.isfinite(grad).all()


@every_loss
def test_bfloat16_logits_are_reduced_in_float32(batch, loss):
    logits, label = batch[0].astype(jnp.bfloat16), batch[1]
    actual = loss(logits, label)
    assert [a.dtype for a in actual] == [jnp.float32, jnp.float32]
    np.testing.assert_array_equal(actual, loss(logits.astype(jnp.float32), label))


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"weighted"}))
def test_names_of_classes_do_not_matter(batch, name):
    logits, label = batch
    order = np.array([3, 0, 5, 1, 2, 4])  # new class i was order[i]
    new_label = np.append(np.argsort(order), np.full(250, IGNORE_LABEL))[label]
    value_and_grad = jax.value_and_grad(mean(LOSSES[name]))
    value, grad = value_and_grad(logits, label)
    new_value, new_grad = value_and_grad(logits[..., order], jnp.asarray(new_label))
    np.testing.assert_allclose(new_value, value, rtol=1e-6)
    np.testing.assert_allclose(new_grad, grad[..., order], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["focal", "dice", "lovasz"])
def test_perfect_prediction_has_loss_0(batch, name):
    _, label = batch
    assert mean(LOSSES[name])(certain(label), label) < 1e-12


def test_lovasz_of_certain_predictions_is_1_minus_iou(batch):
    """What it extends to probabilities; mean over the classes in the labels."""
    _, label = batch
    pred = np.random.default_rng(1).integers(0, NUM_CLASSES, label.shape)
    valid = np.asarray(label != IGNORE_LABEL)
    ious = []
    for index in set(range(NUM_CLASSES)) - {4}:
        is_pred, is_label = pred == index, np.asarray(label == index)
        ious.append((is_pred & is_label).sum() / ((is_pred & valid) | is_label).sum())
    actual = mean(lovasz)(certain(pred), label)
    np.testing.assert_allclose(actual, 1 - np.mean(ious), rtol=1e-6)


def test_lovasz_keeps_its_digits_over_many_pixels():
    """Differences of float32 Jaccard indices are 5 % off here, on average."""
    rng = np.random.default_rng(0)
    prob = rng.random(200_000).astype(np.float32)
    is_label, valid = rng.random((2, *prob.shape)) < [[0.3], [0.9]]
    is_label &= valid
    actual = jax.jit(_error_weights)(prob, is_label, valid)

    errors = np.abs(is_label - prob)
    order = np.lexsort((~is_label[valid], -errors[valid]))
    hits = is_label[valid][order].astype(np.float64)
    jaccard = 1 - (hits.sum() - hits.cumsum()) / (hits.sum() + (1 - hits).cumsum())
    expected = np.diff(jaccard, prepend=0)
    np.testing.assert_allclose(actual[valid][order], expected, rtol=1e-4)
    assert not np.asarray(actual)[~valid].any()


def test_dice_of_certain_predictions_counts_pixels():
    label = jnp.array([[[0, 0, 1, IGNORE_LABEL]], [[2, 2, 2, 2]]])
    pred = jnp.array([[[0, 1, 1, 5]], [[2, 2, 2, 3]]])
    by_class = np.zeros((2, NUM_CLASSES))
    by_class[0, 0] = 1 - (2 * 1 + 1) / (1 + 2 + 1)
    by_class[0, 1] = 1 - (2 * 1 + 1) / (2 + 1 + 1)
    by_class[1, 2] = 1 - (2 * 3 + 1) / (3 + 4 + 1)
    by_class[1, 3] = 1 - 1 / (1 + 0 + 1)  # absent, but predicted
    actual = mean(dice)(certain(pred), label)
    np.testing.assert_allclose(actual, by_class.mean(), rtol=1e-6)


@pytest.mark.parametrize("normalizer", ["valid", "all"])
def test_focal_without_focus_is_half_a_binary_cross_entropy(batch, normalizer):
    logits, label = batch
    valid = np.asarray(label != IGNORE_LABEL)
    losses = optax.sigmoid_binary_cross_entropy(
        logits, jax.nn.one_hot(label, NUM_CLASSES)
    )
    count = valid.sum() if normalizer == "valid" else valid.size
    loss = partial(focal, normalizer=normalizer, gamma=0.0, alpha=0.5)
    expected = 0.5 * losses[valid].sum() / count / NUM_CLASSES
    np.testing.assert_allclose(mean(loss)(logits, label), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["focal", "dice"])
def test_sums_over_a_split_give_the_whole(batch, name):
    loss = LOSSES[name]
    parts = [loss(*(a[i::2] for a in batch)) for i in range(2)]
    total, weight = (sum(terms) for terms in zip(*parts, strict=True))
    np.testing.assert_allclose(total / weight, mean(loss)(*batch), rtol=1e-6)


def test_lovasz_over_a_split_is_the_mean_over_the_classes_of_the_parts(batch):
    logits, label = batch
    label = label.at[:2].set(jnp.where(label[:2] == 3, 0, label[:2]))
    parts = [lovasz(logits[i : i + 2], label[i : i + 2]) for i in (0, 2)]
    assert [weight for _, weight in parts] == [4, 5]


def test_kth_smallest_equals_a_sort():
    rng = np.random.default_rng(0)
    x = rng.random((3, 5, 7)).astype(np.float32)
    x[0, 0] = 0
    x[1, 1] = x[2, 2]
    x[2, 4] = (1, 2, 1e-30, 1e-45, 1, 2, 0.5)
    actual = jax.vmap(partial(kth_smallest, x))(jnp.arange(x.size))
    np.testing.assert_array_equal(actual, np.sort(x.ravel()))
    assert kth_smallest(x, -1) == 0


@pytest.fixture
def prob():
    """[2 8 10] all different, and valid, of which a tenth is not."""
    rng = np.random.default_rng(0)
    prob = rng.permutation(np.linspace(0.01, 0.99, 160, dtype=np.float32))
    return prob.reshape(2, 8, 10), rng.random((2, 8, 10)) < 0.9


@pytest.mark.parametrize(
    ("rule", "min_kept", "kept"), [("mmseg", 15, 30), ("paddle", 30, 29)]
)
def test_hardest_pixels_are_kept(prob, rule, min_kept, kept):
    prob, valid = prob
    hard = np.asarray(hard_pixels(prob, valid, Ohem(rule, 0.0, min_kept)))
    assert hard.sum() == kept
    assert valid[hard].all()
    assert prob[hard].max() < prob[valid & ~hard].min()


@pytest.mark.parametrize("rule", ["mmseg", "paddle"])
def test_all_pixels_below_the_threshold_are_kept(prob, rule):
    prob, valid = prob
    hard = hard_pixels(prob, valid, Ohem(rule, 0.7, 10))
    np.testing.assert_array_equal(hard, valid & (prob < 0.7))


@pytest.mark.parametrize(("rule", "left_out"), [("mmseg", 1), ("paddle", 0)])
def test_more_to_keep_than_there_is(prob, rule, left_out):
    """mmseg then leaves out the easiest pixel, Paddle none."""
    prob, valid = prob
    hard = np.asarray(hard_pixels(prob, valid, Ohem(rule, 0.0, 10_000)))
    assert (valid & ~hard).sum() == left_out and not (hard & ~valid).any()


def test_easy_pixels_do_not_count_for_paddle_but_for_mmseg(batch):
    logits, label = batch
    sums = {
        rule: cross_entropy(
            logits, label, normalizer="valid", ohem=Ohem(rule, 0.2, min_kept=0)
        )
        for rule in ("mmseg", "paddle")
    }
    prob = jnp.take_along_axis(
        jax.nn.softmax(logits), jnp.minimum(label, 5)[..., None], axis=-1
    )[..., 0]
    valid = label != IGNORE_LABEL
    assert sums["mmseg"][0] == sums["paddle"][0] > 0
    assert sums["mmseg"][1] == jnp.mean(valid)
    assert sums["paddle"][1] == jnp.mean(valid & (prob < 0.2))
