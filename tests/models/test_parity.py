"""SegNeXt-T against mmsegmentation's, with weights by rule (tools/golden)."""

from pathlib import Path

import golden_fill
import golden_model
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from segnext_jax.models.segnext import make_model
from segnext_jax.ops import nmf
from segnext_jax.ops.resize import resize_bilinear
from segnext_jax.training.losses import cross_entropy
from segnext_jax.weights import convert
from segnext_jax.weights.naming import MMSEG

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "segnext_t.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def model():
    config = common.base().model
    config.dtype = "float32"
    config.drop_path_rate = config.dropout_rate = 0.0
    return make_model(config, golden_fill.NUM_CLASSES)


@pytest.fixture(scope="module")
def variables(model):
    return peer_variables(convert.shapes(model), golden_fill.fill)


def peer_variables(shapes, rule):
    """Variables that the rule gives for mmsegmentation's names and shapes."""
    names = convert.foreign_shapes(shapes, MMSEG)
    tensors = {name: rule(name, shape) for name, shape in names.items()}
    return convert.adopt(tensors, shapes, MMSEG, origin="the rule").variables


@pytest.fixture(autouse=True)
def same_bases(monkeypatch):
    monkeypatch.setattr(nmf, "draw_bases", golden_model.draw_bases)


def assert_close(actual, expected):
    """Within 2e-5 of the reference's largest magnitude."""
    atol = 2e-5 * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("size", [(64, 96), (75, 100)])
def test_stages_and_logits_equal_mmsegmentation(model, variables, golden, size):
    image = jnp.asarray(golden_fill.image(1, *size))

    @jax.jit
    def forward(variables, image):
        def both(model, image):
            return model.backbone(image, train=False), model(image, train=False)

        features, logits = model.apply(variables, image, method=both)
        return features, logits, resize_bilinear(logits, size)[:, ::8, ::8]

    features, logits, logits_full = forward(variables, image)
    prefix = f"eval/{size[0]}x{size[1]}"
    for i, stage in enumerate(features, start=1):
        assert_close(stage, golden[f"{prefix}/stage{i}"])
    assert_close(logits, golden[f"{prefix}/logits"])
    assert_close(logits_full, golden[f"{prefix}/logits_full"])


def test_loss_gradients_and_statistics_equal_mmsegmentation(model, variables, golden):
    image = jnp.asarray(golden_fill.image(2, 75, 100))
    label = jnp.asarray(golden_fill.label(2, 75, 100), jnp.int32)

    @jax.jit
    def losses_and_grads(params):
        def loss_fn(params):
            logits, updated = model.apply(
                {**variables, "params": params},
                image,
                train=True,
                rngs={"nmf": jax.random.key(0)},
                mutable=["batch_stats"],
            )
            logits = resize_bilinear(logits, label.shape[1:])
            total, weight = cross_entropy(logits, label, normalizer="valid")
            return total / weight, (total, updated["batch_stats"])

        return jax.value_and_grad(loss_fn, has_aux=True)(params)

    (loss, (loss_all, batch_stats)), grads = losses_and_grads(variables["params"])
    np.testing.assert_allclose(loss, golden["train/loss"], rtol=1e-5)
    np.testing.assert_allclose(loss_all, golden["train/loss_all"], rtol=1e-5)

    grads = convert.export({"params": grads, "batch_stats": {}}, MMSEG)
    assert sorted(grads) == sorted(golden["train/grad_name"])
    for name, norm, dot in zip(
        golden["train/grad_name"],
        golden["train/grad_norm"],
        golden["train/grad_dot"],
        strict=True,
    ):
        grad = grads[name]
        # A bias in front of a BatchNorm has gradient 0, up to rounding.
        tolerance = dict(atol=max(1e-4 * norm, 1e-5), rtol=0, err_msg=name)
        probe = golden_fill.probe(name, grad.shape)
        np.testing.assert_allclose(np.linalg.norm(grad), norm, **tolerance)
        np.testing.assert_allclose(np.sum(grad * probe), dot, **tolerance)

    stats = convert.export({"params": {}, "batch_stats": batch_stats}, MMSEG)
    for name, total in zip(
        golden["train/stats_name"], golden["train/stats_sum"], strict=True
    ):
        if name.endswith("running_mean"):
            np.testing.assert_allclose(stats[name].sum(), total, rtol=1e-4, atol=1e-4)
