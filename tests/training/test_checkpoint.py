import json
from functools import partial

import jax
import numpy as np
import pytest

from segnext_jax.models.segnext import make_model
from segnext_jax.parallel.mesh import make_mesh, replicated
from segnext_jax.training import checkpoint
from segnext_jax.training.optimizer import make_optimizer, make_schedule
from segnext_jax.training.state import init_state
from segnext_jax.weights.description import Description

CLASSES = ["road", "car", "sky", "pole", "tree"]
PALETTE = [[i, 2 * i, 3 * i] for i in range(5)]


@pytest.fixture
def init(config):
    def make(ema=False):
        model = make_model(config.model, len(CLASSES))
        tx = make_optimizer(config.optimizer, make_schedule(config.schedule, 6))
        return partial(init_state, model, tx, ema=ema)

    return make


def save(workdir, config, state, mious, keep=2):
    """Saves `state` once per entry of `mious`, at steps 1, 2, …"""
    description = Description(config, CLASSES, PALETTE)
    checkpointer = checkpoint.Checkpointer(
        str(workdir), description, score="miou", keep=keep
    )
    for step, miou in enumerate(mious, start=1):
        checkpointer.save(state.replace(step=state.step + step), miou)
    checkpointer.close()


def saved_steps(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir())


def test_state_survives_bit_for_bit_on_other_devices(tmp_path, config, init):
    eight = replicated(make_mesh(jax.devices()[:8]))
    state = jax.jit(init(ema=True), out_shardings=eight)(jax.random.key(0))
    save(tmp_path, config, state, [None])

    one = replicated(make_mesh(jax.devices()[:1]))
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), state
    )
    description = Description(config, CLASSES, PALETTE)
    checkpointer = checkpoint.Checkpointer(
        str(tmp_path), description, score="miou", keep=2
    )
    restored = checkpointer.restore_latest(abstract)
    checkpointer.close()
    assert int(restored.step) == 1
    assert restored.params["decoder"]["align"]["kernel"].sharding == one
    jax.tree.map(
        np.testing.assert_array_equal, restored.replace(step=state.step), state
    )


def test_last_and_best_are_kept(tmp_path, config, init):
    state = jax.jit(init())(jax.random.key(0))
    save(tmp_path, config, state, [0.1, 0.7, None, 0.3, None, 0.2])
    assert saved_steps(tmp_path) == [2, 5, 6]
    assert checkpoint.locate(str(tmp_path)).step == 2
    at_step = checkpoint.locate(str(tmp_path / "checkpoints" / "5"))
    assert (at_step.workdir, at_step.step) == (tmp_path, 5)


def test_best_of_equals_is_the_last(tmp_path, config, init):
    state = jax.jit(init())(jax.random.key(0))
    save(tmp_path, config, state, [0.7, 0.7, 0.1, None, None])
    assert saved_steps(tmp_path) == [2, 4, 5]
    assert checkpoint.locate(str(tmp_path)).step == 2


def test_newest_is_taken_where_none_is_scored(tmp_path, config, init):
    save(tmp_path, config, jax.jit(init())(jax.random.key(0)), [None, None])
    assert checkpoint.locate(str(tmp_path)).step == 2


def test_checkpoint_describes_itself(tmp_path, config, init):
    save(tmp_path, config, jax.jit(init())(jax.random.key(0)), [0.5])
    description = checkpoint.describe(checkpoint.locate(str(tmp_path)))
    assert description.classes == CLASSES
    assert description.palette == PALETTE
    assert json.loads(description.config.to_json()) == json.loads(config.to_json())


@pytest.mark.parametrize("ema", [False, True])
def test_restored_variables_are_the_evaluated_ones(tmp_path, config, init, ema):
    state = jax.jit(init(ema=ema))(jax.random.key(0))
    if ema:
        state = state.replace(ema=jax.tree.map(lambda x: x + 1, state.ema))
    save(tmp_path, config, state, [0.5])
    mesh = make_mesh(jax.devices()[:2])
    variables = checkpoint.restore_weights(checkpoint.locate(str(tmp_path)), mesh).best
    jax.tree.map(np.testing.assert_array_equal, variables, dict(state.eval_variables))
    assert variables["params"]["decoder"]["align"]["kernel"].sharding == replicated(
        mesh
    )


def test_missing_checkpoints_are_named(tmp_path, config, init):
    with pytest.raises(FileNotFoundError, match=r"give the --workdir of a training"):
        checkpoint.locate(str(tmp_path))
    save(tmp_path, config, jax.jit(init())(jax.random.key(0)), [0.5])
    with pytest.raises(FileNotFoundError, match=r"has the steps \[1\]"):
        checkpoint.locate(str(tmp_path / "checkpoints" / "7"))


def test_other_classes_are_refused(config):
    description = Description(config, CLASSES, PALETTE)
    checkpoint.check_classes(description, CLASSES, "datasets/a")
    with pytest.raises(ValueError, match=r"has 5 classes .* datasets/b has 2 \(sky, x"):
        checkpoint.check_classes(description, ["sky", "x"], "datasets/b")


def test_long_lists_of_classes_are_cut(config):
    names = [f"n{i:08}" for i in range(1000)]
    description = Description(config, names, [])
    with pytest.raises(ValueError, match=r"n00000019, …\) but x has 5") as error:
        checkpoint.check_classes(description, CLASSES, "x")
    assert "n00000020" not in str(error.value)


def test_changed_config_is_refused_with_a_list(tmp_path, config):
    checkpoint.check_config(str(tmp_path), config)  # a new run
    checkpoint.write_config(str(tmp_path), config)
    checkpoint.check_config(str(tmp_path), config)  # the same again is a resume
    config.schedule.peak = 0.5
    config.data.root = "elsewhere"
    with pytest.raises(ValueError) as error:
        checkpoint.check_config(str(tmp_path), config)
    text = str(error.value)
    assert "config.data.root: datasets/cityscapes → elsewhere" in text
    assert "config.schedule.peak: 0.001 → 0.5" in text
    assert text.count("→") == 2


def test_score_can_be_given_later(tmp_path, config, init):
    state = jax.jit(init())(jax.random.key(0))
    save(tmp_path, config, state, [0.1, None], keep=3)
    description = Description(config, CLASSES, PALETTE)
    checkpointer = checkpoint.Checkpointer(
        str(tmp_path), description, score="miou", keep=3
    )
    assert (checkpointer.score(1), checkpointer.score(2)) == (0.1, None)
    checkpointer.write_score(2, 0.5)
    assert checkpointer.score(2) == 0.5
    checkpointer.save(state.replace(step=state.step + 3), 0.2)
    checkpointer.close()
    assert checkpoint.locate(str(tmp_path)).step == 2


def test_only_mesh_and_remat_may_change(tmp_path, config):
    checkpoint.write_config(str(tmp_path), config)
    config.mesh.data, config.mesh.spatial, config.remat = 2, 4, "block"
    checkpoint.check_config(str(tmp_path), config)
    config.seed = 1
    with pytest.raises(ValueError, match=r"another config:\n  config\.seed: 0 → 1\n"):
        checkpoint.check_config(str(tmp_path), config)
