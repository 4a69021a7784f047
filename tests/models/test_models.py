"""The networks: published sizes and initial values, and what train and eval promise."""

import math
from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from segnext_jax.models import mscan
from segnext_jax.models.hamburger import LightHam
from segnext_jax.models.layers import (
    drop_path,
    fan_in_normal,
    fan_out_normal,
    scale_examples,
)
from segnext_jax.models.mscan import MSCAN
from segnext_jax.models.segnext import SegNeXt, make_model
from segnext_jax.weights import convert

CITYSCAPES_CLASSES = 19
MILLIONS = {  # trainable parameters, 19 classes
    ("T", "official"): 4.230,
    ("S", "official"): 13.899,
    ("B", "official"): 27.569,
    ("L", "official"): 48.792,
    ("T", "paddle"): 4.230,
    ("S", "paddle"): 13.899,
    ("B", "paddle"): 26.727,
    ("L", "paddle"): 45.086,
}
SMALL = (1, 32, 64, 3)


def make_published(variant="T", decoder="official"):
    config = common.base().model
    config.variant, config.decoder = variant, decoder
    config.depthwise = "xla"  # traces faster
    return make_model(config, CITYSCAPES_CLASSES)


def make_tiny(dtype=jnp.float32, drop_path_rate=0.0, dropout_rate=0.0):
    """One block a stage, and one group per GroupNorm channel."""
    return SegNeXt(
        backbone=MSCAN(
            (32, 32, 32, 32),
            (1, 1, 1, 1),
            drop_path_rate=drop_path_rate,
            dtype=dtype,
            depthwise="xla",  # compiles faster
        ),
        decoder=LightHam(
            num_classes=3,
            channels=32,
            rank=4,
            kernel_init=fan_out_normal,
            classifier_init=fan_in_normal,
            dropout_rate=dropout_rate,
            dtype=dtype,
        ),
    )


def init(model):
    """Jitted: XLA then drops the forward pass, on which no parameter depends."""
    key = jax.random.key(0, impl="rbg")  # compiles faster
    return jax.jit(partial(model.init, train=False))(key, jnp.zeros(SMALL))


def random_images(batch):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(batch, *SMALL[1:])), jnp.float32)


def flatten(params):
    return convert.flatten({"params": params, "batch_stats": {}})


@pytest.fixture(scope="module")
def tiny_variables():
    """Layer scales of 0.5, so that every branch shows in the output."""
    variables = init(make_tiny())
    params = jax.tree_util.tree_map_with_path(
        lambda path, p: p * 50 if "layer_scale" in str(path) else p, variables["params"]
    )
    return {**variables, "params": params}


@pytest.fixture(scope="module")
def evaluate():
    return jax.jit(partial(make_tiny().apply, train=False))


@pytest.fixture(scope="module")
def train(tiny_variables):
    """Keys of the three rng streams → (logits, new batch_stats), for two images."""
    model = make_tiny(drop_path_rate=0.5, dropout_rate=0.5)

    @jax.jit
    def apply(seeds):
        return model.apply(
            tiny_variables,
            random_images(2),
            train=True,
            rngs=jax.tree.map(jax.random.key, seeds),
            mutable=["batch_stats"],
        )

    return lambda **seeds: apply({"drop_path": 0, "dropout": 0, "nmf": 0} | seeds)


@pytest.mark.parametrize(("variant", "decoder"), MILLIONS)
def test_number_of_parameters(variant, decoder):
    model = make_published(variant, decoder)
    shapes = jax.eval_shape(
        partial(model.init, train=False), jax.random.key(0), jnp.zeros(SMALL)
    )
    count = sum(math.prod(p.shape) for p in jax.tree.leaves(shapes["params"]))
    assert round(count / 1e6, 3) == MILLIONS[variant, decoder]


