"""AdamW and the schedules against the published formulas."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from segnext_jax.models.classifier import make_classifier
from segnext_jax.training.optimizer import (
    all_finite,
    groups,
    make_optimizer,
    make_schedule,
)

NUM_STEPS = 160_000
WARMUP = 1500
PEAK = 6e-5
END = 1e-6
STEPS = [0, 1, 750, 1499, 1500, 1501, 80_000, 159_999, 160_000]


def official(step):
    """mmcv 1.x: PolyLrUpdaterHook with warmup="linear", warmup_ratio=1e-6."""
    lr = PEAK * (1 - step / NUM_STEPS)
    if step < WARMUP:
        lr *= 1 - (1 - step / WARMUP) * (1 - 1e-6)
    return lr


def paddle(step):
    """Paddle: LinearWarmup(PolynomialDecay(PEAK, 158 500, end_lr=0), 1500, 1e-6)."""
    if step < WARMUP:
        return 1e-6 + (PEAK - 1e-6) * step / WARMUP
    return PEAK * (1 - (step - WARMUP) / (NUM_STEPS - WARMUP))


def cosine(step):
    """timm: CosineLRScheduler(160 000, lr_min=END, 1500, 1e-6), warmup_prefix=False."""
    if step < WARMUP:
        return 1e-6 + (PEAK - 1e-6) * step / WARMUP
    return END + (PEAK - END) * 0.5 * (1 + np.cos(np.pi * step / NUM_STEPS))


def schedule_config(**changes):
    config = common.base().schedule
    config.update(changes)
    return config


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("formula", [official, paddle, cosine])
def test_schedule_equals_the_published_formula(formula, step):
    end = END if formula is cosine else 0.0
    config = schedule_config(form=formula.__name__, end=end)
    schedule = make_schedule(config, NUM_STEPS)
    for now in (step, jnp.asarray(step, jnp.int32)):
        # To float32's rounding of the peak.
        np.testing.assert_allclose(
            schedule(now), formula(step), rtol=1e-6, atol=2e-7 * PEAK
        )


@pytest.mark.parametrize(
    ("form", "middle"), [("official", 3.00e-5), ("paddle", 3.03e-5)]
)
def test_learning_rate_in_the_middle_of_the_run(form, middle):
    learning_rate = make_schedule(schedule_config(form=form), NUM_STEPS)(NUM_STEPS // 2)
    np.testing.assert_allclose(learning_rate, middle, atol=0.005e-5)


@pytest.mark.parametrize("form", ["official", "paddle"])
def test_schedule_without_warmup_is_the_decay(form):
    config = schedule_config(form=form, warmup_steps=0, power=2.0)
    schedule = make_schedule(config, 10)
    actual = [schedule(step) for step in range(12)]
    expected = [PEAK * (1 - min(step / 10, 1)) ** 2 for step in range(12)]
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 1.0e-6),
        (1, 2.008e-4),
        (5, 9.99316e-4),
        (75, 8.53700e-4),
        (150, 5.005e-4),
        (300, 1.0e-6),
        (301, 1.0e-6),
    ],
)
def test_learning_rates_of_the_imagenet_recipe(epoch, expected):
    config = common.base("classification")
    schedule = make_schedule(config.schedule, config.train.num_train_steps)
    np.testing.assert_allclose(schedule(1251 * epoch), expected, rtol=1e-5)


@pytest.mark.parametrize("form", ["official", "paddle", "cosine"])
def test_schedule_stays_at_its_end(form):
    schedule = make_schedule(schedule_config(form=form, end=END, warmup_steps=2), 10)
    np.testing.assert_allclose([schedule(10), schedule(12)], END, rtol=1e-6)


@pytest.mark.parametrize("warmup", [-1, 100, 101])
def test_warmup_must_be_shorter_than_the_run(warmup):
    with pytest.raises(
        ValueError, match=rf"config\.schedule\.warmup_steps is {warmup}: .* 100 steps"
    ):
        make_schedule(schedule_config(warmup_steps=warmup), 100)


def test_unknown_form_is_named():
    with pytest.raises(ValueError, match=r"config\.schedule\.form is 'linear'"):
        make_schedule(schedule_config(form="linear"), NUM_STEPS)


PARAMS = {
    "backbone": {
        "stem": {"norm1": {"scale": 1}, "conv1": {"kernel": 2}},
        "stage1_blocks": {
            "norm1": {"scale": 3},
            "layer_scale1": {"scale": 4},
            "ffn": {"expand": {"bias": 5}},
        },
        "stage2_embed_norm": {"bias": 6},
        "stage2_norm": {"bias": 7},
    },
    "decoder": {"align_norm": {"scale": 8}, "classifier": {"kernel": 9}},
}
GROUPS = {
    "backbone": {
        # Published as `patch_embed1.proj.1`, which matches no rule.
        "stem": {"norm1": {"scale": "other"}, "conv1": {"kernel": "other"}},
        "stage1_blocks": {
            "norm1": {"scale": "norm"},
            "layer_scale1": {"scale": "other"},
            "ffn": {"expand": {"bias": "other"}},
        },
        "stage2_embed_norm": {"bias": "norm"},
        "stage2_norm": {"bias": "norm"},
    },
    "decoder": {"align_norm": {"scale": "head"}, "classifier": {"kernel": "head"}},
}


def test_groups_by_name():
    assert groups(PARAMS) == GROUPS


def pytorch_adamw(param, grads, learning_rates, weight_decay):
    """torch.optim.AdamW as documented, float64."""
    b1, b2, eps = 0.9, 0.999, 1e-8
    m = v = np.zeros_like(param)
    for t, (grad, lr) in enumerate(zip(grads, learning_rates, strict=True), start=1):
        param = param - lr * weight_decay * param
        m = b1 * m + (1 - b1) * grad
        v = b2 * v + (1 - b2) * grad**2
        param = param - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return param


@pytest.mark.parametrize(
    ("head_multiplier", "decay"), [(10.0, "no_norm"), (1.0, "all")]
)
def test_updates_equal_pytorchs(head_multiplier, decay):
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda _: rng.uniform(0.5, 1.5, 4), PARAMS)
    grads = [jax.tree.map(lambda _: rng.normal(size=4), PARAMS) for _ in range(5)]
    learning_rates = 1e-3 * np.arange(5, 0, -1)

    config = common.base().optimizer
    config.weight_decay = 0.1
    config.head_multiplier, config.decay = head_multiplier, decay
    tx = make_optimizer(config, lambda step: jnp.asarray(learning_rates)[step])
    actual = float32(params)
    opt_state = tx.init(actual)
    for grad in grads:
        updates, opt_state = tx.update(float32(grad), opt_state, actual)
        actual = optax.apply_updates(actual, updates)

    def expected(group, param, *grads):
        return pytorch_adamw(
            param,
            grads,
            learning_rates * (head_multiplier if group == "head" else 1),
            0 if group == "norm" and decay == "no_norm" else 0.1,
        )

    # Optax takes 1 − 0.999ᵗ in float32: 3e-5 of an update, of which the head's largest
    # is 0.05. The decay moves the parameters by 1e-3.
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=0, atol=5e-6),
        actual,
        jax.tree.map(expected, GROUPS, params, *grads),
    )


@pytest.mark.parametrize("decay", ["all", "no_norm", "matrices"])
def test_decay_alone_shrinks_what_its_rule_names(decay):
    model = make_classifier(common.base("classification").model, num_classes=10)
    shapes = jax.eval_shape(
        partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, 32, 32, 3))
    )["params"]
    params = jax.tree.map(lambda p: jnp.ones(p.shape), shapes)
    config = common.base("classification").optimizer
    config.decay = decay
    tx = make_optimizer(config, lambda _: 1.0)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates = tx.update(zeros, tx.init(params), params)[0]

    def check(path, update):
        names = [entry.key for entry in path]
        is_decayed = {
            "all": True,
            "no_norm": "norm" not in names[-2] or "stem" in names,
            "matrices": names[-1] == "kernel",  # the rest are scales and biases
        }[decay]
        np.testing.assert_allclose(update, -0.05 if is_decayed else 0, err_msg=names)

    jax.tree_util.tree_map_with_path(check, updates)


def test_no_rate_of_the_classifier_is_that_of_a_decoder():
    """Its linear layer is called head, but is not the group of that name."""
    params = {"backbone": PARAMS["backbone"], "head": {"kernel": 1, "bias": 2}}
    assert groups(params) == {
        "backbone": GROUPS["backbone"],
        "head": {"kernel": "other", "bias": "other"},
    }


def test_unknown_rule_of_decay_is_named():
    config = common.base().optimizer
    config.decay = "norm"
    with pytest.raises(
        ValueError, match=r"config\.optimizer\.decay is 'norm': use one"
    ):
        make_optimizer(config, lambda _: 1e-3)


def float32(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def test_clipping_bounds_the_norm_over_all_parameters():
    """Adam forgets the scale of a first gradient, so the moments are looked at."""
    params = {
        "backbone": {"stage1_norm": {"scale": jnp.array([3.0])}},
        "decoder": {"classifier": {"kernel": jnp.array([4.0])}},
    }

    def first_moment(clip_norm, scale):
        config = common.base().optimizer
        config.clip_norm = clip_norm
        tx = make_optimizer(config, lambda _: 1e-3)
        grads = jax.tree.map(lambda p: scale * p, params)  # of norm 5·scale
        opt_state = tx.update(grads, tx.init(params), params)[1]
        mu = optax.tree_utils.tree_get(opt_state, "mu")
        return np.concatenate(jax.tree.leaves(mu)) / 0.1

    np.testing.assert_allclose(first_moment(1.0, 100), [0.6, 0.8], rtol=1e-5)
    np.testing.assert_allclose(first_moment(1.0, 0.1), [0.3, 0.4], rtol=1e-5)
    np.testing.assert_allclose(first_moment(0.0, 100), [300, 400], rtol=1e-5)


@pytest.mark.parametrize(
    ("value", "finite"),
    [(1.0, True), (np.nan, False), (np.inf, False), (-np.inf, False)],
)
def test_all_finite(value, finite):
    tree = {"a": jnp.ones(3), "b": [jnp.array([0.0, value])]}
    assert bool(all_finite(tree)) is finite
