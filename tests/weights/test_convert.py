"""What does not fit is an error that lists everything, and says what the file is."""

import jax
import ml_dtypes
import numpy as np
import pytest

from configs import common
from segnext_jax.models.segnext import make_model
from segnext_jax.weights import convert
from segnext_jax.weights.naming import MMSEG, PADDLESEG


@pytest.fixture
def tensors(tiny_shapes):
    names = convert.foreign_shapes(tiny_shapes, MMSEG)
    return {name: np.zeros(shape, np.float32) for name, shape in names.items()}


def adopt(tensors, shapes, **options):
    return convert.adopt(tensors, shapes, MMSEG, origin="w.pth", **options)


def test_lists_all_that_does_not_fit(tensors, tiny_shapes):
    tensors["backbone.norm5.weight"] = tensors.pop("backbone.norm1.weight")
    tensors["decode_head.conv_seg.bias"] = np.zeros(150, np.float32)
    tensors["decode_head.align.gn.bias"] = np.zeros(64)
    with pytest.raises(ValueError, match=r"w\.pth does not fit the model") as error:
        adopt(tensors, tiny_shapes)
    lines = str(error.value).splitlines()[1:]
    assert lines[:4] == [
        "  missing     backbone.norm1.weight 8",
        "  unexpected  backbone.norm5.weight 8",
        "  mis-shaped  decode_head.conv_seg.bias 150, the model's is 19",
        "  float64     decode_head.align.gn.bias, float32 is needed",
    ]
    assert len(lines) == 5


def test_names_the_variant_that_a_file_holds(tiny_shapes):
    config = common.base().model
    config.variant, config.decoder = "S", "paddle"
    shapes = convert.shapes(make_model(config, 7))
    file = convert.foreign_shapes(shapes, PADDLESEG)
    small = {n: np.broadcast_to(np.float32(0), s) for n, s in file.items()}
    with pytest.raises(ValueError, match="does not fit") as error:
        convert.adopt(small, tiny_shapes, PADDLESEG, origin="w.pdparams")
    assert str(error.value).splitlines()[-1] == (
        "It has paddleseg names and holds the backbone of model.variant 'S', a decoder "
        "of 256 channels, 7 classes: choose a config with these values, or get another "
        "file."
    )


def test_leaves_out_what_it_is_told(tensors, tiny_shapes):
    del tensors["decode_head.squeeze.conv.weight"]
    tensors["decode_head.conv_seg.bias"] = np.zeros(150, np.float32)
    imported = adopt(tensors, tiny_shapes, leave_out=["decoder"])
    assert set(imported.variables["params"]) == {"backbone"}
    assert len(imported.left_out) == 12
    with pytest.raises(ValueError, match=r"missing +decode_head.squeeze"):
        adopt(tensors, tiny_shapes, leave_out=["decoder/classifier"])


def test_a_backbone_alone_is_found_without_its_prefix(tensors, tiny_shapes):
    bare = {
        name.removeprefix("backbone."): x
        for name, x in tensors.items()
        if name.startswith("backbone.")
    }
    bare["head.weight"] = np.zeros((1000, 16), np.float32)
    imported = adopt(bare, tiny_shapes, leave_out=["decoder", "head"])
    assert set(imported.variables["params"]) == {"backbone"}
    assert imported.left_out == ["head.weight"]
    with pytest.raises(ValueError, match=r"unexpected +head.weight 1000×16"):
        adopt(bare, tiny_shapes, leave_out=["decoder"])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_becomes_float32_exactly(dtype, tensors, tiny_shapes):
    tensors["backbone.norm1.weight"] = np.linspace(0, 1, 8).astype(dtype)
    params = adopt(tensors, tiny_shapes).variables["params"]
    scale = params["backbone"]["stage1_norm"]["scale"]
    assert scale.dtype == np.float32
    np.testing.assert_array_equal(scale, tensors["backbone.norm1.weight"])


def test_counters_are_kept_apart(tensors, tiny_shapes):
    counter = "backbone.patch_embed1.proj.1.num_batches_tracked"
    tensors[counter] = np.array(7)
    imported = adopt(tensors, tiny_shapes)
    assert imported.counters == {"backbone/stem/norm1": 7}
    again = convert.export(imported.variables, MMSEG, counters=imported.counters)
    assert again[counter] == 7
    assert again.keys() == tensors.keys()


def test_blocks_of_a_stage_are_stacked_in_their_order():
    blocks = np.arange(24, dtype=np.float32).reshape(12, 2)
    norms = {"scale": blocks, "bias": -blocks}
    params = {"backbone": {"stage3_blocks": {"norm1": norms}, "stage3_norm": norms}}
    variables = {"params": params, "batch_stats": {}}
    flat = convert.flatten(variables)
    np.testing.assert_array_equal(
        flat["backbone/stage3_block10/norm1/scale"], blocks[10]
    )
    assert len(flat) == 2 * 12 + 2
    jax.tree.map(np.testing.assert_array_equal, convert.unflatten(flat), variables)
