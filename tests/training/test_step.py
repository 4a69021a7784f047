from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segnext_jax.ops import nmf
from segnext_jax.ops.cross_entropy import is_whole_factor
from segnext_jax.parallel.mesh import make_mesh, replicated, to_global
from segnext_jax.training import objective
from segnext_jax.training.optimizer import make_optimizer, make_schedule
from segnext_jax.training.program import make_program
from segnext_jax.training.state import init_state
from segnext_jax.training.step import make_train_step
from segnext_jax.training.task import make_task

CLASSES = "abcde"
PALETTE = [[0, 0, 0]] * 5


def make_run(config):
    """(state at step 0, the step to jit), of one device."""
    task = make_task(config, CLASSES, PALETTE)
    schedule = make_schedule(config.schedule, config.train.num_train_steps)
    tx = make_optimizer(config.optimizer, schedule)
    ema = config.train.ema_decay > 0
    state = jax.jit(partial(init_state, task.model, tx, ema=ema))(jax.random.key(0))
    mesh = make_mesh(jax.devices()[:1])
    return state, make_train_step(task, schedule, config, mesh)


def first_gradients(state):
    """Gradients of the first step: Adam's first moment is (1 - b1) of them."""
    moments = optax.tree.get(state.opt_state, "mu")
    return jax.tree.map(lambda mu: np.asarray(mu) / (1 - 0.9), moments)


