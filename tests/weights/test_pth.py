"""`.pth` files, where PyTorch is installed (requirements-torch.txt)."""

import os
import pickle
import sys
import types

import numpy as np
import pytest
from ml_collections import ConfigDict

from segnext_jax.weights import convert, files
from segnext_jax.weights.description import Description
from segnext_jax.weights.naming import MMSEG, NAMINGS, OFFICIAL

torch = pytest.importorskip("torch")

DESCRIPTION = Description(ConfigDict(), ["road", "sky"], [[1, 2, 3], [4, 5, 6]])


def state_dict(shapes, naming, seed=0, bare=False):
    """Random tensors by the peer's names, counters included."""
    rng = np.random.default_rng(seed)
    state = {
        name: torch.from_numpy(rng.random(shape, np.float32))
        for name, shape in convert.foreign_shapes(shapes, naming, bare=bare).items()
    }
    for path in shapes:
        if counter := naming.counter_of(path, bare=bare):
            state[counter] = torch.tensor(seed + 160_000)
    return state


def assert_equal(actual, expected):
    assert actual.keys() == expected.keys()
    for name, x in expected.items():
        assert actual[name].dtype == x.dtype, name
        assert torch.equal(actual[name], x), name


@pytest.mark.parametrize("naming", [OFFICIAL, MMSEG])
def test_comes_back_bit_for_bit(naming, tiny_shapes, tmp_path):
    state = state_dict(tiny_shapes, naming)
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "a.pth")
    weights = files.read(str(tmp_path / "a.pth"), tiny_shapes)
    assert weights.naming == naming.label
    files.write(str(tmp_path / "b.pth"), weights, NAMINGS[weights.naming], DESCRIPTION)
    again = torch.load(tmp_path / "b.pth", weights_only=True)
    assert_equal(again["state_dict"], state)


@pytest.mark.parametrize("naming", [OFFICIAL, MMSEG])
def test_imagenet_backbone_with_head_comes_back(naming, tiny_shapes, tmp_path):
    shapes = {p: s for p, s in tiny_shapes.items() if p.startswith("backbone/")}
    shapes |= {"head/kernel": (16, 1000), "head/bias": (1000,)}
    state = state_dict(shapes, naming, bare=True)
    assert state["head.weight"].shape == (1000, 16)
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    weights = files.read(str(tmp_path / "a.pth"), shapes)
    files.write(str(tmp_path / "b.pth"), weights, naming, DESCRIPTION)
    again = torch.load(tmp_path / "b.pth", weights_only=True)
    assert_equal(again["state_dict"], state)


def test_state_dict_alone_is_read(tiny_shapes, tmp_path):
    torch.save(state_dict(tiny_shapes, MMSEG), tmp_path / "a.pth")
    assert files.read(str(tmp_path / "a.pth"), tiny_shapes).average is None


def test_average_of_mmengine_comes_back(tiny_shapes, tmp_path):
    average = state_dict(tiny_shapes, MMSEG, seed=1)
    source = state_dict(tiny_shapes, MMSEG, seed=2)
    other = {"steps": torch.tensor(7)} | {f"module.{n}": x for n, x in source.items()}
    # Its hook saves the average as the state dict.
    torch.save({"state_dict": average, "ema_state_dict": other}, tmp_path / "a.pth")
    weights = files.read(str(tmp_path / "a.pth"), tiny_shapes)
    name = "backbone.norm1.weight"
    for variables, state in ((weights.best, average), (weights.variables, source)):
        scale = variables["params"]["backbone"]["stage1_norm"]["scale"]
        np.testing.assert_array_equal(scale, state[name].numpy())
    files.write(str(tmp_path / "b.pth"), weights, MMSEG, DESCRIPTION)
    again = torch.load(tmp_path / "b.pth", weights_only=True)
    assert_equal(again["state_dict"], average)
    assert_equal(again["ema_state_dict"], other)


