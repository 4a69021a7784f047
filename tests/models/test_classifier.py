"""The classifier: published size, the backbone of SegNeXt, a mean, a linear layer."""

import math
from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from segnext_jax.models.classifier import MSCANClassifier, make_classifier
from segnext_jax.models.mscan import MSCAN
from segnext_jax.models.segnext import VARIANTS, make_model

# Published as 4.2, 14.0, 26.8 and 45.2 millions (Guo et al. 2022, SegNeXt).
PARAMETERS = {"T": 4_160_584, "S": 13_963_176, "B": 26_790_824, "L": 45_149_864}


def make_published(variant):
    config = common.base("classification").model
    config.variant = variant
    config.depthwise = "xla"  # traces faster
    return make_classifier(config, 1000)


def shapes_of(model):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(
        partial(model.init, train=False), jax.random.key(0), image
    )
    return flax.core.unfreeze(variables)


@pytest.mark.parametrize("variant", VARIANTS)
def test_number_of_parameters(variant):
    shapes = shapes_of(make_published(variant))["params"]
    count = sum(math.prod(p.shape) for p in jax.tree.leaves(shapes))
    assert count == PARAMETERS[variant]


def test_backbone_drops_into_segnext():
    config = common.base().model
    config.depthwise = "xla"
    segnext = shapes_of(make_model(config, 19))
    classifier = shapes_of(make_published("T"))
    assert classifier["params"].keys() == {"backbone", "head"}
    for collection in ("params", "batch_stats"):
        assert classifier[collection]["backbone"] == segnext[collection]["backbone"]


@pytest.fixture(scope="module")
def tiny():
    """(model, variables, images [2 64 64 3])."""
    backbone = MSCAN((8, 8, 8, 16), (1, 1, 1, 1), depthwise="xla")
    model = MSCANClassifier(backbone=backbone, num_classes=7)
    image = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    key = jax.random.key(0)
    return model, jax.jit(partial(model.init, train=False))(key, image), image


def test_logits_are_a_linear_layer_of_the_mean_feature(tiny):
    model, variables, image = tiny
    backbone = {name: tree["backbone"] for name, tree in variables.items()}
    *_, last = model.backbone.apply(backbone, image, train=False)
    assert last.shape == (2, 2, 2, 16)
    head = variables["params"]["head"]
    expected = np.mean(last, axis=(1, 2)) @ head["kernel"] + head["bias"]
    logits = model.apply(variables, image, train=False)
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_linear_layer_starts_as_published(tiny):
    head = tiny[1]["params"]["head"]
    assert not head["bias"].any()
    # 16·7 draws: the standard deviation of their standard deviation is 7 %.
    assert np.std(head["kernel"]) == pytest.approx(0.02, rel=0.2)


def test_bfloat16_ends_before_the_mean(tiny):
    model, variables, image = tiny
    backbone = model.backbone.clone(dtype=jnp.bfloat16)
    logits = model.clone(backbone=backbone).apply(variables, image, train=False)
    assert logits.dtype == jnp.float32
    exact = model.apply(variables, image, train=False)
    np.testing.assert_allclose(logits, exact, atol=0.05 * np.abs(exact).max())
