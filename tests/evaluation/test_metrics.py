"""Counting pixels and images, and the scores that follow from the counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.evaluation.metrics import (
    Confusion,
    TopK,
    count_pixels,
    count_top_k,
    iou,
    mean,
)


@pytest.fixture
def batch():
    """label (0…3, 255), pred (0…3) and mask (the third example is padding)."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 5, (4, 6, 5))
    label[label == 4] = 255
    return {
        "label": jnp.asarray(label, jnp.uint8),
        "pred": jnp.asarray(rng.integers(0, 4, (4, 6, 5)), jnp.int32),
        "mask": jnp.array([True, True, False, True]),
    }


def count_in_a_loop(label, pred, mask, num_classes):
    counts = np.zeros((num_classes, num_classes), int)
    for index in np.ndindex(label.shape):
        if mask[index[0]] and label[index] != 255:
            counts[int(label[index]), int(pred[index])] += 1
    return counts


def test_counts_equal_a_loop(batch):
    counts = count_pixels(**batch, num_classes=4)
    assert counts.dtype == jnp.int32
    np.testing.assert_array_equal(counts, count_in_a_loop(**batch, num_classes=4))
    jitted = jax.jit(count_pixels, static_argnames="num_classes")
    np.testing.assert_array_equal(jitted(**batch, num_classes=4), counts)


def test_rows_are_labels_and_columns_predictions():
    label, pred = jnp.full((1, 2, 3), 2, jnp.uint8), jnp.full((1, 2, 3), 0)
    counts = count_pixels(label, pred, jnp.array([True]), 3)
    np.testing.assert_array_equal(counts, [[0, 0, 0], [0, 0, 0], [6, 0, 0]])


def test_ignored_pixels_and_padding_examples_count_nowhere(batch):
    label = jnp.where(batch["mask"][:, None, None], 255, batch["label"])
    counts = count_pixels(label, batch["pred"], batch["mask"], 4)
    assert not counts.any()


def test_ids_just_past_the_last_class_are_not_the_last_class():
    label = jnp.array([[[3, 4, 254, 255]]], jnp.uint8)
    counts = count_pixels(label, jnp.full((1, 1, 4), 3), jnp.array([True]), 4)
    assert counts.sum() == counts[3, 3] == 1


def test_number_of_classes_that_overflows_uint8():
    """label · num_classes exceeds 255 from 16 classes on."""
    ids = jnp.arange(150, dtype=jnp.uint8).reshape(1, 10, 15)
    counts = count_pixels(ids, ids.astype(jnp.int32), jnp.array([True]), 150)
    np.testing.assert_array_equal(counts, np.eye(150))


def test_merging_parts_gives_the_whole(batch):
    def confusion(part):
        return Confusion.of(count_pixels(**part, num_classes=4))

    parts = [{k: v[i : i + 1] for k, v in batch.items()} for i in range(4)]
    merged = confusion(parts[0])
    for part in parts[1:]:
        merged = merged.merge(confusion(part))
    np.testing.assert_array_equal(merged.counts, confusion(batch).counts)


def test_scores_by_hand():
    scores = Confusion.of(jnp.array([[3, 1, 0], [2, 4, 0], [0, 0, 10]])).compute()
    np.testing.assert_allclose(scores["iou"], [3 / 6, 4 / 7, 1])
    np.testing.assert_allclose(scores["miou"], (3 / 6 + 4 / 7 + 1) / 3)
    np.testing.assert_allclose(scores["accuracy"], 17 / 20)
    np.testing.assert_allclose(scores["class_accuracy"], [3 / 4, 4 / 6, 1])
    np.testing.assert_allclose(scores["share"], [4 / 20, 6 / 20, 10 / 20])
    np.testing.assert_allclose(scores["mean_accuracy"], (3 / 4 + 4 / 6 + 1) / 3)
    np.testing.assert_allclose(scores["dice"], [6 / 9, 8 / 11, 1])
    np.testing.assert_allclose(scores["mean_dice"], (6 / 9 + 8 / 11 + 1) / 3)
    by_chance = (4 * 5 + 6 * 5 + 10 * 10) / 20**2
    np.testing.assert_allclose(scores["kappa"], (17 / 20 - by_chance) / (1 - by_chance))


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [
        ([[5, 0], [0, 7]], 1.0),
        ([[4, 4], [4, 4]], 0.0),  # as a coin
        ([[0, 5], [5, 0]], -1.0),
        ([[9, 0], [0, 0]], np.nan),  # chance alone is always right
    ],
)
def test_kappa_is_agreement_beyond_chance(counts, kappa):
    np.testing.assert_allclose(Confusion.of(np.array(counts)).compute()["kappa"], kappa)


def test_kappa_does_not_overflow():
    """Products of the counts of a data set do: 10⁹ · 10¹⁰ > 2⁶³."""
    large = Confusion.of(np.array([[3, 1], [2, 4]]) * 10**10).compute()
    small = Confusion.of(np.array([[3, 1], [2, 4]])).compute()
    np.testing.assert_allclose(large["kappa"], small["kappa"])


