"""Our names and layouts of the peers' tensors, against the peers' own lists."""

import numpy as np
import pytest

from configs import common
from segnext_jax.models.classifier import make_classifier
from segnext_jax.models.segnext import VARIANTS, make_model
from segnext_jax.weights import convert
from segnext_jax.weights.naming import MMSEG, NATIVE, OFFICIAL, PADDLESEG, detect

DECODERS = {"mmseg": "mmseg", "paddleseg": "paddle"}
NAMINGS = {"mmseg": MMSEG, "paddleseg": PADDLESEG}


@pytest.fixture(scope="module")
def shapes():
    """(variant, decoder) → shapes of the model."""
    made = {}

    def make(variant, decoder):
        if (variant, decoder) not in made:
            config = common.base().model
            config.variant, config.decoder = variant, decoder
            made[variant, decoder] = convert.shapes(make_model(config, 19))
        return made[variant, decoder]

    return make


@pytest.mark.parametrize("peer", DECODERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes_are_those_of_the_peer(peer, variant, shapes, golden_folder):
    with np.load(golden_folder / f"{peer}.npz") as file:
        theirs = dict(line.split(" ") for line in file[f"names/{variant}"])
    ours = shapes(variant, DECODERS[peer])
    naming = NAMINGS[peer]
    table = {
        name: "x".join(map(str, shape))
        for name, shape in convert.foreign_shapes(ours, naming).items()
    }
    counters = {c: "" for path in ours if (c := naming.counter_of(path))}
    assert table | counters == theirs
    assert detect(list(theirs), "the peer") is naming


def test_tiny_has_the_published_number_of_tensors(golden_folder):
    counts = {}
    for peer in DECODERS:
        with np.load(golden_folder / f"{peer}.npz") as file:
            counts[peer] = len(file["names/T"])
    assert counts == {"mmseg": 550, "paddleseg": 519}


def test_authors_differ_from_mmsegmentation_in_one_module(tiny_shapes):
    renamed = {
        theirs: newer
        for path in tiny_shapes
        if (theirs := OFFICIAL.name(path)) != (newer := MMSEG.name(path))
    }
    assert len(renamed) == 2 * 5  # weight and bias in five blocks
    for theirs, newer in renamed.items():
        assert theirs.replace(".mlp.dwconv.dwconv.", ".mlp.dwconv.") == newer


def test_imagenet_files_have_no_prefix_and_a_head():
    config = common.base("classification").model
    shapes = convert.shapes(make_classifier(config, 1000))
    names = convert.foreign_shapes(shapes, OFFICIAL, bare=True)
    assert names["head.weight"] == (1000, 256)
    assert names["patch_embed1.proj.0.weight"] == (16, 3, 3, 3)
    assert names["block1.0.mlp.dwconv.dwconv.weight"] == (256, 1, 3, 3)
    assert not [name for name in names if name.startswith("backbone")]


@pytest.mark.parametrize("naming", [NATIVE, OFFICIAL, MMSEG, PADDLESEG])
def test_there_and_back_is_the_identity(naming, tiny_shapes):
    rng = np.random.default_rng(0)
    flat = {p: rng.random(s, np.float32) for p, s in tiny_shapes.items()}
    tensors = convert.export(convert.unflatten(flat), naming)
    again = convert.adopt(tensors, tiny_shapes, naming, origin="memory").variables
    again = convert.flatten(again)
    assert again.keys() == flat.keys()
    for path, x in flat.items():
        np.testing.assert_array_equal(again[path], x, err_msg=path)


def test_paddleseg_has_no_imagenet_head():
    assert PADDLESEG.prefixes("head") == ()
    with pytest.raises(ValueError, match="paddleseg has no counterpart of head"):
        PADDLESEG.name("head/kernel")


def test_names_of_nobody_are_shown():
    with pytest.raises(ValueError, match=r"w.pth holds no MSCAN.*conv1.weight, fc"):
        detect(["conv1.weight", "fc.bias"], "w.pth")
