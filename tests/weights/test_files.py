"""Files: what real ones hold, and that bad ones neither load nor run anything."""

import os
import pickle
import sys

import golden_fill
import numpy as np
import pytest
from ml_collections import ConfigDict

from segnext_jax.weights import convert, files, neutral, pdparams
from segnext_jax.weights.contents import Contents
from segnext_jax.weights.description import Description
from segnext_jax.weights.naming import NATIVE, PADDLESEG


@pytest.fixture(scope="module")
def paddle_file(golden_folder):
    return golden_folder / "tiny.pdparams"


@pytest.fixture
def weights(paddle_file, tiny_shapes):
    return files.read(str(paddle_file), tiny_shapes)


DESCRIPTION = Description(ConfigDict({"seed": 1}), ["road"], [[1, 2, 3]])


def write(path, weights, naming):
    files.write(str(path), weights, naming, DESCRIPTION)


def assert_same_contents(actual: Contents, expected: Contents):
    assert actual.weights.keys() == expected.weights.keys()
    for name, x in expected.weights.items():
        assert actual.weights[name].dtype == x.dtype
        np.testing.assert_array_equal(actual.weights[name], x, err_msg=name)
    assert actual.extra == expected.extra


def test_paddle_saved_the_weights_of_the_rule(weights):
    tensors = convert.export(weights.variables, PADDLESEG)
    for name, x in tensors.items():
        np.testing.assert_array_equal(x, golden_fill.fill(name, x.shape), err_msg=name)


def test_paddle_file_comes_back_as_it_was(paddle_file, weights, tmp_path):
    write(tmp_path / "again.pdparams", weights, PADDLESEG)
    before, after = (
        pdparams.read(path.read_bytes(), path.name)
        for path in (paddle_file, tmp_path / "again.pdparams")
    )
    assert before.extra["name_table"]["backbone.patch_embed1.proj.0.weight"]
    assert_same_contents(after, before)


def test_written_pickle_needs_no_module_that_numpy_renamed(weights, tmp_path):
    write(tmp_path / "w.pdparams", weights, PADDLESEG)
    assert b"core" not in (tmp_path / "w.pdparams").read_bytes()


def test_neutral_file_keeps_all(weights, tiny_shapes, tmp_path):
    path = tmp_path / "w.safetensors"
    other = convert.unflatten(
        {p: -x for p, x in convert.flatten(weights.variables).items()}
    )
    weights = weights._replace(average=other)
    write(path, weights, NATIVE)
    again = files.read(str(path), tiny_shapes)
    for actual, expected in (
        (again.variables, weights.variables),
        (again.average, other),
        (again.best, other),
    ):
        actual, expected = map(convert.flatten, (actual, expected))
        assert actual.keys() == expected.keys()
        for name, x in expected.items():
            np.testing.assert_array_equal(actual[name], x, err_msg=name)
    assert again.extra["name_table"] == weights.extra["name_table"]
    assert files.description(str(path)) == DESCRIPTION


def test_average_alone_goes_into_a_paddle_file(weights, tiny_shapes, tmp_path):
    average = convert.unflatten(
        {p: x + 1 for p, x in convert.flatten(weights.variables).items()}
    )
    write(tmp_path / "w.pdparams", weights._replace(average=average), PADDLESEG)
    again = files.read(str(tmp_path / "w.pdparams"), tiny_shapes)
    assert again.average is None
    scale = again.variables["params"]["backbone"]["stage1_norm"]["scale"]
    np.testing.assert_array_equal(
        scale, average["params"]["backbone"]["stage1_norm"]["scale"]
    )


class Malicious:
    """Makes a file when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [2, 4])
def test_malicious_pickle_does_not_run(protocol, tiny_shapes, tmp_path):
    file, trace = tmp_path / "w.pdparams", tmp_path / "trace"
    file.write_bytes(pickle.dumps({"backbone": Malicious(trace)}, protocol))
    with pytest.raises(ValueError, match=r"w.pdparams wants to run \w+.mkdir"):
        files.read(str(file), tiny_shapes)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_truncated_file_is_named(suffix, keep, weights, tiny_shapes, tmp_path):
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    write(whole, weights, NATIVE if suffix == ".safetensors" else PADDLESEG)
    cut.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf"cut{suffix} is no {suffix} file that can"):
        files.read(str(cut), tiny_shapes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1.0], "holds a list, not weights"),
        ({"backbone.w": 1.0}, "holds things that are no arrays: .*backbone.w"),
    ],
)
def test_pickle_of_other_things_is_named(content, message, tmp_path):
    data = pickle.dumps(content)
    with pytest.raises(ValueError, match=f"w.pdparams {message}"):
        pdparams.read(data, "w.pdparams")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_any_protocol_are_read(protocol):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = pickle.dumps({"a.mlp.dwconv.x": x, "s": np.array(2.5)}, protocol)
    contents = pdparams.read(data, "w.pdparams")
    np.testing.assert_array_equal(contents.weights["a.mlp.dwconv.x"], x)


def test_safetensors_of_others_has_no_extra():
    import safetensors.numpy

    data = safetensors.numpy.save({"x": np.ones(2, np.float32)})
    assert neutral.read(data, "w.safetensors").extra == {}


def test_no_file_is_overwritten(weights, tmp_path):
    path = tmp_path / "w.pdparams"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"w.pdparams exists"):
        write(path, weights, PADDLESEG)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_file_is_named(tiny_shapes, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weight file .*w.pdparams"):
        files.read(str(tmp_path / "w.pdparams"), tiny_shapes)


def test_pth_without_pytorch_says_what_to_install(tiny_shapes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(ImportError, match=r"requirements-torch.txt"):
        files.read(str(tmp_path / "w.pth"), tiny_shapes)