@pytest.fixture(scope="module")
def initial_params():
    """Decoder name → {name: value}; T with one block a stage, or the decoder alone."""
    model = make_published("T", "official")
    model = model.clone(backbone=model.backbone.clone(depths=(1, 1, 1, 1)))
    decoder = make_published("T", "paddle").decoder
    features = [jnp.zeros((1, 2, 2, dim)) for dim in (64, 160, 256)]
    key = jax.random.key(0, impl="rbg")
    params = jax.jit(partial(decoder.init, train=False))(key, features)["params"]
    return {
        "official": flatten(init(model)["params"]),
        "paddle": flatten({"decoder": params}),
    }


@pytest.mark.parametrize("decoder", ["official", "paddle"])
def test_initial_values_are_the_published_ones(initial_params, decoder):
    for name, value in initial_params[decoder].items():
        *_, module, leaf = name.split("/")
        if leaf == "kernel":
            assert_is_normal(name, value, published_stddev(name, value.shape, decoder))
        elif "layer_scale" in module:
            np.testing.assert_array_equal(value, np.float32(0.01), err_msg=name)
        else:
            expected = 1 if leaf == "scale" else 0  # gains; all biases
            np.testing.assert_array_equal(value, expected, err_msg=name)


def published_stddev(name, shape, decoder):
    if name.startswith("decoder"):
        if decoder == "paddle":
            return math.sqrt(2 / shape[0])
        return 0.01 if "classifier" in name else math.sqrt(2 / shape[1])
    if len(shape) == 3:  # depthwise: as many groups as output channels
        return math.sqrt(2 / (shape[0] * shape[1]))
    return math.sqrt(2 / (math.prod(shape[:-2]) * shape[-1]))


def assert_is_normal(name, value, stddev):
    """The sample's mean and deviation are within 5 standard errors; it has tails."""
    z, n = np.asarray(value).ravel() / stddev, value.size
    assert abs(z.mean()) < 5 / math.sqrt(n), name
    assert abs(z.std() - 1) < 5 / math.sqrt(2 * n), name
    if n > 10_000:  # a normal cut at 2 σ, Flax's other default, has none
        assert 0.03 < np.mean(abs(z) > 2) < 0.06, name


def test_drop_path_rates_rise_linearly_over_all_blocks(monkeypatch):
    def record(key, rates, batch):
        np.testing.assert_allclose(rates, np.linspace(0, 0.1, 3 + 3 + 5 + 2))
        return drop_path(key, rates, batch)

    monkeypatch.setattr(mscan, "drop_path", record)
    model = make_published("T")
    variables = jax.eval_shape(
        partial(model.init, train=False), jax.random.key(0), jnp.zeros(SMALL)
    )
    rngs = {name: jax.random.key(0) for name in ("drop_path", "dropout", "nmf")}
    apply = partial(model.apply, train=True, rngs=rngs, mutable=["batch_stats"])
    jax.eval_shape(apply, variables, jnp.zeros(SMALL))


def test_drop_path_drops_whole_examples_and_keeps_the_mean():
    scales = drop_path(jax.random.key(0), np.array([0, 0.3]), 4000)
    assert scales.shape == (2, 2, 4000)
    np.testing.assert_array_equal(scales[0], 1)
    kept = scales[1] != 0
    np.testing.assert_allclose(scales[1][kept], 1 / 0.7, rtol=1e-6)
    deviation = math.sqrt(0.3 * 0.7 / 4000)
    np.testing.assert_allclose(kept.mean(axis=1), 0.7, atol=4 * deviation)
    assert not np.array_equal(*kept)  # anew for each branch of a block
    x = jax.random.normal(jax.random.key(1), (4000, 2, 1, 3))
    expected = x * scales[1, 0, :, None, None, None]
    np.testing.assert_array_equal(scale_examples(x, scales[1, 0]), expected)
    assert scale_examples(x, None) is x


