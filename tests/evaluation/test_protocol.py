"""config.eval → Protocol, and what is refused."""

import pytest

from segnext_jax.evaluation.protocol import Protocol


def test_fields_are_those_of_the_config(eval_config):
    assert Protocol.from_config(eval_config) == Protocol()
    eval_config.update(
        dict(mode="slide", crop_size=(512, 640), stride=(341, 640), flip=True)
    )
    eval_config.update(dict(pad_divisor=32, average="logits"))
    assert Protocol.from_config(eval_config) == Protocol(
        "slide", (512, 640), (341, 640), True, 32, "logits"
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mode", "slid", "mode is 'slid': use 'whole' or 'slide'"),
        ("crop_size", (512,), r"crop_size is \(512,\): use \(h, w\), both above 0"),
        ("crop_size", (0, 512), r"crop_size is \(0, 512\): use"),
        ("stride", (0, 1), r"stride is \(0, 1\): use \(h, w\), both above 0"),
        ("stride", (768, 1025), r"stride is .* not above .*crop_size = \(1024, 1024\)"),
        ("pad_divisor", 0, r"pad_divisor is 0: use 1 \(no padding\) or more"),
        ("average", "median", "average is 'median': use 'probabilities' or 'logits'"),
    ],
)
def test_illegal_values_are_named(eval_config, key, value, message):
    eval_config.update({key: value})
    with pytest.raises(ValueError, match=rf"config\.eval\.{message}"):
        Protocol.from_config(eval_config)