def assert_trees_close(actual, expected, *, relative, zero=0.0):
    """Within `relative` of the norm of each array of `expected`, or `zero`."""

    def check(path, a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        bound = max(relative * np.linalg.norm(b), zero)
        assert np.linalg.norm(a - b) <= bound, jax.tree_util.keystr(path)

    jax.tree_util.tree_map_with_path(check, actual, expected)


def assert_trees_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.usefixtures("smooth")
def test_eight_devices_equal_one(config, make_batch):
    """With augmentation, drop path and dropout. SegNeXt-T: benchmarks/meshes.py."""
    config.model.depthwise = "shift"
    assert_eight_devices_equal_one(config, make_batch(0, 8, height=128, width=128))


@pytest.mark.usefixtures("smooth")
@pytest.mark.parametrize(("data", "spatial"), [(1, 1), (8, 1), (2, 4)])
def test_operators_of_a_tpu_equal_those_of_a_cpu(
    config, make_batch, monkeypatch, data, spatial
):
    batch = make_batch(0, 8, height=128, width=64)
    expected = first_step(config, batch, make_mesh(jax.devices()[:1]))
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    mesh = make_mesh(jax.devices()[: data * spatial], data=data, spatial=spatial)
    assert_same_step(first_step(config, batch, mesh), expected)


def test_eight_devices_equal_one_to_classify(make_config, make_images):
    """Every image is mixed with that of another device."""
    config = make_config("classification")
    config.augment.erase_probability = 1.0
    assert_eight_devices_equal_one(config, make_images(0, 8))


@pytest.mark.usefixtures("smooth")
@pytest.mark.parametrize(("data", "spatial"), [(2, 4), (1, 8)])
def test_meshes_equal_one_device(config, make_batch, data, spatial):
    """With eight devices stage 4 has one row on each, less than its filters need."""
    batch = make_batch(0, 4, height=256, width=32)
    one = first_step(config, batch, make_mesh(jax.devices()[:1]))
    mesh = make_mesh(data=data, spatial=spatial)
    assert_same_step(first_step(config, batch, mesh), one)


@pytest.mark.usefixtures("smooth")
@pytest.mark.parametrize(("data", "spatial"), [(4, 1), (2, 2)])
def test_loss_may_enlarge_the_logits(config, make_batch, monkeypatch, data, spatial):
    """By phases; not where rows are split."""
    batch = make_batch(0, 4, height=64, width=64)
    with monkeypatch.context() as patch:
        patch.setattr(objective, "is_whole_factor", lambda *_: False)
        plain = first_step(config, batch, make_mesh(jax.devices()[:1]))
    calls = []

    def enlarges(*shapes):
        calls.append(shapes)
        return is_whole_factor(*shapes)

    monkeypatch.setattr(objective, "is_whole_factor", enlarges)
    mesh = make_mesh(jax.devices()[: data * spatial], data=data, spatial=spatial)
    assert_same_step(first_step(config, batch, mesh), plain)
    assert bool(calls) == (spatial == 1)


@pytest.fixture
def smooth(monkeypatch):
    """Rounding moves a ReLU at its kink, and then gradients by 1e-4: not this one."""
    monkeypatch.setattr(nn, "relu", jax.nn.softplus)


def assert_eight_devices_equal_one(config, batch):
    """In loss, gradients and statistics of the first step."""
    one, eight = (
        first_step(config, batch, make_mesh(devices))
        for devices in (jax.devices()[:1], jax.devices()[:8])
    )
    assert_same_step(eight, one)


def first_step(config, batch, mesh):
    """(state, metrics) after it."""
    config.train.batch_size = len(batch["image"])
    config.data.crop_size = batch["image"].shape[1:3]
    program = make_program(config, make_task(config, CLASSES, PALETTE), mesh)
    state, _ = make_run(config)
    state = jax.device_put(state, replicated(mesh))
    return jax.device_get(program.train_step(state, to_global(batch, mesh)))


def assert_same_step(actual, expected):
    (state, metrics), (expected_state, expected_metrics) = actual, expected
    np.testing.assert_allclose(metrics["loss"], expected_metrics["loss"], rtol=1e-5)
    # The mean of what a BatchNorm put out is 0 up to rounding.
    assert_trees_close(
        state.batch_stats, expected_state.batch_stats, relative=1e-5, zero=1e-6
    )
    # Biases in front of a BatchNorm have gradient 0 up to rounding.
    assert_trees_close(
        first_gradients(state),
        first_gradients(expected_state),
        relative=1e-5,
        zero=1e-6 * float(expected_metrics["grad_norm"]),
    )


def test_step_is_a_function_of_seed_step_and_batch(config, make_batch):
    state, step = make_run(config)
    step = jax.jit(step)
    batch = make_batch(0, 2)
    once, metrics = step(state, batch)
    again, _ = step(state, batch)
    assert_trees_equal(again, once)
    _, later = step(state.replace(step=jnp.int32(1)), batch)
    assert later["loss"] != metrics["loss"]

    config.seed = 1
    _, step = make_run(config)
    _, other_seed = jax.jit(step)(state, batch)
    assert other_seed["loss"] != metrics["loss"]


def test_training_lowers_the_loss(config, make_batch):
    """Blocks whose grey is their class."""
    config.train.num_train_steps = 40
    config.schedule.peak = 1e-2
    config.augment.distortion = "none"
    state, step = make_run(config)
    step = jax.jit(step)
    batch = make_batch(0, 2)
    blocks = np.random.default_rng(0).integers(0, 5, (2, 4, 4)).astype(np.uint8)
    batch["label"] = blocks.repeat(16, axis=1).repeat(16, axis=2)
    batch["image"] = batch["image"] // 8 + 50 * batch["label"][..., None]
    losses = []
    for _ in range(25):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


@pytest.fixture
def nothing_random(config, monkeypatch):
    bases = np.random.default_rng(0).random((32, 4), np.float32)
    monkeypatch.setattr(nmf, "draw_bases", lambda key, d, rank: jnp.asarray(bases))
    config.model.drop_path_rate = config.model.dropout_rate = 0.0
    config.augment.flip_probability = 0.0
    config.augment.distortion = "none"


@pytest.mark.usefixtures("nothing_random")
def test_accumulated_gradients_equal_those_of_one_batch(config, make_batch):
    """Two identical micro-batches have the BatchNorm moments of one."""
    batch = make_batch(0, 2)
    state, step = make_run(config)
    whole, whole_metrics = jax.jit(step)(state, batch)

    config.train.accumulate_steps = 2
    # Micro-batch m takes every second example from m on: m = 0 and 1 are the same.
    doubled = {name: np.repeat(rows, 2, axis=0) for name, rows in batch.items()}
    _, step = make_run(config)
    split, split_metrics = jax.jit(step)(state, doubled)
    np.testing.assert_allclose(split_metrics["loss"], whole_metrics["loss"], rtol=1e-6)
    assert_trees_close(
        first_gradients(split),
        first_gradients(whole),
        relative=1e-5,
        zero=1e-6 * float(whole_metrics["grad_norm"]),
    )


@pytest.mark.usefixtures("nothing_random")
def test_micro_batches_weigh_by_their_labelled_pixels(config, make_batch):
    batch = make_batch(0, 2)
    state, step = make_run(config)
    _, whole_metrics = jax.jit(step)(state, batch)

    config.train.accumulate_steps = 2
    doubled = {name: np.repeat(rows, 2, axis=0) for name, rows in batch.items()}
    doubled["label"][1::2] = 255  # the second micro-batch has nothing to say
    _, step = make_run(config)
    _, split_metrics = jax.jit(step)(state, doubled)
    np.testing.assert_allclose(split_metrics["loss"], whole_metrics["loss"], rtol=1e-6)


def test_non_finite_update_is_left_out_and_counted(config, make_batch):
    config.train.ema_decay = 0.9
    good, step = make_run(config)
    step = jax.jit(step)
    batch = make_batch(0, 2)
    classifier = good.params["decoder"]["classifier"]
    poisoned = {**classifier, "bias": classifier["bias"].at[0].set(jnp.nan)}
    decoder = {**good.params["decoder"], "classifier": poisoned}
    bad = good.replace(params={**good.params, "decoder": decoder})

    after, metrics = step(bad, batch)
    assert not np.isfinite(metrics["loss"])
    assert (after.step, after.skipped, after.skipped_in_a_row) == (1, 1, 1)
    counters = dict(step=bad.step, skipped=bad.skipped, skipped_in_a_row=bad.skipped)
    assert_trees_equal(after.replace(**counters), bad)

    after, _ = step(after, batch)
    assert (after.step, after.skipped, after.skipped_in_a_row) == (2, 2, 2)
    after, metrics = step(after.replace(params=good.params), batch)
    assert np.isfinite(metrics["loss"])
    assert (after.step, after.skipped, after.skipped_in_a_row) == (3, 2, 0)


def test_batch_without_labels_changes_no_weight_but_by_decay(config, make_batch):
    config.optimizer.weight_decay = 0.0
    state, step = make_run(config)
    batch = make_batch(0, 2)
    batch["label"][:] = 255
    after, metrics = jax.jit(step)(state, batch)
    assert (metrics["loss"], metrics["grad_norm"], after.skipped) == (0, 0, 0)
    assert_trees_equal(after.params, state.params)


def test_ema_is_the_average_of_weights_and_statistics(config, make_batch):
    config.train.ema_decay = 0.75
    state, step = make_run(config)
    step = jax.jit(step)
    expected = {"params": state.params, "batch_stats": state.batch_stats}
    for seed in range(3):
        state, _ = step(state, make_batch(seed, 2))
        new = {"params": state.params, "batch_stats": state.batch_stats}
        expected = jax.tree.map(lambda e, n: 0.75 * e + 0.25 * n, expected, new)
    assert_trees_close(state.ema, expected, relative=1e-6)
    assert state.eval_variables is state.ema


def test_learning_rate_and_unreadable_are_reported(config, make_batch):
    state, step = make_run(config)
    batch = make_batch(0, 2)
    batch["unreadable"][:] = (1, 2)
    _, metrics = jax.jit(step)(state.replace(step=jnp.int32(2)), batch)
    assert metrics["learning_rate"] == pytest.approx(config.schedule.peak)
    assert metrics["unreadable"] == 3