def test_dropout_drops_whole_channels(tiny_variables):
    model = make_tiny(dropout_rate=0.5)
    features = [jax.random.normal(jax.random.key(i), (2, 4, 4, 32)) for i in range(3)]
    _, captured = model.decoder.apply(
        {"params": tiny_variables["params"]["decoder"]},
        features,
        train=True,
        rngs={"dropout": jax.random.key(0), "nmf": jax.random.key(0)},
        capture_intermediates=lambda module, _: isinstance(
            module, flax.linen.Dropout | flax.linen.GroupNorm
        ),
        mutable=["intermediates"],
    )
    captured = captured["intermediates"]
    before = jax.nn.relu(captured["align_norm"]["__call__"][0])
    after = captured["Dropout_0"]["__call__"][0]
    dropped = (after == 0).all(axis=(1, 2))
    assert 0.3 < dropped.mean() < 0.7
    assert not np.array_equal(dropped[0], dropped[1])
    expected = np.where(dropped[:, None, None], 0, 2 * before)
    np.testing.assert_allclose(after, expected, rtol=1e-6)


def test_evaluation_of_an_image_does_not_depend_on_its_batch(evaluate, tiny_variables):
    images = random_images(4)
    together = evaluate(tiny_variables, images[:3])
    with_others = evaluate(tiny_variables, images[jnp.array([3, 1, 0])])
    np.testing.assert_array_equal(together[1], with_others[1])
    # A batch of another size sums in another order, which single logits show most.
    alone = evaluate(tiny_variables, images[1:2])[0]
    assert jnp.linalg.norm(together[1] - alone) < 1e-5 * jnp.linalg.norm(alone)


def test_evaluation_needs_no_rng_and_repeats_itself(evaluate, tiny_variables):
    images = random_images(1)
    first = evaluate(tiny_variables, images)
    assert float(first.std()) > 0.01
    np.testing.assert_array_equal(first, evaluate(tiny_variables, images))


@pytest.mark.parametrize("stream", ["drop_path", "dropout", "nmf"])
def test_training_follows_from_its_keys(train, stream):
    first, again, other = (train(**{stream: seed})[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1e-4


def test_batch_norm_averages_with_momentum(train, tiny_variables):
    """mean ← 0.9·mean + 0.1·(mean of the batch), as PyTorch's momentum 0.1."""
    stats = train()[1]["batch_stats"]["backbone"]["stem"]["norm1"]
    kernel = tiny_variables["params"]["backbone"]["stem"]["conv1"]["kernel"]
    images = random_images(2)
    conv = jax.lax.conv_general_dilated(
        images,
        kernel,
        (2, 2),
        [(1, 1), (1, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    mean, variance = conv.mean(axis=(0, 1, 2)), conv.var(axis=(0, 1, 2))
    np.testing.assert_allclose(stats["mean"], 0.1 * mean, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * variance, rtol=1e-4)


def test_bfloat16_keeps_float32_weights_and_logits(evaluate, tiny_variables):
    model = make_tiny(jnp.bfloat16)
    shapes = jax.eval_shape(
        partial(model.init, train=False), jax.random.key(0), jnp.zeros(SMALL)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
    logits = jax.jit(partial(model.apply, train=False))(
        tiny_variables, random_images(1)
    )
    assert logits.dtype == jnp.float32
    expected = evaluate(tiny_variables, random_images(1))
    error = jnp.linalg.norm(logits - expected) / jnp.linalg.norm(expected)
    assert 1e-5 < error < 0.1


@pytest.mark.parametrize(
    ("size", "strided"),
    [((75, 100), (10, 13)), ((64, 96), (8, 12)), ((33, 41), (5, 6))],
)
def test_logits_are_at_stride_8(tiny_variables, size, strided):
    logits = jax.eval_shape(
        partial(make_tiny().apply, train=False),
        tiny_variables,
        jnp.zeros((2, *size, 3)),
    )
    assert logits.shape == (2, *strided, 3)


@pytest.mark.parametrize(
    ("key", "value"), [("variant", "XL"), ("decoder", "uper"), ("dtype", "float16")]
)
def test_unknown_names_are_errors(key, value):
    config = common.base().model
    config[key] = value
    with pytest.raises(
        ValueError, match=rf"config\.model\.{key} is '{value}': use one"
    ):
        make_model(config, CITYSCAPES_CLASSES)
