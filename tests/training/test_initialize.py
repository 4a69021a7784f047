"""Starting from weights: what is taken, what is kept, and what is refused."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from segnext_jax.parallel.mesh import make_mesh, replicated
from segnext_jax.training import checkpoint
from segnext_jax.training.initialize import initialize
from segnext_jax.training.state import TrainState
from segnext_jax.weights import convert, files
from segnext_jax.weights.description import Description
from segnext_jax.weights.naming import NATIVE, PADDLESEG

DESCRIPTION = Description(ConfigDict({"seed": 1}), ["road"], [[1, 2, 3]])
NUM_CLASSES = 19


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(jax.devices()[:2])


@pytest.fixture
def shapes():
    """Enough of a SegNeXt for every part of it to have something."""
    block = "backbone/stage1_block0"
    return {
        "backbone/stem/conv1/kernel": (3, 3, 3, 4),
        "backbone/stem/norm1/mean": (4,),
        f"{block}/ffn/conv3x3/kernel": (3, 3, 8),
        f"{block}/attention/conv1x7/kernel": (1, 7, 8),
        "decoder/squeeze/kernel": (8, 64),
        "decoder/classifier/kernel": (64, NUM_CLASSES),
        "decoder/classifier/bias": (NUM_CLASSES,),
    }


def variables(shapes, value):
    flat = {p: np.full(s, value, np.float32) for p, s in shapes.items()}
    return convert.unflatten(flat)


@pytest.fixture
def state(shapes, mesh):
    initial = jax.device_put(variables(shapes, 0), replicated(mesh))
    zero = np.int32(0)
    return TrainState(
        step=zero,
        opt_state=(),
        ema=None,
        skipped=zero,
        skipped_in_a_row=zero,
        **initial,
    )


def config(path, part="all", new_classifier=False):
    return ConfigDict(
        {"path": str(path), "part": part, "new_classifier": new_classifier}
    )


def values(state):
    """Path → the one value that all its numbers have."""
    trees = {"params": state.params, "batch_stats": state.batch_stats}
    return {p: float(x.min()) for p, x in convert.flatten(trees).items()}


@pytest.fixture(params=["file of a peer", "own file", "checkpoint"])
def save(request, tmp_path):
    """Writes weights in one of the forms that can be started from."""

    def write(tree, average=None):
        counters = {"num_batches_tracked": {}}
        weights = files.Weights(tree, average, counters, "native", [])
        if request.param == "checkpoint":
            checkpoint.write_weights(str(tmp_path / "run"), weights, DESCRIPTION)
            return tmp_path / "run"
        suffix, naming = (
            (".pdparams", PADDLESEG)
            if request.param == "file of a peer"
            else (".safetensors", NATIVE)
        )
        path = tmp_path / f"w{suffix}"
        files.write(str(path), weights, naming, DESCRIPTION)
        return path

    return write


def test_everything_is_taken(save, state, shapes, mesh):
    path = save(variables(shapes, 1))
    new = initialize(state, config(path), mesh)
    assert set(values(new).values()) == {1}
    assert jax.tree.structure(new) == jax.tree.structure(state)
    for x in jax.tree.leaves(new.params):
        assert x.sharding == replicated(mesh)


def test_average_is_what_is_taken_and_averaged_on(save, state, shapes, mesh):
    state = state.replace(ema={"params": state.params, "batch_stats": {}})
    path = save(variables(shapes, 1), average=variables(shapes, 2))
    new = initialize(state, config(path), mesh)
    assert set(values(new).values()) == {2}
    assert set(map(float, (x.min() for x in jax.tree.leaves(new.ema)))) == {2}


def test_backbone_alone(save, state, shapes, mesh):
    others = {p: s for p, s in shapes.items() if not p.startswith("decoder/squeeze")}
    others["decoder/classifier/bias"] = (150,)
    new = initialize(state, config(save(variables(others, 1)), "backbone"), mesh)
    for path, value in values(new).items():
        assert value == path.startswith("backbone/"), path


def test_other_classes_only_if_the_config_says_so(save, state, shapes, mesh):
    others = dict(shapes)
    others["decoder/classifier/bias"] = (150,)
    others["decoder/classifier/kernel"] = (64, 150)
    path = save(variables(others, 1))
    with pytest.raises(ValueError, match=r"(?s)150.*new_classifier") as error:
        initialize(state, config(path), mesh)
    assert "mis-shaped" in str(error.value)
    new = initialize(state, config(path, new_classifier=True), mesh)
    for path, value in values(new).items():
        assert value == ("classifier" not in path), path


def test_log_counts_and_names(save, state, shapes, mesh, caplog):
    with caplog.at_level("INFO", logger="absl"):
        initialize(state, config(save(variables(shapes, 1)), "backbone"), mesh)
    (record,) = [r for r in caplog.records if "Initialised from" in r.getMessage()]
    message = record.getMessage()
    assert "4 tensors with 240 numbers" in message  # 108 + 4 + 72 + 56
    assert "Not from there: decoder/classifier, decoder/squeeze." in message
    assert message.count("conv_seg") + message.count("decoder/classifier/") == 2


def test_missing_tensor_is_refused(save, state, shapes, mesh):
    del shapes["backbone/stem/conv1/kernel"]
    path = save(variables(shapes, 1))
    with pytest.raises(ValueError, match=r"missing +backbone.*conv1|proj.0"):
        initialize(state, config(path), mesh)


def test_unknown_part_and_missing_file_are_named(state, mesh, tmp_path):
    with pytest.raises(ValueError, match=r"config.init_from.part is 'stem'"):
        initialize(state, config(tmp_path, part="stem"), mesh)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*nowhere"):
        initialize(state, config(tmp_path / "nowhere"), mesh)
    with pytest.raises(FileNotFoundError, match=r"no weight file .*w.pdparams"):
        initialize(state, config(tmp_path / "w.pdparams"), mesh)