def test_average_of_mmcv_comes_back(tiny_shapes, tmp_path):
    state = state_dict(tiny_shapes, OFFICIAL)
    buffers = {
        f"ema_{name.replace('.', '_')}": x + 1
        for name, x in state.items()
        if "running" not in name and "num_batches" not in name
    }
    torch.save({"state_dict": state | buffers}, tmp_path / "a.pth")
    weights = files.read(str(tmp_path / "a.pth"), tiny_shapes)
    scale = weights.best["params"]["backbone"]["stage1_norm"]["scale"]
    np.testing.assert_array_equal(scale, state["backbone.norm1.weight"].numpy() + 1)
    files.write(str(tmp_path / "b.pth"), weights, OFFICIAL, DESCRIPTION)
    again = torch.load(tmp_path / "b.pth", weights_only=True)
    assert_equal(again["state_dict"], state | buffers)


@pytest.mark.parametrize(
    ("naming", "classes"), [(MMSEG, ("dataset_meta", "classes")), (OFFICIAL, "CLASSES")]
)
def test_the_peer_finds_the_classes(naming, classes, tiny_shapes, tmp_path):
    torch.save({"state_dict": state_dict(tiny_shapes, naming)}, tmp_path / "a.pth")
    weights = files.read(str(tmp_path / "a.pth"), tiny_shapes)
    files.write(str(tmp_path / "b.pth"), weights, naming, DESCRIPTION)
    meta = torch.load(tmp_path / "b.pth", weights_only=True)["meta"]
    for key in [classes] if isinstance(classes, str) else classes:
        meta = meta[key]
    assert meta == ["road", "sky"]


def test_half_precision_is_read(tiny_shapes, tmp_path):
    state = state_dict(tiny_shapes, MMSEG)
    name = "backbone.norm1.weight"
    for dtype in (torch.float16, torch.bfloat16):
        state[name] = state[name].to(dtype)
        torch.save({"state_dict": state}, tmp_path / "a.pth")
        weights = files.read(str(tmp_path / "a.pth"), tiny_shapes)
        scale = weights.variables["params"]["backbone"]["stage1_norm"]["scale"]
        np.testing.assert_array_equal(scale, state[name].float().numpy())


def test_log_of_mmengine_loads_without_mmengine(tiny_shapes, tmp_path, monkeypatch):
    """As its runner saves it: HistoryBuffers with methods, arrays and scalars."""
    module = types.ModuleType("mmengine.logging.history_buffer")
    module.__package__ = "mmengine.logging"
    source = """
class HistoryBuffer:
    def __init__(self, history):
        self._log_history = history
        self.statistics_methods = {"mean": HistoryBuffer.mean}
    def mean(self):
        return self._log_history.mean()
    def __setstate__(self, state):
        raise AssertionError("this must not run")
"""
    exec(source, module.__dict__)
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    checkpoint = {
        "meta": {"iter": np.int64(5), "seed": np.float64(0.5)},
        "state_dict": state_dict(tiny_shapes, MMSEG),
        "message_hub": {
            "log_scalars": {"loss": module.HistoryBuffer(np.arange(3.0))},
            "runtime_info": {"best": np.float32(0.4)},
        },
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
    }
    torch.save(checkpoint, tmp_path / "a.pth")
    monkeypatch.undo()
    assert "mmengine.logging.history_buffer" not in sys.modules
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pth", weights_only=True)
    assert files.read(str(tmp_path / "a.pth"), tiny_shapes).naming == "mmseg"


class Malicious:
    """Makes a folder when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_malicious_file_does_not_run(tiny_shapes, tmp_path):
    trace = tmp_path / "trace"
    state = state_dict(tiny_shapes, MMSEG) | {"x": Malicious(trace)}
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a.pth wants to run \w+.mkdir"):
        files.read(str(tmp_path / "a.pth"), tiny_shapes)
    assert not trace.exists()


@pytest.mark.parametrize("keep", [0, 100, -1000])
def test_truncated_file_is_named(keep, tiny_shapes, tmp_path):
    torch.save({"state_dict": state_dict(tiny_shapes, MMSEG)}, tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"a.pth is no PyTorch file that can be read"):
        files.read(str(tmp_path / "a.pth"), tiny_shapes)
