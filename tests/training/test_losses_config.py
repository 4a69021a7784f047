"""What config.loss makes of the terms: their sum, on any devices, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from segnext_jax.ops.resize import resize_bilinear
from segnext_jax.parallel.mesh import batch_sharding, make_mesh, replicated
from segnext_jax.training import losses
from segnext_jax.training.losses import (
    IGNORE_LABEL,
    make_enlarged_loss,
    make_loss,
)
from segnext_jax.training.task import make_task

NUM_CLASSES = 5
FACTORS = dict(cross_entropy=0.5, focal=2.0, dice=1.5, lovasz=0.25)


@pytest.fixture
def config():
    return common.base().loss


@pytest.fixture
def batch():
    """logits [8 4 6 5], label [8 4 6] without class 3; ever more of them ignored."""
    rng = np.random.default_rng(0)
    label = rng.choice([0, 1, 2, 4], (8, 4, 6))
    label[rng.random(label.shape) < np.linspace(0, 0.9, 8)[:, None, None]] = 255
    logits = rng.normal(size=(*label.shape, NUM_CLASSES))
    return jnp.asarray(logits, jnp.float32), jnp.asarray(label, jnp.int32)


def mean_loss(config, logits, label):
    total, weight = make_loss(config, NUM_CLASSES)(logits, label)
    return total / weight


@pytest.mark.parametrize("normalizer", ["valid", "all"])
def test_usual_loss_is_the_cross_entropy_to_the_last_bit(config, batch, normalizer):
    config.normalizer = normalizer
    logits, label = batch

    def cross_entropy(logits, label):
        return losses.cross_entropy(logits, label, normalizer=normalizer)

    actual, expected = (
        jax.jit(jax.value_and_grad(loss, has_aux=True))(logits, label)
        for loss in (make_loss(config, NUM_CLASSES), cross_entropy)
    )
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("normalizer", ["valid", "all"])
def test_terms_add_up_by_their_weights(config, batch, normalizer):
    config.normalizer = normalizer
    config.class_weights = (1.0, 2.0, 0.5, 1.0, 3.0)
    config.ohem = "paddle"
    config.ohem_min_kept = 20
    expected = 0.0
    for name, factor in FACTORS.items():
        alone = config.copy_and_resolve_references()
        alone.update(dict.fromkeys(FACTORS, 0.0) | {name: 1.0})
        if name in ("dice", "lovasz"):
            alone.update(class_weights=(), ohem="none")
        elif name == "focal":
            alone.ohem = "none"
        expected += factor * mean_loss(alone, *batch)
    config.update(FACTORS)
    np.testing.assert_allclose(mean_loss(config, *batch), expected, rtol=1e-6)


def test_one_term_keeps_its_own_weight(config, batch):
    """So that micro-batches of unequal class weights add up to the whole."""
    config.class_weights = (1.0, 2.0, 0.5, 1.0, 3.0)
    loss = make_loss(config, NUM_CLASSES)
    parts = [loss(*(a[i::2] for a in batch)) for i in range(2)]
    total, weight = (sum(terms) for terms in zip(*parts, strict=True))
    np.testing.assert_allclose(total / weight, mean_loss(config, *batch), rtol=1e-6)


@pytest.mark.parametrize("normalizer", ["valid", "all"])
def test_parts_are_averaged_by_their_labelled_pixels(config, batch, normalizer):
    config.normalizer = normalizer
    config.update(FACTORS)
    parts = [tuple(a[i : i + 4] for a in batch) for i in (0, 4)]
    sums = [make_loss(config, NUM_CLASSES)(*part) for part in parts]
    total, weight = (sum(terms) for terms in zip(*sums, strict=True))
    labelled = [np.mean(label != IGNORE_LABEL) for _, label in parts]
    shares = labelled if normalizer == "valid" else [1, 1]
    means = [mean_loss(config, *part) for part in parts]
    expected = np.average(means, weights=shares)
    np.testing.assert_allclose(total / weight, expected, rtol=1e-6)


@pytest.mark.parametrize("ohem", ["none", "mmseg", "paddle"])
@pytest.mark.parametrize(("normalizer", "weight"), [("valid", 0), ("all", 1)])
def test_mixture_of_a_batch_without_a_label(config, batch, ohem, normalizer, weight):
    config.update(FACTORS)
    config.update(ohem=ohem, normalizer=normalizer)
    loss = jax.value_and_grad(make_loss(config, NUM_CLASSES), has_aux=True)
    sums, grad = loss(batch[0], jnp.full_like(batch[1], IGNORE_LABEL))
    assert sums == (0, weight)
    assert not np.asarray(grad).any()


def test_terms_without_weight_are_not_computed(config, batch):
    primitives = str(jax.make_jaxpr(make_loss(config, NUM_CLASSES))(*batch))
    assert "sort" not in primitives and "logistic" not in primitives
    config.update(FACTORS)
    primitives = str(jax.make_jaxpr(make_loss(config, NUM_CLASSES))(*batch))
    assert "sort" in primitives


@pytest.mark.parametrize("ohem", ["mmseg", "paddle"])
@pytest.mark.parametrize("spatial", [1, 4])
def test_eight_devices_equal_one(batch, ohem, spatial):
    """All terms on a global batch, whole images or parts of them on a device."""
    config = common.base()
    config.loss.update(FACTORS)
    config.loss.update(ohem=ohem, ohem_min_kept=30 if ohem == "paddle" else 4)
    config.loss.class_weights = (1.0, 2.0, 0.5, 1.0, 3.0)
    task = make_task(config, "abcde", [[0, 0, 0]] * 5)
    results = []
    for mesh in (make_mesh(jax.devices()[:1]), make_mesh(spatial=spatial)):
        sharding = batch_sharding(mesh, 4)
        loss = jax.jit(
            jax.value_and_grad(task.loss, has_aux=True),
            in_shardings=sharding,
            out_shardings=((replicated(mesh),) * 2, sharding),
        )
        results.append(jax.device_get(loss(*batch)))
    (one, one_grad), (eight, eight_grad) = results
    np.testing.assert_allclose(eight, one, rtol=1e-5)
    atol = 1e-5 * np.abs(one_grad).max()
    np.testing.assert_allclose(eight_grad, one_grad, rtol=1e-5, atol=atol)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            dict(cross_entropy=0.0),
            r"cross_entropy, focal, dice, lovasz are all 0: give",
        ),
        (dict(dice=-1.0), r"config\.loss\.dice is -1\.0: it must be 0 or more"),
        (dict(focal=float("nan")), r"config\.loss\.focal is nan"),
        (dict(lovasz=float("inf")), r"config\.loss\.lovasz is inf"),
        (dict(normalizer="mean"), r"normalizer is 'mean': use \"valid\" or \"all\""),
        (dict(ohem="hard"), r"ohem is 'hard': use \"none\", \"mmseg\" or \"paddle\""),
        (dict(ohem_threshold=1.5), r"ohem_threshold is 1\.5: it must be in 0…1"),
        (dict(ohem_min_kept=-1), r"ohem_min_kept is -1: it must be 0 or more"),
        (dict(focal_gamma=-2.0), r"focal_gamma is -2\.0: it must be 0 or more"),
        (dict(focal_alpha=-0.5), r"focal_alpha is -0\.5: it must be in 0…1"),
        (dict(class_weights=(1.0, 2.0)), r"has 2 weights, but there are 5 classes"),
        (dict(class_weights=(1, 1, 1, 1, -1)), r"class_weights is -1: it must be"),
        (dict(class_weights=(0,) * 5), r"class_weights are all 0"),
        (
            dict(cross_entropy=0.0, dice=1.0, class_weights=(1,) * 5),
            r"class_weights are for the terms cross_entropy and focal",
        ),
        (
            dict(cross_entropy=0.0, focal=1.0, ohem="mmseg"),
            r"ohem is 'mmseg', but chooses pixels for the term cross_entropy",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_the_task(values, message):
    config = common.base()
    config.loss.update(values)
    with pytest.raises(ValueError, match=message):
        make_task(config, "abcde", [[0, 0, 0]] * 5)


def test_class_weights_may_come_from_a_checkpoint_as_a_list(config, batch):
    config.class_weights = (1.0, 2.0, 0.5, 1.0, 3.0)
    expected = mean_loss(config, *batch)
    with config.unlocked():
        config.class_weights = list(config.class_weights)
    assert mean_loss(config, *batch) == expected


def test_cross_entropy_alone_can_enlarge_its_logits(config, batch):
    config.update(cross_entropy=0.5, class_weights=(1.0, 2.0, 0.5, 1.0, 3.0))
    logits, label = batch
    small = logits[:, ::2, ::2]
    total, weight = make_enlarged_loss(config, NUM_CLASSES)(small, label)
    expected = mean_loss(config, resize_bilinear(small, label.shape[1:]), label)
    np.testing.assert_allclose(total / weight, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "other", [{"ohem": "mmseg"}, {"dice": 1.0}, {"lovasz": 1.0}, {"focal": 1.0}]
)
def test_other_losses_take_enlarged_logits(config, other):
    config.update(other)
    assert make_enlarged_loss(config, NUM_CLASSES) is None
