"""Layers whose operations are computed in another order."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.models.hamburger import LightHam, Squeeze
from segnext_jax.models.mscan import FeedForward
from segnext_jax.ops import feed_forward
from segnext_jax.ops.resize import resize_bilinear


def draw(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def test_feed_forward_goes_by_tiles(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(feed_forward, "_PIXELS", 1)
    monkeypatch.setattr(feed_forward, "_LEAST_ROWS", 1)
    monkeypatch.setattr(feed_forward, "_FEW_PIXELS", 1)
    monkeypatch.setattr(feed_forward, "_FEATURES", 3)
    x = draw(1, 5, 4, 3)
    layer = FeedForward(ratio=2, dtype=jnp.float32, depthwise="auto")
    variables = layer.init(jax.random.key(0), x, train=False)
    trained: Any = layer.apply(variables, x, train=True)
    inferred: Any = layer.apply(variables, x, train=False)
    layer_by_layer = layer.clone(depthwise="shift").apply(variables, x, train=True)
    np.testing.assert_allclose(trained, layer_by_layer, rtol=0, atol=1e-6)
    np.testing.assert_allclose(inferred, trained, rtol=0, atol=1e-6)

    def is_loop(depthwise, *, train):
        layer = FeedForward(ratio=2, dtype=jnp.float32, depthwise=depthwise)
        jaxpr = jax.make_jaxpr(lambda x: layer.apply(variables, x, train=train))(x)
        return any(f" {name}[" in str(jaxpr) for name in ("scan", "while"))

    for train in (False, True):
        assert is_loop("auto", train=train)
        assert not is_loop("portable", train=train)  # for other platforms


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_squeeze_is_a_projection_of_the_enlarged_features(monkeypatch, dtype, platform):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    features = [draw(2, 8, 12, 3), draw(2, 4, 6, 5, seed=1), draw(2, 2, 3, 4, seed=2)]
    squeeze = Squeeze(6, nn.initializers.normal(1.0), dtype)
    variables = squeeze.init(jax.random.key(0), features)
    enlarged = [resize_bilinear(x, (8, 12)) for x in features]
    expected = jnp.concatenate(enlarged, axis=-1) @ variables["params"]["kernel"]
    actual: Any = squeeze.apply(variables, features)
    assert actual.dtype == dtype
    atol = {jnp.float32: 1e-6, jnp.bfloat16: 1e-2}[dtype] * np.abs(expected).max()
    np.testing.assert_allclose(actual.astype(jnp.float32), expected, rtol=0, atol=atol)


def test_decoder_of_a_tpu_is_that_of_a_cpu(monkeypatch):
    """Its interpolation matrices and sums change no value and no gradient."""
    features = [draw(2, 8, 8, 3), draw(2, 4, 4, 5, seed=1), draw(2, 2, 2, 4, seed=2)]
    init = nn.initializers.normal(0.3)
    decoder = LightHam(7, 32, 4, init, init, dropout_rate=0.0)
    keys = {"params": jax.random.key(0), "nmf": jax.random.key(1)}
    variables = decoder.init(keys, features, train=True)
    weight = draw(2, 8, 8, 7, seed=3)

    def total(inputs):
        variables, features = inputs
        rngs = {"nmf": keys["nmf"]}
        logits: Any = decoder.apply(variables, features, train=True, rngs=rngs)
        return jnp.sum(logits * weight)

    results = []
    for platform in ("cpu", "tpu"):
        monkeypatch.setattr(jax, "default_backend", lambda platform=platform: platform)
        run = jax.jit(jax.value_and_grad(lambda inputs: total(inputs)))  # traced anew
        results.append(jax.tree.leaves(run((variables, features))))
    for cpu, tpu in zip(*results, strict=True):
        np.testing.assert_allclose(tpu, cpu, rtol=0, atol=1e-5 * np.abs(cpu).max())