def test_absent_class_is_nan_and_left_out_of_the_mean():
    """Class 1 neither occurs nor is predicted; class 2 is only predicted: IoU 0."""
    scores = Confusion.of(jnp.array([[3, 0, 1], [0, 0, 0], [0, 0, 0]])).compute()
    np.testing.assert_allclose(scores["iou"], [3 / 4, np.nan, 0])
    np.testing.assert_allclose(scores["miou"], 3 / 8)
    np.testing.assert_allclose(scores["class_accuracy"], [3 / 4, np.nan, np.nan])
    np.testing.assert_allclose(scores["share"], [1, 0, 0])


def test_absent_class_can_count_zero():
    """PaddleSeg's rule for IoU and Dice."""
    counts = jnp.array([[3, 0, 1], [0, 0, 0], [0, 0, 0]])
    scores = Confusion.of(counts).compute(absent="zero")
    np.testing.assert_allclose(scores["iou"], [3 / 4, 0, 0])
    np.testing.assert_allclose(scores["miou"], 3 / 12)
    np.testing.assert_allclose(scores["mean_dice"], 6 / 7 / 3)
    np.testing.assert_allclose(scores["mean_accuracy"], 3 / 4)


def test_unknown_rule_for_absent_classes_is_named():
    with pytest.raises(ValueError, match=r"absent_class is 'one': use one of skip, "):
        Confusion.of(jnp.eye(2)).compute(absent="one")


def test_nothing_counted_gives_nan():
    scores = Confusion.of(jnp.zeros((2, 2), jnp.int32)).compute()
    for name in ("miou", "accuracy", "mean_accuracy", "mean_dice", "kappa"):
        assert np.isnan(scores[name]), name


def test_ratios_of_images_by_class():
    """[n c] counts, as the scores by image are computed."""
    ratio = iou(np.array([[1, 0], [0, 0]]), np.array([[2, 0], [0, 3]]), np.eye(2))
    np.testing.assert_allclose(ratio, [[1 / 2, np.nan], [np.nan, 0]])
    np.testing.assert_allclose(mean(ratio), [1 / 2, 0])
    assert np.isnan(mean(np.full(3, np.nan)))


def test_host_counts_are_exact_beyond_32_bits():
    """The Cityscapes validation set has 10⁹ pixels; float32 stalls at 2²⁴."""
    one_call = Confusion.of(jnp.array([[2**31 - 1, 1], [0, 1]], jnp.int32))
    total = one_call
    for _ in range(4):
        total = total.merge(one_call)
    assert total.counts.dtype == np.int64
    assert total.counts[0].tolist() == [5 * (2**31 - 1), 5]


def test_top_k_equals_a_sort():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 9)).astype(np.float32)
    label = rng.integers(0, 9, 200)
    mask = rng.random(200) < 0.7
    place = np.argmax(np.argsort(-logits, axis=1) == label[:, None], axis=1)[mask]
    counts = jax.jit(count_top_k)(logits, label, mask)
    assert counts.dtype == jnp.int32
    expected = [np.sum(place < 1), np.sum(place < 5), mask.sum()]
    np.testing.assert_array_equal(counts, expected)
    assert 0 < expected[0] < expected[1] < expected[2]


def test_equal_logits_rank_by_class():
    """As argmax does; a network that says nothing is right once in c images."""
    logits = jnp.zeros((9, 9))
    counts = count_top_k(logits, jnp.arange(9), jnp.ones(9, bool))
    assert counts.tolist() == [1, 5, 9]
    pred = jnp.argmax(jnp.array([[0.0, 1.0, 1.0]]), axis=1)
    assert count_top_k(jnp.array([[0.0, 1.0, 1.0]]), pred, jnp.array([True]))[0] == 1


def test_nan_is_never_right():
    logits = jnp.full((9, 9), jnp.nan)
    counts = count_top_k(logits, jnp.arange(9), jnp.ones(9, bool))
    assert counts.tolist() == [0, 0, 9]
    one = jnp.zeros((1, 9)).at[0, 8].set(jnp.nan).at[0, 3].set(1.0)
    assert count_top_k(one, jnp.array([3]), jnp.array([True])).tolist() == [0, 1, 1]


def test_padding_images_count_nowhere():
    logits = jnp.eye(6)
    counts = count_top_k(logits, jnp.arange(6), jnp.arange(6) < 2)
    assert counts.tolist() == [2, 2, 2]


def test_merged_images_are_exact_beyond_32_bits():
    one_call = TopK.of(jnp.array([1, 2**31 - 2, 2**31 - 1], jnp.int32))
    total = one_call.merge(one_call).merge(one_call)
    assert total.counts.tolist() == [3, 3 * (2**31 - 2), 3 * (2**31 - 1)]
    assert total.num_images == 3 * (2**31 - 1)


def test_fractions_of_images():
    scores = TopK.of(jnp.array([3, 6, 8], jnp.int32)).compute()
    assert scores == {"top1": 3 / 8, "top5": 6 / 8}
    nothing = TopK.of(jnp.zeros(3, jnp.int32)).compute()
    assert np.isnan([nothing["top1"], nothing["top5"]]).all()
