"""The published protocols of evaluation, and which one each recipe has."""

import importlib

import pytest
from ml_collections import ConfigDict

from configs import common, protocols

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
# The peers' defaults: what a row of the tables below does not say.
DEFAULTS = {
    "mode": "whole",
    "scales": (1.0,),
    "flip": False,
    "resize_to": (),
    "size_divisor": 1,
    "pad_divisor": 1,
    "rescale": "uint8",
    "average": "probabilities",
    "absent_class": "skip",
}
WINDOWS = {"mode": "slide", "crop_size": (1024, 1024), "stride": (768, 768)}
PADDLE = {"rescale": "float32", "average": "logits", "absent_class": "zero"}


@pytest.fixture
def make_config():
    def make(source: str, resize_to: tuple = ()) -> ConfigDict:
        config = common.base()
        config.data.source = source
        config.data.resize_to = resize_to
        # Whatever an earlier protocol left.
        config.eval.update(
            mode="slide",
            scales=(3.0,),
            flip=True,
            resize_to=(7, 7),
            size_divisor=7,
            pad_divisor=7,
            rescale="?",
            average="?",
            absent_class="?",
        )
        return config

    return make


def assert_protocol(evaluation: ConfigDict, expected: dict) -> None:
    expected = DEFAULTS | expected
    assert {key: evaluation[key] for key in expected} == expected


# local_configs/ at c87bcae (authors), the configs of segnext/ and of
# _base_/datasets (mmsegmentation 1.2.2), configs/segnext/README.md (PaddleSeg 2.8).
@pytest.mark.parametrize(
    ("name", "source", "multi_scale", "expected"),
    [
        ("official", "cityscapes", False, WINDOWS | {"resize_to": (1024, 2048)}),
        (
            "official",
            "cityscapes_tfds",
            True,
            WINDOWS | {"resize_to": (1024, 2048), "scales": SCALES, "flip": True},
        ),
        ("official", "ade20k", False, {"resize_to": (512, 2048), "size_divisor": 32}),
        (
            "official",
            "coco_stuff",
            True,
            {
                "resize_to": (512, 2048),
                "size_divisor": 32,
                "scales": SCALES,
                "flip": True,
            },
        ),
        ("official", "isaid", False, {"resize_to": (896, 896)}),
        ("mmseg1x", "ade20k", False, {"resize_to": (512, 2048), "pad_divisor": 32}),
        (
            "mmseg1x",
            "ade20k",
            True,  # scales the images, and fits them into no box
            {"pad_divisor": 32, "scales": SCALES, "flip": True},
        ),
        ("paddle", "cityscapes", False, PADDLE),
        (
            "paddle",
            "ade20k",
            True,
            PADDLE | {"scales": (0.75, 1.0, 1.25), "flip": True},
        ),
    ],
)
def test_values_of_the_protocols(make_config, name, source, multi_scale, expected):
    config = make_config(source)
    protocols.apply(config, name, multi_scale=multi_scale)
    assert_protocol(config.eval, expected)


@pytest.mark.parametrize("name", protocols.NAMES)
def test_only_the_evaluation_changes(make_config, name):
    config = make_config("ade20k")
    before = config.copy_and_resolve_references()
    protocols.apply(config, name)
    assert config.eval.batch_size == before.eval.batch_size
    config.eval.update(before.eval)
    assert config == before


@pytest.mark.parametrize(
    ("name", "resize_to", "expected"),
    [
        ("official", (), {}),
        ("official", (300, 400), {"resize_to": (300, 400), "size_divisor": 32}),
        ("mmseg1x", (300, 400), {"resize_to": (300, 400), "pad_divisor": 32}),
        ("paddle", (300, 400), PADDLE),
    ],
)
def test_other_data_sets_have_the_size_of_training(
    make_config, name, resize_to, expected
):
    config = make_config("folder", resize_to)
    protocols.apply(config, name)
    assert_protocol(config.eval, expected)


@pytest.mark.parametrize("variant", ["T", "S", "B", "L"])
def test_protocols_of_cityscapes(variant):
    official = common.cityscapes(variant, "official").eval
    assert_protocol(official, WINDOWS | {"resize_to": (1024, 2048)})
    assert_protocol(common.cityscapes(variant, "paddle").eval, PADDLE)


@pytest.mark.parametrize(
    ("name", "box", "size_divisor"),
    [
        ("ade20k", (512, 2048), 32),
        ("coco_stuff", (512, 2048), 32),
        ("isaid", (896, 896), 1),
        ("loveda", (1024, 1024), 32),
        ("pascal_context", (520, 520), 32),
        ("voc2012", (512, 2048), 32),
    ],
)
def test_protocols_of_other_recipes(name, box, size_divisor):
    """The authors' code on the box of the authors, of JSeg, or of mmsegmentation."""
    evaluation = importlib.import_module(f"configs.{name}").get_config("t").eval
    expected = {"resize_to": box, "size_divisor": size_divisor}
    assert_protocol(evaluation, expected)


@pytest.mark.parametrize("name", ["camvid", "folder", "quickstart"])
def test_own_images_are_scored_as_they_are(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    assert_protocol(config.eval, {})


def test_unknown_protocol_is_named(make_config):
    with pytest.raises(ValueError, match="'mmseg': use one of official, mmseg1x"):
        protocols.apply(make_config("ade20k"), "mmseg")


def test_classification_has_no_protocol():
    with pytest.raises(ValueError, match="'paddle' is of segmentation"):
        protocols.apply(common.base("classification"), "paddle")
