"""tools/convert.py from end to end, at the size of SegNeXt-T, without the peers."""

import golden_fill
import numpy as np
import pytest

from configs import common
from segnext_jax.models.classifier import make_classifier
from segnext_jax.models.segnext import make_model
from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training import checkpoint
from segnext_jax.weights import convert, files, pdparams
from segnext_jax.weights.description import Description
from segnext_jax.weights.files import Weights
from segnext_jax.weights.naming import MMSEG, OFFICIAL, PADDLESEG
from tools.convert import convert_weights


@pytest.fixture(scope="module")
def config():
    return common.cityscapes("T", "paddle")


@pytest.fixture(scope="module")
def paddle_file(config, tmp_path_factory):
    """SegNeXt-T of PaddleSeg, weights by rule."""
    shapes = convert.shapes(make_model(config.model, 19))
    names = convert.foreign_shapes(shapes, PADDLESEG)
    tensors = {name: golden_fill.fill(name, shape) for name, shape in names.items()}
    variables = convert.adopt(tensors, shapes, PADDLESEG, origin="the rule").variables
    path = tmp_path_factory.mktemp("paddle") / "model.pdparams"
    extra = {"num_batches_tracked": {}, "name_table": {"a": "conv2d_0.w_0"}}
    weights = Weights(variables, None, extra, "paddleseg", [])
    files.write(str(path), weights, PADDLESEG, Description(config, [], []))
    return path


def test_round_trip_through_a_checkpoint_and_safetensors(
    config, paddle_file, tmp_path, capsys
):
    run, neutral, run2, back = (
        str(tmp_path / name) for name in ("run", "w.safetensors", "run2", "w.pdparams")
    )
    convert_weights(str(paddle_file), run, config, None)
    printed = capsys.readouterr().out
    assert "paddleseg names, 519 tensors with 4,2" in printed
    assert "19 classes from 'road' to 'bicycle', decoder 'paddle'" in printed
    assert "6 and 7 NMF steps" in printed
    convert_weights(run, neutral, None, None)
    convert_weights(neutral, run2, None, None)
    convert_weights(run2, back, None, None)
    before, after = (
        pdparams.read(path.read_bytes(), "")
        for path in (paddle_file, tmp_path / "w.pdparams")
    )
    assert before.extra == after.extra
    assert before.weights.keys() == after.weights.keys()
    for name, x in before.weights.items():
        np.testing.assert_array_equal(after.weights[name], x, err_msg=name)


@pytest.mark.parametrize("naming", [OFFICIAL, MMSEG])
def test_pth_comes_back_through_everything(naming, tmp_path):
    torch = pytest.importorskip("torch")
    config = common.cityscapes("T", "official")
    shapes = convert.shapes(make_model(config.model, 19))
    names = convert.foreign_shapes(shapes, naming)
    state = {n: torch.tensor(golden_fill.fill(n, s)) for n, s in names.items()}
    for i, path in enumerate(shapes):
        if counter := naming.counter_of(path):
            state[counter] = torch.tensor(i)
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    steps = [str(tmp_path / n) for n in ("a.pth", "run", "w.safetensors", "r", "b.pth")]
    convert_weights(steps[0], steps[1], config, None)
    convert_weights(steps[1], steps[2], None, None)
    convert_weights(steps[2], steps[3], None, None)
    convert_weights(steps[3], steps[4], None, naming.label)
    again = torch.load(tmp_path / "b.pth", weights_only=True)["state_dict"]
    assert again.keys() == state.keys()
    for name, x in state.items():
        assert torch.equal(again[name], x) and again[name].dtype == x.dtype, name


def test_imagenet_weights_become_a_classifier_and_come_back(tmp_path):
    torch = pytest.importorskip("torch")
    config = common.base("classification")
    shapes = convert.shapes(make_classifier(config.model, 1000))
    names = convert.foreign_shapes(shapes, OFFICIAL, bare=True)
    state = {n: torch.tensor(golden_fill.fill(n, s)) for n, s in names.items()}
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    a, run, b = (str(tmp_path / name) for name in ("a.pth", "run", "b.pth"))
    convert_weights(a, run, config, None)
    assert checkpoint.describe(checkpoint.locate(run)).classes[0] == "n01440764"
    convert_weights(run, b, None, "official")
    again = torch.load(b, weights_only=True)["state_dict"]
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], x) for name, x in state.items())


def test_checkpoint_describes_itself(config, paddle_file, tmp_path):
    convert_weights(str(paddle_file), str(tmp_path), config, None)
    location = checkpoint.locate(str(tmp_path))
    description = checkpoint.describe(location)
    assert location.step == 0
    assert description.config.model.to_dict() == config.model.to_dict()
    assert description.classes[0] == "road"
    assert description.palette[0] == [128, 64, 128]
    weights = checkpoint.restore_weights(location, make_mesh())
    kernel = weights.best["params"]["decoder"]["classifier"]["kernel"]
    expected = golden_fill.fill("decode_head.conv_seg.weight", (19, 256, 1, 1))
    np.testing.assert_array_equal(kernel, expected[:, :, 0, 0].T)
    with pytest.raises(ValueError, match="weights that were converted"):
        checkpoint.check_config(str(tmp_path), config)


def test_wrong_variant_writes_nothing(paddle_file, tmp_path):
    with pytest.raises(ValueError, match=r"backbone of model.variant 'T'"):
        config = common.cityscapes("S", "paddle")
        convert_weights(str(paddle_file), str(tmp_path / "run"), config, None)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(config, paddle_file, tmp_path):
    convert_weights(str(paddle_file), str(tmp_path), config, None)
    with pytest.raises(FileExistsError, match="has checkpoints"):
        convert_weights(str(paddle_file), str(tmp_path), config, None)


@pytest.mark.parametrize(
    ("target", "naming", "message"),
    [
        ("w.pth", None, r"--naming is None, but .*w.pth"),
        ("run", "mmseg", r"--naming is 'mmseg', but .*run"),
        ("w.pdparams", "official", r"--naming is 'official', but .*w.pdparams"),
    ],
)
def test_naming_that_does_not_fit_the_target(
    target, naming, message, config, paddle_file, tmp_path
):
    with pytest.raises(ValueError, match=message):
        convert_weights(str(paddle_file), str(tmp_path / target), config, naming)
    assert list(tmp_path.iterdir()) == []


def test_config_is_asked_for_where_it_is_needed_alone(config, paddle_file, tmp_path):
    run, neutral = str(tmp_path / "run"), str(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="does not say what it is of: give --config"):
        convert_weights(str(paddle_file), run, None, None)
    convert_weights(str(paddle_file), run, config, None)
    with pytest.raises(ValueError, match="says what it is: omit --config"):
        convert_weights(run, neutral, config, None)
    convert_weights(run, neutral, None, None)
    with pytest.raises(ValueError, match="says itself what it is: omit --config"):
        convert_weights(neutral, str(tmp_path / "run2"), config, None)
